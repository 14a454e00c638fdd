//! Runs a whole grid: takes finished samples from the store and computes the rest part by part.

use tch::Tensor;

use super::digest::Digests;
use super::group::{self, Group};
use super::metric::Cell;
use super::outcome::Grid;
use super::plan::{Plan, Planner};
use super::request::{Request, Sample};
use super::set::{self, Set};
use super::store::Store;
use super::{plain, run};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::decoder::not_finite_hint;
use crate::model::language_model::LanguageModel;
use crate::progress::Progress;

/// Computes a grid. Calls `announce` with the plan before the work begins.
///
/// # Errors
/// A request that does not fit the model (see [`Request::samples`]), logits that are not finite, cells that cannot be
/// verified, too little memory even for one sample at a time; Ctrl-C (finished samples are in the store).
pub fn compute(model: &LanguageModel, request: &Request, announce: &mut dyn FnMut(&Plan)) -> Result<Grid> {
    let decoder = &model.decoder;
    let samples = request.samples(decoder)?;
    let sets = set::all(&set::elements(model.config(), request.site), &request.sizes);

    // Given vectors have no name for the store to find them by.
    let folder = request.store.as_deref().filter(|_| request.vectors.is_none());
    let store = folder.map(|folder| Store::open(folder, model, request, &samples)).transpose()?;
    let stored = |sample| store.as_ref().and_then(|store| store.get(sample, sets.len()));
    let mut cells: Vec<Option<Vec<Cell>>> = (0..samples.len()).map(stored).collect();

    let groups = group::groups(request, &samples, |sample| cells[sample].is_none());
    let mut planner = Planner::new(decoder, request, &sets);
    let plan = planner.plan(&groups, cells.iter().flatten().count());
    announce(&plan);
    let baseline = baseline(model, request, &samples)?;
    let mut digests = Digests::new(decoder, request);
    let progress = Progress::new(plan.passes, "patch_grid");
    for group in &groups {
        for part in planner.parts(group) {
            interrupt::check()?;
            run_part(&mut planner, &mut digests, &part, &progress, &mut |sample, values| {
                check(&values, sample, &sets, model)?;
                if let Some(store) = &store {
                    store.put(sample, &values)?;
                }
                cells[sample] = Some(values);
                Ok(())
            })?;
        }
    }
    progress.finish();

    let mut grid = assemble(&sets, &cells, &baseline, request, plan)?;
    if request.verify > 0 {
        grid.verified = Some(plain::verify(decoder, request, &samples, &grid)?);
    }
    Ok(grid)
}

/// Runs one part, in halves if memory runs out.
fn run_part(
    planner: &mut Planner,
    digests: &mut Digests,
    part: &Group,
    progress: &Progress,
    keep: &mut impl FnMut(usize, Vec<Cell>) -> Result<()>,
) -> Result<()> {
    match run::run(planner, digests, part, progress) {
        Ok(values) => part.samples.iter().zip(values).try_for_each(|(sample, values)| keep(*sample, values)),
        Err(error) if error.is_out_of_memory() && part.samples.len() > 1 => {
            part.halves().iter().try_for_each(|half| run_part(planner, digests, half, progress, keep))
        }
        Err(error) if error.is_out_of_memory() && planner.halve() => run_part(planner, digests, part, progress, keep),
        Err(error) => Err(error),
    }
}

/// Refuses a sample's cells that are not finite. Its baseline and the activations patched in are known to be finite by
/// now.
fn check(cells: &[Cell], sample: usize, sets: &[Set], model: &LanguageModel) -> Result<()> {
    match cells.iter().position(|cell| !cell.is_measured()) {
        None => Ok(()),
        Some(set) => Err(Error::new(format!(
            "the logits of sample {sample} are not finite when {} is patched",
            set::name(&sets[set])
        ))
        .hint(not_finite_hint(model.decoder.kind))),
    }
}

/// The answers in the setting's baseline runs.
fn baseline(model: &LanguageModel, request: &Request, samples: &[Sample]) -> Result<Vec<Cell>> {
    let runs: Vec<Vec<i64>> =
        samples.iter().enumerate().map(|(number, sample)| request.baseline(number, &sample.prompt)).collect();
    plain::measure(&model.decoder, &runs, &request.answers)
}

fn assemble(
    sets: &[Set],
    cells: &[Option<Vec<Cell>>],
    baseline: &[Cell],
    request: &Request,
    plan: Plan,
) -> Result<Grid> {
    let computed = |(sample, cells): (usize, &'_ Option<Vec<Cell>>)| {
        cells.clone().ok_or_else(|| Error::new(format!("sample {sample} was not computed")))
    };
    let samples = cells.iter().enumerate().map(computed).collect::<Result<Vec<_>>>()?;
    let logits: Vec<f64> = (0..sets.len()).flat_map(|set| samples.iter().map(move |cells| cells[set].logit)).collect();
    let ranks: Vec<i64> = (0..sets.len()).flat_map(|set| samples.iter().map(move |cells| cells[set].rank)).collect();
    let shape = [sets.len() as i64, samples.len() as i64];
    let (baseline_logits, baseline_ranks): (Vec<f64>, Vec<i64>) =
        baseline.iter().map(|cell| (cell.logit, cell.rank)).unzip();
    Ok(Grid {
        sets: sets.to_vec(),
        patched_logit: Tensor::f_from_slice(&logits)?.f_view(shape)?,
        rank: Tensor::f_from_slice(&ranks)?.f_view(shape)?,
        baseline_logit: Tensor::f_from_slice(&baseline_logits)?,
        baseline_rank: Tensor::f_from_slice(&baseline_ranks)?,
        max_rank: request.max_rank,
        plan,
        verified: None,
    })
}
