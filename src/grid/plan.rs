//! Computes a grid without doing any work twice.
//!
//! A patch at position p leaves the positions before it as they are (causal attention), so they are run once. The column at
//! p and the rest behind it are run layer by layer for all states at once, where a state is a set patched so far:
//!
//! - Before layer l there are only the states whose layers lie below l, so sets share everything up to their next layer.
//! - The rest sees a patch only through the column's keys and values in later layers: a new state starts from a copy.
//! - A patched residual stream forgets what was patched before, so columns are kept by the last layer patched. At position 0,
//!   with one source and one first token, they do not depend on the sample either and are run once for all.
//! - A patch after the last layer does not reach the positions behind it: such a set has its parent's values.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::driver::Request;
use super::group::Group;
use super::metric::Measured;
use super::set::{self, Element, Set};
use super::tree::Tree;
use crate::device;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::attention::{KeyValue, Pass};
use crate::model::decoder::Decoder;
use crate::model::hook::{HookPoint, Site};
use crate::model::intervention::{At, Change, Intervention};
use crate::model::language_model::LanguageModel;
use crate::model::run::Hooks;
use crate::model::window::Window;
use crate::progress::Progress;

/// Tokens that pass through a block at once: enough for full speed, few enough to stay in the processor's caches.
const TOKENS_AT_ONCE_CPU: i64 = 1024;
const TOKENS_AT_ONCE_GPU: i64 = 1 << 16;
/// The share of free memory that the states of one part may take.
const MEMORY_SHARE: f64 = 0.3;
/// What is taken for free memory where the system does not tell, in bytes.
const MEMORY_DEFAULT: u64 = 4 << 30;

/// Runs the parts of a grid.
pub struct Planner<'a> {
    decoder: &'a Decoder,
    request: &'a Request,
    sets: &'a [Set],
    /// States that have positions behind the patched one
    inner: Tree,
    /// States of prompts that are patched at their last position
    outer: Tree,
    digests: HashMap<Vec<i64>, Vec<Tensor>>,
    tokens_at_once: i64,
}

impl<'a> Planner<'a> {
    /// A planner for the given sets.
    pub fn new(model: &'a LanguageModel, request: &'a Request, sets: &'a [Set]) -> Result<Self> {
        let decoder = &model.decoder;
        let elements = set::elements(&decoder.config, request.site);
        let default = if decoder.device == Device::Cpu { TOKENS_AT_ONCE_CPU } else { TOKENS_AT_ONCE_GPU };
        let n_layers = decoder.config.n_layers;
        // At the last position a residual stream remembers its last patch only, whatever the size.
        let outer_sizes = if request.site == Site::ResidPost { &[1][..] } else { &request.sizes };
        Ok(Self {
            decoder,
            request,
            sets,
            inner: Tree::new(&elements, n_layers, &request.sizes, false),
            outer: Tree::new(&elements, n_layers, outer_sizes, true),
            digests: HashMap::new(),
            tokens_at_once: request.tokens_at_once.unwrap_or(default).max(1),
        })
    }

    /// Takes fewer tokens at once. False if that is no longer possible.
    pub fn halve(&mut self) -> bool {
        self.tokens_at_once /= 2;
        self.tokens_at_once > 0
    }

    fn tree(&self, group: &Group) -> &Tree {
        if group.rest() > 0 { &self.inner } else { &self.outer }
    }

    /// Columns are kept by their last layer (`ResidPost`) or by state.
    fn by_last(&self) -> bool {
        self.request.site == Site::ResidPost
    }

    /// Whether one column serves all samples of the group.
    fn is_shared(&self, group: &Group) -> bool {
        group.position == 0 && self.request.has_one_source()
    }

    /// The group in parts whose states fit into memory together.
    pub fn parts(&self, group: &Group) -> Vec<Group> {
        let element = if self.decoder.kind == Kind::Double { 8 } else { 4 };
        let per_sample = self.tree(group).len() as i64 * group.rest().max(1) * self.decoder.config.d_model * element;
        let free = device::free_memory(self.decoder.device).unwrap_or(MEMORY_DEFAULT);
        let fit = ((free as f64 * MEMORY_SHARE) as i64 / per_sample.max(1)).max(1) as usize;
        let count = group.samples.len();
        // Equal parts: what is kept in a store grows evenly.
        let size = count.div_ceil(count.div_ceil(fit));
        (0..count).step_by(size.max(1)).map(|start| group.slice(start, (start + size).min(count))).collect()
    }

    /// Tokens times layers that a group takes.
    fn group_work(&self, group: &Group) -> u64 {
        let samples = group.samples.len() as u64;
        let columns = if self.is_shared(group) { 1 } else { samples };
        let tree = self.tree(group);
        let births = tree.births.iter().map(Vec::len);
        let mut work = group.position as u64 * samples * self.decoder.config.n_layers as u64;
        for (layer, (states, births)) in tree.counts().into_iter().zip(births).enumerate() {
            work += states as u64 * samples * group.rest() as u64;
            work += columns * if self.by_last() { layer as u64 + 1 } else { (states + births) as u64 };
        }
        work
    }

    /// Tokens times layers that all groups take.
    pub fn work(&self, groups: &[Group]) -> u64 {
        groups.iter().map(|group| self.group_work(group)).sum()
    }

    /// What is about to be done, for people.
    pub fn describe(&self, groups: &[Group], found: usize) -> String {
        let samples: usize = groups.iter().map(|group| group.samples.len()).sum();
        let planned = self.work(groups);
        let layers = self.decoder.config.n_layers as u64;
        let plain: u64 = groups
            .iter()
            .map(|group| (self.sets.len() * group.samples.len()) as u64 * group.length as u64 * layers)
            .sum();
        let stored = if found > 0 { format!(", {found} samples from the store") } else { String::new() };
        if planned == 0 {
            return format!("{} sets: nothing to compute{stored}", self.sets.len());
        }
        format!(
            "{} sets x {samples} samples: {planned} block passes of a token instead of {plain} ({:.1} times fewer){stored}",
            self.sets.len(),
            plain as f64 / planned as f64
        )
    }

    /// The source's activations for a part: for every layer [column, ..], one column where it is shared.
    fn sources(&mut self, part: &Group, shared: bool) -> Result<Vec<Tensor>> {
        for sample in &part.samples {
            let source = self.request.source(*sample);
            if !self.digests.contains_key(source) {
                self.digests.insert(source.to_vec(), self.request.digest(self.decoder, *sample)?);
            }
        }
        let columns = if shared { part.samples.get(..1).unwrap_or_default() } else { &part.samples };
        (0..self.decoder.blocks.len())
            .map(|layer| {
                let values: Vec<&Tensor> = columns
                    .iter()
                    .filter_map(|sample| self.digests.get(self.request.source(*sample))?.get(layer))
                    .collect();
                Ok(Tensor::f_stack(&values, 0)?)
            })
            .collect()
    }

    /// The answers' logits and ranks: for each sample of the part, one pair per set.
    pub fn run(&mut self, part: &Group, progress: &Progress) -> Result<Vec<Vec<(f64, i64)>>> {
        let shared = self.is_shared(part);
        let sources = self.sources(part, shared)?;
        let run = Run::new(self, part, shared, sources, progress)?;
        let measured = run.finish()?;
        self.collect(part, &measured)
    }

    /// Sorts the measured states, [state, sample], into the request's sets.
    fn collect(&self, part: &Group, measured: &Measured) -> Result<Vec<Vec<(f64, i64)>>> {
        let samples = part.samples.len();
        let logits = Vec::<f64>::try_from(&measured.logit.f_to(Device::Cpu)?)?;
        let ranks = Vec::<i64>::try_from(&measured.rank.f_to(Device::Cpu)?)?;
        let last = self.decoder.config.n_layers - 1;
        let tree = self.tree(part);
        let states = self
            .sets
            .iter()
            .map(|set| {
                let key: Set = match (part.rest() > 0, self.by_last()) {
                    (true, _) => set.iter().copied().filter(|element| element.layer < last).collect(),
                    (false, true) => set.last().copied().into_iter().collect(),
                    (false, false) => set.clone(),
                };
                tree.index.get(&key).copied().ok_or_else(|| Error::new("a set has no state in the plan"))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok((0..samples)
            .map(|sample| {
                states
                    .iter()
                    .map(|state| {
                        let place = state * samples + sample;
                        (logits.get(place).copied().unwrap_or(f64::NAN), ranks.get(place).copied().unwrap_or(0))
                    })
                    .collect()
            })
            .collect())
    }
}

/// One part on its way through the layers.
struct Run<'a> {
    planner: &'a Planner<'a>,
    part: &'a Group,
    progress: &'a Progress,
    sources: Vec<Tensor>,
    /// Columns per state or last layer: 1 where samples share them
    columns_each: i64,
    /// The column at the patched position, [column state, column, d_model]
    columns: Tensor,
    /// For each state, its column state
    column_of: Vec<i64>,
    /// The positions behind it, [state, sample, pos, d_model], room for all states; the first `states` are filled
    rest: Option<Tensor>,
    states: i64,
    /// Keys and values of the positions before it, per layer
    before: Vec<KeyValue>,
}

impl<'a> Run<'a> {
    fn new(
        planner: &'a Planner<'a>,
        part: &'a Group,
        shared: bool,
        sources: Vec<Tensor>,
        progress: &'a Progress,
    ) -> Result<Self> {
        let decoder = planner.decoder;
        let tokens = decoder.tokens(&part.prompts)?;
        let (samples, position, rest) = (part.samples.len() as i64, part.position, part.rest());
        let none = &mut Hooks::none();
        let before = if position > 0 {
            let x = decoder.embed(&tokens.f_narrow(1, 0, position)?, 0, none)?;
            let pass = decoder.pass(Window { start: 0, length: position, prompt: part.length })?;
            let mut x = x;
            let mut kept = Vec::new();
            for block in &decoder.blocks {
                interrupt::check()?;
                let mut past: KeyValue = None;
                x = block.forward(&decoder.config, x, &pass, Some(&mut past), none)?;
                kept.push(past);
                progress.tick((samples * position) as u64);
            }
            kept
        } else {
            Vec::new()
        };
        let columns_each = if shared { 1 } else { samples };
        let column = decoder.embed(&tokens.f_narrow(1, position, 1)?, position, none)?;
        let columns = column.f_narrow(0, 0, columns_each)?.f_transpose(0, 1)?.f_contiguous()?;
        let rest = if rest > 0 {
            let x = decoder.embed(&tokens.f_narrow(1, position + 1, rest)?, position + 1, none)?;
            let room = [planner.inner.len() as i64, samples, rest, decoder.config.d_model];
            let buffer = Tensor::f_empty(room, (decoder.kind, decoder.device))?;
            buffer.f_select(0, 0)?.f_copy_(&x)?;
            Some(buffer)
        } else {
            None
        };
        Ok(Self {
            planner,
            part,
            progress,
            sources,
            columns_each,
            columns,
            column_of: vec![0],
            rest,
            states: 1,
            before,
        })
    }

    /// Takes all states through all layers and measures them, [state · sample].
    fn finish(mut self) -> Result<Measured> {
        let decoder = self.planner.decoder;
        let (position, length) = (self.part.position, self.part.length);
        let column_pass = decoder.pass(Window { start: position, length: 1, prompt: length })?;
        let rest_pass = match self.part.rest() {
            0 => None,
            rest => Some(decoder.pass(Window { start: position + 1, length: rest, prompt: length })?),
        };
        for layer in 0..decoder.blocks.len() {
            interrupt::check()?;
            let old = self.columns.shallow_clone();
            let (columns, key, value) = self.column_step(layer, &old, &column_pass, Vec::new())?;
            if let Some(pass) = &rest_pass {
                self.rest_step(layer, pass, &key, &value)?;
            }
            self.columns = columns;
            self.births(layer, &old, &column_pass)?;
        }
        let samples = self.part.samples.len() as i64;
        let residuals = match &self.rest {
            Some(rest) => rest.f_narrow(0, 0, self.states)?.f_select(2, -1)?,
            None => {
                let index = Tensor::f_from_slice(&self.column_of)?.f_to(decoder.device)?;
                let columns = self.columns.f_index_select(0, &index)?;
                let d_model = decoder.config.d_model;
                columns.f_expand([self.states, samples, d_model], false)?
            }
        };
        let answers: Vec<i64> =
            self.part.samples.iter().filter_map(|sample| self.planner.request.answers.get(*sample).copied()).collect();
        let answers = Tensor::f_from_slice(&answers)?.f_to(decoder.device)?;
        let answers = answers.f_unsqueeze(0)?.f_expand([self.states, samples], false)?.f_reshape([-1])?;
        let d_model = decoder.config.d_model;
        Measured::of_residuals(decoder, &residuals.f_reshape([-1, d_model])?, &answers)
    }

    /// Keys or values before the patched position, repeated for `states` states: [states · column, pos, kv_head, d_head].
    fn before(&self, layer: usize, states: i64) -> Result<KeyValue> {
        let Some(Some((key, value))) = self.before.get(layer) else { return Ok(None) };
        let repeat = |x: &Tensor| -> Result<Tensor> {
            let mut size = x.size();
            size.insert(0, states);
            Ok(x.f_unsqueeze(0)?.f_expand(size.as_slice(), false)?.f_flatten(0, 1)?)
        };
        Ok(Some((repeat(key)?, repeat(value)?)))
    }

    /// Takes columns, [column state, column, d_model], through a block. Returns them with their keys and values,
    /// [column state, column, kv_head, d_head].
    fn column_step(
        &self,
        layer: usize,
        columns: &Tensor,
        pass: &Pass,
        patches: Vec<(Element, Tensor)>,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let decoder = self.planner.decoder;
        let Some(block) = decoder.blocks.get(layer) else { return Err(Error::new("no such layer")) };
        let count = columns.size().first().copied().unwrap_or(0);
        let d_model = decoder.config.d_model;
        let (kv_heads, d_head) = (decoder.config.n_kv_heads, decoder.config.d_head);
        let step = (self.planner.tokens_at_once / self.columns_each).max(1);
        let (mut outs, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        while start < count {
            interrupt::check()?;
            let some = step.min(count - start);
            let rows = some * self.columns_each;
            let x = columns.f_narrow(0, start, some)?.f_reshape([rows, 1, d_model])?;
            let mut past = self.before(layer, some)?;
            let mut hooks = Hooks::none();
            for (element, value) in &patches {
                let mut size = value.size();
                size.insert(0, some);
                let value = value.f_unsqueeze(0)?.f_expand(size.as_slice(), false)?.f_flatten(0, 1)?;
                hooks.intervene(
                    &decoder.config,
                    Intervention {
                        point: HookPoint { site: self.planner.request.site, layer: element.layer },
                        positions: At::One(self.part.position),
                        rows: None,
                        head: element.head,
                        change: Change::Patch(value),
                    },
                );
            }
            hooks.begin(pass.window);
            let out = block.forward(&decoder.config, x, pass, Some(&mut past), &mut hooks)?;
            hooks.finish()?;
            outs.push(out.f_view([some, self.columns_each, d_model])?);
            if let Some((key, value)) = past {
                let own = [some, self.columns_each, kv_heads, d_head];
                keys.push(key.f_select(1, -1)?.f_reshape(own)?);
                values.push(value.f_select(1, -1)?.f_reshape(own)?);
            }
            self.progress.tick(rows as u64);
            start += some;
        }
        Ok((Tensor::f_cat(&outs, 0)?, Tensor::f_cat(&keys, 0)?, Tensor::f_cat(&values, 0)?))
    }

    /// Takes the positions behind the patched one through a block, for every state, in place.
    fn rest_step(&self, layer: usize, pass: &Pass, key: &Tensor, value: &Tensor) -> Result<()> {
        let (Some(rest), Some(block)) = (&self.rest, self.planner.decoder.blocks.get(layer)) else { return Ok(()) };
        let decoder = self.planner.decoder;
        let samples = self.part.samples.len() as i64;
        let (length, d_model) = (self.part.rest(), decoder.config.d_model);
        let (kv_heads, d_head) = (decoder.config.n_kv_heads, decoder.config.d_head);
        let step = (self.planner.tokens_at_once / (samples * length)).max(1);
        let mut start = 0;
        while start < self.states {
            interrupt::check()?;
            let some = step.min(self.states - start);
            let rows = some * samples;
            let range = start as usize..(start + some) as usize;
            let index = Tensor::f_from_slice(self.column_of.get(range).unwrap_or_default())?.f_to(decoder.device)?;
            let own = |x: &Tensor| -> Result<Tensor> {
                let picked = x.f_index_select(0, &index)?.f_expand([some, samples, kv_heads, d_head], false)?;
                Ok(picked.f_reshape([rows, 1, kv_heads, d_head])?)
            };
            let (own_key, own_value) = (own(key)?, own(value)?);
            let mut past = Some(match self.before(layer, some)? {
                None => (own_key, own_value),
                Some((key, value)) => (Tensor::f_cat(&[key, own_key], 1)?, Tensor::f_cat(&[value, own_value], 1)?),
            });
            let mut place = rest.f_narrow(0, start, some)?;
            let x = place.f_view([rows, length, d_model])?;
            let out = block.forward(&decoder.config, x, pass, Some(&mut past), &mut Hooks::none())?;
            place.f_copy_(&out.f_view([some, samples, length, d_model])?)?;
            self.progress.tick((rows * length) as u64);
            start += some;
        }
        Ok(())
    }

    /// Adds the states born after `layer`. `old` are the columns before it.
    fn births(&mut self, layer: usize, old: &Tensor, pass: &Pass) -> Result<()> {
        let planner = self.planner;
        let births = planner.tree(self.part).births.get(layer).map_or(&[][..], Vec::as_slice);
        let Some(source) = self.sources.get(layer) else { return Ok(()) };
        if births.is_empty() {
            return Ok(());
        }
        let decoder = planner.decoder;
        let device = decoder.device;
        if let Some(rest) = &self.rest {
            let parents: Vec<i64> = births.iter().map(|birth| birth.parent as i64).collect();
            let copies = rest.f_index_select(0, &Tensor::f_from_slice(&parents)?.f_to(device)?)?;
            rest.f_narrow(0, self.states, births.len() as i64)?.f_copy_(&copies)?;
        }
        let next = self.columns.size().first().copied().unwrap_or(0);
        if planner.by_last() {
            self.columns = Tensor::f_cat(&[&self.columns, &source.f_unsqueeze(0)?], 0)?;
            self.column_of.extend(std::iter::repeat_n(next, births.len()));
        } else {
            let mut grown = vec![self.columns.shallow_clone()];
            for same in births.chunk_by(|left, right| left.added == right.added) {
                let Some(added) = same.first().map(|birth| &birth.added) else { continue };
                let parents: Vec<i64> = same.iter().map(|birth| birth.parent as i64).collect();
                let parents = old.f_index_select(0, &Tensor::f_from_slice(&parents)?.f_to(device)?)?;
                let patches = added
                    .iter()
                    .map(|element| {
                        let value = match element.head {
                            Some(head) => source.f_select(1, head)?,
                            None => source.shallow_clone(),
                        };
                        Ok((*element, value))
                    })
                    .collect::<Result<Vec<_>>>()?;
                grown.push(self.column_step(layer, &parents, pass, patches)?.0);
            }
            self.columns = Tensor::f_cat(&grown, 0)?;
            self.column_of.extend((0..births.len() as i64).map(|number| next + number));
        }
        self.states += births.len() as i64;
        Ok(())
    }
}
