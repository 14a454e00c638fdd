//! What a source carries where it is ablated: another run's value, zero, or a mean.

use tch::{Kind, Tensor};

use super::graph::Graph;
use super::pairs::{Group, Pairs};
use super::written;
use crate::error::{Error, Result};
use crate::grid::draw;
use crate::interrupt;
use crate::model::decoder::Decoder;
use crate::tensor::raw::constant;

/// Numbers of a run's parts at once.
const NUMBERS: i64 = 1 << 26;

/// Where the values of ablated sources come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ablation {
    /// The corrupted run
    Corrupted,
    /// Zeros
    Zero,
    /// The mean over the clean runs of as many tokens, by position
    Mean,
    /// The clean run of another sample of as many tokens, drawn by this seed
    Resample(u64),
}

impl Ablation {
    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Corrupted => "corrupted",
            Self::Zero => "zero",
            Self::Mean => "mean",
            Self::Resample(_) => "resample",
        }
    }
}

/// Some samples of one length, with what sources carry in their place.
#[derive(Debug)]
pub struct Part {
    /// The samples; `corrupted` is the run that replaces them, if one does
    pub group: Group,
    /// Where no run replaces them: [source, 1, pos, d_model]
    fixed: Option<Tensor>,
}

impl Part {
    /// What every source carries instead, [source, batch, pos, d_model].
    ///
    /// # Errors
    /// As for a run of the decoder.
    pub fn alternative(&self, decoder: &Decoder) -> Result<Tensor> {
        match (&self.fixed, &self.group.corrupted) {
            (None, Some(tokens)) => written::of_run(decoder, tokens),
            (Some(fixed), _) => {
                let size = fixed.size();
                Ok(fixed.f_expand([size[0], self.group.samples.len() as i64, size[2], size[3]], false)?)
            }
            (None, None) => unreachable!("a part has a run or values"),
        }
    }
}

/// The samples in parts that fit into memory, with what replaces them.
///
/// # Errors
/// No corrupted prompts; one sample of its length, which has no mean and no other.
pub fn parts(decoder: &Decoder, graph: &Graph, pairs: &Pairs, ablation: Ablation) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for group in &pairs.groups {
        let length = group.clean.size()[1];
        let at_once = NUMBERS / (graph.sources.len() as i64 * length * decoder.config.d_model);
        let alone = || {
            let error = Error::new(format!(
                "ablation \"{}\" needs at least two prompts of one length, and sample {} is alone",
                ablation.name(),
                group.samples[0]
            ));
            if group.samples.len() < 2 { Err(error) } else { Ok(()) }
        };
        let mut first = group.first;
        let mut corrupted = None;
        let mut fixed = None;
        match ablation {
            Ablation::Corrupted => {
                corrupted = group.corrupted.as_ref().map(Tensor::shallow_clone);
                if corrupted.is_none() {
                    return Err(Error::new("ablation \"corrupted\" needs the option `corrupted`")
                        .hint("or ablation: \"zero\", \"mean\" or \"resample\""));
                }
            }
            Ablation::Zero => {
                let size = [graph.sources.len() as i64, 1, length, decoder.config.d_model];
                fixed = Some(Tensor::f_zeros(size, (decoder.kind, decoder.output_device()))?);
                first = 0;
            }
            Ablation::Mean => {
                alone()?;
                fixed = Some(mean(decoder, group, at_once)?);
                first = 0;
            }
            Ablation::Resample(seed) => {
                alone()?;
                let others = draw::others(group.samples.len(), seed)?;
                let others: Vec<i64> = others.into_iter().map(|row| row as i64).collect();
                corrupted = Some(group.clean.f_index_select(0, &Tensor::f_from_slice(&others)?)?);
                first = 0;
            }
        }
        let clean = group.clean.shallow_clone();
        let group = Group { samples: group.samples.clone(), clean, corrupted, first };
        for group in group.parts(at_once)? {
            parts.push(Part { group, fixed: fixed.as_ref().map(Tensor::shallow_clone) });
        }
    }
    Ok(parts)
}

/// The mean of what sources add over the clean runs, [source, 1, pos, d_model].
fn mean(decoder: &Decoder, group: &Group, at_once: i64) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for part in group.parts(at_once)? {
        interrupt::check()?;
        let own = written::of_run(decoder, &part.clean)?;
        let own = own.f_sum_dim_intlist(1, true, Kind::Double)?;
        sum = Some(match sum {
            Some(sum) => sum.f_add(&own)?,
            None => own,
        });
    }
    let sum = sum.ok_or_else(|| Error::new("there are no prompts"))?;
    let count = constant(group.samples.len() as f64)?;
    Ok(sum.f_div(&count)?.f_to_kind(decoder.kind)?)
}
