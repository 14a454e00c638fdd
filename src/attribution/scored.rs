//! The scores of all nodes of all samples, and the exact effects of some or all of them.

use rand::seq::SliceRandom;
use tch::{Kind as Dtype, Tensor};

use super::agreement::{Agreement, agreement, descending};
use super::attribute::{Method, Setup, scores};
use super::effect::{self, Cell};
use super::node::{Kind, Node, nodes};
use super::replacement::{Batch, Sample, batches};
use crate::error::{Error, Result};
use crate::grid::objective::Objective;
use crate::interrupt;
use crate::model::decoder::Decoder;
use crate::progress::Progress;
use crate::stat::generator;
use crate::tensor::raw::values;

/// A score's place: sample, node, column. Columns are the patched positions; where their number differs between samples,
/// the last column is the last position of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The sample's number
    pub sample: usize,
    /// The node's number
    pub node: usize,
    /// The column
    pub column: usize,
}

/// Scores.
#[derive(Debug)]
pub struct Scored {
    /// The samples
    pub samples: Vec<Sample>,
    /// The nodes, kind by kind
    pub nodes: Vec<Node>,
    /// How they are scored
    pub method: Method,
    /// By sample, node and column; NaN where a sample has no such position
    pub values: Vec<f64>,
    /// The number of columns
    pub columns: usize,
    kinds: Vec<Kind>,
    /// Whether what comes before a position is the same whatever is there
    is_causal: bool,
}

/// Some scores beside exact effects.
#[derive(Debug)]
pub struct Verified {
    /// The places, drawn ones first
    pub places: Vec<Place>,
    /// How many of them were drawn
    pub drawn: usize,
    /// Their exact effects
    pub exact: Vec<f64>,
    /// What the scores say of them
    pub agreement: Agreement,
}

impl Scored {
    /// Scores the nodes of some kinds.
    ///
    /// # Errors
    /// No kinds, one twice or one that the model does not have; a method that says nothing about them; as for runs of the
    /// decoder and its gradients; Ctrl-C.
    pub fn new(
        decoder: &Decoder,
        objective: &Objective,
        kinds: &[Kind],
        samples: Vec<Sample>,
        method: Method,
    ) -> Result<Self> {
        if kinds.is_empty() {
            return Err(Error::new("there are no nodes to score").hint("nodes: [\"head\", \"mlp_out\"]"));
        }
        if let Some(place) = (1..kinds.len()).find(|place| kinds[..*place].contains(&kinds[*place])) {
            return Err(Error::new(format!("the nodes `{}` are named twice", kinds[place].name())));
        }
        let batches = batches(decoder, &samples)?;
        method.check(kinds, decoder, &batches)?;
        let nodes = nodes(kinds, &decoder.config)?;
        let columns = batches.iter().map(|batch| batch.positions.len()).max().unwrap_or(0);
        let values = vec![f64::NAN; samples.len() * nodes.len() * columns];
        let is_causal = decoder.config.causal;
        let mut scored = Self { samples, nodes, method, values, columns, kinds: kinds.to_vec(), is_causal };
        for batch in &batches {
            interrupt::check()?;
            let setup = Setup { decoder, objective, kinds, batch };
            scored.fill(batch, &scores(&setup, method)?)?;
        }
        Ok(scored)
    }

    /// Takes a batch's scores, [sample, node, position].
    fn fill(&mut self, batch: &Batch, found: &Tensor) -> Result<()> {
        let width = batch.positions.len();
        let numbers: Vec<f64> = values(&found.f_to_kind(Dtype::Double)?.f_reshape([-1])?)?;
        for (row, own) in numbers.chunks(width).enumerate() {
            let (sample, node) = (batch.samples[row / self.nodes.len()], row % self.nodes.len());
            let end = (sample * self.nodes.len() + node + 1) * self.columns;
            self.values[end - width..end].copy_from_slice(own);
        }
        Ok(())
    }

    /// The number of a place among the values.
    fn index(&self, place: Place) -> usize {
        (place.sample * self.nodes.len() + place.node) * self.columns + place.column
    }

    fn place(&self, index: usize) -> Place {
        let (row, column) = (index / self.columns, index % self.columns);
        Place { sample: row / self.nodes.len(), node: row % self.nodes.len(), column }
    }

    /// The score at a place.
    pub fn score(&self, place: Place) -> f64 {
        self.values[self.index(place)]
    }

    /// The places where a replacement can differ: all but those before the first token in which a sample's two prompts do.
    pub fn places(&self) -> Vec<Place> {
        let first = |sample: &Sample| match sample.position {
            Some(position) => Some(position),
            None if !self.is_causal => Some(0),
            None => {
                let mut pairs = sample.run.iter().zip(&sample.donor);
                pairs.position(|(own, other)| own != other).map(|place| place as i64)
            }
        };
        let firsts: Vec<Option<i64>> = self.samples.iter().map(first).collect();
        let is_after = |place: &Place| {
            firsts[place.sample].is_some_and(|first| self.position(place.sample, place.column) >= Some(first))
        };
        (0..self.values.len()).map(|index| self.place(index)).filter(is_after).collect()
    }

    /// The numbers at [`Scored::places`] of those of all places.
    pub fn of_places(&self, all: &[f64]) -> Vec<f64> {
        self.places().into_iter().map(|place| all[self.index(place)]).collect()
    }

    /// The numbers of all places from those at [`Scored::places`]: 0 at the others, NaN where a sample has no such position.
    pub fn everywhere(&self, of_places: &[f64]) -> Vec<f64> {
        let mut all: Vec<f64> = self.values.iter().map(|value| if value.is_nan() { f64::NAN } else { 0.0 }).collect();
        self.places().into_iter().zip(of_places).for_each(|(place, number)| all[self.index(place)] = *number);
        all
    }

    /// The position of a sample's column; None where its prompt is too short.
    pub fn position(&self, sample: usize, column: usize) -> Option<i64> {
        let Sample { run, position, .. } = &self.samples[sample];
        match position {
            Some(position) => Some(*position),
            None => (column + run.len()).checked_sub(self.columns).map(|place| place as i64),
        }
    }

    /// The exact effects at places, in their order.
    ///
    /// # Errors
    /// As for runs of the decoder; Ctrl-C.
    pub fn exact(&self, decoder: &Decoder, objective: &Objective, places: &[Place]) -> Result<Vec<f64>> {
        let progress = Progress::new(places.len() as u64, "exact effects");
        let mut found = vec![f64::NAN; places.len()];
        for batch in batches(decoder, &self.samples)? {
            interrupt::check()?;
            let rows: Vec<Option<usize>> =
                (0..self.samples.len()).map(|sample| batch.samples.iter().position(|own| *own == sample)).collect();
            let offset = self.columns - batch.positions.len();
            let own: Vec<(usize, Cell)> = places
                .iter()
                .enumerate()
                .filter_map(|(number, place)| {
                    let row = rows[place.sample]?;
                    Some((number, Cell { row, node: place.node, position: place.column.checked_sub(offset)? }))
                })
                .collect();
            let cells: Vec<Cell> = own.iter().map(|(_, cell)| *cell).collect();
            let setup = Setup { decoder, objective, kinds: &self.kinds, batch: &batch };
            let effects = effect::effects(&setup, &self.nodes, &cells, &mut |count| progress.tick(count as u64))?;
            own.iter().zip(effects).for_each(|((number, _), effect)| found[*number] = effect);
        }
        progress.finish();
        Ok(found)
    }

    /// The exact effects of `count` places drawn by a seed and of the `count` others with the largest scores.
    ///
    /// # Errors
    /// As for [`Scored::exact`]; fewer than three places.
    pub fn verify(&self, decoder: &Decoder, objective: &Objective, count: usize, seed: u64) -> Result<Verified> {
        let mut all = self.places();
        let sizes: Vec<f64> = all.iter().map(|place| self.score(*place).abs()).collect();
        let largest: Vec<Place> = descending(&sizes).into_iter().map(|number| all[number]).collect();
        let drawn = count.min(all.len());
        let (chosen, _) = all.partial_shuffle(&mut generator(seed), drawn);
        let mut places = chosen.to_vec();
        let others = largest.into_iter().filter(|place| !chosen.contains(place)).take(count);
        places.extend(others);
        let exact = self.exact(decoder, objective, &places)?;
        let scores: Vec<f64> = places.iter().map(|place| self.score(*place)).collect();
        let agreement = agreement(&scores, &exact, self.method.is_unsigned())?;
        Ok(Verified { places, drawn, exact, agreement })
    }

    /// What the scores say of the exact effects of [`Scored::places`].
    ///
    /// # Errors
    /// Effects that are not those of [`Scored::places`].
    pub fn agreement(&self, exact: &[f64]) -> Result<Agreement> {
        agreement(&self.of_places(&self.values), exact, self.method.is_unsigned())
    }

    /// The mean of each node and column over the samples that have the position, NaN where none has: [node, column].
    pub fn means(&self) -> Vec<f64> {
        let width = self.nodes.len() * self.columns;
        let mean = |place: usize| {
            let own = || self.values.iter().skip(place).step_by(width).filter(|value| !value.is_nan());
            own().sum::<f64>() / own().count() as f64
        };
        (0..width).map(mean).collect()
    }
}
