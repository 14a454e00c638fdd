//! Integrated gradients: the mean of gradients on a straight path to the replacement, by the midpoint rule.

use tch::{Kind as Dtype, Tensor};

use super::attribute::{Setup, product};
use super::rule::Rule;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::cache::ActivationCache;
use crate::model::forward::Start;
use crate::model::hook::{HookPoint, Site};
use crate::model::intervention::{At, Change, Intervention};
use crate::model::run::Hooks;
use crate::parts::for_parts;
use crate::tensor::raw::{Arithmetic, gathered};

/// Tokens that run together.
const TOKENS: usize = 2048;

fn replaced(point: HookPoint, value: Tensor) -> Intervention {
    Intervention { point, positions: At::All, rows: None, head: None, change: Change::Patch(value) }
}

/// The scores of all nodes on the path of the embeddings from the run's to the donor's: one run for each step.
///
/// # Errors
/// As for runs of the decoder and its gradients.
pub fn by_inputs(setup: &Setup, steps: usize) -> Result<Tensor> {
    let embed = HookPoint { site: Site::Embed, layer: 0 };
    let points: Vec<HookPoint> = setup.points()?.into_iter().filter(|point| *point != embed).chain([embed]).collect();
    let own = setup.batch.own(setup.decoder, &points)?;
    let from = own.at(embed)?;
    let replacement = setup.batch.replacements(setup.decoder, &[embed])?;
    let way = replacement.at(embed)?.f_sub(from)?;
    let differences = setup.differences(&own)?;
    let mut sum: Option<Tensor> = None;
    for place in Rule::Midpoint.places(steps as i64) {
        interrupt::check()?;
        let mut hooks = Hooks::none();
        hooks.intervene(&setup.decoder.config, replaced(embed, from.f_add(&way.times(place)?)?));
        let found = setup.gradients(Start::Tokens(&setup.batch.run), hooks)?.gradients;
        add(&mut sum, setup.products(&differences, &found)?)?;
    }
    mean(sum, steps)
}

/// Adds a part to a sum.
fn add(sum: &mut Option<Tensor>, part: Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        Some(sum) => sum.f_add(&part)?,
        None => part,
    });
    Ok(())
}

fn mean(sum: Option<Tensor>, steps: usize) -> Result<Tensor> {
    sum.ok_or_else(|| Error::new("a mean over no steps cannot be taken"))?.over(steps as f64)
}

/// The scores of each node on the path of its own hook's activations, at all patched positions, from the run's to their
/// replacements: one run for each step and hook, from the hook's layer on.
///
/// # Errors
/// As for runs of the decoder and its gradients.
pub fn by_activations(setup: &Setup, steps: usize) -> Result<Tensor> {
    let points = setup.points()?;
    let layers = 0..setup.decoder.config.n_layers;
    let starts = layers.map(|layer| HookPoint { site: Site::ResidPre, layer });
    let all: Vec<HookPoint> = points.iter().copied().chain(starts).collect();
    let own = setup.batch.own(setup.decoder, &all)?;
    let differences = setup.differences(&own)?;
    let of_point = |point: HookPoint| of_hook(setup, point, &own, differences.at(point)?, steps);
    let scores = points.into_iter().map(of_point).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::f_cat(&gathered(&scores, setup.decoder.output_device())?, 1)?)
}

/// The scores at one hook, [sample, node, position].
fn of_hook(
    setup: &Setup,
    point: HookPoint,
    own: &ActivationCache,
    difference: &Tensor,
    steps: usize,
) -> Result<Tensor> {
    let batch = setup.batch;
    let value = own.at(point)?;
    let index = Tensor::f_from_slice(&batch.positions)?.f_to(value.device())?;
    let tokens = batch.run.numel();
    let places: Vec<f64> = Rule::Midpoint.places(steps as i64).collect();
    let mut sum = None;
    let of_part = |places: &[f64]| {
        let count = places.len() as i64;
        let moved = |place: &f64| Ok(value.f_index_add(1, &index, &difference.times(*place)?)?);
        let moved = Tensor::f_cat(&places.iter().map(moved).collect::<Result<Vec<_>>>()?, 0)?;
        let mut hooks = Hooks::none();
        hooks.intervene(&setup.decoder.config, replaced(point, moved));
        let samples = batch.samples.repeat(places.len());
        let watched = [(point.name(), vec![point])];
        let found = if point.site == Site::Embed {
            let tokens = batch.run.f_repeat([count, 1])?;
            setup.gradients_at(Start::Tokens(&tokens), &watched, hooks, &samples)?
        } else {
            let start = own.at(HookPoint { site: Site::ResidPre, layer: point.layer })?.f_repeat([count, 1, 1])?;
            let start = Start::Residual(&start, point.layer as usize);
            setup.gradients_at(start, &watched, hooks, &samples)?
        };
        let gradient = batch.patched(found.gradients.at(point)?)?.f_unflatten(0, [count, -1])?;
        product(point, difference, &gradient.f_sum_dim_intlist(0, false, Dtype::Double)?)
    };
    for_parts(&places, (TOKENS / tokens.max(1)).max(1), of_part, |_, part| add(&mut sum, part))?;
    mean(sum, steps)
}
