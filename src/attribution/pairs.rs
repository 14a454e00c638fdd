//! Clean prompts with their corrupted counterparts, grouped by length.

use tch::Tensor;

use crate::error::{Error, Result};
use crate::model::decoder::Decoder;

/// Samples whose prompts have one length.
#[derive(Debug)]
pub struct Group {
    /// Their numbers, ascending
    pub samples: Vec<usize>,
    /// int64 [sample, pos]
    pub clean: Tensor,
    /// int64 [sample, pos]
    pub corrupted: Option<Tensor>,
    /// The first position where any sample's prompts differ; 0 without corrupted ones, or where attention looks ahead
    pub first: i64,
}

/// Clean prompts, each with a corrupted one of the same length, or all without one.
#[derive(Debug)]
pub struct Pairs {
    /// By length, ascending
    pub groups: Vec<Group>,
    /// The number of samples
    pub samples: usize,
}

impl Group {
    /// Parts of the group with at most this many samples.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn parts(&self, at_most: i64) -> Result<Vec<Self>> {
        let count = self.samples.len() as i64;
        let step = at_most.clamp(1, count);
        let part = |number: i64| -> Result<Self> {
            let (start, length) = (number * step, step.min(count - number * step));
            let some = |tokens: &Tensor| -> Result<Tensor> { Ok(tokens.f_narrow(0, start, length)?) };
            Ok(Self {
                samples: self.samples[start as usize..(start + length) as usize].to_vec(),
                clean: some(&self.clean)?,
                corrupted: self.corrupted.as_ref().map(some).transpose()?,
                first: self.first,
            })
        };
        (0..(count + step - 1) / step).map(part).collect()
    }
}

impl Pairs {
    /// Groups the prompts.
    ///
    /// # Errors
    /// Different numbers of prompts; a pair of different lengths or of the same tokens; ids out of range.
    pub fn new(decoder: &Decoder, clean: &[Vec<i64>], corrupted: Option<&[Vec<i64>]>) -> Result<Self> {
        if let Some(corrupted) = corrupted {
            check(clean, corrupted)?;
        }
        let mut lengths: Vec<usize> = clean.iter().map(Vec::len).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let mut groups = Vec::new();
        for length in lengths {
            let samples: Vec<usize> = (0..clean.len()).filter(|sample| clean[*sample].len() == length).collect();
            let rows = |prompts: &[Vec<i64>]| -> Result<Tensor> {
                decoder.tokens(&samples.iter().map(|sample| prompts[*sample].clone()).collect::<Vec<_>>())
            };
            let first = |corrupted: &[Vec<i64>]| {
                let differs = |place: &usize| samples.iter().any(|at| clean[*at][*place] != corrupted[*at][*place]);
                (0..length).find(differs)
            };
            groups.push(Group {
                clean: rows(clean)?,
                corrupted: corrupted.map(rows).transpose()?,
                first: corrupted.filter(|_| decoder.config.causal).and_then(first).map_or(0, |place| place as i64),
                samples,
            });
        }
        Ok(Self { groups, samples: clean.len() })
    }
}

fn check(clean: &[Vec<i64>], corrupted: &[Vec<i64>]) -> Result<()> {
    if clean.len() != corrupted.len() {
        return Err(Error::new(format!("there are {} clean and {} corrupted prompts", clean.len(), corrupted.len()))
            .hint("each clean prompt has a corrupted one"));
    }
    for (sample, (one, other)) in clean.iter().zip(corrupted).enumerate() {
        if one.len() != other.len() {
            return Err(Error::new(format!(
                "the prompts of sample {sample} have {} (clean) and {} (corrupted) tokens",
                one.len(),
                other.len()
            ))
            .hint(
                "components are compared position by position, so both must have one length: exchange words for words \
                 of as many tokens (`model.to_str_tokens` shows them)",
            ));
        }
        if one == other {
            return Err(Error::new(format!("the clean and the corrupted prompt of sample {sample} are the same")));
        }
    }
    Ok(())
}
