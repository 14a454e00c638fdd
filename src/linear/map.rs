//! The frozen linear map: a model with its factors frozen at one prompt, applied forward and transposed.

use std::ops::Range;
use std::rc::Rc;

use tch::{Device, Tensor};

use super::frozen::Frozen;
use super::layer::Layer;
use super::live::{LiveAttention, Through};
use super::norm::At;
use super::readout::Readout;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::config::Config;
use crate::model::decoder::{Decoder, Logits};
use crate::model::language_model::LanguageModel;
use crate::model::layer::{scaled, soft_cap};
use crate::model::run::Hooks;
use crate::model::window::Window;
use crate::tensor::raw::{Arithmetic, constant};

/// A node of the map: a layer (0 before the first, n_layers after the last) and a position.
pub type Node = (usize, i64);

/// A model's linear map from embeddings to logits, frozen at one prompt.
#[derive(Debug)]
pub struct LinearMap {
    model: Rc<LanguageModel>,
    frozen: Frozen,
}

/// Covectors of some numbers linear in the logits at one position: a number's linear part is their product with the
/// residual stream.
#[derive(Debug)]
pub struct Covectors {
    /// Before each layer and after the last, [id, pos, d_model]
    pub residual: Vec<Tensor>,
    /// After each layer's attention (for parallel blocks, after the layer), [id, pos, d_model]
    pub middle: Vec<Tensor>,
}

/// The parts of the edge between two positions in one layer.
#[derive(Debug)]
pub struct EdgeParts {
    /// Each head's attention from the target to the source, [head]
    pub weights: Tensor,
    /// The heads that attend most to the source
    pub argmax_heads: Vec<i64>,
    /// Whether the residual stream goes along
    pub residual: bool,
}

impl LinearMap {
    /// Freezes a model at a prompt.
    ///
    /// # Errors
    /// An empty prompt, an id out of range.
    pub fn freeze(model: Rc<LanguageModel>, tokens: &[i64]) -> Result<Self> {
        Self::freeze_with(model, tokens, Hooks::none())
    }

    /// Freezes a model at a prompt under interventions: the factors are those of the changed run. What the
    /// interventions put into the residual stream counts as a source of its own, beside tokens and biases (see
    /// [`LinearMap::intervention`]). Changed embeddings count as the tokens'.
    ///
    /// # Errors
    /// As for [`LinearMap::freeze`]; an intervention after the last residual stream, where no path leads.
    pub fn freeze_with(model: Rc<LanguageModel>, tokens: &[i64], hooks: Hooks) -> Result<Self> {
        let frozen = Frozen::of_run(&model.decoder, tokens, hooks)?;
        Ok(Self { model, frozen })
    }

    /// The frozen model.
    pub fn model(&self) -> &Rc<LanguageModel> {
        &self.model
    }

    /// Its decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.model.decoder
    }

    /// Its decoder's configuration.
    pub fn config(&self) -> &Config {
        &self.model.decoder.config
    }

    /// The frozen factors.
    pub fn frozen(&self) -> &Frozen {
        &self.frozen
    }

    /// The prompt's token ids.
    pub fn tokens(&self) -> &[i64] {
        &self.frozen.tokens
    }

    /// Number of positions.
    pub fn length(&self) -> i64 {
        self.frozen.tokens.len() as i64
    }

    /// Number of layers.
    pub fn depth(&self) -> usize {
        self.frozen.layers.len()
    }

    /// The map of one layer.
    pub fn layer(&self, layer: usize) -> Layer<'_> {
        let decoder = &self.model.decoder;
        Layer::new(&decoder.config, &decoder.blocks[layer], &self.frozen.layers[layer])
    }

    /// The attention of one layer, with live scores.
    ///
    /// # Errors
    /// What [`Layer::live`] and [`LinearMap::check_scores`] refuse.
    pub fn live(&self, layer: usize) -> Result<LiveAttention> {
        self.check_scores(layer)?;
        self.layer(layer).live(self.residual(layer))
    }

    /// The residual stream before `layer`, or after the last, [pos, d_model].
    pub fn residual(&self, layer: usize) -> &Tensor {
        &self.frozen.residuals[layer]
    }

    /// The map's input: embeddings, learned positions included, [pos, d_model].
    pub fn embeddings(&self) -> &Tensor {
        self.residual(0)
    }

    /// Refuses a layer that the model does not have.
    ///
    /// # Errors
    /// `layer` is negative, or not below the number of layers.
    pub fn check_layer(&self, layer: i64) -> Result<usize> {
        usize::try_from(layer).ok().filter(|layer| *layer < self.depth()).ok_or_else(|| {
            Error::new(format!("layer {layer} is out of range"))
                .hint(format!("this model's layers are 0 to {}", self.depth() - 1))
        })
    }

    /// Refuses a node's layer outside the map.
    ///
    /// # Errors
    /// `layer` is negative, or above the number of layers.
    pub fn check_node_layer(&self, layer: i64) -> Result<usize> {
        usize::try_from(layer).ok().filter(|layer| *layer <= self.depth()).ok_or_else(|| {
            Error::new(format!("layer {layer} is out of range"))
                .hint(format!("nodes are 0 (before the first layer) to {} (after the last)", self.depth()))
        })
    }

    /// A position counted from the start; `given` may count from the end.
    ///
    /// # Errors
    /// A position outside the prompt.
    pub fn position(&self, given: i64) -> Result<i64> {
        let length = self.length();
        let position = if given < 0 { given + length } else { given };
        if (0..length).contains(&position) {
            return Ok(position);
        }
        Err(Error::new(format!("position {given} is out of range"))
            .hint(format!("the prompt has {length} tokens: 0 to {}, or -1 to -{length} from the end", length - 1)))
    }

    /// The parts of the edge from position `source` before a layer to `target` after it.
    ///
    /// # Errors
    /// A layer or position out of range; a target before the source.
    pub fn edge(&self, layer: i64, source: i64, target: i64) -> Result<EdgeParts> {
        let (source, target) = (self.position(source)?, self.position(target)?);
        let layer = self.layer(self.check_layer(layer)?);
        if self.leads_back(source, target) {
            return Err(Error::new(format!("no edge leads from position {source} back to {target}"))
                .hint("attention only looks back, so information only moves forward"));
        }
        let weights = layer.frozen().pattern.f_select(1, target)?;
        let best = Vec::<i64>::try_from(&weights.f_argmax(1, false)?.f_to(Device::Cpu)?)?;
        Ok(EdgeParts {
            weights: weights.f_select(1, source)?,
            argmax_heads: (0..).zip(best).filter(|(_, key)| *key == source).map(|(head, _)| head).collect(),
            residual: source == target,
        })
    }

    /// Whether `target` is before `source`, in a model whose attention only looks back.
    pub fn leads_back(&self, source: i64, target: i64) -> bool {
        self.config().causal && source > target
    }

    /// Zeros in the map's dtype, on its device.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn zeros(&self, shape: &[i64]) -> Result<Tensor> {
        let decoder = self.decoder();
        Ok(Tensor::f_zeros(shape, (decoder.kind, decoder.output_device()))?)
    }

    /// An int64 tensor on the map's device.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn index(&self, numbers: &[i64]) -> Result<Tensor> {
        Ok(Tensor::f_from_slice(numbers)?.f_to(self.decoder().output_device())?)
    }
}

/// The map applied.
impl LinearMap {
    /// Residual streams [batch, pos, d_model] after `layers`, from those before; adds biases where `with_bias`. Runs
    /// the hooks at [`SITES`](super::predict::SITES).
    ///
    /// # Errors
    /// Interruption; an error raised by a hook.
    pub fn forward(&self, x: Tensor, layers: Range<usize>, with_bias: bool, hooks: &mut Hooks) -> Result<Tensor> {
        hooks.begin(Window { start: 0, length: self.length(), prompt: self.length() }, None);
        let mut x = x;
        for index in layers {
            interrupt::check()?;
            x = self.layer(index).forward(index as i64, x, with_bias, hooks)?;
        }
        Ok(x)
    }

    /// Carries a vector at node `from` to node `to` along every edge, both [d_model].
    ///
    /// # Errors
    /// Interruption.
    pub fn carry(&self, vector: &Tensor, from: Node, to: Node) -> Result<Tensor> {
        let x = self.zeros(&[1, self.length(), self.config().d_model])?;
        x.f_select(1, from.1)?.f_copy_(vector)?;
        let out = self.forward(x, from.0..to.0, false, &mut Hooks::none())?;
        Ok(out.f_select(1, to.1)?.f_view([-1])?)
    }

    /// Logits at position `to` of residuals after the last layer, [row, d_model] to [row, d_vocab].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn unembed(&self, x: &Tensor, to: i64, with_bias: bool) -> Result<Tensor> {
        let unembedding = &self.decoder().unembedding;
        let normalized = self.frozen.final_norm.forward(x, At::Rows(&self.index(&[to])?), with_bias)?;
        let bias = unembedding.bias.as_ref().filter(|_| with_bias);
        let logits = normalized.f_linear(&unembedding.weight, bias)?;
        match self.logit_slopes(to)? {
            Some(slopes) => Ok(logits.f_mul(&slopes)?),
            None => Ok(logits),
        }
    }

    /// The run's own logits at position `to`, [d_vocab].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn logits(&self, to: i64) -> Result<Tensor> {
        let last = self.residual(self.depth()).f_narrow(0, to, 1)?.f_unsqueeze(0)?;
        Ok(self.decoder().unembed(last, Logits::All, &mut Hooks::none())?.f_view([-1])?)
    }

    /// What the unembedding's result u is multiplied by at position `to`, [d_vocab]: the logits' scale s, times the
    /// final soft cap's secants, c · tanh(s · u / c) / (s · u). None where the model has neither.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn logit_slopes(&self, to: i64) -> Result<Option<Tensor>> {
        let decoder = self.decoder();
        let (scale, cap) = (decoder.config.logit_scale, decoder.config.logit_soft_cap);
        let Some(cap) = cap else {
            let ones = Tensor::f_ones([decoder.config.d_vocab_out], (decoder.kind, decoder.output_device()))?;
            return scale.map(|scale| ones.times(scale)).transpose();
        };
        let last = self.residual(self.depth()).f_narrow(0, to, 1)?;
        let uncapped = decoder.unembedding.forward(&decoder.final_norm.forward_plain(&last)?)?.f_view([-1])?;
        let uncapped = scaled(uncapped, scale)?;
        let zero = uncapped.f_eq_tensor(&constant(0.0)?)?;
        let secants = soft_cap(uncapped.shallow_clone(), Some(cap))?.f_div(&uncapped)?;
        Ok(Some(scaled(secants.f_masked_fill_tensor(&zero, &constant(1.0)?)?, scale)?))
    }
}

/// The map transposed.
impl LinearMap {
    /// Covectors at the last node of the logits of `ids` at position `to`, [id, d_model].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn logit_covectors(&self, to: i64, ids: &[i64]) -> Result<Tensor> {
        let index = self.index(ids)?;
        let mut rows = self.decoder().unembedding.weight.f_index_select(0, &index)?;
        if let Some(slopes) = self.logit_slopes(to)? {
            rows = rows.f_mul(&slopes.f_index_select(0, &index)?.f_unsqueeze(1)?)?;
        }
        self.frozen.final_norm.transposed(&rows, At::Rows(&self.index(&[to])?))
    }

    /// The covectors at every node, from those at the last node at position `to`, [id, d_model].
    ///
    /// # Errors
    /// Interruption.
    pub fn covectors(&self, to: i64, at_end: &Tensor) -> Result<Covectors> {
        let last = self.zeros(&[at_end.size()[0], self.length(), self.config().d_model])?;
        last.f_select(1, to)?.f_copy_(at_end)?;
        self.pull_back(last, 0..self.depth(), Through::Values)
    }

    /// The covectors of a readout at the nodes up to its own.
    ///
    /// # Errors
    /// By way of queries and keys, what [`Layer::live`] and [`LinearMap::check_scores`] refuse; interruption.
    pub fn covectors_of(&self, readout: &Readout, through: Through) -> Result<Covectors> {
        let last = self.zeros(&[1, self.length(), self.config().d_model])?;
        last.f_select(1, readout.node.1)?.f_copy_(&readout.covector)?;
        self.pull_back(last, 0..readout.node.0, through)
    }

    /// The covectors at the nodes of `layers`, from those after the last of them, [batch, pos, d_model].
    ///
    /// # Errors
    /// By way of queries and keys, what [`Layer::live`] and [`LinearMap::check_scores`] refuse; interruption.
    pub fn pull_back(&self, last: Tensor, layers: Range<usize>, through: Through) -> Result<Covectors> {
        let mut residual = vec![last.shallow_clone()];
        let mut middle = Vec::new();
        let mut covector = last;
        for index in layers.rev() {
            interrupt::check()?;
            let layer = self.layer(index);
            let through_mlp = layer.mlp_out_transposed(&covector, At::Prompt)?;
            let added = covector.f_add(&through_mlp)?;
            let at_attention = if layer.is_parallel() { covector } else { added.shallow_clone() };
            covector = added.f_add(&layer.attention_transposed(&at_attention)?)?;
            if through == Through::All {
                let wanted = layer.attention_out_transposed(&at_attention, At::Prompt)?;
                covector = covector.f_add(&layer.live_transposed(&self.live(index)?, &wanted)?)?;
            }
            middle.push(at_attention);
            residual.push(covector.shallow_clone());
        }
        residual.reverse();
        middle.reverse();
        Ok(Covectors { residual, middle })
    }
}
