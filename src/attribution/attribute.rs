//! Scores of nodes: what a metric changes by when a node's activation is replaced, estimated from gradients.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tch::{Device, Kind as Dtype, Tensor};

use super::node::Kind;
use super::replacement::{Batch, Sample};
use super::{atp_star, integrated};
use crate::error::{Error, Result};
use crate::grid::objective::Objective;
use crate::model::backward::Backward;
use crate::model::cache::ActivationCache;
use crate::model::config::Config;
use crate::model::decoder::{Decoder, Logits};
use crate::model::forward::Start;
use crate::model::gradient::{Gradients, independent, is_anywhere};
use crate::model::hook::{HookPoint, Site};
use crate::model::run::Hooks;
use crate::tensor::raw::gathered;

/// The most steps of a path.
pub const MOST_STEPS: i64 = 10_000;

/// Gradients on patterns that one batch keeps.
const PATTERNS: usize = 1 << 26;

/// How effects are estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Attribution patching: the difference times the gradient, under these rules of the backward pass
    Gradient(Backward),
    /// The difference times the mean of gradients on a path
    Integrated(Path, usize),
    /// AtP* (arXiv 2403.00745)
    AtpStar,
}

/// What changes on the way to the replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// The embeddings of all tokens, and all that follows from them
    Inputs,
    /// The node's own hook, at all patched positions
    Activations,
}

impl Method {
    /// Whether scores are magnitudes.
    pub fn is_unsigned(self) -> bool {
        self == Self::AtpStar
    }

    /// Fails where the method says nothing about nodes of some kind.
    ///
    /// # Errors
    /// Queries and keys under rules that hold patterns constant; a path through the inputs of runs of different texts.
    pub fn check(self, kinds: &[Kind], decoder: &Decoder, samples: &[Sample]) -> Result<()> {
        let is_frozen = matches!(self, Self::Gradient(Backward::Relp | Backward::Frozen));
        if is_frozen && kinds.iter().any(|kind| matches!(kind, Kind::Query | Kind::Key)) {
            return Err(Error::new("queries and keys have no gradient where attention patterns are held constant")
                .hint("method: \"atp*\" follows them through the softmax; \"atp\" and \"ig\" take its derivative"));
        }
        let is_moved = samples.iter().any(|sample| sample.position.is_some());
        if matches!(self, Self::Integrated(Path::Inputs, _)) && is_moved {
            return Err(Error::new("a path through the inputs leads from one prompt to another of the same length")
                .hint("path: \"activations\" for `source` and `target`"));
        }
        if self == Self::AtpStar && decoder.config.n_layers < 2 {
            return Err(Error::new("\"atp*\" drops the gradient of one layer at a time, and this model has one layer"));
        }
        Ok(())
    }

    /// The most samples of a batch whose runs have a length.
    pub fn most_samples(self, kinds: &[Kind], config: &Config, length: usize) -> usize {
        if self != Self::AtpStar || !kinds.iter().any(|kind| kind.is_softmax()) {
            return usize::MAX;
        }
        let (passes, layers) = (config.n_layers as usize, config.n_layers as usize);
        PATTERNS / (passes * layers * config.n_heads as usize * length.max(1).saturating_pow(2))
    }
}

/// Where gradients were computed, and whether any was other than zero.
#[derive(Debug, Default)]
pub struct Reached(RefCell<BTreeMap<Site, bool>>);

impl Reached {
    fn take(&self, gradients: &ActivationCache) -> Result<()> {
        let mut sites = self.0.borrow_mut();
        for (point, gradient) in gradients.iter() {
            let is_reached = sites.entry(point.site).or_default();
            *is_reached = *is_reached || is_anywhere(gradient)?;
        }
        Ok(())
    }

    /// Fails where all gradients at a kind of place were zero.
    ///
    /// # Errors
    /// The kind of place.
    pub fn check(&self) -> Result<()> {
        match self.0.borrow().iter().find(|(_, is_reached)| !**is_reached) {
            Some((site, _)) => Err(independent(site.name())),
            None => Ok(()),
        }
    }
}

/// The scores of a batch's nodes, of these kinds: [sample, node, position], float64 on the CPU.
///
/// # Errors
/// As for runs of the decoder and [`Decoder::gradients`].
pub fn scores(setup: &Setup, method: Method) -> Result<Tensor> {
    let found = match method {
        Method::Gradient(backward) => {
            let found = setup.gradients(Start::Tokens(&setup.batch.run), Hooks::with_backward(backward))?;
            let differences = setup.differences(&found.activations)?;
            setup.products(&differences, &found.gradients)?
        }
        Method::Integrated(Path::Inputs, steps) => integrated::by_inputs(setup, steps)?,
        Method::Integrated(Path::Activations, steps) => integrated::by_activations(setup, steps)?,
        Method::AtpStar => atp_star::scores(setup)?,
    };
    Ok(found.f_to(Device::Cpu)?)
}

/// A batch of samples, the nodes to score and the metric.
pub struct Setup<'a> {
    /// The model
    pub decoder: &'a Decoder,
    /// What is measured
    pub objective: &'a Objective<'a>,
    /// The kinds of nodes
    pub kinds: &'a [Kind],
    /// The samples
    pub batch: &'a Batch,
    /// Where the metric has gradients
    pub reached: &'a Reached,
}

impl Setup<'_> {
    /// The hooks that hold the nodes, kind by kind.
    ///
    /// # Errors
    /// A model without one of the kinds.
    pub fn points(&self) -> Result<Vec<HookPoint>> {
        let of_kind = |kind: &Kind| kind.points(&self.decoder.config);
        Ok(self.kinds.iter().map(of_kind).collect::<Result<Vec<_>>>()?.concat())
    }

    /// The metric's gradients at the nodes, in a run of the batch with these hooks.
    ///
    /// # Errors
    /// As for [`Decoder::gradients`].
    pub fn gradients(&self, start: Start, hooks: Hooks) -> Result<Gradients> {
        let place = |kind: &Kind| Ok((kind.site().name().to_owned(), kind.points(&self.decoder.config)?));
        let places = self.kinds.iter().map(place).collect::<Result<Vec<_>>>()?;
        self.gradients_at(start, &places, hooks, &self.batch.samples)
    }

    /// The same at other places, in a run whose rows are these samples.
    ///
    /// # Errors
    /// As for [`Decoder::gradients`].
    pub fn gradients_at(
        &self,
        start: Start,
        places: &[(String, Vec<HookPoint>)],
        hooks: Hooks,
        samples: &[usize],
    ) -> Result<Gradients> {
        let metric = |logits: &Tensor| self.objective.of(&logits.f_squeeze_dim(1)?, samples);
        let found = self.decoder.gradients_or_zeros(start, Logits::Last, places, hooks, metric)?;
        self.reached.take(&found.gradients)?;
        Ok(found)
    }

    /// Replacements less the run's own activations, [sample, position, ..] at each of the nodes' hooks.
    ///
    /// # Errors
    /// As for a run of the decoder.
    pub fn differences(&self, own: &ActivationCache) -> Result<ActivationCache> {
        let replacements = self.batch.replacements(self.decoder, &self.points()?)?;
        replacements.map(|point, value| Ok(value.f_sub(&self.batch.patched(own.at(point)?)?)?))
    }

    /// Differences, [sample, position, ..], times gradients, [sample, pos, ..], added up in each node: [sample, node,
    /// position].
    ///
    /// # Errors
    /// Too little memory.
    pub fn products(&self, differences: &ActivationCache, gradients: &ActivationCache) -> Result<Tensor> {
        let product =
            |point: &HookPoint| product(*point, differences.at(*point)?, &self.batch.patched(gradients.at(*point)?)?);
        let products = self.points()?.iter().map(product).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&gathered(&products, self.decoder.output_device())?, 1)?)
    }
}

/// Differences at one hook times gradients, [sample, position, ..] both, added up in each node: [sample, node, position].
///
/// # Errors
/// Too little memory.
pub fn product(point: HookPoint, difference: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    in_nodes(point, &difference.f_to_kind(Dtype::Double)?.f_mul(gradient)?)
}

/// Numbers of a hook's activation, [sample, position, ..], added up in each node: [sample, node, position].
fn in_nodes(point: HookPoint, values: &Tensor) -> Result<Tensor> {
    let sums = match (point.site, values.dim()) {
        (Site::MlpPost, _) => values.shallow_clone(),
        (_, 4) => values.f_sum_dim_intlist(-1, false, None)?,
        _ => values.f_sum_dim_intlist(-1, true, None)?,
    };
    Ok(sums.f_transpose(1, 2)?)
}
