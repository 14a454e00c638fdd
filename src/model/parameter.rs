//! A decoder's weights by TransformerLens's names and in its shapes: read, and replaced in a copy of the decoder.

use std::collections::BTreeMap;

use tch::{Device, Tensor};

use super::block::{Block, Mlp};
use super::config::Config;
use super::decoder::Decoder;
use super::layer::{Linear, Norm};
use crate::error::{Error, Result, nearest};

/// How a stored weight is shown.
#[derive(Debug, Clone, Copy)]
enum Layout {
    /// As it is stored
    Same,
    /// [.., out, in] as [.., in, out]
    Transposed,
    /// [head · d_head, d_model] as [head, d_model, d_head]
    IntoHeads(i64),
    /// [d_model, head · d_head] as [head, d_head, d_model]
    FromHeads(i64),
    /// [head · d_head] as [head, d_head]
    HeadBias(i64),
}

impl Layout {
    fn shown(self, stored: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Same => stored.shallow_clone(),
            Self::Transposed => stored.f_transpose(-2, -1)?,
            Self::IntoHeads(heads) => stored.f_unflatten(0, [heads, -1])?.f_transpose(1, 2)?,
            Self::FromHeads(heads) => stored.f_transpose(0, 1)?.f_unflatten(0, [heads, -1])?,
            Self::HeadBias(heads) => stored.f_unflatten(0, [heads, -1])?,
        })
    }

    fn stored(self, shown: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Same => shown.shallow_clone(),
            Self::Transposed => shown.f_transpose(-2, -1)?.f_contiguous()?,
            Self::IntoHeads(_) => shown.f_transpose(1, 2)?.f_flatten(0, 1)?,
            Self::FromHeads(_) => shown.f_flatten(0, 1)?.f_transpose(0, 1)?.f_contiguous()?,
            Self::HeadBias(_) => shown.f_flatten(0, 1)?,
        })
    }
}

/// Where a weight is kept.
enum Place<'a> {
    Always(&'a mut Tensor),
    /// A bias that the model may lack, its stored shape and its device
    Optional(&'a mut Option<Tensor>, Vec<i64>, Device),
}

struct Slot<'a> {
    name: String,
    layout: Layout,
    place: Place<'a>,
}

/// The slots of one decoder.
#[derive(Default)]
struct Slots<'a>(Vec<Slot<'a>>);

impl<'a> Slots<'a> {
    fn of(decoder: &'a mut Decoder) -> Self {
        let mut slots = Self::default();
        slots.always("embed.W_E", Layout::Same, &mut decoder.embedding);
        if let Some(positions) = &mut decoder.position_embedding {
            slots.always("pos_embed.W_pos", Layout::Same, positions);
        }
        for block in &mut decoder.blocks {
            slots.block(&decoder.config, block);
        }
        slots.norm("ln_final", &mut decoder.final_norm);
        slots.linear("unembed.W_U", "unembed.b_U", (Layout::Transposed, Layout::Same), &mut decoder.unembedding);
        slots
    }

    /// The name and a view of every weight that there is.
    fn shown(self) -> Result<Vec<(String, Tensor)>> {
        let held = self.0.into_iter().filter_map(|Slot { name, layout, place }| {
            let stored = match place {
                Place::Always(tensor) => Some(&*tensor),
                Place::Optional(bias, ..) => bias.as_ref(),
            };
            Some((name, layout, stored?))
        });
        held.map(|(name, layout, stored)| Ok((name, layout.shown(stored)?))).collect()
    }

    fn block(&mut self, config: &Config, block: &'a mut Block) {
        let prefix = format!("blocks.{}", block.layer);
        let attention = &mut block.attention;
        let parts = [
            ("Q", &mut attention.query, config.n_heads),
            ("K", &mut attention.key, config.n_kv_heads),
            ("V", &mut attention.value, config.n_kv_heads),
        ];
        for (name, linear, heads) in parts {
            let layouts = (Layout::IntoHeads(heads), Layout::HeadBias(heads));
            self.linear(&format!("{prefix}.attn.W_{name}"), &format!("{prefix}.attn.b_{name}"), layouts, linear);
        }
        let layouts = (Layout::FromHeads(config.n_heads), Layout::Same);
        self.linear(&format!("{prefix}.attn.W_O"), &format!("{prefix}.attn.b_O"), layouts, &mut attention.output);
        if let Some(sinks) = &mut attention.sinks {
            self.always(&format!("{prefix}.attn.sinks"), Layout::Same, sinks);
        }
        for (name, norm) in [("q_norm", &mut attention.query_norm), ("k_norm", &mut attention.key_norm)] {
            if let Some(norm) = norm {
                self.norm(&format!("{prefix}.attn.{name}"), norm);
            }
        }
        // TransformerLens calls the map that the activation acts on W_gate in gated MLPs and W_in in plain ones.
        if let Some(mlp) = &mut block.mlp {
            let parts = [
                ("gate", mlp.gate.as_mut()),
                ("in", Some(&mut mlp.up)),
                ("out", Some(&mut mlp.down)),
                ("router", mlp.router.as_mut()),
            ];
            for (name, linear) in parts {
                let Some(linear) = linear else { continue };
                let layouts = (Layout::Transposed, Layout::Same);
                self.linear(&format!("{prefix}.mlp.W_{name}"), &format!("{prefix}.mlp.b_{name}"), layouts, linear);
            }
            if let Some(norm) = &mut mlp.norm {
                self.norm(&format!("{prefix}.mlp.ln"), norm);
            }
        }
        let norms = [
            ("ln1", Some(&mut block.ln1)),
            ("ln1_post", block.ln1_post.as_mut()),
            ("ln2", block.ln2.as_mut().filter(|_| !config.shared_norm)),
            ("ln2_post", block.ln2_post.as_mut()),
        ];
        for (name, norm) in norms {
            if let Some(norm) = norm {
                self.norm(&format!("{prefix}.{name}"), norm);
            }
        }
    }

    fn norm(&mut self, name: &str, norm: &'a mut Norm) {
        if let Some(weight) = &mut norm.weight {
            self.always(&format!("{name}.w"), Layout::Same, weight);
        }
        if let Some(bias) = &mut norm.bias {
            self.always(&format!("{name}.b"), Layout::Same, bias);
        }
    }

    fn linear(&mut self, weight: &str, bias: &str, (layout, bias_layout): (Layout, Layout), linear: &'a mut Linear) {
        let mut shape = linear.weight.size();
        shape.pop();
        let device = linear.weight.device();
        self.always(weight, layout, &mut linear.weight);
        let place = Place::Optional(&mut linear.bias, shape, device);
        self.0.push(Slot { name: bias.to_owned(), layout: bias_layout, place });
    }

    fn always(&mut self, name: &str, layout: Layout, tensor: &'a mut Tensor) {
        self.0.push(Slot { name: name.to_owned(), layout, place: Place::Always(tensor) });
    }
}

impl Decoder {
    /// Every weight by its name, in the order of execution, as a view.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn parameters(&self) -> Result<Vec<(String, Tensor)>> {
        let mut copy = self.shallow_clone();
        Slots::of(&mut copy).shown()
    }

    /// The weights of one layer, named as in [`Decoder::parameters`].
    ///
    /// # Errors
    /// A layer that the decoder does not have.
    pub fn block_parameters(&self, layer: i64) -> Result<Vec<(String, Tensor)>> {
        let block = usize::try_from(layer).ok().and_then(|layer| self.blocks.get(layer));
        let mut copy =
            block.map(Block::shallow_clone).ok_or_else(|| Error::new(format!("there is no layer {layer}")))?;
        let mut slots = Slots::default();
        slots.block(&self.config, &mut copy);
        slots.shown()
    }

    /// A decoder that shares all weights with this one, except those in `changed`. A bias that the decoder lacks may be
    /// among them. An unembedding that was the embedding is kept as it was where only one of them changes.
    ///
    /// # Errors
    /// A name that the decoder does not have, a tensor of another shape, or one that does not hold floats.
    pub fn with_parameters(&self, mut changed: BTreeMap<String, Tensor>) -> Result<Self> {
        let mut copy = self.shallow_clone();
        let mut known = Vec::new();
        for Slot { name, layout, place } in Slots::of(&mut copy).0 {
            if let Some(value) = changed.remove(&name).or_else(|| changed.remove(short(&name))) {
                let (stored, device) = match &place {
                    Place::Always(tensor) => (tensor.size(), tensor.device()),
                    Place::Optional(_, shape, device) => (shape.clone(), *device),
                };
                let wanted = layout.shown(&Tensor::f_zeros(&stored, (self.kind, Device::Cpu))?)?.size();
                let value = layout.stored(&self.fitting(&name, &value, &wanted, device)?)?;
                match place {
                    Place::Always(tensor) => *tensor = value,
                    Place::Optional(bias, ..) => *bias = Some(value),
                }
            }
            known.push(name);
        }
        if let Some(name) = changed.keys().next() {
            let error = Error::new(format!("the model has no weight `{name}`"));
            return Err(match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`? `model.state_dict().keys()` lists them all")),
                None => error.hint("`model.state_dict().keys()` lists them all, such as `blocks.0.attn.W_Q`"),
            });
        }
        copy.describe_weights();
        Ok(copy)
    }

    /// `value` in this decoder's dtype and on `device`, if its shape is `wanted`.
    fn fitting(&self, name: &str, value: &Tensor, wanted: &[i64], device: Device) -> Result<Tensor> {
        if value.size() != wanted {
            return Err(Error::new(format!("`{name}` has the shape {wanted:?}, not {:?}", value.size())));
        }
        if !crate::tensor::is_float(value.kind()) {
            return Err(Error::new(format!("`{name}` holds floats, not {}", crate::tensor::kind_name(value.kind())))
                .hint("convert the tensor first, as in `t.to(\"f32\")`"));
        }
        Ok(value.f_to_device(device)?.f_to_kind(self.kind)?)
    }

    /// Makes the config say which weights there are, after some were replaced.
    pub(super) fn describe_weights(&mut self) {
        if self.config.shared_norm {
            self.blocks.iter_mut().for_each(|block| block.ln2 = Some(block.ln1.shallow_clone()));
        }
        let (embedding, unembedding) = (&self.embedding, &self.unembedding.weight);
        self.config.tied &= embedding.data_ptr() == unembedding.data_ptr();
        self.config.unembedding_bias = self.unembedding.bias.is_some();
        let attentions = || self.blocks.iter().map(|block| &block.attention);
        let inputs = |block: &Block| {
            block.attention.query.bias.is_some()
                || block.attention.key.bias.is_some()
                || block.attention.value.bias.is_some()
        };
        self.config.query_key_value_bias = self.blocks.iter().any(inputs);
        self.config.attention_output_bias = attentions().any(|attention| attention.output.bias.is_some());
        // Experts have biases or not by their family.
        self.config.mlp_bias = self.config.experts.is_none()
            && self
                .blocks
                .iter()
                .filter_map(|block| block.mlp.as_ref())
                .flat_map(Mlp::linears)
                .any(|linear| linear.bias.is_some());
    }
}

/// The name by which TransformerLens's models have a weight as a property, such as `W_E`; else the name itself.
fn short(name: &str) -> &str {
    name.strip_prefix("embed.")
        .or_else(|| name.strip_prefix("pos_embed."))
        .or_else(|| name.strip_prefix("unembed."))
        .unwrap_or(name)
}
