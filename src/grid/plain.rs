//! The plain way: one run per cell. Measures baselines, and verifies the planned cells.

use tch::{Device, Tensor};

use super::digest::Digests;
use super::measured::{Cell, Measured};
use super::outcome::{Grid, Verified};
use super::request::Request;
use super::sample::Sample;
use super::set::Element;
use super::target::Target;
use crate::error::Result;
use crate::interrupt;
use crate::model::decoder::{Decoder, Logits, not_finite_hint};
use crate::model::hook::Site;
use crate::model::run::Hooks;
use crate::parts::for_parts;
use crate::tensor::raw::wide;

/// Largest number of prompts of one length to run together.
const TOGETHER: usize = 64;

/// Measures each prompt's own sample of `target`, prompts of one length together.
///
/// # Errors
/// Logits that are NaN, or not finite at the answer (the prompt's number is named); too little memory; Ctrl-C.
pub fn measure(decoder: &Decoder, prompts: &[Vec<i64>], target: &Target) -> Result<Vec<Cell>> {
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|number| prompts[*number].len());
    let mut cells = vec![None; prompts.len()];
    for same in order.chunk_by(|left, right| prompts[*left].len() == prompts[*right].len()) {
        let measure = |some: &[usize]| {
            let rows: Vec<Vec<i64>> = some.iter().map(|number| prompts[*number].clone()).collect();
            let logits = decoder.forward(&decoder.tokens(&rows)?, Logits::Last, &mut Hooks::none())?.f_select(1, -1)?;
            Measured::of_logits(&logits, &target.select(some, decoder.output_device())?)?.cells()
        };
        for_parts(same, TOGETHER, measure, |some, measured| {
            for (number, cell) in some.iter().zip(measured) {
                if !cell.is_measured() {
                    return Err(cell.refused(
                        &format!("of sample {number}"),
                        "without a patch",
                        not_finite_hint(decoder.kind),
                    ));
                }
                cells[*number] = Some(cell);
            }
            Ok(())
        })?;
    }
    Ok(cells.into_iter().flatten().collect())
}

/// The log-probabilities at each prompt's last position, [prompt, d_vocab], on the CPU.
///
/// # Errors
/// Too little memory; Ctrl-C.
pub fn log_probabilities(decoder: &Decoder, prompts: &[Vec<i64>]) -> Result<Tensor> {
    let one = |prompt: &Vec<i64>| -> Result<Tensor> {
        interrupt::check()?;
        let tokens = decoder.tokens(std::slice::from_ref(prompt))?;
        let logits = decoder.forward(&tokens, Logits::Last, &mut Hooks::none())?.f_select(1, -1)?;
        Ok(logits.f_log_softmax(1, wide(logits.kind()))?.f_to(Device::Cpu)?)
    };
    Ok(Tensor::f_cat(&prompts.iter().map(one).collect::<Result<Vec<_>>>()?, 0)?)
}

/// The logits at the last position, [d_vocab], of one prompt with one set patched.
///
/// # Errors
/// A position or id out of range; too little memory.
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
        let value = element.part(site, &digest[element.layer as usize])?;
        hooks.intervene(&decoder.config, element.patch(site, position, value));
    }
    let logits = decoder.forward(&decoder.tokens(&[prompt.to_vec()])?, Logits::Last, &mut hooks)?;
    hooks.finish()?;
    Ok(logits.f_select(0, 0)?.f_select(0, -1)?)
}

/// Computes [`Request::verify`] cells of a grid again, spread evenly over it.
///
/// # Errors
/// A cell that cannot be compared (see [`Verified::compare`]); Ctrl-C.
pub fn verify(
    decoder: &Decoder,
    request: &Request,
    samples: &[Sample],
    target: &Target,
    grid: &Grid,
) -> Result<Verified> {
    let all = grid.sets.len() * samples.len();
    let stride = stride(all);
    let mut digests = Digests::new(decoder, request, samples);
    let mut verified = Verified::default();
    for turn in 0..request.verify.min(all) {
        interrupt::check()?;
        let cell = turn * stride % all;
        let (set, number) = (cell / samples.len(), cell % samples.len());
        let (places, sample) = (&grid.sets[set], &samples[number]);
        let digest = digests.get(number)?;
        let logits = patched_logits(decoder, &sample.prompt, sample.position, request.site, places, &digest)?;
        let target = target.select(&[number], decoder.output_device())?;
        let own = Measured::of_logits(&logits.f_unsqueeze(0)?, &target)?.cells()?;
        verified.compare(places, number, grid.cell(set, number)?, own[0])?;
    }
    Ok(verified)
}

/// A stride near the golden section that shares no factor with `count`: it visits every cell once, in no regular
/// pattern.
fn stride(count: usize) -> usize {
    let mut stride = ((count as f64 * 0.618_033_988_75) as usize).max(1);
    while gcd(stride, count) > 1 {
        stride += 1;
    }
    stride
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
