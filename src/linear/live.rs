//! Attention with live scores: how a head's mixed values change with its queries and keys, to first order at the run.
//!
//! With p the pattern of a query i, v the values, m their mean under p and s the scores, the softmax gives
//! d mixed = sum over j of p_j (v_j - m) ds_j. Norms' divisors stay frozen, and a soft cap counts by its derivative.

use std::rc::Rc;

use tch::{Kind, Tensor};

use super::attention::Side;
use super::layer::Layer;
use super::norm::At;
use crate::error::{Error, Result};
use crate::tensor::raw::Arithmetic;

/// What passes through a layer's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Values, under the frozen pattern: exact
    Values,
    /// Values, queries and keys: to first order
    All,
}

/// One layer's attention at the run; by head even where several share a key.
#[derive(Debug)]
pub struct LiveAttention {
    /// Each [pos, head, d_head]
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    /// The mixed values of each query
    mean: Tensor,
    /// p ds/d(q . k), [head, query, key]
    slope: Tensor,
}

/// Rows of a block of vectors that pass single heads by their queries, or by their keys.
#[derive(Debug)]
pub struct Hops {
    /// The attention that they pass
    live: Rc<LiveAttention>,
    /// By which vector
    side: Side,
    /// The rows, int64 [hop]; None: all, with a single hop
    rows: Option<Tensor>,
    /// The position of each one's query, int64 [hop]
    query: Tensor,
    /// Of its key; of a query itself, which counts at all keys, not used
    key: Tensor,
    /// 1 for its head, otherwise 0, [hop, head, 1]
    heads: Tensor,
}

impl Layer<'_> {
    /// The attention at the run with the residual stream `x`, [pos, d_model].
    ///
    /// # Errors
    /// Queries or keys that the model clips.
    pub fn live(&self, x: &Tensor) -> Result<LiveAttention> {
        for side in [Side::Query, Side::Key] {
            if let Some(clips) = self.clips(side, x)?
                && clips.f_any()?.f_int64_value(&[])? != 0
            {
                return Err(Error::new(format!(
                    "the model clips some {} of layer {}, so that they are not linear in the residual stream",
                    if side == Side::Query { "queries" } else { "keys" },
                    self.number()
                ))
                .hint("paths through values alone are exact: `through: \"v\"`"));
            }
        }
        let queries = self.projected(Side::Query, x, At::Prompt, true)?;
        let keys = self.projected(Side::Key, x, At::Prompt, true)?;
        let values = self.values(x, At::Prompt, true)?;
        let pattern = &self.frozen().pattern;
        let mean = pattern.f_matmul(&values.f_transpose(0, 1)?)?.f_transpose(0, 1)?;
        let scale = self.score_scale();
        let slope = match self.config().attention_soft_cap {
            None => pattern.times(scale)?,
            Some(cap) => {
                let scores = queries.f_transpose(0, 1)?.f_matmul(&keys.f_permute([1, 2, 0])?)?;
                let bent = scores.times(scale / cap)?.f_tanh()?.f_square()?;
                pattern.f_sub(&pattern.f_mul(&bent)?)?.times(scale)?
            }
        };
        Ok(LiveAttention { queries, keys, values, mean, slope })
    }

    /// Covectors of the residual stream by way of queries and keys, [batch, pos, d_model], from those of the mixed
    /// values, [batch, pos, head, d_head].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn live_transposed(&self, live: &LiveAttention, wanted: &Tensor) -> Result<Tensor> {
        // [batch, head, query, d_head]
        let wanted = wanted.f_transpose(1, 2)?;
        let fit = wanted.f_matmul(&live.values.f_permute([1, 2, 0])?)?;
        let mean = wanted.f_mul(&live.mean.f_transpose(0, 1)?)?.f_sum_dim_intlist(-1, true, None::<Kind>)?;
        let gradient = fit.f_sub(&mean)?.f_mul(&live.slope)?;
        let by_query = gradient.f_matmul(&live.keys.f_transpose(0, 1)?)?.f_transpose(1, 2)?;
        let by_key = gradient.f_transpose(2, 3)?.f_matmul(&live.queries.f_transpose(0, 1)?)?.f_transpose(1, 2)?;
        let query = self.projected_transposed(Side::Query, &by_query, At::Prompt)?;
        Ok(query.f_add(&self.projected_transposed(Side::Key, &by_key, At::Prompt)?)?)
    }

    /// Adds what hops give to mixed values, [row, head, d_head], from the residual stream where they start, [row,
    /// d_model].
    ///
    /// # Errors
    /// A libtorch error.
    pub(super) fn with_hops(&self, mixed: Tensor, x: &Tensor, hops: &[Hops]) -> Result<Tensor> {
        let mut mixed = mixed;
        for hops in hops {
            let vectors = self.projected(hops.side, &hops.of(x)?, At::Rows(hops.start()), false)?;
            mixed = hops.added(mixed, &hops.mixed(&vectors)?)?;
        }
        Ok(mixed)
    }

    /// Adds to covectors of the residual stream where hops start, [row, d_model], theirs by way of the hops, from those
    /// of the mixed values, [row, head, d_head].
    ///
    /// # Errors
    /// A libtorch error.
    pub(super) fn with_hops_transposed(&self, covectors: Tensor, wanted: &Tensor, hops: &[Hops]) -> Result<Tensor> {
        let mut covectors = covectors;
        for hops in hops {
            let by_side = hops.transposed(&hops.of(wanted)?)?;
            let back = self.projected_transposed(hops.side, &by_side, At::Rows(hops.start()))?;
            covectors = hops.added(covectors, &back)?;
        }
        Ok(covectors)
    }
}

impl Hops {
    /// Hops of the heads, keys' and queries' positions in `places`.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn new(live: &Rc<LiveAttention>, side: Side, rows: Option<&[i64]>, places: &[[i64; 3]]) -> Result<Self> {
        let (heads, like) = (live.queries.size()[1], &live.queries);
        let index = |numbers: &[i64]| Tensor::f_from_slice(numbers)?.f_to(like.device());
        let pick = |which: usize| index(&places.iter().map(|place| place[which]).collect::<Vec<_>>());
        let all = Tensor::f_eye(heads, (like.kind(), like.device()))?;
        Ok(Self {
            live: live.clone(),
            side,
            rows: rows.map(index).transpose()?,
            query: pick(2)?,
            key: pick(1)?,
            heads: all.f_index_select(0, &pick(0)?)?.f_unsqueeze(-1)?,
        })
    }

    /// Where they start, int64 [hop].
    fn start(&self) -> &Tensor {
        match self.side {
            Side::Query => &self.query,
            Side::Key => &self.key,
        }
    }

    /// The hops' rows of a block.
    fn of(&self, block: &Tensor) -> Result<Tensor> {
        match &self.rows {
            Some(rows) => Ok(block.f_index_select(0, rows)?),
            None => Ok(block.shallow_clone()),
        }
    }

    fn added(&self, block: Tensor, rows: &Tensor) -> Result<Tensor> {
        match &self.rows {
            Some(index) => Ok(block.f_index_add(0, index, rows)?),
            None => Ok(block.f_add(rows)?),
        }
    }

    /// The slopes at all keys, [hop, head, key]; 0 for other heads.
    fn slopes(&self) -> Result<Tensor> {
        let own = self.live.slope.f_index_select(1, &self.query)?.f_transpose(0, 1)?;
        Ok(own.f_mul(&self.heads)?)
    }

    /// The slope at each hop's key, [hop, head, 1], and its value less the mean, [hop, head, d_head].
    fn at_key(&self) -> Result<(Tensor, Tensor)> {
        let heads = self.heads.size()[1];
        let place = self.key.f_view([-1, 1, 1])?.f_expand([self.key.size()[0], heads, 1], false)?;
        let value = self.live.values.f_index_select(0, &self.key)?;
        Ok((self.slopes()?.f_gather(2, &place, false)?, value.f_sub(&self.mean()?)?))
    }

    fn mean(&self) -> Result<Tensor> {
        Ok(self.live.mean.f_index_select(0, &self.query)?)
    }

    /// The change of the mixed values, from that of the queries or keys, both [hop, head, d_head].
    fn mixed(&self, change: &Tensor) -> Result<Tensor> {
        let live = &self.live;
        match self.side {
            Side::Query => {
                // [hop, head, key]
                let scores = Tensor::f_einsum("nhd,khd->nhk", &[change, &live.keys], None::<i64>)?;
                let moved = scores.f_mul(&self.slopes()?)?;
                let toward = Tensor::f_einsum("nhk,khd->nhd", &[&moved, &live.values], None::<i64>)?;
                let mean = self.mean()?.f_mul(&moved.f_sum_dim_intlist(-1, true, None::<Kind>)?)?;
                Ok(toward.f_sub(&mean)?)
            }
            Side::Key => {
                let own = live.queries.f_index_select(0, &self.query)?;
                let scores = change.f_mul(&own)?.f_sum_dim_intlist(-1, true, None::<Kind>)?;
                let (slope, toward) = self.at_key()?;
                Ok(toward.f_mul(&scores.f_mul(&slope)?)?)
            }
        }
    }

    /// Transpose of [`Hops::mixed`].
    fn transposed(&self, wanted: &Tensor) -> Result<Tensor> {
        let live = &self.live;
        match self.side {
            Side::Query => {
                let fit = Tensor::f_einsum("nhd,khd->nhk", &[wanted, &live.values], None::<i64>)?;
                let mean = wanted.f_mul(&self.mean()?)?.f_sum_dim_intlist(-1, true, None::<Kind>)?;
                let moved = fit.f_sub(&mean)?.f_mul(&self.slopes()?)?;
                Ok(Tensor::f_einsum("nhk,khd->nhd", &[&moved, &live.keys], None::<i64>)?)
            }
            Side::Key => {
                let (slope, toward) = self.at_key()?;
                let moved = wanted.f_mul(&toward)?.f_sum_dim_intlist(-1, true, None::<Kind>)?.f_mul(&slope)?;
                Ok(live.queries.f_index_select(0, &self.query)?.f_mul(&moved)?)
            }
        }
    }
}
