//! What tokens, biases and interventions contribute to the logits, and a check that the contributions add up.

use tch::Tensor;

use super::live::Through;
use super::map::LinearMap;
use super::readout::Readout;
use crate::error::Result;
use crate::model::run::Hooks;
use crate::parts::in_parts;

/// The most positions computed at once.
const POSITIONS: i64 = 8192;

/// The difference between a logit vector and the sum of its contributions.
#[derive(Debug, Clone, Copy)]
pub struct Completeness {
    /// Largest difference, divided by the largest logit
    pub relative: f64,
    /// Largest difference
    pub absolute: f64,
}

impl LinearMap {
    /// What each source token contributes to the logits at position `to`, [source, d_vocab]. Tokens after `to`
    /// contribute nothing to a causal model's.
    ///
    /// # Errors
    /// Interruption.
    pub fn totals(&self, to: i64) -> Result<Tensor> {
        let (length, size) = (self.length(), self.config().d_model);
        let sources: Vec<i64> = (0..length).collect();
        let parts = in_parts(&sources, (POSITIONS / length) as usize, |sources| {
            let x = self.zeros(&[sources.len() as i64, length, size])?;
            for (row, source) in (0..).zip(sources) {
                x.f_select(0, row)?.f_select(0, *source)?.f_copy_(&self.embeddings().f_select(0, *source)?)?;
            }
            let out = self.forward(x, 0..self.depth(), false, &mut Hooks::none())?;
            self.unembed(&out.f_select(1, to)?, to, false)
        })?;
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    /// What each source token contributes to the logits of `ids` at position `to`, [source, id]: [`LinearMap::totals`]
    /// with less work where few tokens matter.
    ///
    /// # Errors
    /// Interruption.
    pub fn totals_of(&self, to: i64, ids: &[i64]) -> Result<Tensor> {
        let parts = in_parts(ids, (POSITIONS / self.length()) as usize, |ids| {
            let covectors = self.covectors(to, &self.logit_covectors(to, ids)?)?;
            Ok(dot(&covectors.residual[0], self.embeddings())?.f_transpose(0, 1)?)
        })?;
        Ok(Tensor::f_cat(&parts, 1)?)
    }

    /// What each source token contributes to a metric, [source].
    ///
    /// # Errors
    /// Interruption.
    pub fn totals_in(&self, readout: &Readout) -> Result<Tensor> {
        self.totals_through(readout, Through::Values)
    }

    /// The same, with all that passes heads counted: [`LinearMap::totals_in`] for values. By way of queries and keys
    /// too, it is each token's part of the derivative of the metric, at this run, by a common factor of all embeddings,
    /// while the norms' divisors and the slopes of activations stay frozen.
    ///
    /// # Errors
    /// Queries or keys that the model clips, or that hooks change; interruption.
    pub fn totals_through(&self, readout: &Readout, through: Through) -> Result<Tensor> {
        let covectors = self.covectors_of(readout, through)?;
        Ok(dot(&covectors.residual[0], self.embeddings())?.f_squeeze_dim(0)?)
    }

    /// What all biases together contribute to the logits at position `to`, [d_vocab].
    ///
    /// # Errors
    /// Interruption.
    pub fn bias(&self, to: i64) -> Result<Tensor> {
        let x = self.zeros(&[1, self.length(), self.config().d_model])?;
        let out = self.forward(x, 0..self.depth(), true, &mut Hooks::none())?;
        Ok(self.unembed(&out.f_select(1, to)?, to, true)?.f_view([-1])?)
    }

    /// What the run's interventions put into the residual stream, [1, pos, d_model], by the layer of the node,
    /// ascending: the difference between the residual stream there and the frozen layer's output from the node before.
    ///
    /// # Errors
    /// Interruption.
    pub fn put_in(&self) -> Result<Vec<(usize, Tensor)>> {
        let change = |node: &usize| {
            let x = self.residual(node - 1).f_unsqueeze(0)?;
            let expected = self.forward(x, node - 1..*node, true, &mut Hooks::none())?;
            Ok((*node, self.residual(*node).f_unsqueeze(0)?.f_sub(&expected)?))
        };
        self.frozen().intervened.iter().map(change).collect()
    }

    /// What all interventions together contribute to the logits at position `to`, [d_vocab]; zeros in a run without
    /// them.
    ///
    /// # Errors
    /// Interruption.
    pub fn intervention(&self, to: i64) -> Result<Tensor> {
        let mut x = self.zeros(&[1, self.length(), self.config().d_model])?;
        let mut layer = 0;
        for (node, change) in self.put_in()? {
            x = self.forward(x, layer..node, false, &mut Hooks::none())?.f_add(&change)?;
            layer = node;
        }
        let out = self.forward(x, layer..self.depth(), false, &mut Hooks::none())?;
        Ok(self.unembed(&out.f_select(1, to)?, to, false)?.f_view([-1])?)
    }

    /// Compares the sum of all contributions, of tokens, biases and interventions, with the logits of the run at
    /// position `to`.
    ///
    /// # Errors
    /// Interruption.
    pub fn check(&self, to: i64) -> Result<Completeness> {
        let mut sum = self.totals(to)?.f_sum_dim_intlist(0, false, None)?.f_add(&self.bias(to)?)?;
        if !self.frozen().intervened.is_empty() {
            sum = sum.f_add(&self.intervention(to)?)?;
        }
        let logits = self.logits(to)?;
        let absolute = sum.f_sub(&logits)?.f_abs()?.f_max()?.f_double_value(&[])?;
        let largest = logits.f_abs()?.f_max()?.f_double_value(&[])?;
        Ok(Completeness { absolute, relative: if largest > 0.0 { absolute / largest } else { absolute } })
    }
}

/// Dot products over the last dimension.
pub(super) fn dot(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    Ok(left.f_mul(right)?.f_sum_dim_intlist(-1, false, None)?)
}
