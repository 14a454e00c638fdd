//! Writes a model as a folder in Hugging Face's layout: `config.json`, `model.safetensors`, and the tokenizer's files.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value as Json, json};
use tch::Tensor as Tch;

use super::block::{Block, Mlp};
use super::config::Config;
use super::decoder::Decoder;
use super::family;
use super::language_model::LanguageModel;
use super::layer::{Linear, Norm};
use super::naming::{AttentionNaming, MlpNaming, Naming, NormNaming};
use crate::data::safetensors;
use crate::error::{Error, Result};
use crate::file;
use crate::tensor::Tensor;

impl LanguageModel {
    /// Writes the model into `folder`, which is made if it is missing; transformers and Lancet load it from there.
    ///
    /// # Errors
    /// A folder that holds a model already, weights that the family's config cannot describe, such as biases that its
    /// checkpoints do not have, or a failure to write.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let place = folder.join("config.json");
        if place.exists() {
            return Err(Error::new(format!("`{}` exists already", place.display()))
                .hint("give a new folder, so that no model is lost"));
        }
        let config = self.saved_config()?;
        let on_cpu = |(name, weight): (String, Tch)| {
            Ok((name, Tensor::new(weight.f_to_device(tch::Device::Cpu)?.f_contiguous()?)))
        };
        let weights = weights(&self.decoder)?.into_iter().map(on_cpu).collect::<Result<_>>()?;
        file::make_dir(folder)?;
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::write(&folder.join("model.safetensors"), &weights, &metadata)?;
        if let Ok(tokenizer) = self.tokenizer() {
            file::write_text(&folder.join("tokenizer.json"), &tokenizer.json()?)?;
            let (settings, generation) = tokenizer.side_files()?;
            file::write_text(&folder.join("tokenizer_config.json"), &pretty(&settings))?;
            file::write_text(&folder.join("generation_config.json"), &pretty(&generation))?;
        }
        // Last, because a folder with a config counts as a model.
        file::write_text(&place, &pretty(&config))
    }

    /// The config.json of the model as it is now.
    fn saved_config(&self) -> Result<Json> {
        let config = self.config();
        let mut given = self.config_json.clone();
        given["tie_word_embeddings"] = config.tied.into();
        given["dtype"] = json!(match self.decoder.kind {
            tch::Kind::Double => "float64",
            tch::Kind::Half => "float16",
            tch::Kind::BFloat16 => "bfloat16",
            _ => "float32",
        });
        if let Some(fields) = given.as_object_mut() {
            fields.remove("torch_dtype");
            // The weights are written as they are in memory.
            fields.remove("quantization_config");
        }
        let read = family::parse(&given)?;
        if read != *config {
            let differing = |is: bool, was: bool, what: &'static str| (is != was).then_some(what);
            let reasons: Vec<&str> = [
                differing(config.query_key_value_bias, read.query_key_value_bias, "biases of queries, keys or values"),
                differing(config.attention_output_bias, read.attention_output_bias, "biases of the attention's output"),
                differing(config.mlp_bias, read.mlp_bias, "biases of the MLP"),
                differing(config.unembedding_bias, read.unembedding_bias, "a bias of the unembedding"),
            ]
            .into_iter()
            .flatten()
            .collect();
            let what = if reasons.is_empty() { "what its config cannot say".to_owned() } else { reasons.join(" and ") };
            return Err(Error::new(format!("`{}` cannot be saved: it has {what}", self.name)).hint(format!(
                "checkpoints of the family `{}` do not; `save_safetensors(path, model.state_dict())` keeps the weights",
                config.model_type
            )));
        }
        Ok(given)
    }
}

fn pretty(value: &Json) -> String {
    format!("{value:#}\n")
}

/// The weights by the names and in the layout of the family's checkpoints, as views where they are kept so.
///
/// # Errors
/// Weights that checkpoints of the family cannot hold.
pub(super) fn weights(decoder: &Decoder) -> Result<BTreeMap<String, Tch>> {
    let mut writer = Writer { naming: family::find(&decoder.config.model_type)?.naming, found: BTreeMap::new() };
    let naming = writer.naming;
    writer.add(format!("{}{}.weight", naming.root, naming.embedding), &decoder.embedding);
    if let (Some(positions), Some(name)) = (&decoder.position_embedding, naming.position_embedding) {
        // Positions before the first token's are never read.
        let unread =
            Tch::f_zeros([naming.position_offset, decoder.config.d_model], (positions.kind(), positions.device()))?;
        let stored = Tch::f_cat(&[&unread, positions], 0)?;
        writer.add(format!("{}{name}.weight", naming.root), &stored);
    }
    for block in &decoder.blocks {
        writer.block(decoder, block)?;
    }
    writer.norm(&format!("{}{}", naming.root, naming.final_norm), &decoder.final_norm)?;
    if !decoder.config.tied {
        writer.add(format!("{}.weight", naming.unembedding), &decoder.unembedding.weight);
    }
    if let Some(bias) = &decoder.unembedding.bias {
        writer.add(format!("{}.bias", naming.unembedding), bias);
    }
    Ok(writer.found)
}

struct Writer {
    naming: Naming,
    found: BTreeMap<String, Tch>,
}

impl Writer {
    fn add(&mut self, name: String, tensor: &Tch) {
        self.found.insert(name, tensor.shallow_clone());
    }

    /// A linear map, with a bias of zeros where `has_bias` and the map has none.
    fn linear(&mut self, name: &str, linear: &Linear, has_bias: bool) -> Result<()> {
        let weight =
            if self.naming.transposed { linear.weight.f_transpose(0, 1)? } else { linear.weight.shallow_clone() };
        self.add(format!("{name}.weight"), &weight);
        if has_bias {
            self.add(format!("{name}.bias"), &bias_or_zeros(linear)?);
        }
        Ok(())
    }

    /// One map of every expert, stored one by one.
    fn experts(&mut self, prefix: &str, name: &str, linear: &Linear) -> Result<()> {
        no_bias(linear, name)?;
        for expert in 0..linear.weight.size()[0] {
            self.add(format!("{prefix}{expert}.{name}.weight"), &linear.weight.f_select(0, expert)?);
        }
        Ok(())
    }

    fn router(&mut self, name: &str, mlp: &Mlp, has_bias: bool) -> Result<()> {
        let Some(router) = &mlp.router else { return Err(Error::new("experts have no router")) };
        if !has_bias {
            no_bias(router, name)?;
        }
        self.linear(name, router, has_bias)
    }

    fn norm(&mut self, name: &str, norm: &Norm) -> Result<()> {
        for (part, tensor) in [("weight", &norm.weight), ("bias", &norm.bias)] {
            if let Some(tensor) = tensor {
                self.add(format!("{name}.{part}"), tensor);
            }
        }
        Ok(())
    }

    fn block(&mut self, decoder: &Decoder, block: &Block) -> Result<()> {
        let (naming, config) = (self.naming, &decoder.config);
        let prefix = format!("{}{}{}.", naming.root, naming.layers, block.layer);
        let named = |name: &str| format!("{prefix}{name}");
        let attention = &block.attention;
        let parts = [&attention.query, &attention.key, &attention.value];
        let bias = config.query_key_value_bias;
        match naming.attention {
            AttentionNaming::Separate { query, key, value } => {
                for (name, linear) in [query, key, value].into_iter().zip(parts) {
                    self.linear(&named(name), linear, bias)?;
                }
            }
            AttentionNaming::Stacked(name) | AttentionNaming::StackedColumns(name) => {
                self.linear(&named(name), &stacked(&parts)?, bias)?;
            }
            AttentionNaming::PerHead(name) => self.linear(&named(name), &per_head(&parts, config.n_heads)?, bias)?,
        }
        self.linear(&named(naming.attention_output), &attention.output, config.attention_output_bias)?;
        if let Some(sinks) = &attention.sinks {
            self.add(named(naming.sinks), sinks);
        }
        for (name, norm) in [(naming.query_norm, &attention.query_norm), (naming.key_norm, &attention.key_norm)] {
            if let Some(norm) = norm {
                self.norm(&named(name), norm)?;
            }
        }
        if let Some(mlp) = &block.mlp {
            self.mlp(config, &prefix, mlp)?;
        }
        let norms = match naming.norms {
            NormNaming::Shared(both) => vec![(both, Some(&block.ln1))],
            NormNaming::Pre { attention, mlp } | NormNaming::Post { attention, mlp } => {
                vec![(attention, Some(&block.ln1)), (mlp, block.ln2.as_ref().filter(|_| !config.shared_norm))]
            }
            NormNaming::Both { attention, attention_post, mlp, mlp_post } => vec![
                (attention, Some(&block.ln1)),
                (attention_post, block.ln1_post.as_ref()),
                (mlp, block.ln2.as_ref()),
                (mlp_post, block.ln2_post.as_ref()),
            ],
        };
        for (name, norm) in norms {
            if let Some(norm) = norm {
                self.norm(&named(name), norm)?;
            }
        }
        Ok(())
    }

    fn mlp(&mut self, config: &Config, prefix: &str, mlp: &Mlp) -> Result<()> {
        let naming = self.naming;
        let named = |name: &str| format!("{prefix}{name}");
        match (naming.mlp, &mlp.gate) {
            (MlpNaming::Gated { gate, up }, Some(linear)) => {
                self.linear(&named(gate), linear, config.mlp_bias)?;
                self.linear(&named(up), &mlp.up, config.mlp_bias)?;
            }
            (MlpNaming::GatedStacked(name), Some(gate)) => {
                self.linear(&named(name), &stacked(&[gate, &mlp.up])?, config.mlp_bias)?;
            }
            (MlpNaming::Plain { up }, _) => self.linear(&named(up), &mlp.up, config.mlp_bias)?,
            (MlpNaming::Experts { router, experts, gate, up }, Some(linear)) => {
                for (name, linear) in [(gate, linear), (up, &mlp.up), (naming.mlp_down, &mlp.down)] {
                    self.experts(&named(experts), name, linear)?;
                }
                self.router(&named(router), mlp, false)?;
            }
            (MlpNaming::StackedExperts { router, gate_up }, Some(gate)) => {
                let both = joined(&[gate, &mlp.up], |tensors| Ok(Tch::f_stack(tensors, 2)?.f_flatten(1, 2)?))?;
                for (name, linear) in [(gate_up, &both), (naming.mlp_down, &mlp.down)] {
                    self.add(named(name), &linear.weight.f_transpose(1, 2)?);
                    self.add(format!("{}_bias", named(name)), &bias_or_zeros(linear)?);
                }
                self.router(&named(router), mlp, true)?;
            }
            (_, None) => return Err(Error::new("a gated MLP has no gate")),
        }
        if config.experts.is_none() {
            self.linear(&named(naming.mlp_down), &mlp.down, config.mlp_bias)?;
        }
        match &mlp.norm {
            Some(norm) => self.norm(&named(naming.mlp_norm), norm),
            None => Ok(()),
        }
    }
}

/// Fails if checkpoints of the family would lose a bias.
fn no_bias(linear: &Linear, name: &str) -> Result<()> {
    match linear.bias {
        None => Ok(()),
        Some(_) => Err(Error::new(format!("the model cannot be saved: its family has no bias of `{name}`"))),
    }
}

fn bias_or_zeros(linear: &Linear) -> Result<Tch> {
    match &linear.bias {
        Some(bias) => Ok(bias.shallow_clone()),
        None => {
            let mut size = linear.weight.size();
            size.pop();
            Ok(Tch::f_zeros(size, (linear.weight.kind(), linear.weight.device()))?)
        }
    }
}

fn joined(parts: &[&Linear], join: impl Fn(&[Tch]) -> Result<Tch>) -> Result<Linear> {
    let weights: Vec<Tch> = parts.iter().map(|part| part.weight.shallow_clone()).collect();
    let biases = parts.iter().map(|part| bias_or_zeros(part)).collect::<Result<Vec<_>>>()?;
    Ok(Linear { weight: join(&weights)?, bias: Some(join(&biases)?) })
}

/// All outputs of the first map, then those of the next.
fn stacked(parts: &[&Linear]) -> Result<Linear> {
    joined(parts, |tensors| Ok(Tch::f_cat(tensors, 0)?))
}

/// Outputs in the order head, part, dimension.
fn per_head(parts: &[&Linear], heads: i64) -> Result<Linear> {
    joined(parts, |tensors| {
        let by_head = tensors
            .iter()
            .map(|tensor| tensor.f_unflatten(0, [heads, -1]))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(Tch::f_stack(&by_head, 1)?.f_flatten(0, 2)?)
    })
}
