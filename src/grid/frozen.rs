//! What the linear maps frozen at the targets' runs predict of a grid: the null hypothesis that patches interact only
//! by overwriting one another.

use std::rc::Rc;

use tch::Tensor;

use super::digest::Digests;
use super::measured::{Cell, Measured};
use super::request::{Request, Sample};
use super::set::{self, Set};
use super::target::Target;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::linear::map::LinearMap;
use crate::model::decoder::not_finite_hint;
use crate::model::hook::Site;
use crate::model::language_model::LanguageModel;
use crate::parts::in_parts;
use crate::progress::Progress;

/// The most logits held at once, in elements.
const LOGITS: i64 = 1 << 26;

/// What the maps predict of every set and sample, [set, sample], and their runs without a patch, [sample].
///
/// # Errors
/// A site other than the residual stream after a layer; activations or predictions that are not finite; too little
/// memory; Ctrl-C.
pub fn predicted(
    model: &Rc<LanguageModel>,
    request: &Request,
    samples: &[Sample],
    given: &[Set],
    target: &Target,
) -> Result<(Measured, Measured)> {
    if request.site != Site::ResidPost {
        return Err(Error::new(format!("the frozen map does not predict patches of `{}`", request.site.name()))
            .hint("it predicts those of `resid_post`, the residual stream after a layer"));
    }
    let sets: Vec<Vec<usize>> =
        given.iter().map(|set| set.iter().map(|element| element.layer as usize).collect()).collect();
    let mut digests = Digests::new(&model.decoder, request, samples);
    let progress = Progress::new(samples.len() as u64, "frozen maps");
    let (mut patched, mut clean) = (Vec::new(), Vec::new());
    for (number, sample) in samples.iter().enumerate() {
        interrupt::check()?;
        let vectors = digests.get(number)?;
        let map = LinearMap::freeze(Rc::clone(model), &sample.prompt)?;
        let to = map.length() - 1;
        let own = target.select(&[number], model.decoder.device)?;
        let (cells, run) = cells(&map, &sets, &vectors, sample.position, to, &own)?;
        if let Some(set) = cells.iter().position(|cell| !cell.is_measured()) {
            return Err(Error::new(format!(
                "what the frozen map of sample {number} predicts for {} is not finite",
                set::name(&given[set])
            ))
            .hint(not_finite_hint(model.decoder.kind)));
        }
        patched.push(cells);
        clean.push(run);
        progress.tick(1);
    }
    progress.finish();
    let cells: Vec<Cell> = (0..sets.len()).flat_map(|set| patched.iter().map(move |cells| cells[set])).collect();
    let shape = [sets.len() as i64, samples.len() as i64];
    Ok((Measured::of_cells(&cells)?.shaped(&shape)?, Measured::of_cells(&clean)?))
}

/// What one map predicts of patching `vectors` over each set's layers at `position`, and its run without a patch: the
/// logits at position `to`, measured by a target of one sample.
///
/// # Errors
/// As for [`LinearMap::predict_sets`].
pub fn cells(
    map: &LinearMap,
    sets: &[Vec<usize>],
    vectors: &[Tensor],
    position: i64,
    to: i64,
    target: &Target,
) -> Result<(Vec<Cell>, Cell)> {
    let at_once = LOGITS / map.config().d_vocab;
    let parts = in_parts(sets, at_once as usize, |sets| {
        let (residuals, rows) = map.predict_sets(sets, vectors, position, to)?;
        let cells = measured(map, &residuals, to, target)?;
        Ok(rows.into_iter().map(|row| cells[row]).collect::<Vec<_>>())
    })?;
    let clean = map.residual(map.depth()).f_narrow(0, to, 1)?;
    Ok((parts.concat(), measured(map, &clean, to, target)?[0]))
}

/// Measures residuals after the map's last layer, [row, d_model], by a target of one sample.
fn measured(map: &LinearMap, residuals: &Tensor, to: i64, target: &Target) -> Result<Vec<Cell>> {
    let target = target.select(&vec![0; residuals.size()[0] as usize], residuals.device())?;
    Measured::of_logits(&map.unembed(residuals, to, true)?, &target)?.cells()
}
