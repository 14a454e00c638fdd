//! Samples, each a run that is patched and one whose activations replace its own, in batches of one shape.

use tch::Tensor;

use crate::error::{Error, Result};
use crate::model::cache::ActivationCache;
use crate::model::decoder::{Decoder, Logits};
use crate::model::hook::HookPoint;
use crate::model::run::{Action, Hooks};

/// Tokens of a batch.
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
    /// int64 [sample, pos]
    pub donor: Tensor,
    /// The positions that are patched
    pub positions: Vec<i64>,
    /// The donor's positions that replacements come from, one for each
    from: Vec<i64>,
}

impl Batch {
    fn new(decoder: &Decoder, all: &[Sample], samples: &[usize]) -> Result<Self> {
        let rows = |of: fn(&Sample) -> &Vec<i64>| -> Result<Tensor> {
            decoder.tokens(&samples.iter().map(|sample| of(&all[*sample]).clone()).collect::<Vec<_>>())
        };
        let first = &all[samples[0]];
        let (positions, from) = match first.position {
            Some(position) => (vec![position], vec![first.donor.len() as i64 - 1]),
            None => ((0..first.run.len() as i64).collect(), (0..first.run.len() as i64).collect()),
        };
        Ok(Self {
            samples: samples.to_vec(),
            run: rows(|sample| &sample.run)?,
            donor: rows(|sample| &sample.donor)?,
            positions,
            from,
        })
    }

    /// What replaces the activations at each point, [sample, position, ..].
    ///
    /// # Errors
    /// As for a run of the decoder.
    pub fn replacements(&self, decoder: &Decoder, points: &[HookPoint]) -> Result<ActivationCache> {
        captured(decoder, &self.donor, points)?.map(|_, value| select(value, &self.from))
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
        select(value, &self.positions)
    }
}

fn captured(decoder: &Decoder, tokens: &Tensor, points: &[HookPoint]) -> Result<ActivationCache> {
    let mut hooks = Hooks::none();
    hooks.add(&decoder.config, points.to_vec(), "the nodes", Action::Capture);
    let _logits = decoder.forward(tokens, Logits::Last, &mut hooks)?;
    hooks.finish()
}

fn select(value: &Tensor, positions: &[i64]) -> Result<Tensor> {
    let index = Tensor::f_from_slice(positions)?.f_to(value.device())?;
    Ok(value.f_index_select(1, &index)?)
}

/// The samples in batches.
///
/// # Errors
/// Ids out of range.
pub fn batches(decoder: &Decoder, samples: &[Sample]) -> Result<Vec<Batch>> {
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by_key(|number| samples[*number].shape());
    let mut batches = Vec::new();
    for same in order.chunk_by(|one, other| samples[*one].shape() == samples[*other].shape()) {
        let at_once = (TOKENS / samples[same[0]].run.len().max(1)).max(1);
        for part in same.chunks(at_once) {
            batches.push(Batch::new(decoder, samples, part)?);
        }
    }
    Ok(batches)
}

/// Samples of clean and corrupted prompts: `run` is patched with the activations of `donor`.
///
/// # Errors
/// Different numbers of prompts, a pair of different lengths.
pub fn pairs(runs: &[Vec<i64>], donors: &[Vec<i64>]) -> Result<Vec<Sample>> {
    if runs.len() != donors.len() {
        return Err(Error::new(format!("there are {} clean and {} corrupted prompts", runs.len(), donors.len()))
            .hint("each clean prompt has a corrupted one"));
    }
    let pair = |(number, (run, donor)): (usize, (&Vec<i64>, &Vec<i64>))| {
        if run.len() != donor.len() {
            return Err(Error::new(format!(
                "the two prompts of sample {number} have {} and {} tokens",
                run.len(),
                donor.len()
            ))
            .hint(
                "activations are exchanged position by position, so both must have one length: exchange words for words \
                 of as many tokens (`model.to_str_tokens` shows them)",
            ));
        }
        Ok(Sample { run: run.clone(), donor: donor.clone(), position: None })
    };
    runs.iter().zip(donors).enumerate().map(pair).collect()
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
