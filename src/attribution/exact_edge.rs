//! Exact effects of edges: each alone carries what it would carry, in runs that share everything before.

use tch::{Device, Tensor};

use super::alternative::{Ablation, Part, parts};
use super::graph::{Destination, Edge, Graph, Letter};
use super::pairs::Pairs;
use super::written;
use crate::error::{Error, Result};
use crate::grid::objective::Objective;
use crate::interrupt;
use crate::model::block::Block;
use crate::model::cache::ActivationCache;
use crate::model::config::NormPlacement;
use crate::model::decoder::{Decoder, Logits};
use crate::model::forward::Start;
use crate::model::hook::{HookPoint, Site};
use crate::model::key_value::KeyValueCache;
use crate::model::layer::{Linear, Norm, clip};
use crate::model::run::{Action, Callback, Hooks};
use crate::progress::Progress;
use crate::tensor::raw::copy;

/// Tokens at once on a CPU and elsewhere.
const TOKENS_CPU: i64 = 1 << 10;
const TOKENS_GPU: i64 = 1 << 15;

/// m(edge alone with what it would carry) - m(clean), float64 [sample, edge], of the edges chosen.
///
/// # Errors
/// As for runs of the decoder; see [`parts`]; Ctrl-C.
pub fn effects(
    decoder: &Decoder,
    graph: &Graph,
    pairs: &Pairs,
    objective: &Objective,
    ablation: Ablation,
    edges: &[Edge],
) -> Result<Tensor> {
    let mut rows: Vec<Option<Tensor>> = (0..pairs.samples).map(|_| None).collect();
    let progress = Progress::new((pairs.samples * edges.len()) as u64, "exact edges");
    for part in parts(decoder, graph, pairs, ablation)? {
        let alternative = part.alternative(decoder)?;
        for (row, sample) in part.group.samples.iter().enumerate() {
            let one = Sample::new(decoder, graph, objective, &part, &alternative, row as i64)?;
            rows[*sample] = Some(one.effects(edges, &progress)?);
        }
    }
    progress.finish();
    Ok(Tensor::f_stack(&rows.into_iter().flatten().collect::<Vec<_>>(), 0)?)
}

fn not_finite(sample: usize, run: &str) -> Error {
    Error::new(format!("the metric of sample {sample} is not finite {run}"))
}

/// One sample's clean run.
struct Sample<'a> {
    decoder: &'a Decoder,
    graph: &'a Graph,
    objective: &'a Objective<'a>,
    number: usize,
    /// Residual streams from `first` on, [1, pos, d_model]
    clean: ActivationCache,
    /// What sources would add less what they add, [source, pos, d_model], from `first` on
    difference: Tensor,
    /// Keys and values of the positions before; None where there are none
    before: Option<KeyValueCache>,
    metric: Tensor,
}

impl<'a> Sample<'a> {
    fn new(
        decoder: &'a Decoder,
        graph: &'a Graph,
        objective: &'a Objective<'a>,
        part: &Part,
        alternative: &Tensor,
        row: i64,
    ) -> Result<Self> {
        let number = part.group.samples[row as usize];
        let tokens = part.group.clean.f_narrow(0, row, 1)?;
        let length = tokens.size()[1];
        // What comes before is the same in both runs, and is computed once, unless it sees what follows.
        let mut first = if decoder.config.causal { part.group.first.min(length - 1) } else { 0 };
        let mut before = KeyValueCache::new(decoder);
        if first > 0 {
            let start = tokens.f_narrow(1, 0, first)?;
            let _ = decoder.run_layers(
                Start::Tokens(&start),
                decoder.blocks.len(),
                &mut Hooks::none(),
                Some(&mut before),
            )?;
            if before.continued(decoder, (1, length - first)).is_err() {
                first = 0;
            }
        }
        let before = (first > 0).then_some(before);
        let rest = tokens.f_narrow(1, first, length - first)?;
        let mut hooks = Hooks::none();
        let mut points = written::points(decoder)?;
        for block in &decoder.blocks {
            let at = |site| HookPoint { site, layer: block.layer };
            points.push(at(Site::ResidPre));
            points.extend(block.mlp.as_ref().map(|_| at(Site::ResidMid)));
        }
        points.push(HookPoint { site: Site::ResidPost, layer: decoder.config.n_layers - 1 });
        hooks.add(&decoder.config, points, "the clean run", Action::Capture);
        let mut past = before.as_ref().map(|before| before.continued(decoder, (1, length - first))).transpose()?;
        let x = decoder.run_layers(Start::Tokens(&rest), decoder.blocks.len(), &mut hooks, past.as_mut())?;
        let logits = decoder.unembed(x, Logits::Last, &mut Hooks::none())?;
        let metric = objective.of(&logits.f_squeeze_dim(1)?, &[number])?;
        if !metric.f_double_value(&[0])?.is_finite() {
            return Err(not_finite(number, "in the clean run"));
        }
        let clean = hooks.finish()?;
        let own = written::collect(decoder, &clean)?;
        let other = alternative.f_narrow(1, row, 1)?.f_narrow(2, first, length - first)?;
        let difference = other.f_sub(&own)?.f_squeeze_dim(1)?;
        Ok(Self { decoder, graph, objective, number, clean, difference, before, metric })
    }

    fn at(&self, site: Site, layer: i64) -> Result<&Tensor> {
        self.clean.named(&HookPoint { site, layer }.name(), &self.decoder.config)
    }

    /// The effects of edges, float64 [edge].
    fn effects(&self, edges: &[Edge], progress: &Progress) -> Result<Tensor> {
        let mut found = vec![f64::NAN; edges.len()];
        let mut by_destination: Vec<Vec<usize>> = vec![Vec::new(); self.graph.destinations.len()];
        for (place, edge) in edges.iter().enumerate() {
            by_destination[edge.destination].push(place);
        }
        let length = self.difference.size()[1];
        let tokens = if self.decoder.output_device() == Device::Cpu { TOKENS_CPU } else { TOKENS_GPU };
        let step = (tokens / length).max(1) as usize;
        for (destination, places) in by_destination.iter().enumerate() {
            for places in places.chunks(step) {
                interrupt::check()?;
                let sources: Vec<i64> = places.iter().map(|place| edges[*place].source as i64).collect();
                let sources = Tensor::f_from_slice(&sources)?.f_to(self.difference.device())?;
                let changed = self.metrics(destination, &self.difference.f_index_select(0, &sources)?)?;
                let effects = Vec::<f64>::try_from(&changed.f_sub(&self.metric)?.f_to(Device::Cpu)?)?;
                if let Some(wrong) = effects.iter().position(|effect| !effect.is_finite()) {
                    let name = self.graph.name(edges[places[wrong]]);
                    return Err(not_finite(self.number, &format!("with `{name}` replaced")));
                }
                for (place, effect) in places.iter().zip(effects) {
                    found[*place] = effect;
                }
                progress.tick(places.len() as u64);
            }
        }
        Ok(Tensor::f_from_slice(&found)?)
    }

    /// The metric where a destination reads `difference`, [row, pos, d_model], more than in the clean run, float64 [row].
    fn metrics(&self, destination: usize, difference: &Tensor) -> Result<Tensor> {
        let (decoder, rows) = (self.decoder, difference.size()[0]);
        let x = match self.graph.destinations[destination] {
            Destination::Logits => {
                let last = self.at(Site::ResidPost, decoder.config.n_layers - 1)?;
                last.f_add(&difference.f_to(last.device())?)?
            }
            Destination::Mlp { layer } => {
                let block = &decoder.blocks[layer as usize];
                let site = if decoder.config.parallel { Site::ResidPre } else { Site::ResidMid };
                let read = self.read(block.ln2.as_ref(), site, layer, difference)?;
                self.finish_from(layer, rows, Site::MlpNormedIn, Box::new(move |_, _| Ok(Some(read.shallow_clone()))))?
            }
            Destination::Head { layer, letter, head, .. } => {
                let block = &decoder.blocks[layer as usize];
                let read = self.read(Some(&block.ln1), Site::ResidPre, layer, difference)?;
                let (site, own) = self.projected(block, letter, head, &read)?;
                let replace: Callback = Box::new(move |_, value: &Tensor| {
                    let whole = copy(value)?;
                    whole.f_select(2, head)?.f_copy_(&own)?;
                    Ok(Some(whole))
                });
                self.finish_from(layer, rows, site, replace)?
            }
        };
        let logits = decoder.unembed(x, Logits::Last, &mut Hooks::none())?;
        self.objective.of(&logits.f_squeeze_dim(1)?, &vec![self.number; rows as usize])
    }

    /// What a component reads, after the norm if one comes first, [row, pos, d_model].
    fn read(&self, norm: Option<&Norm>, site: Site, layer: i64, difference: &Tensor) -> Result<Tensor> {
        let clean = self.at(site, layer)?;
        let read = clean.f_add(&difference.f_to(clean.device())?)?;
        match norm.filter(|_| self.decoder.config.norm_placement != NormPlacement::Post) {
            Some(norm) => norm.forward_plain(&read),
            None => Ok(read),
        }
    }

    /// A head's query, key or value, [row, pos, d_head], and the place where it stands.
    fn projected(&self, block: &Block, letter: Letter, head: i64, read: &Tensor) -> Result<(Site, Tensor)> {
        let (site, linear) = match letter {
            Letter::Query => (Site::Query, &block.attention.query),
            Letter::Key => (Site::Key, &block.attention.key),
            Letter::Value => (Site::Value, &block.attention.value),
        };
        let d_head = self.decoder.config.d_head;
        let part = Linear {
            weight: linear.weight.f_narrow(0, head * d_head, d_head)?,
            bias: linear.bias.as_ref().map(|bias| bias.f_narrow(0, head * d_head, d_head)).transpose()?,
        };
        let own = part.forward(read)?;
        let bound = self.decoder.config.query_key_value_clip.filter(|_| letter == Letter::Value);
        Ok((site, clip(own, bound)?))
    }

    /// The last residual stream of clean runs from `layer` on in which one activation is replaced.
    fn finish_from(&self, layer: i64, rows: i64, site: Site, replace: Callback<'_>) -> Result<Tensor> {
        let decoder = self.decoder;
        let mut hooks = Hooks::none();
        let point = HookPoint { site, layer };
        hooks.add(&decoder.config, vec![point], point.name(), Action::Call(replace));
        let x = self.at(Site::ResidPre, layer)?;
        let size = x.size();
        let x = x.f_expand([rows, size[1], size[2]], false)?;
        let mut past = self.before.as_ref().map(|before| before.continued(decoder, (rows, size[1]))).transpose()?;
        decoder.run_layers(Start::Residual(&x, layer as usize), decoder.blocks.len(), &mut hooks, past.as_mut())
    }
}
