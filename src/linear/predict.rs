//! Compares what the frozen map predicts of an intervention or another input with what the model does: the difference
//! is what is not linear.

use tch::{Kind, Tensor};

use super::map::{LinearMap, Node};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::decoder::Logits;
use crate::model::hook::{HookPoint, Site};
use crate::model::intervention::{At, Change, Intervention};
use crate::model::run::Hooks;
use crate::tensor::raw::Arithmetic;

/// The places of a run that the frozen map has too, where an intervention can be predicted.
pub const SITES: &[Site] =
    &[Site::ResidPre, Site::Z, Site::AttentionOut, Site::ResidMid, Site::MlpOut, Site::ResidPost];

/// Logits at one position, each [d_vocab], and how the attention has moved.
#[derive(Debug)]
pub struct Prediction {
    /// Without the intervention
    pub clean: Tensor,
    /// With it, in the frozen map
    pub predicted: Tensor,
    /// With it, in the model
    pub actual: Tensor,
    /// For every layer, the number of (head, query) pairs that attend most to another token than before
    pub moved: Vec<i64>,
    /// Number of (head, query) pairs of a layer
    pub pairs: i64,
}

impl Prediction {
    /// The share of all (head, query) pairs that attend most to another token than before.
    pub fn moved_share(&self) -> f64 {
        self.moved.iter().sum::<i64>() as f64 / (self.pairs * self.moved.len() as i64) as f64
    }
}

/// How well the map predicts the logits as its input is moved.
#[derive(Debug)]
pub struct Validity {
    /// Length of the prediction's error, divided by the length of the logits' true change
    pub error: Vec<f64>,
    /// Length of the logits' true change
    pub change: Vec<f64>,
}

impl LinearMap {
    /// Predicts the logits at position `to` under the interventions that `add` sets, and runs the model with them.
    ///
    /// # Errors
    /// A map frozen under interventions; an intervention at a place that the map holds fixed, such as the pattern.
    pub fn predict<'a>(&self, to: i64, add: &mut dyn FnMut(&mut Hooks<'a>) -> Result<()>) -> Result<Prediction> {
        self.check_clean("predict")?;
        let mut hooks = Hooks::none();
        add(&mut hooks)?;
        if let Some(point) = hooks.points().find(|point| !SITES.contains(&point.site)) {
            let names: Vec<&str> = SITES.iter().map(|site| site.name()).collect();
            return Err(Error::new(format!(
                "`{}` is frozen in the map, so no change there can be predicted",
                point.name()
            ))
            .hint(format!("the places that can be changed are {}", names.join(", "))));
        }
        let x = self.embeddings().f_unsqueeze(0)?;
        let last = self.forward(x, 0..self.depth(), true, &mut hooks)?;
        hooks.finish()?;
        let predicted = self.unembed(&last.f_select(1, to)?, to, true)?.f_view([-1])?;

        let mut hooks = Hooks::none();
        add(&mut hooks)?;
        let changed = Self::freeze_with(self.model().clone(), self.tokens(), hooks)?;
        Ok(Prediction {
            clean: self.logits(to)?,
            predicted,
            actual: changed.logits(to)?,
            moved: self.moved(&changed)?,
            pairs: self.config().n_heads * self.length(),
        })
    }

    /// Refuses a map frozen under interventions: predictions are compared with the model's own runs, without them.
    pub(super) fn check_clean(&self, method: &str) -> Result<()> {
        if self.frozen().intervened.is_empty() {
            return Ok(());
        }
        Err(Error::new(format!("`{method}` needs a map frozen without hooks")))
    }

    /// For every layer, the number of (head, query) pairs whose most attended key differs from `other`'s.
    fn moved(&self, other: &Self) -> Result<Vec<i64>> {
        (self.frozen().layers.iter().zip(&other.frozen().layers))
            .map(|(one, other)| {
                let differs = one.pattern.f_argmax(-1, false)?.f_ne_tensor(&other.pattern.f_argmax(-1, false)?)?;
                Ok(differs.f_sum(Kind::Int64)?.f_int64_value(&[])?)
            })
            .collect()
    }

    /// Moves the residual stream before a layer, at `node`, along `direction` by each of `steps`, in units of that
    /// residual's length, and compares the map's prediction of the logits at position `to` with the model's. The map is
    /// a secant, not a derivative: its error need not vanish as steps get small.
    ///
    /// # Errors
    /// A map frozen under interventions; a layer out of range; a direction that is zero or not finite; interruption.
    pub fn validity(&self, node: Node, direction: &Tensor, steps: &[f64], to: i64) -> Result<Validity> {
        self.check_clean("validity")?;
        let (layer, position) = (self.check_layer(node.0 as i64)?, node.1);
        let decoder = self.decoder();
        let here = self.residual(layer).f_select(0, position)?;
        let own = length(direction)?;
        if own == 0.0 || !own.is_finite() {
            return Err(Error::new("the direction is zero or not finite"));
        }
        let direction = direction.f_to_device_(decoder.output_device(), decoder.kind, false, false)?;
        let unit = direction.times(length(&here)? / own)?;
        let carried = self.carry(&unit, node, (self.depth(), to))?;
        let carried = self.unembed(&carried.f_unsqueeze(0)?, to, false)?.f_view([-1])?;
        let clean = self.logits(to)?;
        let input = decoder.tokens(&[self.tokens().to_vec()])?;
        let mut validity = Validity { error: Vec::new(), change: Vec::new() };
        for step in steps {
            interrupt::check()?;
            let moved = unit.times(*step)?;
            let mut hooks = Hooks::none();
            hooks.intervene(&decoder.config, added(layer as i64, position, moved));
            let logits = decoder.forward(&input, Logits::All, &mut hooks)?.f_select(0, 0)?.f_select(0, to)?;
            hooks.finish()?;
            let change = logits.f_sub(&clean)?;
            let error = carried.times(*step)?.f_sub(&change)?;
            let size = length(&change)?;
            validity.error.push(length(&error)? / size);
            validity.change.push(size);
        }
        Ok(validity)
    }
}

/// The intervention that adds a vector to the residual stream before a layer.
fn added(layer: i64, position: i64, vector: Tensor) -> Intervention {
    Intervention {
        point: HookPoint { site: Site::ResidPre, layer },
        positions: At::One(position),
        rows: None,
        head: None,
        change: Change::Add(vector),
    }
}

fn length(vector: &Tensor) -> Result<f64> {
    Ok(vector.f_to_kind(Kind::Double)?.f_norm()?.f_double_value(&[])?)
}
