//! Puts a decoder together from its config and a source of weights.

use std::cell::Cell;
use std::collections::BTreeSet;

use tch::{Device, Kind, Tensor};

use super::attention::Attention;
use super::block::{Block, Mlp};
use super::config::{Config, NormKind, PositionEmbedding, QueryKeyNorm, Rope, RopeScaling};
use super::decoder::Decoder;
use super::family;
use super::layer::{Linear, Norm};
use super::leftover;
use super::naming::{AttentionNaming, MlpNaming, Naming, NormNaming};
use super::placement::Placement;
use super::source::WeightSource;
use crate::error::{Error, Result};
use crate::interrupt;

/// Numbers that are looked at together.
const NUMBERS: i64 = 1 << 18;
/// On a GPU each part is waited for.
const NUMBERS_ON_GPU: i64 = 1 << 24;

/// Builds the decoder that `config` describes, each part on its device.
///
/// # Errors
/// A tensor that is missing, has another shape, or holds NaN or infinity; a tensor in the checkpoint that the decoder
/// does not use (it would not compute what the checkpoint's own code does).
pub fn decoder(config: Config, source: &dyn WeightSource, kind: Kind, placement: &Placement) -> Result<Decoder> {
    let naming = family::find(&config.model_type)?.naming;
    let device = placement.input;
    let mut loader = Loader { config: &config, source, naming, kind, device, used: BTreeSet::new() };
    let embedding =
        loader.tensor(&format!("{}{}.weight", naming.root, naming.embedding), &[config.d_vocab, config.d_model])?;
    let position_embedding = match config.position_embedding {
        PositionEmbedding::Learned => {
            let name = naming.position_embedding.ok_or_else(|| Error::new("the family has no learned positions"))?;
            let (offset, name) = (naming.position_offset, format!("{}{name}.weight", naming.root));
            let stored = loader.tensor(&name, &[config.n_ctx + offset, config.d_model])?;
            Some(stored.f_narrow(0, offset, config.n_ctx)?)
        }
        PositionEmbedding::Rotary => None,
    };
    let (ropes, rope_of_layer) = distinct_ropes(&config);
    check_divisors(&ropes)?;
    let mut blocks = Vec::new();
    for (layer, device) in (0..).zip(&placement.layers) {
        interrupt::check()?;
        loader.device = *device;
        blocks.push(loader.block(layer, rope_of_layer[layer as usize])?);
    }
    loader.device = placement.output;
    let final_norm = loader.norm(&format!("{}{}", naming.root, naming.final_norm), &[config.d_model])?;
    let unembedding_name = format!("{}.weight", naming.unembedding);
    let size = [config.d_vocab_out, config.d_model];
    let unembedding = match (config.tied, source.contains(&unembedding_name)) {
        (true, false) => embedding.shallow_clone(),
        (true, true) => {
            if !loader.tensor(&unembedding_name, &size)?.f_equal(&embedding)? {
                return Err(Error::new(format!(
                    "`{unembedding_name}` is not the embedding, which the config's `tie_word_embeddings` says it is"
                ))
                .hint("if the stored matrix is the correct one, set `tie_word_embeddings` to false in config.json"));
            }
            embedding.shallow_clone()
        }
        (false, _) => loader.tensor(&unembedding_name, &size)?,
    };
    let bias =
        config.unembedding_bias.then(|| loader.tensor(&format!("{}.bias", naming.unembedding), &[config.d_vocab_out]));
    let bias = bias.transpose()?;
    leftover::check(&config, source, &loader.used, &ropes)?;
    Ok(Decoder {
        unembedding: Linear { weight: unembedding, bias },
        config,
        kind,
        embedding,
        position_embedding,
        blocks,
        final_norm,
        ropes,
        outran: Cell::new(false),
    })
}

/// Whether all numbers of a loaded tensor are finite. libtorch adds up a copy in float64, so that they are taken in parts.
fn is_finite(tensor: &Tensor) -> Result<bool> {
    let numbers = if tensor.device() == Device::Cpu { NUMBERS } else { NUMBERS_ON_GPU };
    for part in tensor.f_contiguous()?.f_view([-1])?.f_split(numbers, 0)? {
        if !part.f_sum(Kind::Double)?.f_double_value(&[])?.is_finite() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The distinct rotary embeddings, and for each layer the number of its own.
fn distinct_ropes(config: &Config) -> (Vec<Rope>, Vec<Option<usize>>) {
    let mut ropes: Vec<Rope> = Vec::new();
    let mut number = |rope: &Rope| {
        ropes.iter().position(|found| found == rope).unwrap_or_else(|| {
            ropes.push(rope.clone());
            ropes.len() - 1
        })
    };
    let of_layers = config.layers.iter().map(|layer| layer.rope.as_ref().map(&mut number)).collect();
    (ropes, of_layers)
}

/// Divisors come from a tensor of a GGUF file; a config can only announce them.
fn check_divisors(ropes: &[Rope]) -> Result<()> {
    for rope in ropes {
        if let RopeScaling::Divisors(divisors) = &rope.scaling
            && divisors.len() as i64 != rope.dim / 2
        {
            return Err(Error::new(format!(
                "rotary embedding `frequency_factors`: {} divisors for {} frequencies",
                divisors.len(),
                rope.dim / 2
            ))
            .hint("they are read from a GGUF file's tensor `rope_freqs.weight`"));
        }
    }
    Ok(())
}

struct Loader<'a> {
    config: &'a Config,
    source: &'a dyn WeightSource,
    naming: Naming,
    kind: Kind,
    /// Where the next weights go
    device: Device,
    used: BTreeSet<String>,
}

impl Loader<'_> {
    fn tensor(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let stored = self.stored_name(name);
        let tensor = self.source.load(stored, shape, self.kind, self.device)?;
        if !is_finite(&tensor)? {
            return Err(Error::new(format!("tensor `{stored}` holds NaN or infinity"))
                .hint("the checkpoint is damaged, or too large for this dtype"));
        }
        self.used.insert(stored.to_owned());
        Ok(tensor)
    }

    /// The name without as much of the root as the checkpoint leaves out.
    fn stored_name<'a>(&self, name: &'a str) -> &'a str {
        let root = self.naming.root;
        let starts = root.match_indices('.').map(|(dot, _)| &name[dot + 1..]).filter(|_| name.starts_with(root));
        [name].into_iter().chain(starts).find(|name| self.source.contains(name)).unwrap_or(name)
    }

    fn linear(&mut self, name: &str, outputs: i64, inputs: i64, bias: bool) -> Result<Linear> {
        let weight = if self.naming.transposed {
            self.tensor(&format!("{name}.weight"), &[inputs, outputs])?.f_transpose(0, 1)?
        } else {
            self.tensor(&format!("{name}.weight"), &[outputs, inputs])?
        };
        let bias = if bias { Some(self.tensor(&format!("{name}.bias"), &[outputs])?) } else { None };
        Ok(Linear { weight, bias })
    }

    fn norm(&mut self, name: &str, size: &[i64]) -> Result<Norm> {
        let kind = self.config.norm;
        let has_weight = !matches!(kind, NormKind::LayerPlain | NormKind::Absent);
        let has_bias = kind == NormKind::Layer;
        let mut optional =
            |wanted: bool, part: &str| wanted.then(|| self.tensor(&format!("{name}.{part}"), size)).transpose();
        let (weight, bias) = (optional(has_weight, "weight")?, optional(has_bias, "bias")?);
        Ok(Norm { kind, eps: self.config.norm_eps, weight, bias })
    }

    fn block(&mut self, layer: i64, rope: Option<usize>) -> Result<Block> {
        let prefix = format!("{}{}{layer}.", self.naming.root, self.naming.layers);
        let (ln1, ln1_post, ln2, ln2_post) = match self.naming.norms {
            NormNaming::Shared(both) => (both, None, both, None),
            NormNaming::Pre { attention, mlp } | NormNaming::Post { attention, mlp } => (attention, None, mlp, None),
            NormNaming::Both { attention, attention_post, mlp, mlp_post } => {
                (attention, Some(attention_post), mlp, Some(mlp_post))
            }
        };
        let attention = self.attention(&prefix, layer, rope)?;
        let mlp = if self.config.attention_only { None } else { Some(self.mlp(&prefix)?) };
        let config = self.config;
        let mut norm = |name: &str| self.norm(&format!("{prefix}{name}"), &[config.d_model]);
        let first = norm(ln1)?;
        let ln2 = match (config.attention_only, config.shared_norm) {
            (true, _) => None,
            (false, true) => Some(first.shallow_clone()),
            (false, false) => Some(norm(ln2)?),
        };
        Ok(Block {
            layer,
            attention,
            mlp,
            ln1: first,
            ln1_post: ln1_post.map(&mut norm).transpose()?,
            ln2,
            ln2_post: ln2_post.map(&mut norm).transpose()?,
        })
    }

    fn attention(&mut self, prefix: &str, layer: i64, rope: Option<usize>) -> Result<Attention> {
        let (config, naming) = (self.config, self.naming);
        let (d_model, d_head) = (config.d_model, config.d_head);
        let (queries, keys) = (config.n_heads * d_head, config.n_kv_heads * d_head);
        let bias = config.query_key_value_bias;
        let (query, key, value) = match naming.attention {
            AttentionNaming::Separate { query, key, value } => (
                self.linear(&format!("{prefix}{query}"), queries, d_model, bias)?,
                self.linear(&format!("{prefix}{key}"), keys, d_model, bias)?,
                self.linear(&format!("{prefix}{value}"), keys, d_model, bias)?,
            ),
            AttentionNaming::Stacked(name) | AttentionNaming::StackedColumns(name) => {
                let fused = self.linear(&format!("{prefix}{name}"), queries + 2 * keys, d_model, bias)?;
                (rows(&fused, 0, queries)?, rows(&fused, queries, keys)?, rows(&fused, queries + keys, keys)?)
            }
            AttentionNaming::PerHead(name) => {
                let fused = self.linear(&format!("{prefix}{name}"), 3 * queries, d_model, bias)?;
                (per_head(&fused, d_head, 0)?, per_head(&fused, d_head, 1)?, per_head(&fused, d_head, 2)?)
            }
        };
        let output = format!("{prefix}{}", naming.attention_output);
        let output = self.linear(&output, d_model, queries, config.attention_output_bias)?;
        let (query_norm, key_norm) = match config.query_key_norm {
            QueryKeyNorm::Absent => (None, None),
            QueryKeyNorm::Projection => (Some(vec![queries]), Some(vec![keys])),
            QueryKeyNorm::Head => (Some(vec![d_head]), Some(vec![d_head])),
            QueryKeyNorm::HeadWeights => (Some(vec![config.n_heads, d_head]), Some(vec![config.n_kv_heads, d_head])),
        };
        let mut norm = |name: &str, size: Option<Vec<i64>>| {
            size.map(|size| self.norm(&format!("{prefix}{name}"), &size)).transpose()
        };
        let (query_norm, key_norm) = (norm(naming.query_norm, query_norm)?, norm(naming.key_norm, key_norm)?);
        let window = config.layers[layer as usize].window;
        let sinks =
            config.attention_sinks.then(|| self.tensor(&format!("{prefix}{}", naming.sinks), &[config.n_heads]));
        let sinks = sinks.transpose()?;
        Ok(Attention { query, key, value, output, query_norm, key_norm, sinks, rope, window })
    }

    fn mlp(&mut self, prefix: &str) -> Result<Mlp> {
        let (d_model, d_mlp, bias) = (self.config.d_model, self.config.d_mlp, self.config.mlp_bias);
        let (gate, up) = match self.naming.mlp {
            MlpNaming::Gated { gate, up } => (
                Some(self.linear(&format!("{prefix}{gate}"), d_mlp, d_model, bias)?),
                self.linear(&format!("{prefix}{up}"), d_mlp, d_model, bias)?,
            ),
            MlpNaming::GatedStacked(name) => {
                let fused = self.linear(&format!("{prefix}{name}"), 2 * d_mlp, d_model, bias)?;
                (Some(rows(&fused, 0, d_mlp)?), rows(&fused, d_mlp, d_mlp)?)
            }
            MlpNaming::Plain { up } => (None, self.linear(&format!("{prefix}{up}"), d_mlp, d_model, bias)?),
            MlpNaming::Experts { router, experts, gate, up } => return self.experts(prefix, router, experts, gate, up),
            MlpNaming::StackedExperts { router, gate_up } => return self.stacked_experts(prefix, router, gate_up),
        };
        let down = self.linear(&format!("{prefix}{}", self.naming.mlp_down), d_model, d_mlp, bias)?;
        let norm = match self.config.mlp_norm {
            true => Some(self.norm(&format!("{prefix}{}", self.naming.mlp_norm), &[d_mlp])?),
            false => None,
        };
        Ok(Mlp { gate, up, down, norm, router: None })
    }

    /// Experts that are stored one by one.
    fn experts(&mut self, prefix: &str, router: &str, experts: &str, gate: &str, up: &str) -> Result<Mlp> {
        let (d_model, d_mlp, count) = (self.config.d_model, self.config.d_mlp, self.expert_count()?);
        let down = self.naming.mlp_down;
        let mut stack = |name: &str, outputs: i64, inputs: i64| -> Result<Linear> {
            let one = |expert| self.tensor(&format!("{prefix}{experts}{expert}.{name}.weight"), &[outputs, inputs]);
            let all = (0..count).map(one).collect::<Result<Vec<_>>>()?;
            Ok(Linear { weight: Tensor::f_stack(&all, 0)?, bias: None })
        };
        let (gate, up) = (stack(gate, d_mlp, d_model)?, stack(up, d_mlp, d_model)?);
        let down = stack(down, d_model, d_mlp)?;
        let router = self.linear(&format!("{prefix}{router}"), count, d_model, false)?;
        Ok(Mlp { gate: Some(gate), up, down, norm: None, router: Some(router) })
    }

    /// Experts that are stored together.
    fn stacked_experts(&mut self, prefix: &str, router: &str, gate_up: &str) -> Result<Mlp> {
        let (d_model, d_mlp, count) = (self.config.d_model, self.config.d_mlp, self.expert_count()?);
        let down = self.naming.mlp_down;
        let mut stack = |name: &str, inputs: i64, outputs: i64| -> Result<Linear> {
            let name = format!("{prefix}{name}");
            let weight = self.tensor(&name, &[count, inputs, outputs])?.f_transpose(1, 2)?;
            Ok(Linear { weight, bias: Some(self.tensor(&format!("{name}_bias"), &[count, outputs])?) })
        };
        let both = stack(gate_up, d_model, 2 * d_mlp)?;
        let down = stack(down, d_mlp, d_model)?;
        let every_second = |start: i64| -> Result<Linear> {
            let pick = |tensor: &Tensor| tensor.f_slice(1, start, None::<i64>, 2)?.f_contiguous();
            Ok(Linear { weight: pick(&both.weight)?, bias: both.bias.as_ref().map(pick).transpose()? })
        };
        let router = self.linear(&format!("{prefix}{router}"), count, d_model, true)?;
        Ok(Mlp { gate: Some(every_second(0)?), up: every_second(1)?, down, norm: None, router: Some(router) })
    }

    fn expert_count(&self) -> Result<i64> {
        let experts = self.config.experts.ok_or_else(|| Error::new("the config has no number of experts"))?;
        Ok(experts.count)
    }
}

/// Some of a linear map's outputs.
fn rows(fused: &Linear, start: i64, count: i64) -> Result<Linear> {
    Ok(Linear {
        weight: fused.weight.f_narrow(0, start, count)?,
        bias: fused.bias.as_ref().map(|bias| bias.f_narrow(0, start, count)).transpose()?,
    })
}

/// Query (0), key (1) or value (2) of a map whose outputs are ordered head, part, dimension.
fn per_head(fused: &Linear, d_head: i64, part: i64) -> Result<Linear> {
    let (_, inputs) = fused.weight.size2()?;
    let pick = |tensor: &Tensor, tail: &[i64]| -> Result<Tensor> {
        let mut by_head = vec![-1, 3, d_head];
        by_head.extend(tail);
        let mut flat = vec![-1];
        flat.extend(tail);
        Ok(tensor.f_reshape(by_head.as_slice())?.f_select(1, part)?.f_reshape(flat.as_slice())?)
    };
    Ok(Linear {
        weight: pick(&fused.weight, &[inputs])?,
        bias: fused.bias.as_ref().map(|bias| pick(bias, &[])).transpose()?,
    })
}
