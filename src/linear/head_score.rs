//! One score of a head as a sum over pairs of sources: those of the query's position times those of the key's.

use std::cmp::Ordering;

use tch::{Kind, Tensor};

use super::attention::Side;
use super::map::LinearMap;
use super::norm::At;
use super::source::Sources;
use crate::error::{Error, Result};
use crate::tensor::raw::{Arithmetic, numbers};

/// Which score: of a head, where one position looks at another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// A layer
    pub layer: usize,
    /// One of its heads
    pub head: i64,
    /// The position that looks
    pub query: i64,
    /// The position that is looked at
    pub key: i64,
}

impl Place {
    /// The position of one side.
    pub fn position(&self, side: Side) -> i64 {
        match side {
            Side::Query => self.query,
            Side::Key => self.key,
        }
    }
}

/// A score, before soft cap and mask, and its parts.
#[derive(Debug)]
pub struct HeadScore {
    /// Which score
    pub place: Place,
    /// The sources at the query's position; the biases of the query itself count as `bias`
    pub query_labels: Vec<String>,
    /// The sources at the key's position
    pub key_labels: Vec<String>,
    /// The part of each pair, float64 [query source, key source]
    pub parts: Tensor,
    /// The run's own score
    pub value: f64,
    /// The head's attention probability
    pub probability: f64,
}

impl LinearMap {
    /// Refuses a score that the model does not have, or that is not linear in its parts.
    ///
    /// # Errors
    /// A layer, head or position out of range; a key after the query of a causal model; a query or key that the model
    /// clips; an intervention between the residual stream and the pattern.
    pub fn check_place(&self, place: Place) -> Result<()> {
        let layer = self.check_layer(place.layer as i64)?;
        let heads = self.config().n_heads;
        if !(0..heads).contains(&place.head) {
            return Err(Error::new(format!("head {} is out of range", place.head))
                .hint(format!("heads are 0 to {}", heads - 1)));
        }
        let (query, key) = (self.position(place.query)?, self.position(place.key)?);
        if self.config().causal && key > query {
            return Err(Error::new(format!("position {query} does not look at {key}, which is after it")));
        }
        self.check_scores(layer)?;
        for side in [Side::Query, Side::Key] {
            let position = place.position(side);
            self.layer(layer).check_unclipped(side, self.residual(layer), place.head, position)?;
        }
        Ok(())
    }

    /// Refuses a layer whose scores are not those of its residual stream.
    ///
    /// # Errors
    /// An intervention between the residual stream and the pattern.
    pub fn check_scores(&self, layer: usize) -> Result<()> {
        if !self.frozen().rescored.contains(&layer) {
            return Ok(());
        }
        Err(Error::new(format!("a hook changes the scores or the pattern of layer {layer}"))
            .hint("freeze the map without it, or under an intervention in the residual stream"))
    }

    /// The run's own query or key of a place, [d_head], and the factor of the score.
    ///
    /// # Errors
    /// A libtorch error.
    pub(super) fn side_vector(&self, place: Place, side: Side) -> Result<Tensor> {
        let rows = self.index(&[place.position(side)])?;
        let x = self.residual(place.layer).f_index_select(0, &rows)?;
        let all = self.layer(place.layer).projected(side, &x, At::Rows(&rows), true)?;
        Ok(all.f_select(0, 0)?.f_select(0, place.head)?)
    }

    /// Splits a score.
    ///
    /// # Errors
    /// What [`LinearMap::check_place`] refuses; interruption.
    pub fn head_score(&self, place: Place) -> Result<HeadScore> {
        self.check_place(place)?;
        let (query_labels, query) = self.side_parts(place, Side::Query)?;
        let (key_labels, key) = self.side_parts(place, Side::Key)?;
        let layer = self.layer(place.layer);
        let scale = layer.score_scale();
        let double = |tensor: &Tensor| tensor.f_to_kind(Kind::Double);
        let own =
            double(&self.side_vector(place, Side::Query)?)?.f_dot(&double(&self.side_vector(place, Side::Key)?)?)?;
        Ok(HeadScore {
            place,
            query_labels,
            key_labels,
            parts: query.f_matmul(&key.f_transpose(0, 1)?)?.times(scale)?,
            value: own.f_double_value(&[])? * scale,
            probability: layer.frozen().pattern.f_double_value(&[place.head, place.query, place.key])?,
        })
    }

    /// The sources of one side, and their parts of its vector, float64 [source, d_head].
    fn side_parts(&self, place: Place, side: Side) -> Result<(Vec<String>, Tensor)> {
        let position = place.position(side);
        let Sources { labels, vectors } = self.sources(place.layer, position)?;
        let rows = self.index(&[position])?;
        let layer = self.layer(place.layer);
        let project = |x: &Tensor, with_bias| -> Result<Tensor> {
            let all = layer.projected(side, x, At::Rows(&rows), with_bias)?;
            Ok(all.f_select(1, place.head)?.f_to_kind(Kind::Double)?)
        };
        let parts = project(&vectors, false)?;
        // The biases of norms and projection go to the last source.
        let own = project(&vectors.f_narrow(0, 0, 1)?.f_zeros_like()?, true)?;
        let _ = parts.f_narrow(0, -1, 1)?.f_add_(&own)?;
        Ok((labels, parts))
    }
}

impl HeadScore {
    /// The sum of all parts.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn sum(&self) -> Result<f64> {
        Ok(self.parts.f_sum(Kind::Double)?.f_double_value(&[])?)
    }

    /// The labels of one side.
    pub fn labels(&self, side: Side) -> &[String] {
        match side {
            Side::Query => &self.query_labels,
            Side::Key => &self.key_labels,
        }
    }

    /// The sums of the parts by the source of one side, [source].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn by(&self, side: Side) -> Result<Tensor> {
        let other = if side == Side::Query { 1 } else { 0 };
        Ok(self.parts.f_sum_dim_intlist(other, false, Kind::Double)?)
    }

    /// The `count` pairs with the largest parts by size: numbers of their query and key sources, and the part.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn top(&self, count: usize) -> Result<Vec<(usize, usize, f64)>> {
        let width = self.key_labels.len();
        let parts = numbers(&self.parts)?;
        let mut pairs: Vec<(usize, f64)> = parts.into_iter().enumerate().collect();
        pairs.sort_by(|one, other| match other.1.abs().total_cmp(&one.1.abs()) {
            Ordering::Equal => one.0.cmp(&other.0),
            order => order,
        });
        pairs.truncate(count);
        Ok(pairs.into_iter().map(|(place, part)| (place / width, place % width, part)).collect())
    }
}
