//! Gradients of a number that is computed from a run's logits, with respect to activations of the run.

use tch::Tensor;

use super::cache::ActivationCache;
use super::decoder::{Decoder, Logits};
use super::forward::Start;
use super::hook::{HookPoint, Site};
use super::padding::Padding;
use super::run::{Action, Hooks};
use crate::error::{Error, Result};
use crate::tensor::autograd;

/// What a run with gradients gives.
#[derive(Debug)]
pub struct Gradients {
    /// What the metric gave
    pub value: Tensor,
    /// The activations as the run went on with them, and those that hooks captured
    pub activations: ActivationCache,
    /// The gradients of the metric's sum with respect to them, in their shapes; NaN at filling
    pub gradients: ActivationCache,
}

impl Decoder {
    /// Runs the decoder from `start` and computes gradients of what `metric` makes of the logits (of its sum, where it
    /// gives a number per sample) with respect to the activations at `places`: points under the user's name for them.
    /// Hooks added before act first. Nothing before the first of the points is recorded.
    ///
    /// # Errors
    /// As for [`Decoder::gradients_or_zeros`]; a metric that does not depend on a place.
    pub fn gradients(
        &self,
        start: Start,
        logits: Logits,
        places: &[(String, Vec<HookPoint>)],
        hooks: Hooks,
        metric: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Gradients> {
        let found = self.gradients_or_zeros(start, logits, places, hooks, metric)?;
        for (name, points) in places {
            let mut is_reached = false;
            for (_, gradient) in found.gradients.iter().filter(|(point, _)| points.contains(point)) {
                is_reached = is_reached || is_anywhere(gradient)?;
            }
            if !is_reached {
                return Err(independent(name));
            }
        }
        Ok(found)
    }

    /// The same, with zeros at places that the metric does not depend on.
    ///
    /// # Errors
    /// As for [`Decoder::forward`]; a gradient that is not finite; what single heads read and what all read together after
    /// it.
    pub fn gradients_or_zeros(
        &self,
        start: Start,
        logits: Logits,
        places: &[(String, Vec<HookPoint>)],
        mut hooks: Hooks,
        metric: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Gradients> {
        check_apart(places.iter().flat_map(|(_, points)| points))?;
        for (name, points) in places {
            hooks.add(&self.config, points.clone(), name, Action::Watch);
        }
        let value = autograd::recorded(|| {
            let x = self.run_layers(start, self.blocks.len(), &mut hooks, None)?;
            let mut result = self.unembed(x, logits, &mut hooks)?;
            if let (Logits::All, Some(padding)) = (logits, hooks.padding()) {
                result = padding.marked(&result, 1)?;
            }
            metric(&result)
        })?;
        let padding = hooks.padding();
        let activations = hooks.finish()?;
        if value.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            for (point, value) in activations.iter() {
                if let Some(place) = not_finite(value)? {
                    return Err(Error::new(format!(
                        "the metric is not finite, nor is the activation at `{}`{place:?}",
                        point.name()
                    )));
                }
            }
            return Err(Error::new("the metric is not finite")
                .hint("logits at filling are NaN: a function of several prompts reads each at its own tokens"));
        }
        let is_watched = |point: &HookPoint| places.iter().any(|(_, points)| points.contains(point));
        let watched: Vec<(&HookPoint, &Tensor)> = activations.iter().filter(|(point, _)| is_watched(point)).collect();
        let inputs: Vec<&Tensor> = watched.iter().map(|(_, value)| *value).collect();
        let found = if value.requires_grad() {
            let sum = autograd::recorded(|| value.f_sum(value.kind()))?;
            autograd::gradients(&sum, &inputs)?
        } else {
            inputs.iter().map(|_| None).collect()
        };
        let mut gradients = ActivationCache::default();
        for ((point, value), gradient) in watched.into_iter().zip(found) {
            let gradient = match gradient {
                Some(gradient) => gradient,
                None => value.f_zeros_like()?,
            };
            check_finite(*point, &gradient)?;
            gradients.insert(*point, gradient.f_detach()?);
        }
        let mut held = ActivationCache::default();
        for (point, value) in activations.iter() {
            held.insert(*point, value.f_detach()?);
        }
        Ok(Gradients {
            value: value.f_detach()?,
            activations: marked(held, padding.as_deref())?,
            gradients: marked(gradients, padding.as_deref())?,
        })
    }
}

/// Fails where single heads' inputs are among the points with what lies between them and the projections: gradients pass
/// through one or the other.
fn check_apart<'a>(points: impl Iterator<Item = &'a HookPoint> + Clone) -> Result<()> {
    let of_heads = |point: &&&HookPoint| (Site::HeadsIn..=Site::ValueIn).contains(&point.site);
    let of_all = |point: &&&HookPoint| {
        (Site::Ln1In..=Site::AttentionIn).contains(&point.site)
            || (Site::QueryNormedIn..=Site::ValueNormedIn).contains(&point.site)
    };
    for heads in points.clone().filter(|point| of_heads(&point)) {
        if let Some(all) = points.clone().find(|point| of_all(&point) && point.layer == heads.layer) {
            return Err(Error::new(format!(
                "`{}` and `{}` have no gradients in one run: the one replaces the other",
                heads.name(),
                all.name()
            ))
            .hint("ask for what single heads read in a call of its own"));
        }
    }
    Ok(())
}

/// The first place where a value is not finite, if there is one.
fn not_finite(value: &Tensor) -> Result<Option<Vec<i64>>> {
    let finite = value.f_isfinite()?;
    if finite.f_all()?.f_int64_value(&[])? != 0 {
        return Ok(None);
    }
    Ok(Some(Vec::try_from(&finite.f_logical_not()?.f_nonzero()?.f_select(0, 0)?)?))
}

/// Fails where a gradient is not finite.
fn check_finite(point: HookPoint, gradient: &Tensor) -> Result<()> {
    if let Some(place) = not_finite(gradient)? {
        return Err(Error::new(format!("the gradient at `{}`{place:?} is not finite", point.name()))
            .hint("look at the activations there; f16 numbers reach 65504, and bf16 and f32 further"));
    }
    Ok(())
}

/// Whether a gradient, NaN at filling, is other than zero anywhere.
///
/// # Errors
/// Too little memory.
pub fn is_anywhere(gradient: &Tensor) -> Result<bool> {
    Ok(gradient.f_nan_to_num(0.0, None, None)?.f_any()?.f_int64_value(&[])? != 0)
}

/// A metric that does not depend on a place, under the user's name for it.
pub fn independent(name: &str) -> Error {
    Error::new(format!("the metric does not depend on `{name}`: its gradient there is zero everywhere")).hint(
        "a metric must be computed from the logits, at a position that the activation reaches; a hook that replaces a \
         later activation cuts it off",
    )
}

/// The values with NaN at filling.
fn marked(cache: ActivationCache, padding: Option<&Padding>) -> Result<ActivationCache> {
    let Some(padding) = padding else { return Ok(cache) };
    let mut marked = ActivationCache::default();
    for (point, value) in cache.iter() {
        marked.insert(*point, padding.marked(value, point.site.position_dim(value.dim()))?);
    }
    Ok(marked)
}
