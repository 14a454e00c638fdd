//! Samples, each a run that is patched and one whose activations replace its own, in batches of one shape.

use std::collections::BTreeSet;

use tch::Tensor;

use super::pairs;
use crate::error::{Error, Result};
use crate::model::cache::ActivationCache;
use crate::model::decoder::{Decoder, Logits};
use crate::model::hook::HookPoint;
use crate::model::run::{Action, Hooks};

/// Tokens of a batch, of runs and of donors together.
const TOKENS: usize = 2048;

/// One sample.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The run that is patched
    pub run: Vec<i64>,
    /// The run that replacements come from
    pub donor: Vec<i64>,
    /// The position that is patched with the donor's last one; None for every position with the donor's same one
    pub position: Option<i64>,
}

impl Sample {
    fn shape(&self) -> (usize, usize, Option<i64>) {
        (self.run.len(), self.donor.len(), self.position)
    }
}

/// Samples whose runs have one shape.
#[derive(Debug)]
pub struct Batch {
    /// Their numbers, ascending
    pub samples: Vec<usize>,
    /// int64 [sample, pos]
    pub run: Tensor,
    /// The donors, each once, int64 [donor, pos]
    pub donors: Tensor,
    /// The donor of each sample
    donor_of: Vec<i64>,
    /// The positions that are patched
    pub positions: Vec<i64>,
    /// The donor's positions that replacements come from, one for each
    from: Vec<i64>,
}

impl Batch {
    fn new(decoder: &Decoder, all: &[Sample], samples: &[usize]) -> Result<Self> {
        let of = |sample: &usize| &all[*sample].donor;
        let distinct: Vec<&Vec<i64>> = samples.iter().map(of).collect::<BTreeSet<_>>().into_iter().collect();
        let number = |sample: &usize| distinct.partition_point(|donor| *donor < of(sample)) as i64;
        let first = &all[samples[0]];
        let (positions, from) = match first.position {
            Some(position) => (vec![position], vec![first.donor.len() as i64 - 1]),
            None => ((0..first.run.len() as i64).collect(), (0..first.run.len() as i64).collect()),
        };
        Ok(Self {
            samples: samples.to_vec(),
            run: decoder.tokens(&samples.iter().map(|sample| all[*sample].run.clone()).collect::<Vec<_>>())?,
            donors: decoder.tokens(&distinct.iter().map(|donor| (*donor).clone()).collect::<Vec<_>>())?,
            donor_of: samples.iter().map(number).collect(),
            positions,
            from,
        })
    }

    /// What replaces the activations at each point, [sample, position, ..].
    ///
    /// # Errors
    /// As for a run of the decoder.
    pub fn replacements(&self, decoder: &Decoder, points: &[HookPoint]) -> Result<ActivationCache> {
        captured(decoder, &self.donors, points)?
            .map(|_, value| select(&select(value, 1, &self.from)?, 0, &self.donor_of))
    }

    /// The run's activations at each point, [sample, pos, ..].
    ///
    /// # Errors
    /// As for a run of the decoder.
    pub fn own(&self, decoder: &Decoder, points: &[HookPoint]) -> Result<ActivationCache> {
        captured(decoder, &self.run, points)
    }

    /// The part of activations, [sample, pos, ..], that is patched: [sample, position, ..].
    ///
    /// # Errors
    /// Too little memory.
    pub fn patched(&self, value: &Tensor) -> Result<Tensor> {
        select(value, 1, &self.positions)
    }
}

fn captured(decoder: &Decoder, tokens: &Tensor, points: &[HookPoint]) -> Result<ActivationCache> {
    let mut hooks = Hooks::none();
    hooks.add(&decoder.config, points.to_vec(), "the nodes", Action::Capture);
    let _logits = decoder.forward(tokens, Logits::Last, &mut hooks)?;
    hooks.finish()
}

fn select(value: &Tensor, dim: i64, places: &[i64]) -> Result<Tensor> {
    let index = Tensor::f_from_slice(places)?.f_to(value.device())?;
    Ok(value.f_index_select(dim, &index)?)
}

/// The samples in batches, of at most `most` samples where runs have a length.
///
/// # Errors
/// Ids out of range.
pub fn batches(decoder: &Decoder, samples: &[Sample], most: impl Fn(usize) -> usize) -> Result<Vec<Batch>> {
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by_key(|number| samples[*number].shape());
    let mut batches = Vec::new();
    for mut same in order.chunk_by(|one, other| samples[*one].shape() == samples[*other].shape()) {
        let most = most(samples[same[0]].run.len());
        while !same.is_empty() {
            let (part, later) = same.split_at(fitting(samples, same).min(most).max(1));
            batches.push(Batch::new(decoder, samples, part)?);
            same = later;
        }
    }
    Ok(batches)
}

/// How many of the first samples of one shape run together.
fn fitting(all: &[Sample], same: &[usize]) -> usize {
    let mut donors = BTreeSet::new();
    let fits = |(before, number): &(usize, &usize)| {
        let Sample { run, donor, .. } = &all[**number];
        donors.insert(donor);
        (before + 1) * run.len() + donors.len() * donor.len() <= TOKENS
    };
    same.iter().enumerate().take_while(fits).count()
}

/// Samples of clean and corrupted prompts: the clean run is patched with the corrupted run's activations, or the corrupted
/// run with the clean run's where it is denoised.
///
/// # Errors
/// No prompts, or different numbers of them; a pair of different lengths or of the same tokens.
pub fn pairs(clean: &[Vec<i64>], corrupted: &[Vec<i64>], is_denoised: bool) -> Result<Vec<Sample>> {
    pairs::check(clean, Some(corrupted))?;
    let (runs, donors) = if is_denoised { (corrupted, clean) } else { (clean, corrupted) };
    let pair = |(run, donor): (&Vec<i64>, &Vec<i64>)| Sample { run: run.clone(), donor: donor.clone(), position: None };
    Ok(runs.iter().zip(donors).map(pair).collect())
}

/// Samples of instruction vectors: the activations at the last token of each source (one, or one for each target) replace
/// those at a position of each target (one for all, or one for each; negative ones count from the end).
///
/// # Errors
/// Different numbers, a position out of range.
pub fn vectors(sources: &[Vec<i64>], targets: &[Vec<i64>], positions: &[i64]) -> Result<Vec<Sample>> {
    let count = targets.len();
    for (what, found) in [("sources", sources.len()), ("positions", positions.len())] {
        if found != 1 && found != count {
            return Err(Error::new(format!("there are {count} targets and {found} {what}"))
                .hint("one for all targets, or one for each"));
        }
    }
    let of = |number: usize, found: usize| if found == 1 { 0 } else { number };
    let sample = |(number, run): (usize, &Vec<i64>)| {
        let given = positions[of(number, positions.len())];
        let position = if given < 0 { given + run.len() as i64 } else { given };
        if !(0..run.len() as i64).contains(&position) {
            return Err(Error::new(format!(
                "position {given} is out of range for sample {number}, whose target has {} tokens",
                run.len()
            )));
        }
        let donor = sources[of(number, sources.len())].clone();
        Ok(Sample { run: run.clone(), donor, position: Some(position) })
    };
    targets.iter().enumerate().map(sample).collect()
}
