//! What the linear maps frozen at the targets' runs predict of a grid: the null hypothesis that patches interact only
//! by overwriting one another.

use std::rc::Rc;

use tch::Tensor;

use super::digest::Digests;
use super::driver;
use super::measured::{Cell, Measured};
use super::request::Request;
use super::set;
use super::store::Store;
use super::target::{Closure, Target};
use crate::error::{Error, Result};
use crate::linear::map::LinearMap;
use crate::model::decoder::not_finite_hint;
use crate::model::hook::Site;
use crate::model::language_model::LanguageModel;
use crate::parts::in_parts;
use crate::progress::Progress;
use crate::{interrupt, share};

/// Changed whenever the numbers or what they depend on change: see [`Store`].
const VERSION: &str = "lancet frozen cells 2";

/// The most logits held at once, in elements.
const LOGITS: i64 = 1 << 26;

/// What the maps predict of a grid.
#[derive(Debug)]
pub struct Frozen {
    /// The patched runs, [set, sample]
    pub patched: Measured,
    /// The runs without a patch, [sample]
    pub unpatched: Measured,
}

/// What the maps predict of a request's grid. Finished samples are kept in the request's store.
///
/// # Errors
/// A site other than the residual stream after a layer; activations or predictions that are not finite; too little
/// memory; Ctrl-C.
pub fn predicted(model: &Rc<LanguageModel>, request: &Request, closure: Option<&Closure>) -> Result<Frozen> {
    if request.site != Site::ResidPost {
        return Err(Error::new(format!("the frozen map does not predict patches of `{}`", request.site.name()))
            .hint("it predicts those of `resid_post`, the residual stream after a layer"));
    }
    let samples = request.samples(&model.decoder)?;
    let named = request.sets(model.config())?;
    let sets: Vec<Vec<usize>> =
        named.iter().map(|set| set.iter().map(|element| element.layer as usize).collect()).collect();
    let numbers: Vec<usize> = (0..samples.len()).collect();
    let each: Vec<&[usize]> = numbers.chunks(1).collect();
    let store = Store::open(VERSION, model, request, &samples, &each, closure.is_some())?;
    let target = Target { closure, ..driver::measured_by(model, request, &samples)? };
    let mut digests = Digests::new(&model.decoder, request, &samples);
    let progress = Progress::new(samples.len() as u64, "frozen maps");
    let (mut patched, mut unpatched) = (Vec::new(), Vec::new());
    let mut is_missing = false;
    for (number, sample) in samples.iter().enumerate() {
        interrupt::check()?;
        let is_own = store.as_ref().is_none_or(|store| store.has_batch(number));
        let stored = store.as_ref().and_then(|store| store.get(number, 1, sets.len() + 1)?.pop());
        let mut cells = match stored {
            Some(cells) => cells,
            None if !is_own => {
                is_missing = true;
                continue;
            }
            None => {
                let vectors = digests.get(number)?;
                let map = LinearMap::freeze(Rc::clone(model), &sample.prompt)?;
                let to = map.length() - 1;
                let own = target.select(&[number], model.decoder.device)?;
                let (mut cells, run) = cells(&map, &sets, &vectors, sample.position, to, &own)?;
                if let Some(set) = cells.iter().position(|cell| !cell.is_measured()) {
                    return Err(Error::new(format!(
                        "what the frozen map of sample {number} predicts for {} is not finite",
                        set::name(&named[set])
                    ))
                    .hint(not_finite_hint(model.decoder.kind)));
                }
                cells.push(run);
                store.iter().try_for_each(|store| store.put(number, std::slice::from_ref(&cells)))?;
                cells
            }
        };
        unpatched.extend(cells.pop());
        patched.push(cells);
        progress.tick(1);
    }
    progress.finish();
    share::defer_if(is_missing)?;
    let cells: Vec<Cell> = (0..sets.len()).flat_map(|set| patched.iter().map(move |cells| cells[set])).collect();
    let shape = [sets.len() as i64, samples.len() as i64];
    Ok(Frozen { patched: Measured::of_cells(&cells)?.shaped(&shape)?, unpatched: Measured::of_cells(&unpatched)? })
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
    let at_once = LOGITS / map.config().d_vocab_out;
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
