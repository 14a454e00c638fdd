//! A patching grid: what is asked for, and what comes back.

use std::rc::Rc;

use tch::{Kind, Tensor};

use super::group::{self, Group};
use super::metric::Measured;
use super::plain;
use super::plan;
use super::set::{self, Element, Set};
use super::store::Store;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::decoder::Decoder;
use crate::model::hook::Site;
use crate::model::language_model::LanguageModel;
use crate::progress::Progress;

/// What the patched run is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// The target run alone (`pt_vs_to`)
    TargetOnly,
    /// The run of source and target together (`pt_vs_it`)
    SourceAndTarget,
}

/// What a grid is asked for. Samples may have targets of any lengths.
#[derive(Debug, Clone)]
pub struct Request {
    /// One source for all samples, or one per sample; its last token's activations are patched in
    pub sources: Vec<Vec<i64>>,
    /// Activations to patch in instead of a source's: one tensor per layer
    pub vectors: Option<Rc<Vec<Tensor>>>,
    /// One prompt per sample
    pub targets: Vec<Vec<i64>>,
    /// One token per sample
    pub answers: Vec<i64>,
    /// Where the target is patched; negative from its end. One for all samples, or one per sample
    pub positions: Vec<i64>,
    /// How many places are patched together
    pub sizes: Vec<usize>,
    /// What is patched: residual after a layer, attention's or the MLP's part, or single heads
    pub site: Site,
    /// The baseline
    pub setting: Setting,
    /// A token put in front of every target
    pub filler: Option<i64>,
    /// Ranks beyond this score -1 (the paper's released code); None: 1 / rank always
    pub max_rank: Option<i64>,
    /// How many cells are computed again the plain way
    pub verify: usize,
    /// Largest number of prompt tokens computed at once; None: from free memory
    pub tokens_at_once: Option<i64>,
    /// Where finished samples are kept; None: nowhere
    pub store: Option<std::path::PathBuf>,
}

/// How far the planned cells are from the plain way.
#[derive(Debug, Clone, Copy)]
pub struct Verified {
    /// Cells that were computed twice
    pub cells: usize,
    /// Largest absolute difference of an answer's logit
    pub max_logit_difference: f64,
    /// Cells whose rank differs
    pub rank_differences: usize,
}

/// A computed grid; tensors on the CPU.
#[derive(Debug)]
pub struct Grid {
    /// The sets of places, in the order of the rows
    pub sets: Vec<Set>,
    /// Answer's logit in the patched run, float64 [set, sample]
    pub patched_logit: Tensor,
    /// Answer's rank in the patched run, int64 [set, sample]
    pub rank: Tensor,
    /// Answer's logit in the baseline, float64 [sample]
    pub baseline_logit: Tensor,
    /// Answer's rank in the baseline, int64 [sample]
    pub baseline_rank: Tensor,
    /// See [`Request::max_rank`]
    pub max_rank: Option<i64>,
    /// What was done, for people: passes, memory, what was found in the store
    pub plan: String,
    /// The outcome of [`Request::verify`]
    pub verified: Option<Verified>,
}

impl Grid {
    /// Reciprocal ranks; beyond `max_rank` -1.
    pub fn reciprocal(&self, rank: &Tensor) -> Result<Tensor> {
        let reciprocal = rank.f_to_kind(Kind::Double)?.f_reciprocal()?;
        match self.max_rank {
            None => Ok(reciprocal),
            Some(limit) => {
                let beyond = rank.f_gt_tensor(&Tensor::f_from_slice(&[limit])?)?;
                Ok(reciprocal.f_masked_fill_tensor(&beyond, &Tensor::f_from_slice(&[-1.0])?.f_squeeze()?)?)
            }
        }
    }

    /// Change of the answer's logit, [set, sample].
    pub fn logit_effect(&self) -> Result<Tensor> {
        Ok(self.patched_logit.f_sub(&self.baseline_logit)?)
    }

    /// Change of the answer's reciprocal rank, [set, sample].
    pub fn reciprocal_effect(&self) -> Result<Tensor> {
        Ok(self.reciprocal(&self.rank)?.f_sub(&self.reciprocal(&self.baseline_rank)?)?)
    }
}

impl Request {
    fn check(&self, model: &LanguageModel) -> Result<()> {
        let count = self.targets.len();
        let wrong = |what: &str, found: usize| {
            Err(Error::new(format!("there are {count} targets and {found} {what}"))
                .hint("one for all samples, or one per sample"))
        };
        if count == 0 {
            return Err(Error::new("a grid needs at least one target"));
        }
        if self.answers.len() != count {
            return Err(Error::new(format!("there are {count} targets and {} answers", self.answers.len()))
                .hint("one answer id per sample"));
        }
        if self.sources.len() != 1 && self.sources.len() != count && self.vectors.is_none() {
            return wrong("sources", self.sources.len());
        }
        if let Some(vectors) = &self.vectors {
            self.check_vectors(vectors, model)?;
        }
        if self.positions.len() != 1 && self.positions.len() != count {
            return wrong("positions", self.positions.len());
        }
        if self.sizes.is_empty() || self.sizes.iter().any(|size| !(1..=3).contains(size)) {
            return Err(Error::new("`sizes` must hold some of 1, 2 and 3"));
        }
        if let Some(id) = self.answers.iter().find(|id| !(0..model.config().d_vocab).contains(*id)) {
            return Err(Error::new(format!("answer id {id} is out of range"))
                .hint(format!("this model's ids are 0 to {}", model.config().d_vocab - 1)));
        }
        Ok(())
    }

    fn check_vectors(&self, vectors: &[Tensor], model: &LanguageModel) -> Result<()> {
        let config = model.config();
        let wanted = if self.site == Site::Z { vec![config.n_heads, config.d_head] } else { vec![config.d_model] };
        if vectors.len() as i64 != config.n_layers {
            return Err(Error::new(format!("there are {} vectors for {} layers", vectors.len(), config.n_layers)));
        }
        match vectors.iter().position(|vector| vector.size() != wanted) {
            Some(layer) => Err(Error::new(format!("the vector of layer {layer} does not have the shape {wanted:?}"))),
            None if self.setting == Setting::SourceAndTarget => Err(Error::new(
                "`pt_vs_it` compares with the run of source and target together, and vectors are no text",
            )),
            None => Ok(()),
        }
    }

    /// The source's activations for one sample: for every layer, [d_model], or [head, d_head] for heads.
    pub fn digest(&self, decoder: &Decoder, sample: usize) -> Result<Vec<Tensor>> {
        match &self.vectors {
            Some(vectors) => vectors
                .iter()
                .map(|vector| Ok(vector.f_to_device_(decoder.device, decoder.kind, false, false)?))
                .collect(),
            None => plain::digest(decoder, self.source(sample), self.site),
        }
    }

    /// Whether all samples are given the same activations.
    pub fn has_one_source(&self) -> bool {
        self.vectors.is_some() || self.sources.len() == 1
    }

    /// The source of one sample.
    pub fn source(&self, sample: usize) -> &[i64] {
        self.sources.get(sample).or(self.sources.first()).map_or(&[], Vec::as_slice)
    }

    /// The target of one sample, its filler in front.
    pub fn prompt(&self, sample: usize) -> Vec<i64> {
        let target = self.targets.get(sample).map_or(&[][..], Vec::as_slice);
        self.filler.iter().chain(target).copied().collect()
    }

    /// Where one sample's prompt is patched, from its start.
    fn position(&self, sample: usize) -> Result<i64> {
        let given = self.positions.get(sample).or(self.positions.first()).copied().unwrap_or(0);
        let length = self.prompt(sample).len() as i64;
        let position = if given < 0 { given + length } else { given };
        if (0..length).contains(&position) {
            return Ok(position);
        }
        Err(Error::new(format!(
            "position {given} is out of range for sample {sample}, whose prompt has {length} tokens"
        )))
    }
}

/// Computes a grid. `announce` is told the plan before the work begins.
///
/// # Errors
/// Lists of different lengths, ids or positions out of range, too little memory even for one sample at a time; Ctrl-C
/// (what is finished is in the store).
pub fn compute(model: &LanguageModel, request: &Request, announce: &mut dyn FnMut(&str)) -> Result<Grid> {
    request.check(model)?;
    let elements = set::elements(model.config(), request.site);
    let sets = set::all(&elements, &request.sizes);
    let count = request.targets.len();
    let prompts: Vec<Vec<i64>> = (0..count).map(|sample| request.prompt(sample)).collect();
    for (sample, prompt) in prompts.iter().enumerate() {
        model.decoder.check_ids(prompt, &format!("the prompt of sample {sample}"))?;
        if request.vectors.is_none() {
            model.decoder.check_ids(request.source(sample), &format!("the source of sample {sample}"))?;
        }
    }
    let positions = (0..count).map(|sample| request.position(sample)).collect::<Result<Vec<_>>>()?;

    // Given vectors have no name to be found again by.
    let folder = request.store.as_deref().filter(|_| request.vectors.is_none());
    let store = folder.map(|folder| Store::open(folder, model, request)).transpose()?;
    let mut cells: Vec<Option<Vec<(f64, i64)>>> = (0..count)
        .map(|sample| store.as_ref().and_then(|store| store.get(sample, positions.get(sample).copied()?, sets.len())))
        .collect();
    let found = cells.iter().filter(|cells| cells.is_some()).count();

    let groups =
        group::groups(request, &prompts, &positions, |sample| cells.get(sample).is_some_and(|cells| cells.is_none()));
    let mut planner = plan::Planner::new(model, request, &sets)?;
    let description = planner.describe(&groups, found);
    announce(&description);
    let progress = Progress::new(planner.work(&groups), "patch_grid");
    for group in &groups {
        for part in planner.parts(group) {
            interrupt::check()?;
            run_part(&mut planner, &part, &progress, &mut |sample, values| {
                if let Some(store) = &store {
                    store.put(sample, positions.get(sample).copied().unwrap_or(0), &values)?;
                }
                if let Some(place) = cells.get_mut(sample) {
                    *place = Some(values);
                }
                Ok(())
            })?;
        }
    }
    progress.finish();

    let baseline = baseline(model, request, &prompts)?;
    let mut grid = assemble(sets, &cells, baseline, request)?;
    grid.plan = description;
    if request.verify > 0 {
        grid.verified = Some(plain::verify(model, request, &prompts, &positions, &grid)?);
    }
    Ok(grid)
}

/// Runs one part, in halves if memory runs out.
fn run_part(
    planner: &mut plan::Planner,
    part: &Group,
    progress: &Progress,
    keep: &mut impl FnMut(usize, Vec<(f64, i64)>) -> Result<()>,
) -> Result<()> {
    match planner.run(part, progress) {
        Ok(values) => {
            for (sample, values) in part.samples.iter().zip(values) {
                if values.iter().any(|(logit, _)| logit.is_nan()) {
                    return Err(Error::new(format!("the logits of sample {sample} are NaN in a patched run"))
                        .hint("the dtype may be too narrow for this model; try \"f32\" or \"bf16\""));
                }
                keep(*sample, values)?;
            }
            Ok(())
        }
        Err(error) if error.is_out_of_memory() && (part.samples.len() > 1 || planner.halve()) => {
            let (left, right) = part.halves();
            for half in [left, right].into_iter().filter(|half| !half.samples.is_empty()) {
                run_part(planner, &half, progress, keep)?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn assemble(sets: Vec<Set>, cells: &[Option<Vec<(f64, i64)>>], baseline: Measured, request: &Request) -> Result<Grid> {
    let mut logits = vec![0.0; sets.len() * cells.len()];
    let mut ranks = vec![0; sets.len() * cells.len()];
    for (sample, values) in cells.iter().enumerate() {
        let values = values.as_ref().ok_or_else(|| Error::new(format!("sample {sample} was not computed")))?;
        for (set, (logit, rank)) in values.iter().enumerate() {
            let place = set * cells.len() + sample;
            if let (Some(to_logit), Some(to_rank)) = (logits.get_mut(place), ranks.get_mut(place)) {
                (*to_logit, *to_rank) = (*logit, *rank);
            }
        }
    }
    let shape = [sets.len() as i64, cells.len() as i64];
    Ok(Grid {
        patched_logit: Tensor::f_from_slice::<f64>(&logits)?.f_view(shape)?,
        rank: Tensor::f_from_slice::<i64>(&ranks)?.f_view(shape)?,
        baseline_logit: baseline.logit.f_to(tch::Device::Cpu)?,
        baseline_rank: baseline.rank.f_to(tch::Device::Cpu)?,
        sets,
        max_rank: request.max_rank,
        plan: String::new(),
        verified: None,
    })
}

/// The answers' logits and ranks in the setting's baseline run, [sample].
fn baseline(model: &LanguageModel, request: &Request, prompts: &[Vec<i64>]) -> Result<Measured> {
    let runs: Vec<Vec<i64>> = match request.setting {
        Setting::TargetOnly => prompts.to_vec(),
        Setting::SourceAndTarget => (0..prompts.len())
            .map(|sample| {
                let target = request.targets.get(sample).map_or(&[][..], Vec::as_slice);
                request.source(sample).iter().chain(target).copied().collect()
            })
            .collect(),
    };
    plain::measure(&model.decoder, &runs, &request.answers)
}

/// The text of an element: `3`, or `3.5` for head 5 of layer 3.
pub fn element_name(element: &Element) -> String {
    match element.head {
        None => element.layer.to_string(),
        Some(head) => format!("{}.{head}", element.layer),
    }
}
