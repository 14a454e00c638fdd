//! Rewrites a decoder's weights so that they are easier to read while what it computes stays: TransformerLens's
//! `fold_layer_norm`, `center_writing_weights`, `center_unembed` and `fold_value_biases`.

use tch::{Kind, Tensor};

use super::config::{NormKind, NormPlacement};
use super::decoder::Decoder;
use super::layer::{Linear, Norm};
use crate::error::{Error, Result};
use crate::tensor::raw::wide;

impl Decoder {
    /// Multiplies the weight of every norm that stands before a map into that map, adds what the norm's bias gives to the
    /// map's bias, and, after a LayerNorm, centres the map's inputs. The norms' own weights then change nothing. Norms
    /// after a sublayer, and norms of queries and keys, stay.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn fold_norms(&self) -> Result<Self> {
        let mut copy = self.shallow_clone();
        if copy.config.norm_placement != NormPlacement::Post {
            for block in &mut copy.blocks {
                let attention = &mut block.attention;
                for linear in [&mut attention.query, &mut attention.key, &mut attention.value] {
                    fold(&block.ln1, linear)?;
                }
                if let (Some(mlp), Some(norm)) = (&mut block.mlp, &mut block.ln2) {
                    for linear in mlp.gate.iter_mut().chain([&mut mlp.up]).chain(&mut mlp.router) {
                        fold(norm, linear)?;
                    }
                    *norm = without_effect(norm)?;
                }
                block.ln1 = without_effect(&block.ln1)?;
            }
        }
        fold(&copy.final_norm, &mut copy.unembedding)?;
        copy.final_norm = without_effect(&copy.final_norm)?;
        copy.describe_weights();
        Ok(copy)
    }

    /// Subtracts from the unembedding its mean over the vocabulary, which moves all logits of a position alike.
    ///
    /// # Errors
    /// A model whose logits have a soft cap.
    pub fn center_unembedding(&self) -> Result<Self> {
        if self.config.logit_soft_cap.is_some() {
            return Err(Error::new("`center_unembed` would change the probabilities of this model")
                .hint("its logits have a soft cap, so a constant added to all of them matters"));
        }
        let mut copy = self.shallow_clone();
        let Linear { weight, bias } = &copy.unembedding;
        let bias = bias.as_ref().map(|bias| centred(bias, 0)).transpose()?;
        copy.unembedding = Linear { weight: centred(weight, 0)?, bias };
        copy.describe_weights();
        Ok(copy)
    }

    /// Subtracts from everything that is added to the residual stream its mean over the stream's dimensions, which every
    /// LayerNorm takes away.
    ///
    /// # Errors
    /// A model whose norms do not centre, or also stand elsewhere than before the sublayers.
    pub fn center_writing(&self) -> Result<Self> {
        if !self.config.norm.is_centred() || self.config.norm_placement != NormPlacement::Pre {
            return Err(Error::new("`center_writing_weights` would change the logits of this model")
                .hint("it needs a LayerNorm before each sublayer; RMS norms do not take the mean away"));
        }
        let mut copy = self.shallow_clone();
        copy.embedding = centred(&copy.embedding, -1)?;
        copy.position_embedding =
            copy.position_embedding.as_ref().map(|positions| centred(positions, -1)).transpose()?;
        for block in &mut copy.blocks {
            let down = block.mlp.as_mut().map(|mlp| &mut mlp.down);
            for linear in [&mut block.attention.output].into_iter().chain(down) {
                let bias = linear.bias.as_ref().map(|bias| centred(bias, -1)).transpose()?;
                *linear = Linear { weight: centred(&linear.weight, -2)?, bias };
            }
        }
        copy.describe_weights();
        Ok(copy)
    }

    /// Moves what the biases of the values add, which no attention pattern changes, into the bias of the output.
    ///
    /// # Errors
    /// A model with attention sinks, whose patterns do not sum to 1.
    pub fn fold_value_biases(&self) -> Result<Self> {
        if self.blocks.iter().any(|block| block.attention.sinks.is_some()) {
            return Err(Error::new("`fold_value_biases` would change the logits of this model")
                .hint("a part of each attention pattern goes to its sinks, so that the rest does not sum to 1"));
        }
        let mut copy = self.shallow_clone();
        let group = copy.config.n_heads / copy.config.n_kv_heads;
        for block in &mut copy.blocks {
            let attention = &mut block.attention;
            let Some(bias) = &attention.value.bias else { continue };
            let by_head = bias.f_unflatten(0, [copy.config.n_kv_heads, -1])?;
            let by_query_head = by_head.f_repeat_interleave_self_int(group, 0, None)?.f_flatten(0, 1)?;
            let kind = bias.kind();
            let added = in_wide(&attention.output.weight)?.f_mv(&in_wide(&by_query_head)?)?;
            let sum = match &attention.output.bias {
                Some(output) => in_wide(output)?.f_add(&added)?,
                None => added,
            };
            attention.output.bias = Some(sum.f_to_kind(kind)?);
            attention.value.bias = Some(bias.f_zeros_like()?);
        }
        copy.describe_weights();
        Ok(copy)
    }
}

fn in_wide(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_to_kind(wide(tensor.kind()))?)
}

fn centred(tensor: &Tensor, dim: i64) -> Result<Tensor> {
    let values = in_wide(tensor)?;
    Ok(values.f_sub(&values.f_mean_dim(dim, true, None::<Kind>)?)?.f_to_kind(tensor.kind())?)
}

/// Makes `linear` give, from the norm's quotient, what it gave from the norm's result.
fn fold(norm: &Norm, linear: &mut Linear) -> Result<()> {
    let kind = linear.weight.kind();
    let weight = in_wide(&linear.weight)?;
    if let Some(norm_bias) = &norm.bias {
        let added = weight.f_matmul(&in_wide(norm_bias)?)?;
        let sum = match &linear.bias {
            Some(bias) => in_wide(bias)?.f_add(&added)?,
            None => added,
        };
        linear.bias = Some(sum.f_to_kind(kind)?);
    }
    let folded = match norm.factor()? {
        Some(factor) => weight.f_mul(&factor)?,
        None => weight,
    };
    let folded = if norm.kind.is_centred() { centred(&folded, -1)? } else { folded };
    linear.weight = folded.f_to_kind(kind)?;
    Ok(())
}

/// The norm with a weight of one and a bias of zero.
fn without_effect(norm: &Norm) -> Result<Norm> {
    let one = |weight: &Tensor| match norm.kind {
        NormKind::RmsPlusOne => weight.f_zeros_like(),
        _ => weight.f_ones_like(),
    };
    Ok(Norm {
        weight: norm.weight.as_ref().map(one).transpose()?,
        bias: norm.bias.as_ref().map(Tensor::f_zeros_like).transpose()?,
        ..norm.shallow_clone()
    })
}
