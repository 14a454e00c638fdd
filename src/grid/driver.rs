//! Runs a whole grid: takes finished batches of samples from the store and computes the rest, or this shard's share of
//! it, batch by batch.

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
use crate::model::decoder::not_finite_hint;
use crate::model::language_model::LanguageModel;
use crate::progress::Progress;
use crate::{interrupt, share};

/// Changed whenever the numbers or what they depend on change: see [`Store`].
const VERSION: &str = "lancet cells 6";

/// Computes a grid, with a metric of the caller's own if there is one. Calls `announce` with the plan before the work
/// begins.
///
/// # Errors
/// A request that does not fit the model (see [`Request::samples`]), logits that are not finite, cells that cannot be
/// verified, too little memory even for one sample at a time; Ctrl-C (finished batches are in the store); batches that
/// other shards compute.
pub fn compute(
    model: &LanguageModel,
    request: &Request,
    closure: Option<&Closure>,
    announce: &mut dyn FnMut(&Plan),
) -> Result<Grid> {
    let decoder = &model.decoder;
    let samples = request.samples(decoder)?;
    let sets = request.sets(model.config())?;

    let mut planner = Planner::new(decoder, request, &sets);
    let groups = group::groups(request, &samples);
    let batches: Vec<Group> = groups.iter().flat_map(|group| planner.batches(group)).collect();
    let members: Vec<&[usize]> = batches.iter().map(|batch| batch.samples.as_slice()).collect();
    let store = Store::open(VERSION, model, request, &samples, &members, closure.is_some())?;
    let mut cells: Vec<Option<Vec<Cell>>> = vec![None; samples.len()];
    let mut todo = Vec::new();
    let mut is_missing = false;
    for (number, batch) in batches.iter().enumerate() {
        let is_own = store.as_ref().is_none_or(|store| store.has_batch(number));
        match store.as_ref().and_then(|store| store.get(number, batch.samples.len(), sets.len() + 1)) {
            Some(found) => batch.samples.iter().zip(found).for_each(|(sample, found)| cells[*sample] = Some(found)),
            None if is_own => todo.push(number),
            None => is_missing = true,
        }
    }
    let planned: Vec<&Group> = todo.iter().map(|number| &batches[*number]).collect();
    let plan = planner.plan(&planned, cells.iter().flatten().count());
    announce(&plan);
    let target = Target { closure, ..measured_by(model, request, &samples)? };
    let mut digests = Digests::new(decoder, request, &samples);
    let progress = Progress::new(plan.passes, "patch_grid");
    for number in todo {
        interrupt::check()?;
        let batch = &batches[number];
        let mut computed = Vec::with_capacity(batch.samples.len());
        run_part(&mut planner, &mut digests, &target, batch, &progress, &mut computed)?;
        for (sample, values) in batch.samples.iter().zip(&computed) {
            check(values, *sample, &sets, model)?;
        }
        if let Some(store) = &store {
            store.put(number, &computed)?;
        }
        batch.samples.iter().zip(computed).for_each(|(sample, values)| cells[*sample] = Some(values));
    }
    progress.finish();
    share::defer_if(is_missing)?;

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

/// Runs a part of a batch and adds its samples' cells to `computed`; in halves if memory does not suffice.
fn run_part(
    planner: &mut Planner,
    digests: &mut Digests,
    target: &Target,
    part: &Group,
    progress: &Progress,
    computed: &mut Vec<Vec<Cell>>,
) -> Result<()> {
    let mut in_halves = |planner: &mut Planner, digests: &mut Digests| {
        part.halves().iter().try_for_each(|half| run_part(planner, digests, target, half, progress, computed))
    };
    let is_divisible = part.samples.len() > 1;
    if is_divisible && !planner.fits(part) {
        return in_halves(planner, digests);
    }
    match run::run(planner, digests, target, part, progress) {
        Ok(values) => {
            computed.extend(values);
            Ok(())
        }
        Err(error) if error.is_out_of_memory() && is_divisible => in_halves(planner, digests),
        Err(error) if error.is_out_of_memory() && planner.halve() => {
            run_part(planner, digests, target, part, progress, computed)
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
