//! AtP* (arXiv 2403.00745): queries and keys through a recomputed softmax, and the mean size of scores over gradients that
//! each miss the contributions of one layer.

use tch::{Kind as Dtype, Tensor};

use super::attribute::Setup;
use super::node::Kind;
use super::row_patch::{self, RowPatch};
use crate::error::Result;
use crate::model::cache::ActivationCache;
use crate::model::config::QueryKeyNorm;
use crate::model::decoder::Decoder;
use crate::model::forward::Start;
use crate::model::hook::{HookPoint, Site};
use crate::model::run::{Action, Callback, Hooks};
use crate::parts::in_parts;
use crate::tensor::raw::{Arithmetic, gathered};

/// Tokens that run together.
const TOKENS: i64 = 2048;

/// The scores of a batch, [sample, node, position]; they are magnitudes.
///
/// # Errors
/// As for runs of the decoder and its gradients.
pub fn scores(setup: &Setup) -> Result<Tensor> {
    let config = &setup.decoder.config;
    let (through, plain): (Vec<Kind>, Vec<Kind>) = setup.kinds.iter().partition(|kind| kind.is_softmax());
    let plain = Setup { kinds: &plain, ..*setup };
    let at = |site| (0..config.n_layers).map(move |layer| HookPoint { site, layer });
    let patterns: Vec<HookPoint> = if through.is_empty() { Vec::new() } else { at(Site::Pattern).collect() };

    let all = setup.points()?.into_iter().chain(at(Site::ResidPre)).chain(patterns.iter().copied()).collect::<Vec<_>>();
    let own = setup.batch.own(setup.decoder, &all)?;
    let differences = plain.differences(&own)?;
    let points = plain.points()?;
    let place = |name: &str, points: &[HookPoint]| (name.to_owned(), points.to_vec());
    let places: Vec<_> = [place("the nodes", &points), place("the patterns", &patterns)]
        .into_iter()
        .filter(|(_, points)| !points.is_empty())
        .collect();

    let mut sum: Option<Tensor> = None;
    let mut of_patterns = Vec::new();
    for layer in 0..config.n_layers {
        let start = Start::Tokens(&setup.batch.run);
        let found = setup.gradients_at(start, &places, without(setup.decoder, layer), &setup.batch.samples)?.gradients;
        if !points.is_empty() {
            // A node of the layer that is dropped has no way to the metric.
            let kept = found.map(|point, gradient| match point.layer == layer && is_contribution(point.site) {
                true => Ok(gradient.f_zeros_like()?),
                false => Ok(gradient.shallow_clone()),
            })?;
            let scores = plain.products(&differences, &kept)?.f_abs()?;
            sum = Some(match sum {
                Some(sum) => sum.f_add(&scores)?,
                None => scores,
            });
        }
        let of_layer = |point: &HookPoint| Ok(found.at(*point)?.shallow_clone());
        of_patterns.push(patterns.iter().map(of_layer).collect::<Result<Vec<_>>>()?);
    }

    let mut columns: Vec<Tensor> = Vec::new();
    let mut start = 0;
    for kind in setup.kinds {
        let layers = config.n_layers as f64;
        let passes = if kind.is_residual() { layers } else { layers - 1.0 };
        let column = match &sum {
            Some(sum) if !kind.is_softmax() => {
                let count = super::node::nodes(&[*kind], config)?.len() as i64;
                start += count;
                sum.f_narrow(1, start - count, count)?
            }
            _ => by_pattern(setup, *kind, &own, &of_patterns)?,
        };
        columns.push(column.over(passes)?);
    }
    Ok(Tensor::f_cat(&columns, 1)?)
}

fn is_contribution(site: Site) -> bool {
    !matches!(site, Site::Embed | Site::ResidPre | Site::ResidMid | Site::ResidPost)
}

/// A run in which gradients do not pass back through what one layer adds.
fn without(decoder: &Decoder, layer: i64) -> Hooks<'static> {
    let mut hooks = Hooks::none();
    let added = [Site::AttentionOut, Site::MlpOut].map(|site| HookPoint { site, layer });
    let added = added.into_iter().filter(|point| point.exists(&decoder.config)).collect();
    let detach: Callback = Box::new(|_, value| Ok(Some(value.f_detach()?)));
    hooks.add(&decoder.config, added, "dropped", Action::Call(detach));
    hooks
}

/// The sums over passes of the sizes of scores of queries or keys, [sample, node, position]: what a pattern changes by, times
/// the gradient there, of each pass and layer.
fn by_pattern(setup: &Setup, kind: Kind, own: &ActivationCache, gradients: &[Vec<Tensor>]) -> Result<Tensor> {
    let mut layers = Vec::new();
    for point in kind.points(&setup.decoder.config)? {
        let replacements = setup.batch.replacements(setup.decoder, &[point])?;
        let passes: Vec<&Tensor> = gradients.iter().map(|pass| &pass[point.layer as usize]).collect();
        let passes = Tensor::f_stack(&passes, 0)?.f_to_kind(Dtype::Double)?;
        layers.push(of_layer(setup, (kind, point), replacements.at(point)?, own, &passes)?);
    }
    Ok(Tensor::f_cat(&gathered(&layers, setup.decoder.output_device())?, 1)?)
}

/// Whether replacing one head's query or key changes others' too: one norm spans them.
fn is_joint(decoder: &Decoder) -> bool {
    decoder.config.query_key_norm == QueryKeyNorm::Projection
}

/// The same of one layer, by runs in which the query or key of single positions is replaced: of all heads at once where they
/// do not touch each other. `gradients` are those of the passes, [pass, sample, head, query, key].
fn of_layer(
    setup: &Setup,
    (kind, point): (Kind, HookPoint),
    replacement: &Tensor,
    own: &ActivationCache,
    gradients: &Tensor,
) -> Result<Tensor> {
    let decoder = setup.decoder;
    let (samples, heads) = (replacement.size()[0], replacement.size()[2]);
    let parts: Vec<Option<i64>> = if is_joint(decoder) { (0..heads).map(Some).collect() } else { vec![None] };
    let places = setup.batch.positions.iter().enumerate();
    let cells: Vec<(Option<i64>, usize, i64)> =
        parts.iter().flat_map(|part| places.clone().map(|(number, position)| (*part, number, *position))).collect();
    let start = own.at(HookPoint { site: Site::ResidPre, layer: point.layer })?;
    let pattern = HookPoint { site: Site::Pattern, layer: point.layer };
    let at_once = (TOKENS / setup.batch.run.numel() as i64).max(1) as usize;
    let found = in_parts(&cells, at_once, |cells| {
        let mut patches = Vec::new();
        for (block, (part, number, position)) in (0..).zip(cells) {
            for sample in 0..samples {
                let value = replacement.f_select(0, sample)?.f_select(0, *number as i64)?;
                let value = match part {
                    Some(part) => value.f_select(0, *part)?,
                    None => value,
                };
                patches.push(RowPatch { row: block * samples + sample, position: *position, part: *part, value });
            }
        }
        let mut hooks = Hooks::none();
        hooks.add(&decoder.config, vec![point], point.name(), row_patch::action(patches));
        hooks.add(&decoder.config, vec![pattern], pattern.name(), Action::Capture);
        let rows = start.f_repeat([cells.len() as i64, 1, 1])?;
        let layer = point.layer as usize;
        let _after = decoder.run_layers(Start::Residual(&rows, layer), layer + 1, &mut hooks, None)?;
        let changed = hooks.finish()?.at(pattern)?.f_unflatten(0, [-1, samples])?;
        let changes = changed.f_to_kind(Dtype::Double)?.f_sub(&own.at(pattern)?.f_unsqueeze(0)?)?;
        let products = Tensor::f_einsum("cshqk,gshqk->gcsh", &[&changes, gradients], None::<i64>)?;
        Ok(in_heads(decoder, kind, &products)?.f_abs()?.f_sum_dim_intlist(0, false, None)?)
    })?;
    let found = Tensor::f_cat(&found, 0)?;
    Ok(if is_joint(decoder) {
        found.f_squeeze_dim(-1)?.f_unflatten(0, [heads, -1])?.f_permute([2, 0, 1])?
    } else {
        found.f_permute([1, 2, 0])?
    })
}

/// Numbers of query heads, [.., head], added up for each query or key head; for all where one norm spans them.
fn in_heads(decoder: &Decoder, kind: Kind, products: &Tensor) -> Result<Tensor> {
    Ok(match kind {
        _ if is_joint(decoder) => products.f_sum_dim_intlist(-1, true, None)?,
        Kind::Key => products.f_unflatten(-1, [decoder.config.n_kv_heads, -1])?.f_sum_dim_intlist(-1, false, None)?,
        _ => products.shallow_clone(),
    })
}
