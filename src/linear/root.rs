//! A head's score as the root of paths: linear in the residual stream of its query while the key is fixed, and in that
//! of its key while the query is.

use tch::{Kind, Tensor};

use super::attention::Side;
use super::head_score::Place;
use super::map::LinearMap;
use super::norm::At;
use super::readout::{Readout, Target};
use crate::error::Result;
use crate::tensor::raw::Arithmetic;

impl Side {
    /// The other vector of a score.
    pub fn other(self) -> Self {
        match self {
            Self::Query => Self::Key,
            Self::Key => Self::Query,
        }
    }
}

impl LinearMap {
    /// A score, before soft cap and mask, as a function of the residual stream of one side.
    ///
    /// # Errors
    /// What [`LinearMap::check_place`] refuses.
    pub fn score_readout(&self, place: Place, side: Side) -> Result<Readout> {
        self.check_place(place)?;
        let config = self.config();
        let layer = self.layer(place.layer);
        let scale = layer.score_scale();
        let fixed = self.side_vector(place, side.other())?;
        let of_heads = self.zeros(&[1, config.n_heads, config.d_head])?;
        of_heads.f_select(1, place.head)?.f_copy_(&fixed.times(scale)?)?;
        let position = place.position(side);
        let covector = layer.projected_transposed(side, &of_heads, At::Rows(&self.index(&[position])?))?;
        let value = product(&self.side_vector(place, side)?, &fixed)? * scale;
        let target = Target::Score { place, side };
        Ok(Readout { target, node: (place.layer, position), covector, value, constant: 0.0 })
    }

    /// What the biases of one side's own norms and projection add to a score.
    ///
    /// # Errors
    /// A libtorch error.
    pub(super) fn score_bias(&self, place: Place, side: Side) -> Result<f64> {
        let rows = self.index(&[place.position(side)])?;
        let layer = self.layer(place.layer);
        let zero = self.zeros(&[1, self.config().d_model])?;
        let own = layer.projected(side, &zero, At::Rows(&rows), true)?.f_select(0, 0)?.f_select(0, place.head)?;
        Ok(product(&own, &self.side_vector(place, side.other())?)? * layer.score_scale())
    }
}

/// The product of two vectors, in float64.
fn product(left: &Tensor, right: &Tensor) -> Result<f64> {
    let (left, right) = (left.f_to_kind(Kind::Double)?, right.f_to_kind(Kind::Double)?);
    Ok(left.f_dot(&right)?.f_double_value(&[])?)
}
