//! Exact effects of nodes: runs with one cell replaced, many side by side, each from the layer and position of its cell on.

use tch::{Device, Tensor};

use super::attribute::Setup;
use super::node::{Kind, Node};
use super::row_patch::{self, RowPatch};
use crate::error::Result;
use crate::model::decoder::Logits;
use crate::model::forward::Start;
use crate::model::hook::{HookPoint, Site};
use crate::model::key_value::KeyValueCache;
use crate::model::run::{Action, Hooks};
use crate::parts::in_parts;
use crate::tensor::raw::values;

/// Tokens that run together.
const TOKENS: i64 = 4096;

/// One cell of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// The sample's place in the batch
    pub row: usize,
    /// The node's place in the list
    pub node: usize,
    /// The place among the batch's patched positions
    pub position: usize,
}

/// What the metric changes by when a cell's activation is replaced, for each of the cells: 0 where the replacement is what
/// the run has there.
///
/// # Errors
/// As for runs of the decoder; Ctrl-C.
pub fn effects(setup: &Setup, nodes: &[Node], cells: &[Cell], done: &mut dyn FnMut(usize)) -> Result<Vec<f64>> {
    let (decoder, batch) = (setup.decoder, setup.batch);
    let points = setup.points()?;
    let starts = (0..decoder.config.n_layers).map(|layer| HookPoint { site: Site::ResidPre, layer });
    let mut hooks = Hooks::none();
    // Where attention looks back only, a patch leaves all positions before it as they are.
    let mut past = decoder.config.causal.then(|| KeyValueCache::new(decoder));
    hooks.add(&decoder.config, points.iter().copied().chain(starts).collect(), "the nodes", Action::Capture);
    let x = decoder.run_layers(Start::Tokens(&batch.run), decoder.blocks.len(), &mut hooks, past.as_mut())?;
    let logits = decoder.unembed(x, Logits::Last, &mut hooks)?;
    let own = hooks.finish()?;
    let replacements = batch.replacements(decoder, &points)?;
    let baseline: Vec<f64> =
        values(&setup.objective.of(&logits.f_squeeze_dim(1)?, &batch.samples)?.f_to(Device::Cpu)?)?;

    let patch = |(place, cell): (usize, &Cell)| -> Result<Option<(usize, Cell, Tensor)>> {
        let node = &nodes[cell.node];
        let of = |value: &Tensor, position: i64| -> Result<Tensor> {
            node.element.part(node.kind.site(), &value.f_select(0, cell.row as i64)?.f_select(0, position)?)
        };
        let new = of(replacements.at(node.point())?, cell.position as i64)?;
        let old = of(own.at(node.point())?, batch.positions[cell.position])?;
        Ok((new != old).then_some((place, *cell, new)))
    };
    let mut patches: Vec<_> =
        cells.iter().enumerate().map(patch).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    // An embedding's run begins before the first layer.
    let start = |cell: &Cell| {
        let node = &nodes[cell.node];
        let first = if past.is_some() { batch.positions[cell.position] } else { 0 };
        (if node.kind == Kind::Embed { -1 } else { node.element.layer }, first)
    };
    patches.sort_by_key(|(_, cell, _)| start(cell));
    done(cells.len() - patches.len());

    let mut found = vec![0.0; cells.len()];
    let length = batch.run.size()[1];
    for same in patches.chunk_by(|(_, one, _), (_, other, _)| start(one) == start(other)) {
        let (layer, first) = start(&same[0].1);
        let rest = length - first;
        let changed = in_parts(same, (TOKENS / rest).max(1) as usize, |part| {
            let rows: Vec<i64> = part.iter().map(|(_, cell, _)| cell.row as i64).collect();
            let index = Tensor::f_from_slice(&rows)?;
            let mut hooks = Hooks::none();
            for point in &points {
                let own: Vec<RowPatch> = (0..)
                    .zip(part)
                    .filter(|(_, (_, cell, _))| nodes[cell.node].point() == *point)
                    .map(|(row, (_, cell, value))| RowPatch {
                        row,
                        position: batch.positions[cell.position] - first,
                        part: nodes[cell.node].element.head,
                        value: value.shallow_clone(),
                    })
                    .collect();
                if !own.is_empty() {
                    hooks.add(&decoder.config, vec![*point], point.name(), row_patch::action(own));
                }
            }
            let of_part = |past: &KeyValueCache| past.narrowed(&index, first, layer.max(0) as usize);
            let mut past = past.as_ref().filter(|_| first > 0).map(of_part).transpose()?;
            let of_rows = |values: &Tensor| -> Result<Tensor> {
                Ok(values.f_index_select(0, &index.f_to(values.device())?)?.f_narrow(1, first, rest)?)
            };
            let input = match layer {
                ..0 => of_rows(&batch.run)?,
                _ => of_rows(own.at(HookPoint { site: Site::ResidPre, layer })?)?,
            };
            let start = if layer < 0 { Start::Tokens(&input) } else { Start::Residual(&input, layer as usize) };
            let x = decoder.run_layers(start, decoder.blocks.len(), &mut hooks, past.as_mut())?;
            let logits = decoder.unembed(x, Logits::Last, &mut hooks)?;
            let samples: Vec<usize> = part.iter().map(|(_, cell, _)| batch.samples[cell.row]).collect();
            let measured = setup.objective.of(&logits.f_squeeze_dim(1)?, &samples)?;
            done(part.len());
            values::<f64>(&measured.f_to(Device::Cpu)?)
        })?;
        for ((place, cell, _), value) in same.iter().zip(changed.concat()) {
            found[*place] = value - baseline[cell.row];
        }
    }
    Ok(found)
}
