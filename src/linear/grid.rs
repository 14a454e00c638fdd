//! What the frozen map predicts of patching sets of layers at one position. In the map patches do not interact: a later
//! patch only overwrites what earlier ones have changed at its node.

use std::collections::{BTreeSet, HashMap};

use tch::Tensor;

use super::live::Through;
use super::map::LinearMap;
use super::readout::Readout;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::run::Hooks;
use crate::parts::in_parts;
use crate::tensor::raw::numbers;

/// The most changed positions held at once, over all sets that are carried together.
const POSITIONS: usize = 8192;

impl LinearMap {
    /// What the map predicts of patching `vectors`, one [d_model] per layer, over the residual stream after each layer
    /// and each pair of layers at `position`: the change of a metric, [layer, layer], with pairs above the diagonal,
    /// single layers on it, NaN below. One backward and one forward pass for all pairs.
    ///
    /// # Errors
    /// A map frozen under interventions, or of a model whose attention looks ahead; a wrong number or size of vectors; interruption.
    pub fn predict_grid(&self, vectors: &[Tensor], readout: &Readout, position: i64) -> Result<Tensor> {
        let own = self.own_changes(vectors, position)?;
        let (depth, size) = (self.depth(), self.config().d_model);
        let covectors = self.covectors_of(readout, Through::Values)?;
        let mut effects = vec![f64::NAN; depth * depth];
        // Row i: the change that the patch after layer i makes, carried on.
        let mut changes = self.zeros(&[0, self.length(), size])?;
        let mut single: Vec<f64> = Vec::with_capacity(depth);
        for (layer, own) in own.iter().enumerate() {
            interrupt::check()?;
            let node = layer + 1;
            let covector = covectors.residual[node].f_select(0, 0)?.f_select(0, position)?;
            if layer > 0 {
                changes = self.forward(changes, layer..node, false, &mut Hooks::none())?;
            }
            // A second patch overwrites what the first has changed at this node.
            let taken = numbers(&changes.f_select(1, position)?.f_matmul(&covector)?)?;
            let effect = own.f_dot(&covector)?.f_double_value(&[])?;
            for (first, (taken, other)) in taken.iter().zip(&single).enumerate() {
                effects[first * depth + layer] = *other + effect - *taken;
            }
            effects[layer * depth + layer] = effect;
            single.push(effect);
            let row = self.zeros(&[1, self.length(), size])?;
            row.f_select(1, position)?.f_copy_(own)?;
            changes = Tensor::f_cat(&[changes, row], 0)?;
        }
        Ok(Tensor::f_from_slice(&effects)?.f_view([depth as i64, depth as i64])?)
    }

    /// The residuals after the last layer at position `to`, [row, d_model], that the map predicts of patching
    /// `vectors`, one [d_model] per layer, over the residual stream at `position` after each layer of a set, and the
    /// row of each set. Layers of a set ascend; sets that begin alike share their work, those that end alike a row.
    ///
    /// # Errors
    /// A map frozen under interventions, or of a model whose attention looks ahead; a wrong number or size of vectors; a layer out of range; too little memory;
    /// interruption.
    pub fn predict_sets(
        &self,
        sets: &[Vec<usize>],
        vectors: &[Tensor],
        position: i64,
        to: i64,
    ) -> Result<(Tensor, Vec<usize>)> {
        let own = self.own_changes(vectors, position)?;
        for layer in sets.iter().flatten() {
            self.check_layer(*layer as i64)?;
        }
        let clean = self.residual(self.depth()).f_narrow(0, to, 1)?;
        if position > to {
            return Ok((clean, vec![0; sets.len()]));
        }
        // At the read position itself only the last patch is left.
        let sets: Vec<&[usize]> =
            sets.iter().map(|set| if position == to { &set[set.len().saturating_sub(1)..] } else { set }).collect();
        let distinct: Vec<&[usize]> = sets.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let longest = distinct.iter().map(|set| set.len()).max().unwrap_or(0).max(1);
        let at_once = POSITIONS / ((to + 1 - position) as usize * longest);
        let changes = in_parts(&distinct, at_once, |sets| self.changes(sets, &own, position, to))?;
        let rows: HashMap<&[usize], usize> = distinct.into_iter().zip(0..).collect();
        Ok((Tensor::f_cat(&changes, 0)?.f_add(&clean)?, sets.iter().map(|set| rows[set]).collect()))
    }

    /// The changes at position `to` after the last layer that patches of sets of layers make, [set, d_model]; `own` are
    /// those at the patched nodes.
    fn changes(&self, sets: &[&[usize]], own: &[Tensor], position: i64, to: i64) -> Result<Tensor> {
        let positions = position..to + 1;
        // Row 0 is the run without patches; a row for every beginning of a set, from its last layer on.
        let beginnings: BTreeSet<&[usize]> =
            sets.iter().flat_map(|set| (1..=set.len()).map(|length| &set[..length])).collect();
        let mut rows: HashMap<&[usize], i64> = HashMap::from([(&[][..], 0)]);
        let mut changes = self.zeros(&[1, to + 1 - position, self.config().d_model])?;
        for (layer, own) in own.iter().enumerate() {
            interrupt::check()?;
            if rows.len() > 1 {
                changes = self.layer(layer).carry(&changes, &positions)?;
            }
            let mut parents = Vec::new();
            for set in beginnings.iter().filter(|set| set.last() == Some(&layer)) {
                parents.push(rows[&set[..set.len() - 1]]);
                rows.insert(set, rows.len() as i64);
            }
            if !parents.is_empty() {
                let added = changes.f_index_select(0, &self.index(&parents)?)?;
                added.f_select(1, 0)?.f_copy_(own)?;
                changes = Tensor::f_cat(&[changes, added], 0)?;
            }
        }
        let ends: Vec<i64> = sets.iter().map(|set| rows[set]).collect();
        Ok(changes.f_select(1, -1)?.f_index_select(0, &self.index(&ends)?)?)
    }

    /// What a patch of each layer's vector alone changes at its own node, [d_model] per layer.
    fn own_changes(&self, vectors: &[Tensor], position: i64) -> Result<Vec<Tensor>> {
        self.check_clean("predict_grid")?;
        self.config().check_causal("predicting a grid of patches")?;
        let (decoder, depth, size) = (self.decoder(), self.depth(), self.config().d_model);
        if vectors.len() != depth || vectors.iter().any(|vector| vector.size() != [size]) {
            return Err(Error::new(format!("there must be {depth} vectors of {size} numbers, one per layer")));
        }
        let change = |(layer, vector): (usize, &Tensor)| {
            let vector = vector.f_to_device_(decoder.output_device(), decoder.kind, false, false)?;
            Ok(vector.f_sub(&self.residual(layer + 1).f_select(0, position)?)?)
        };
        vectors.iter().enumerate().map(change).collect()
    }
}
