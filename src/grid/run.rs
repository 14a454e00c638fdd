//! Runs one part of a grid: its prefix once, its column and suffix layer by layer for all nodes (see `plan`).

use tch::{Device, Tensor};

use super::digest::Digests;
use super::group::Group;
use super::measured::{Cell, Measured};
use super::plan::{self, Planner};
use super::set::Element;
use super::target::Target;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::attention::{KeyValue, Pass};
use crate::model::run::Hooks;
use crate::model::window::Window;
use crate::progress::Progress;

/// What is measured of the patched runs: for each sample of the part, one cell per set, and that of the run without a
/// patch. A set that changes nothing has the very same numbers.
///
/// # Errors
/// Activations that are not finite, too little memory; Ctrl-C.
pub fn run(
    planner: &Planner,
    digests: &mut Digests,
    target: &Target,
    part: &Group,
    progress: &Progress,
) -> Result<Vec<Vec<Cell>>> {
    let sources = sources(planner, digests, part)?;
    let measured = Run::new(planner, part, sources, progress)?.finish(target)?.cells()?;
    let mut nodes = planner.nodes(part);
    nodes.push(0);
    let samples = part.samples.len();
    Ok((0..samples).map(|sample| nodes.iter().map(|node| measured[node * samples + sample]).collect()).collect())
}

/// The activations to patch in, for every layer [sample, ..]; one sample where all share their column.
fn sources(planner: &Planner, digests: &mut Digests, part: &Group) -> Result<Vec<Tensor>> {
    let samples = if planner.has_one_column(part) { &part.samples[..1] } else { &part.samples };
    let digests = samples.iter().map(|sample| digests.get(*sample)).collect::<Result<Vec<_>>>()?;
    (0..planner.decoder.blocks.len())
        .map(|layer| {
            let values: Vec<&Tensor> = digests.iter().map(|digest| &digest[layer]).collect();
            Ok(Tensor::f_stack(&values, 0)?)
        })
        .collect()
}

/// One part on its way through the layers.
struct Run<'a> {
    planner: &'a Planner<'a>,
    part: &'a Group,
    progress: &'a Progress,
    /// The activations to patch in, per layer
    sources: Vec<Tensor>,
    /// The distinct columns so far, [column, sample, d_model]; one sample where all share their column
    columns: Tensor,
    /// For each node, the number of its column
    column_of: Vec<i64>,
    /// The suffixes, [node, sample, pos, d_model], with room for all nodes; those of the first `nodes` are filled in
    suffix: Option<Tensor>,
    /// Number of nodes so far
    nodes: i64,
    /// Keys and values of the prefix, per layer
    prefix: Vec<KeyValue>,
}

impl<'a> Run<'a> {
    fn new(planner: &'a Planner<'a>, part: &'a Group, sources: Vec<Tensor>, progress: &'a Progress) -> Result<Self> {
        let decoder = planner.decoder;
        let tokens = decoder.tokens(&part.prompts)?;
        let (samples, position, suffix) = (part.samples.len() as i64, part.position, part.suffix());
        let none = &mut Hooks::none();
        let mut prefix: Vec<KeyValue> = decoder.blocks.iter().map(|_| None).collect();
        if position > 0 {
            let pass = decoder.pass(Window { start: 0, length: position, prompt: part.length }, None)?;
            let mut x = decoder.embed(&tokens.f_narrow(1, 0, position)?, 0, none)?;
            for (block, past) in decoder.blocks.iter().zip(&mut prefix) {
                interrupt::check()?;
                x = block.forward(&decoder.config, x, &pass, Some(past), none)?;
                progress.tick((samples * position) as u64);
            }
        }
        let column = decoder.embed(&tokens.f_narrow(1, position, 1)?, position, none)?;
        let distinct = if planner.has_one_column(part) { 1 } else { samples };
        let columns = column.f_narrow(0, 0, distinct)?.f_transpose(0, 1)?.f_contiguous()?;
        let suffix = if suffix > 0 {
            let x = decoder.embed(&tokens.f_narrow(1, position + 1, suffix)?, position + 1, none)?;
            let room = [planner.tree(part).size() as i64, samples, suffix, decoder.config.d_model];
            let buffer = Tensor::f_empty(room, (decoder.kind, x.device()))?;
            buffer.f_select(0, 0)?.f_copy_(&x)?;
            Some(buffer)
        } else {
            None
        };
        Ok(Self { planner, part, progress, sources, columns, column_of: vec![0], suffix, nodes: 1, prefix })
    }

    /// Takes all nodes through all layers and measures them, [node · sample].
    fn finish(mut self, target: &Target) -> Result<Measured> {
        let decoder = self.planner.decoder;
        let (position, length) = (self.part.position, self.part.length);
        let column_pass = decoder.pass(Window { start: position, length: 1, prompt: length }, None)?;
        let suffix_pass = match self.part.suffix() {
            0 => None,
            suffix => Some(decoder.pass(Window { start: position + 1, length: suffix, prompt: length }, None)?),
        };
        for layer in 0..decoder.blocks.len() {
            interrupt::check()?;
            self.move_to(decoder.blocks[layer].device())?;
            let before = self.columns.shallow_clone();
            let kept = self.column_step(layer, &before, &column_pass, &[])?;
            let added = self.added(layer, &before, &kept, &column_pass)?;
            // Where the suffix sees a patch in the patch's own layer, its nodes must be there before.
            let early = plan::reaches_suffix_at_once(self.planner.request.site);
            if early {
                self.add_suffixes(layer)?;
            }
            if let (Some(suffix), Some(pass)) = (&self.suffix, &suffix_pass) {
                let all = early.then(|| Column::join(&[&kept, &added])).transpose()?;
                self.suffix_step(layer, suffix, pass, all.as_ref().unwrap_or(&kept))?;
            }
            if !early {
                self.add_suffixes(layer)?;
            }
            self.columns = Tensor::f_cat(&[kept.out, added.out], 0)?;
        }
        self.measure(target)
    }

    /// Brings what goes on through the layers to the device of the next.
    fn move_to(&mut self, device: Device) -> Result<()> {
        self.columns = self.columns.f_to(device)?;
        self.suffix = self.suffix.as_ref().map(|suffix| suffix.f_to(device)).transpose()?;
        Ok(())
    }

    fn measure(&self, target: &Target) -> Result<Measured> {
        let decoder = self.planner.decoder;
        let d_model = decoder.config.d_model;
        let samples = self.part.samples.len() as i64;
        let residuals = match &self.suffix {
            Some(suffix) => suffix.f_narrow(0, 0, self.nodes)?.f_select(2, -1)?,
            None => {
                let index = Tensor::f_from_slice(&self.column_of)?.f_to(self.columns.device())?;
                self.columns.f_index_select(0, &index)?.f_expand([self.nodes, samples, d_model], false)?
            }
        };
        let target = target.select(&self.part.samples, decoder.output_device())?;
        Measured::of_residuals(decoder, &residuals.f_reshape([-1, d_model])?, &target)
    }

    /// The prefix's keys and values, repeated for `count` nodes or columns: [count · sample, pos, kv_head, d_head].
    fn repeated_prefix(&self, layer: usize, count: i64) -> Result<KeyValue> {
        let Some((key, value)) = &self.prefix[layer] else { return Ok(None) };
        Ok(Some((repeated(key, count)?, repeated(value, count)?)))
    }

    /// Takes `columns`, [column, sample, d_model], through a block. `patches` are [sample, ..] per element.
    fn column_step(
        &self,
        layer: usize,
        columns: &Tensor,
        pass: &Pass,
        patches: &[(Element, Tensor)],
    ) -> Result<Column> {
        let decoder = self.planner.decoder;
        let (kv_heads, d_head) = (decoder.config.n_kv_heads, decoder.config.d_head);
        let (count, samples, d_model) = columns.size3()?;
        let step = (self.planner.tokens_at_once / samples).max(1);
        let (mut outs, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        while start < count {
            interrupt::check()?;
            let some = step.min(count - start);
            let rows = some * samples;
            let x = columns.f_narrow(0, start, some)?.f_reshape([rows, 1, d_model])?;
            let mut past = self.repeated_prefix(layer, some)?;
            let mut hooks = Hooks::none();
            for (element, value) in patches {
                let patch = element.patch(self.planner.request.site, self.part.position, repeated(value, some)?);
                hooks.intervene(&decoder.config, patch);
            }
            hooks.begin(pass.window, None);
            let out = decoder.blocks[layer].forward(&decoder.config, x, pass, Some(&mut past), &mut hooks)?;
            hooks.finish()?;
            let (key, value) = past.ok_or_else(|| Error::new("a block returned no keys and values"))?;
            let own = [some, samples, kv_heads, d_head];
            outs.push(out.f_view([some, samples, d_model])?);
            keys.push(key.f_select(1, -1)?.f_reshape(own)?);
            values.push(value.f_select(1, -1)?.f_reshape(own)?);
            self.progress.tick(rows as u64);
            start += some;
        }
        Ok(Column { out: Tensor::f_cat(&outs, 0)?, key: Tensor::f_cat(&keys, 0)?, value: Tensor::f_cat(&values, 0)? })
    }

    /// Takes the suffixes of all nodes through a block, in place. `column` holds all columns' keys and values.
    fn suffix_step(&self, layer: usize, suffix: &Tensor, pass: &Pass, column: &Column) -> Result<()> {
        let decoder = self.planner.decoder;
        let samples = self.part.samples.len() as i64;
        let (length, d_model) = (self.part.suffix(), decoder.config.d_model);
        let (kv_heads, d_head) = (decoder.config.n_kv_heads, decoder.config.d_head);
        let step = (self.planner.tokens_at_once / (samples * length)).max(1);
        let mut start = 0;
        while start < self.nodes {
            interrupt::check()?;
            let some = step.min(self.nodes - start);
            let rows = some * samples;
            let columns = &self.column_of[start as usize..(start + some) as usize];
            let index = Tensor::f_from_slice(columns)?.f_to(column.key.device())?;
            let own = |x: &Tensor| -> Result<Tensor> {
                let picked = x.f_index_select(0, &index)?.f_expand([some, samples, kv_heads, d_head], false)?;
                Ok(picked.f_reshape([rows, 1, kv_heads, d_head])?)
            };
            let (own_key, own_value) = (own(&column.key)?, own(&column.value)?);
            let mut past = Some(match self.repeated_prefix(layer, some)? {
                None => (own_key, own_value),
                Some((key, value)) => (Tensor::f_cat(&[key, own_key], 1)?, Tensor::f_cat(&[value, own_value], 1)?),
            });
            let mut place = suffix.f_narrow(0, start, some)?;
            let x = place.f_view([rows, length, d_model])?;
            let block = &decoder.blocks[layer];
            let out = block.forward(&decoder.config, x, pass, Some(&mut past), &mut Hooks::none())?;
            place.f_copy_(&out.f_view([some, samples, length, d_model])?)?;
            self.progress.tick((rows * length) as u64);
            start += some;
        }
        Ok(())
    }

    /// The columns of the nodes that `layer` adds. `before` are the columns before it, `kept` what it makes of them.
    fn added(&self, layer: usize, before: &Tensor, kept: &Column, pass: &Pass) -> Result<Column> {
        let planner = self.planner;
        let site = planner.request.site;
        let nodes = &planner.tree(self.part).layers[layer];
        let source = &self.sources[layer];
        let none = kept.none()?;
        if nodes.is_empty() {
            return Ok(none);
        }
        if planner.shares_columns() {
            // What is after the layer is patched, so its keys and values are nobody's.
            return Ok(Column { out: source.f_unsqueeze(0)?, ..none });
        }
        let mut grown = Vec::new();
        for same in nodes.chunk_by(|left, right| left.added == right.added) {
            let parents: Vec<i64> = same.iter().map(|node| node.parent as i64).collect();
            let parents = before.f_index_select(0, &Tensor::f_from_slice(&parents)?.f_to(before.device())?)?;
            let patch = |element: &Element| Ok((*element, element.part(site, source)?));
            let patches = same[0].added.iter().map(patch).collect::<Result<Vec<_>>>()?;
            grown.push(self.column_step(layer, &parents, pass, &patches)?);
        }
        Column::join(&grown.iter().collect::<Vec<_>>())
    }

    /// Gives the nodes that `layer` adds the suffixes of their parents, and numbers their columns.
    fn add_suffixes(&mut self, layer: usize) -> Result<()> {
        let planner = self.planner;
        let added = &planner.tree(self.part).layers[layer];
        if added.is_empty() {
            return Ok(());
        }
        if let Some(suffix) = &self.suffix {
            let parents: Vec<i64> = added.iter().map(|node| node.parent as i64).collect();
            let index = Tensor::f_from_slice(&parents)?.f_to(suffix.device())?;
            suffix.f_narrow(0, self.nodes, added.len() as i64)?.f_copy_(&suffix.f_index_select(0, &index)?)?;
        }
        let next = self.columns.size()[0];
        if planner.shares_columns() {
            self.column_of.extend(std::iter::repeat_n(next, added.len()));
        } else {
            self.column_of.extend((0..added.len() as i64).map(|number| next + number));
        }
        self.nodes += added.len() as i64;
        Ok(())
    }
}

/// What a block makes of columns.
struct Column {
    /// [column, sample, d_model]
    out: Tensor,
    /// [column, sample, kv_head, d_head]
    key: Tensor,
    /// [column, sample, kv_head, d_head]
    value: Tensor,
}

impl Column {
    /// As many columns as 0.
    fn none(&self) -> Result<Self> {
        let none = |x: &Tensor| x.f_narrow(0, 0, 0);
        Ok(Self { out: none(&self.out)?, key: none(&self.key)?, value: none(&self.value)? })
    }

    fn join(parts: &[&Self]) -> Result<Self> {
        let all = |of: fn(&Self) -> &Tensor| Tensor::f_cat(&parts.iter().map(|part| of(part)).collect::<Vec<_>>(), 0);
        Ok(Self { out: all(|part| &part.out)?, key: all(|part| &part.key)?, value: all(|part| &part.value)? })
    }
}

/// `x`, [row, ..], repeated: [count · row, ..].
fn repeated(x: &Tensor, count: i64) -> Result<Tensor> {
    let size = [&[count], x.size().as_slice()].concat();
    Ok(x.f_unsqueeze(0)?.f_expand(size.as_slice(), false)?.f_flatten(0, 1)?)
}
