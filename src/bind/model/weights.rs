//! A model's weights in scripts, by TransformerLens's names and in its shapes.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};

use super::Model;
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::error::{Error, Result};
use crate::model::block::{Block, Mlp};
use crate::model::config::Config;
use crate::model::decoder::Logits;
use crate::model::layer::{Linear, Norm};
use crate::model::run::Hooks;
use crate::tensor::Tensor;

/// A projection into heads, [head, d_model, d_head], from its [head · d_head, d_model].
fn into_heads(linear: &Linear, heads: i64, d_head: i64) -> Result<tch::Tensor> {
    Ok(linear.weight.f_unflatten(0, [heads, d_head])?.f_transpose(1, 2)?)
}

fn norm_map(norm: &Norm) -> Map {
    let parts = [("w", &norm.weight), ("b", &norm.bias)];
    let held = parts.into_iter().filter_map(|(name, part)| part.as_ref().map(|part| (name, part)));
    held.map(|(name, part)| (name.into(), Dynamic::from(Tensor::new(part.shallow_clone())))).collect()
}

fn attention_map(block: &Block, config: &Config) -> Result<Map> {
    let attention = &block.attention;
    let mut map = Map::new();
    let mut set = |key: &str, tensor: tch::Tensor| {
        map.insert(key.into(), Dynamic::from(Tensor::new(tensor)));
    };
    let parts = [
        ("Q", &attention.query, config.n_heads),
        ("K", &attention.key, config.n_kv_heads),
        ("V", &attention.value, config.n_kv_heads),
    ];
    for (name, linear, heads) in parts {
        set(&format!("W_{name}"), into_heads(linear, heads, config.d_head)?);
        if let Some(bias) = &linear.bias {
            set(&format!("b_{name}"), bias.f_unflatten(0, [heads, config.d_head])?);
        }
    }
    let output = &attention.output.weight;
    set("W_O", output.f_transpose(0, 1)?.f_unflatten(0, [config.n_heads, config.d_head])?);
    if let Some(bias) = &attention.output.bias {
        set("b_O", bias.shallow_clone());
    }
    if let Some(sinks) = &attention.sinks {
        set("sinks", sinks.shallow_clone());
    }
    for (name, norm) in [("q_norm", &attention.query_norm), ("k_norm", &attention.key_norm)] {
        if let Some(norm) = norm {
            map.insert(name.into(), norm_map(norm).into());
        }
    }
    Ok(map)
}

fn mlp_map(mlp: &Mlp) -> Result<Map> {
    let mut map = Map::new();
    let mut set = |weight: &str, bias: &str, linear: &Linear| -> Result<()> {
        map.insert(weight.into(), Dynamic::from(Tensor::new(linear.weight.f_transpose(-2, -1)?)));
        if let Some(values) = &linear.bias {
            map.insert(bias.into(), Dynamic::from(Tensor::new(values.shallow_clone())));
        }
        Ok(())
    };
    // TransformerLens calls the map that the activation acts on W_gate in gated MLPs and W_in in plain ones.
    if let Some(gate) = &mlp.gate {
        set("W_gate", "b_gate", gate)?;
    }
    set("W_in", "b_in", &mlp.up)?;
    set("W_out", "b_out", &mlp.down)?;
    if let Some(router) = &mlp.router {
        set("W_router", "b_router", router)?;
    }
    if let Some(norm) = &mlp.norm {
        map.insert("ln".into(), norm_map(norm).into());
    }
    Ok(map)
}

fn block_map(block: &Block, config: &Config) -> Result<Map> {
    let mut map = map! {
        "attn" => attention_map(block, config)?,
        "ln1" => norm_map(&block.ln1),
    };
    if let Some(mlp) = &block.mlp {
        map.insert("mlp".into(), mlp_map(mlp)?.into());
    }
    for (name, norm) in [("ln1_post", &block.ln1_post), ("ln2", &block.ln2), ("ln2_post", &block.ln2_post)] {
        if let Some(norm) = norm {
            map.insert(name.into(), norm_map(norm).into());
        }
    }
    Ok(map)
}

#[export_module(manifest)]
pub mod functions {
    /// The embedding, [d_vocab, d_model].
    #[rhai_fn(get = "W_E", pure)]
    pub fn embedding(model: &mut Model) -> Tensor {
        Tensor::new(model.get().decoder.embedding.shallow_clone())
    }

    /// The learned positions, [n_ctx, d_model]; () for a model with rotary positions.
    #[rhai_fn(get = "W_pos", pure)]
    pub fn position_embedding(model: &mut Model) -> Dynamic {
        let positions = model.get().decoder.position_embedding.as_ref();
        positions.map_or(Dynamic::UNIT, |positions| Dynamic::from(Tensor::new(positions.shallow_clone())))
    }

    /// The unembedding, [d_model, d_vocab].
    #[rhai_fn(get = "W_U", return_raw, pure)]
    pub fn unembedding(model: &mut Model) -> ScriptResult<Tensor> {
        let weight = &model.get().decoder.unembedding.weight;
        Ok(weight.f_transpose(0, 1).map(Tensor::new).map_err(Error::from)?)
    }

    /// The bias of the unembedding, [d_vocab]; () for a model without one.
    #[rhai_fn(get = "b_U", pure)]
    pub fn unembedding_bias(model: &mut Model) -> Dynamic {
        let bias = model.get().decoder.unembedding.bias.as_ref();
        bias.map_or(Dynamic::UNIT, |bias| Dynamic::from(Tensor::new(bias.shallow_clone())))
    }

    /// The weights of each layer: `model.blocks[3].attn.W_Q` [head, d_model, d_head], `W_K`, `W_V` [kv_head, d_model,
    /// d_head], `W_O` [head, d_head, d_model], `b_Q` ...; `.mlp.W_in` [d_model, d_mlp], `W_gate`, `W_out` [d_mlp,
    /// d_model], of experts [expert, d_model, d_mlp] and so on, with `W_router` [d_model, expert]; `.ln1.w`, `.ln2.w` [d_model]. (Gemma's norms multiply by 1 + w; OLMo's have no weights.)
    #[rhai_fn(get = "blocks", return_raw, pure)]
    pub fn blocks(model: &mut Model) -> ScriptResult<Array> {
        let decoder = &model.get().decoder;
        Ok(decoder
            .blocks
            .iter()
            .map(|block| block_map(block, &decoder.config).map(Dynamic::from))
            .collect::<Result<Array>>()?)
    }

    /// The final norm's weights, where it has them: `model.ln_final.w`, `model.ln_final.b`, [d_model].
    /// (`ln_final(residual)` applies it.)
    #[rhai_fn(get = "ln_final", pure)]
    pub fn final_norm(model: &mut Model) -> Map {
        norm_map(&model.get().decoder.final_norm)
    }

    /// Applies the final norm to residual vectors, [batch, pos, d_model].
    #[rhai_fn(return_raw, pure)]
    pub fn ln_final(model: &mut Model, residual: Tensor) -> ScriptResult<Tensor> {
        let normalized = model.get().decoder.final_norm.forward_plain(residual.tch());
        Ok(normalized.map(Tensor::new)?)
    }

    /// Reads residual vectors, [batch, pos, d_model], by the final norm and the unembedding (the logit lens).
    ///
    /// Returns logits, [batch, pos, d_vocab].
    #[rhai_fn(return_raw, pure)]
    pub fn logit_lens(model: &mut Model, residual: Tensor) -> ScriptResult<Tensor> {
        let decoder = &model.get().decoder;
        Ok(decoder.unembed(residual.share(), Logits::All, &mut Hooks::none()).map(Tensor::new)?)
    }
}
