//! The plain way: one run per cell. Measures baselines, and checks the planner.

use tch::Tensor;

use super::driver::{Grid, Request, Verified};
use super::metric::Measured;
use super::set::Element;
use crate::error::Result;
use crate::interrupt;
use crate::model::decoder::{Decoder, Logits};
use crate::model::hook::{HookPoint, Site};
use crate::model::intervention::{At, Change, Intervention};
use crate::model::language_model::LanguageModel;
use crate::model::run::{Action, Hooks};

/// Prompts of one length that are run together at most.
const TOGETHER: usize = 64;

/// Measures each prompt's own answer, prompts of one length together.
pub fn measure(decoder: &Decoder, prompts: &[Vec<i64>], answers: &[i64]) -> Result<Measured> {
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    let length = |index: &usize| prompts.get(*index).map_or(0, Vec::len);
    order.sort_by_key(length);
    let mut parts = Vec::new();
    for same in order.chunk_by(|left, right| length(left) == length(right)) {
        for some in same.chunks(TOGETHER) {
            interrupt::check()?;
            let rows: Vec<Vec<i64>> = some.iter().filter_map(|index| prompts.get(*index).cloned()).collect();
            let ids: Vec<i64> = some.iter().filter_map(|index| answers.get(*index).copied()).collect();
            let logits = decoder.forward(&decoder.tokens(&rows)?, Logits::Last, &mut Hooks::none())?;
            parts.push(Measured::of_logits(&logits.f_select(1, -1)?, &Tensor::f_from_slice(&ids)?)?);
        }
    }
    let sorted = Measured::join(&parts)?;
    let mut back = vec![0i64; order.len()];
    for (place, index) in order.iter().enumerate() {
        if let Some(to) = back.get_mut(*index) {
            *to = place as i64;
        }
    }
    let back = Tensor::f_from_slice(&back)?.f_to(sorted.logit.device())?;
    Ok(Measured { logit: sorted.logit.f_index_select(0, &back)?, rank: sorted.rank.f_index_select(0, &back)? })
}

/// The source's activations at its last token: for every layer, [d_model], or [head, d_head] for heads.
pub fn digest(decoder: &Decoder, source: &[i64], site: Site) -> Result<Vec<Tensor>> {
    let points: Vec<HookPoint> = (0..decoder.config.n_layers).map(|layer| HookPoint { site, layer }).collect();
    let mut hooks = Hooks::none();
    hooks.add(&decoder.config, points.clone(), "source", Action::Capture);
    let _logits = decoder.forward(&decoder.tokens(&[source.to_vec()])?, Logits::Last, &mut hooks)?;
    let cache = hooks.finish()?;
    points
        .iter()
        .filter_map(|point| cache.get(*point))
        .map(|value| Ok(value.f_select(0, 0)?.f_select(0, -1)?.f_contiguous()?))
        .collect()
}

/// The logits at the last position, [d_vocab], of one prompt with one set patched.
pub fn patched_logits(
    decoder: &Decoder,
    prompt: &[i64],
    position: i64,
    site: Site,
    set: &[Element],
    digest: &[Tensor],
) -> Result<Tensor> {
    let mut hooks = Hooks::none();
    for element in set {
        let Some(value) = digest.get(element.layer as usize) else { continue };
        let value = match element.head {
            Some(head) => value.f_select(0, head)?,
            None => value.shallow_clone(),
        };
        hooks.intervene(
            &decoder.config,
            Intervention {
                point: HookPoint { site, layer: element.layer },
                positions: At::One(position),
                rows: None,
                head: element.head,
                change: Change::Patch(value),
            },
        );
    }
    let logits = decoder.forward(&decoder.tokens(&[prompt.to_vec()])?, Logits::Last, &mut hooks)?;
    hooks.finish()?;
    Ok(logits.f_select(0, 0)?.f_select(0, -1)?)
}

/// Computes some cells of a grid again, spread evenly over it by a fixed stride.
pub fn verify(
    model: &LanguageModel,
    request: &Request,
    prompts: &[Vec<i64>],
    positions: &[i64],
    grid: &Grid,
) -> Result<Verified> {
    let samples = prompts.len();
    let all = grid.sets.len() * samples;
    let cells = request.verify.min(all);
    let mut outcome = Verified { cells, max_logit_difference: 0.0, rank_differences: 0 };
    // A stride that shares no factor with the number of cells visits different ones each time, in no regular pattern.
    let stride = (all as f64 * 0.618_033_988_75) as usize;
    let stride = (stride.max(1)..).find(|stride| gcd(*stride, all) == 1).unwrap_or(1);
    for turn in 0..cells {
        interrupt::check()?;
        let cell = turn * stride % all;
        let (set, sample) = (cell / samples, cell % samples);
        let (Some(places), Some(prompt), Some(position)) =
            (grid.sets.get(set), prompts.get(sample), positions.get(sample))
        else {
            continue;
        };
        let digest = request.digest(&model.decoder, sample)?;
        let logits = patched_logits(&model.decoder, prompt, *position, request.site, places, &digest)?;
        let answer = request.answers.get(sample).copied().unwrap_or(0);
        let plain = Measured::of_logits(&logits.f_unsqueeze(0)?, &Tensor::f_from_slice(&[answer])?)?;
        let at = [set as i64, sample as i64];
        let difference = (grid.patched_logit.f_double_value(&at)? - plain.logit.f_double_value(&[0])?).abs();
        outcome.max_logit_difference = outcome.max_logit_difference.max(difference);
        outcome.rank_differences += usize::from(grid.rank.f_int64_value(&at)? != plain.rank.f_int64_value(&[0])?);
    }
    Ok(outcome)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
