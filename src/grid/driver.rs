//! Runs a whole grid: takes finished samples from the store and computes the rest part by part.

use super::digest::Digests;
use super::group::{self, Group};
use super::measured::{Cell, Measured};
use super::metric::{Asked, Metric};
use super::outcome::{Ends, Grid};
use super::plan::{Plan, Planner};
use super::request::Request;
use super::sample::Sample;
use super::set::{self, Element, Set};
use super::store::Store;
use super::target::{self, Closure, Target};
use super::{plain, run};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::decoder::not_finite_hint;
use crate::model::language_model::LanguageModel;
use crate::progress::Progress;

/// Changed whenever the numbers or what they depend on change: see [`Store`].
const VERSION: &str = "lancet cells 5";

/// Computes a grid, with a metric of the caller's own if there is one. Calls `announce` with the plan before the work
/// begins.
///
/// # Errors
/// A request that does not fit the model (see [`Request::samples`]), logits that are not finite, cells that cannot be
/// verified, too little memory even for one sample at a time; Ctrl-C (finished samples are in the store).
pub fn compute(
    model: &LanguageModel,
    request: &Request,
    closure: Option<&Closure>,
    announce: &mut dyn FnMut(&Plan),
) -> Result<Grid> {
    let decoder = &model.decoder;
    let samples = request.samples(decoder)?;
    let sets = request.sets(model.config())?;

    let store = Store::open(VERSION, model, request, &samples, closure.is_some())?;
    let stored = |sample| store.as_ref().and_then(|store| store.get(sample, sets.len() + 1));
    let mut cells: Vec<Option<Vec<Cell>>> = (0..samples.len()).map(stored).collect();

    let groups = group::groups(request, &samples, |sample| cells[sample].is_none());
    let mut planner = Planner::new(decoder, request, &sets);
    let plan = planner.plan(&groups, cells.iter().flatten().count());
    announce(&plan);
    let target = Target { closure, ..measured_by(model, request, &samples)? };
    let mut digests = Digests::new(decoder, request, &samples);
    let progress = Progress::new(plan.passes, "patch_grid");
    for group in &groups {
        for part in planner.parts(group) {
            interrupt::check()?;
            run_part(&mut planner, &mut digests, &target, &part, &progress, &mut |sample, values| {
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

    let mut grid = assemble(&sets, &cells, request, request.elements(model.config())?, plan)?;
    if !request.is_against_itself() {
        grid.baseline = baseline(model, request, &samples, &target)?;
    }
    if request.is_normalised() {
        grid.ends = Some(ends(model, request, &samples, &target)?);
    }
    if request.verify > 0 {
        grid.verified = Some(plain::verify(decoder, request, &samples, &target, &grid)?);
    }
    Ok(grid)
}

/// Runs one part, in halves if memory runs out.
fn run_part(
    planner: &mut Planner,
    digests: &mut Digests,
    target: &Target,
    part: &Group,
    progress: &Progress,
    keep: &mut impl FnMut(usize, Vec<Cell>) -> Result<()>,
) -> Result<()> {
    match run::run(planner, digests, target, part, progress) {
        Ok(values) => part.samples.iter().zip(values).try_for_each(|(sample, values)| keep(*sample, values)),
        Err(error) if error.is_out_of_memory() && part.samples.len() > 1 => {
            part.halves().iter().try_for_each(|half| run_part(planner, digests, target, half, progress, keep))
        }
        Err(error) if error.is_out_of_memory() && planner.halve() => {
            run_part(planner, digests, target, part, progress, keep)
        }
        Err(error) => Err(error),
    }
}

/// Refuses a sample's cells that are not finite, the last of which is that of the run without a patch. The activations
/// patched in are known to be finite by now.
fn check(cells: &[Cell], sample: usize, sets: &[Set], model: &LanguageModel) -> Result<()> {
    let last = cells.len() - 1;
    let mut order = std::iter::once(last).chain(0..last);
    let Some(cell) = order.find(|cell| !cells[*cell].is_measured()) else { return Ok(()) };
    let run = sets.get(cell).map_or("without a patch".to_owned(), |set| format!("when {} is patched", set::name(set)));
    Err(cells[cell].refused(&format!("of sample {sample}"), &run, not_finite_hint(model.decoder.kind)))
}

/// What the samples' logits are measured by.
pub(super) fn measured_by<'a>(model: &LanguageModel, request: &Request, samples: &[Sample]) -> Result<Target<'a>> {
    let mut target = Target::answers(&request.answers)?;
    if !request.against.is_empty() {
        model.decoder.check_outputs(&request.against.concat(), "`against`")?;
        target.against = Some(target::against(&request.answers, &request.against)?);
    }
    if request.reference.is_some() {
        let prompts: Vec<Vec<i64>> =
            samples.iter().enumerate().map(|(number, sample)| request.reference_run(number, sample)).collect();
        target.reference = Some(plain::log_probabilities(&model.decoder, &prompts)?);
    }
    Ok(target)
}

/// The setting's baseline runs.
fn baseline(model: &LanguageModel, request: &Request, samples: &[Sample], target: &Target) -> Result<Measured> {
    let runs: Vec<Vec<i64>> =
        samples.iter().enumerate().map(|(number, sample)| request.baseline(number, &sample.target)).collect();
    Measured::of_cells(&plain::measure(&model.decoder, &runs, target)?)
}

/// The runs of the targets alone, and of sources and targets together.
fn ends(model: &LanguageModel, request: &Request, samples: &[Sample], target: &Target) -> Result<Ends> {
    let alone: Vec<Vec<i64>> = samples.iter().map(|sample| sample.target.clone()).collect();
    let together: Vec<Vec<i64>> = (0..samples.len()).map(|number| request.clean(number)).collect();
    Ok(Ends {
        corrupted: Measured::of_cells(&plain::measure(&model.decoder, &alone, target)?)?,
        clean: Measured::of_cells(&plain::measure(&model.decoder, &together, target)?)?,
    })
}

fn assemble(
    sets: &[Set],
    cells: &[Option<Vec<Cell>>],
    request: &Request,
    elements: Vec<Element>,
    plan: Plan,
) -> Result<Grid> {
    let computed = |(sample, cells): (usize, &'_ Option<Vec<Cell>>)| {
        cells.clone().ok_or_else(|| Error::new(format!("sample {sample} was not computed")))
    };
    let samples = cells.iter().enumerate().map(computed).collect::<Result<Vec<_>>>()?;
    let of_set = |set: usize| samples.iter().map(|cells| cells[set]).collect::<Vec<_>>();
    let patched: Vec<Cell> = (0..sets.len()).flat_map(of_set).collect();
    let unpatched = of_set(sets.len());
    Ok(Grid {
        sets: sets.to_vec(),
        elements,
        sizes: request.sizes.clone(),
        patched: Measured::of_cells(&patched)?.shaped(&[sets.len() as i64, samples.len() as i64])?,
        baseline: Measured::of_cells(&unpatched)?,
        unpatched: Measured::of_cells(&unpatched)?,
        ends: None,
        direction: request.direction,
        setting: request.setting,
        metrics: request.metrics.clone(),
        has_against: !request.against.is_empty(),
        reference: request.reference,
        has_closure: request.metrics.contains(&Asked::plain(Metric::Closure)),
        max_rank: request.max_rank,
        plan,
        verified: None,
    })
}
