//! The frozen map of a mixture of experts: each token passes through the experts that it had in the run, with their
//! weights there.

use tch::Tensor;

use super::frozen_mlp::FrozenMlp;
use super::layer::project;
use super::norm::At;
use crate::error::Result;
use crate::model::block::Mlp;
use crate::model::experts::routed;
use crate::tensor::raw::range;

/// One expert's vectors: which they are among those given, and the rows of the frozen factors that belong to them.
struct Part {
    expert: i64,
    vectors: Tensor,
    rows: Tensor,
}

/// Divides the vectors `x`, [.., vector, d_model], among the experts with a weight, [pos, expert], at their positions.
fn parts(weights: &Tensor, x: &Tensor, at: At) -> Result<Vec<Part>> {
    let positions = match at {
        At::Prompt => range(0, weights.size2()?.0, weights.device())?,
        // A single position serves all vectors.
        At::Rows(positions) => positions.f_expand([x.size()[x.dim() - 2]], false)?,
    };
    let part = |(expert, vectors): (i64, Tensor)| {
        let rows = positions.f_index_select(0, &vectors)?;
        Ok(Part { expert, vectors, rows })
    };
    routed(&weights.f_index_select(0, &positions)?)?.into_iter().map(part).collect()
}

impl Part {
    /// The expert's rows of frozen factors, [pos, expert, ..].
    fn of(&self, factors: &Tensor) -> Result<Tensor> {
        Ok(factors.f_select(1, self.expert)?.f_index_select(0, &self.rows)?)
    }
}

/// What the experts give, from their input `x`, both [.., vector, d_model].
pub fn out(mlp: &Mlp, frozen: &FrozenMlp, weights: &Tensor, x: &Tensor, at: At, with_bias: bool) -> Result<Tensor> {
    let out = x.f_zeros_like()?;
    for part in parts(weights, x, at)? {
        let (up, down) = (mlp.up.of_expert(part.expert)?, mlp.down.of_expert(part.expert)?);
        let x = x.f_index_select(-2, &part.vectors)?;
        let mut hidden = project(&up, &x, with_bias)?.f_mul(&part.of(&frozen.slope)?)?;
        if let Some(offset) = frozen.offset.as_ref().filter(|_| with_bias) {
            hidden = hidden.f_add(&part.of(offset)?)?;
        }
        let mut added = hidden.f_matmul(&down.weight.f_transpose(0, 1)?)?;
        if let Some(bias) = down.bias.as_ref().filter(|_| with_bias) {
            added = added.f_add(&part.of(weights)?.f_unsqueeze(-1)?.f_mul(bias)?)?;
        }
        let _ = out.shallow_clone().f_index_add_(-2, &part.vectors, &added)?;
    }
    Ok(out)
}

/// Transpose of the linear part of [`out`].
pub fn out_transposed(mlp: &Mlp, frozen: &FrozenMlp, weights: &Tensor, covector: &Tensor, at: At) -> Result<Tensor> {
    let out = covector.f_zeros_like()?;
    for part in parts(weights, covector, at)? {
        let (up, down) = (mlp.up.of_expert(part.expert)?, mlp.down.of_expert(part.expert)?);
        let hidden = covector.f_index_select(-2, &part.vectors)?.f_matmul(&down.weight)?;
        let added = hidden.f_mul(&part.of(&frozen.slope)?)?.f_matmul(&up.weight)?;
        let _ = out.shallow_clone().f_index_add_(-2, &part.vectors, &added)?;
    }
    Ok(out)
}
