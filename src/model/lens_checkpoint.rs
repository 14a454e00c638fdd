//! A checkpoint of TransformerLens's own models: its weights by the names of its native model, `blocks.0.attn.q.weight`,
//! whether they are stored so or as `blocks.0.attn.W_Q`, [head, d_model, d_head].

use std::collections::BTreeSet;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::config::Config;
use super::family::TOY;
use super::source::{Checkpoint, WeightSource};
use crate::error::Result;

/// A checkpoint, and the number of heads that its older tensors are divided into.
#[derive(Debug)]
pub struct LensCheckpoint {
    checkpoint: Checkpoint,
    n_heads: i64,
    may_leave_out: bool,
}

/// How a tensor with an older name is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// As it is wanted
    Same,
    /// [in, out], for [out, in]
    Transposed,
    /// [head, in, d_head], for [head · d_head, in]
    FromModel,
    /// [head, d_head, out], for [out, head · d_head]
    ToModel,
    /// [head, d_head], for [head · d_head]
    ByHead,
}

/// The endings of names, and those of older ones.
const ENDINGS: &[(&str, &str, Layout)] = &[
    ("attn.q.weight", "attn.W_Q", Layout::FromModel),
    ("attn.k.weight", "attn.W_K", Layout::FromModel),
    ("attn.v.weight", "attn.W_V", Layout::FromModel),
    ("attn.o.weight", "attn.W_O", Layout::ToModel),
    ("attn.q.bias", "attn.b_Q", Layout::ByHead),
    ("attn.k.bias", "attn.b_K", Layout::ByHead),
    ("attn.v.bias", "attn.b_V", Layout::ByHead),
    ("attn.o.bias", "attn.b_O", Layout::Same),
    ("mlp.in.weight", "mlp.W_in", Layout::Transposed),
    ("mlp.in.bias", "mlp.b_in", Layout::Same),
    ("mlp.out.weight", "mlp.W_out", Layout::Transposed),
    ("mlp.out.bias", "mlp.b_out", Layout::Same),
    ("pos_embed.weight", "pos_embed.W_pos", Layout::Same),
    ("unembed.weight", "unembed.W_U", Layout::Transposed),
    ("unembed.bias", "unembed.b_U", Layout::Same),
    ("embed.weight", "embed.W_E", Layout::Same),
    (".weight", ".w", Layout::Same),
    (".bias", ".b", Layout::Same),
];

/// The only tensor that some of TransformerLens's checkpoints leave out; it is 0 then, as in TransformerLens. A toy's config
/// says whether it is there.
const OPTIONAL: &str = "unembed.bias";

impl LensCheckpoint {
    /// Opens the weights of a checkpoint folder.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open(directory: &Path, config: &Config) -> Result<Self> {
        let may_leave_out = config.model_type != TOY;
        Ok(Self { checkpoint: Checkpoint::open(directory)?, n_heads: config.n_heads, may_leave_out })
    }

    /// The stored name of a tensor, and how it is stored.
    fn place(&self, name: &str) -> (String, Layout) {
        let older = ENDINGS.iter().find_map(|(ending, older, layout)| {
            let start = name.strip_suffix(ending).filter(|_| !self.checkpoint.contains(name))?;
            Some((format!("{start}{older}"), *layout))
        });
        older.unwrap_or_else(|| (name.to_owned(), Layout::Same))
    }
}

impl WeightSource for LensCheckpoint {
    fn contains(&self, name: &str) -> bool {
        self.checkpoint.contains(&self.place(name).0)
    }

    fn load(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
        let (stored, layout) = self.place(name);
        if self.may_leave_out && name == OPTIONAL && !self.checkpoint.contains(&stored) {
            return Ok(Tensor::f_zeros(shape, (kind, device))?);
        }
        let load = |shape: &[i64]| self.checkpoint.load(&stored, shape, kind, device);
        let heads = self.n_heads;
        Ok(match (layout, shape) {
            (Layout::Transposed, [outputs, inputs]) => load(&[*inputs, *outputs])?.f_transpose(0, 1)?.f_contiguous()?,
            (Layout::FromModel, [outputs, inputs]) => {
                load(&[heads, *inputs, outputs / heads])?.f_transpose(1, 2)?.f_reshape(shape)?
            }
            (Layout::ToModel, [outputs, inputs]) => {
                load(&[heads, inputs / heads, *outputs])?.f_permute([2, 0, 1])?.f_reshape(shape)?
            }
            (Layout::ByHead, [outputs]) => load(&[heads, outputs / heads])?.f_reshape(shape)?,
            _ => load(shape)?,
        })
    }

    fn stored(&self, name: &str) -> Result<Tensor> {
        self.checkpoint.stored(name)
    }

    fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        self.checkpoint.unused(&used.iter().map(|name| self.place(name).0).collect())
    }
}
