//! A model's weights in scripts, by TransformerLens's names and in its shapes: read, replaced in a copy of the model,
//! rewritten, saved.

use std::path::Path;
use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};

use super::Model;
use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::model::decoder::{Decoder, Logits};
use crate::model::run::Hooks;
use crate::tensor::Tensor;

/// Some of a model's weights: those of a layer, of its attention, its MLP or a norm.
#[derive(Debug, Clone)]
pub struct Weights {
    model: Model,
    /// What their names begin with, such as `blocks.3.attn`
    prefix: String,
}

impl Weights {
    fn of(model: &Model, prefix: impl Into<String>) -> Dynamic {
        Dynamic::from(Self { model: model.clone(), prefix: prefix.into() })
    }

    /// The names after the prefix, and the tensors.
    fn list(&self) -> Result<Vec<(String, tch::Tensor)>> {
        let decoder = &self.model.get().decoder;
        let layer = self.prefix.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()?.parse().ok());
        let all = match layer {
            Some(layer) => decoder.block_parameters(layer)?,
            None => decoder.parameters()?,
        };
        let under = format!("{}.", self.prefix);
        let named = all.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix(&under)?.to_owned(), tensor)));
        Ok(named.collect())
    }

    /// The first parts of the names.
    fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in self.list()? {
            let first = name.split('.').next().unwrap_or_default();
            if !names.iter().any(|known| known == first) {
                names.push(first.to_owned());
            }
        }
        Ok(names)
    }

    fn get(&self, name: &str) -> Result<Dynamic> {
        let mut list = self.list()?;
        if let Some(place) = list.iter().position(|(known, _)| known == name) {
            return Ok(Dynamic::from(Tensor::new(list.swap_remove(place).1)));
        }
        if list.iter().any(|(known, _)| known.starts_with(&format!("{name}."))) {
            return Ok(Self::of(&self.model, format!("{}.{name}", self.prefix)));
        }
        Err(Error::new(format!("`{}` has no weight `{name}`", self.prefix))
            .hint(format!("it has {}", self.names()?.join(", "))))
    }
}

impl Handle for Weights {
    const NAME: &'static str = "weights";
    const IS_IMMUTABLE: bool = true;

    fn instead_of_setting() -> &'static str {
        INSTEAD
    }

    fn describe(&self) -> String {
        format!("weights {} of {}", self.prefix, self.model.get().name)
    }

    fn show(&self) -> String {
        let lines = self.list().map(|list| {
            list.iter().map(|(name, tensor)| format!("\n  {name} {:?}", tensor.size())).collect::<String>()
        });
        format!("{}{}", self.describe(), lines.unwrap_or_default())
    }
}

/// How weights are changed.
pub const INSTEAD: &str =
    "`model.with_weights(#{ \"blocks.0.attn.W_Q\": tensor })` gives a model with other weights; the rest is shared";

fn edited(model: &Model, edit: impl FnOnce(&Decoder) -> Result<Decoder>) -> ScriptResult<Model> {
    let language_model = model.get();
    Ok(Model(Rc::new(language_model.with_decoder(edit(&language_model.decoder)?))))
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
    #[rhai_fn(get = "blocks", pure)]
    pub fn blocks(model: &mut Model) -> Array {
        (0..model.get().config().n_layers).map(|layer| Weights::of(model, format!("blocks.{layer}"))).collect()
    }

    /// The final norm's weights: `model.ln_final.w` [d_model], and `b` where it has a bias. (`ln_final(residual)`
    /// applies it.)
    #[rhai_fn(get = "ln_final", pure)]
    pub fn final_norm(model: &mut Model) -> Dynamic {
        Weights::of(model, "ln_final")
    }

    /// The weight or the group of weights of that name, as in `block.attn["W_Q"]`.
    #[rhai_fn(index_get, return_raw, pure)]
    pub fn weight(weights: &mut Weights, name: &str) -> ScriptResult<Dynamic> {
        Ok(weights.get(name)?)
    }

    /// The names of weights and groups of weights.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2", #{ init: "random" });
    /// assert("W_Q" in model.blocks[0].attn.keys());
    /// ```
    #[rhai_fn(name = "keys", return_raw, pure)]
    pub fn weight_names(weights: &mut Weights) -> ScriptResult<Array> {
        Ok(weights.names()?.into_iter().map(Dynamic::from).collect())
    }

    /// Whether there is a weight or a group of weights of that name; also `"b_Q" in block.attn`.
    #[rhai_fn(name = "contains", return_raw, pure)]
    pub fn has_weight(weights: &mut Weights, name: &str) -> ScriptResult<bool> {
        Ok(weights.names()?.iter().any(|known| known == name))
    }

    /// Every weight by its name, such as `embed.W_E`, `blocks.3.attn.W_Q`, `ln_final.w`, `unembed.W_U`, in the shapes that
    /// `blocks` gives.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2", #{ init: "random" });
    /// for weight in model.state_dict().items() { print(`${weight[0]} ${weight[1].shape}`); }
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn state_dict(model: &mut Model) -> ScriptResult<Map> {
        let parameters = model.get().decoder.parameters()?;
        Ok(parameters.into_iter().map(|(name, tensor)| (name.into(), Dynamic::from(Tensor::new(tensor)))).collect())
    }

    /// A model with other weights, by the names of `state_dict`; it shares the rest with this one, which stays as it is.
    ///
    /// A bias that the model lacks may be given. An unembedding that is the embedding is kept where only one changes.
    ///
    /// # Errors
    /// A name that the model does not have, a tensor of another shape.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2", #{ init: "random" });
    /// let W_out = model.blocks[1].mlp.W_out;
    /// W_out[5] = 0.0;
    /// let ablated = model.with_weights(#{ "blocks.1.mlp.W_out": W_out });
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn with_weights(model: &mut Model, weights: Map) -> ScriptResult<Model> {
        let tensor = |(name, value): (rhai::Identifier, Dynamic)| match value.read_lock::<Tensor>() {
            Some(tensor) => Ok((name.to_string(), tensor.share())),
            None => Err(expected(&format!("`{name}`"), "a tensor", &value)),
        };
        let weights = weights.into_iter().map(tensor).collect::<Result<_>>()?;
        edited(model, |decoder| decoder.with_parameters(weights))
    }

    /// The model with a LoRA adapter of PEFT, a folder or a repository of the hub, merged into its weights; this one stays
    /// as it is. See the option `adapter` of `load_model`, which takes less memory where this model is not needed.
    ///
    /// Option: `offline` (true: never use the network).
    ///
    /// # Errors
    /// An adapter that is not understood or does not fit, a model of random weights.
    ///
    /// # Example
    /// ```rhai
    /// let changed = "base_model.model.model.layers.3.mlp.down_proj";
    /// let tensors = #{};
    /// tensors[changed + ".lora_A.weight"] = randn([2, 1536]);
    /// tensors[changed + ".lora_B.weight"] = randn([576, 2]);
    /// save_safetensors("adapter/adapter_model.safetensors", tensors);
    /// let config = #{ peft_type: "LORA", r: 2, lora_alpha: 4, target_modules: ["down_proj"] };
    /// write_json("adapter/adapter_config.json", config);
    /// let model = load_model("smollm2");
    /// let tuned = model.with_adapter("adapter");
    /// assert(tuned.hash != model.hash && equal(tuned.W_E, model.W_E));
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn with_adapter(model: &mut Model, adapter: &str, options: Map) -> ScriptResult<Model> {
        let offline = Options::read("with_adapter", options, |options| options.boolean("offline"))?;
        Ok(Model(Rc::new(model.get().with_adapter(adapter, offline.unwrap_or(false))?)))
    }

    /// The model with the weights of its norms multiplied into the maps that follow them (`fold_ln` of TransformerLens).
    ///
    /// It computes the same. Norms after a sublayer, and those of queries and keys, stay. After a LayerNorm the maps are
    /// also centred over their inputs, and its bias goes into theirs.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2", #{ init: "random" });
    /// let folded = model.fold_ln();
    /// assert(allclose(folded.forward([1, 2]), model.forward([1, 2]), #{ atol: 1e-4 }));
    /// assert(equal(folded.ln_final.w, ones([model.cfg.d_model])));
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn fold_ln(model: &mut Model) -> ScriptResult<Model> {
        edited(model, Decoder::fold_norms)
    }

    /// The model with its unembedding's mean over the vocabulary taken away; its probabilities stay.
    ///
    /// # Errors
    /// A model with a soft cap of the logits, whose probabilities would change.
    #[rhai_fn(return_raw, pure)]
    pub fn center_unembed(model: &mut Model) -> ScriptResult<Model> {
        edited(model, Decoder::center_unembedding)
    }

    /// The model with the mean over d_model taken from all that writes into the residual stream; it computes the same.
    ///
    /// # Errors
    /// A model without LayerNorms before its sublayers, which would compute something else.
    #[rhai_fn(return_raw, pure)]
    pub fn center_writing_weights(model: &mut Model) -> ScriptResult<Model> {
        edited(model, Decoder::center_writing)
    }

    /// The model with the biases of its values moved into the bias of the attention's output; it computes the same.
    #[rhai_fn(return_raw, pure)]
    pub fn fold_value_biases(model: &mut Model) -> ScriptResult<Model> {
        edited(model, Decoder::fold_value_biases)
    }

    /// Writes the model into a new folder in Hugging Face's layout, for `load_model(folder)` and for transformers.
    ///
    /// # Errors
    /// A folder that holds a model already, weights that checkpoints of the family cannot hold, a failure to write.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2", #{ init: "random", dtype: "bf16" });
    /// model.save("edited");
    /// assert_eq(load_model("edited", #{ dtype: "bf16" }).hash, model.hash);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn save(model: &mut Model, folder: &str) -> ScriptResult<()> {
        Ok(model.get().save(Path::new(folder))?)
    }

    /// Applies the final norm to residual vectors, [batch, pos, d_model].
    #[rhai_fn(return_raw, pure)]
    pub fn ln_final(model: &mut Model, residual: Tensor) -> ScriptResult<Tensor> {
        let decoder = &model.get().decoder;
        let residual = residual.tch().f_to(decoder.output_device()).map_err(Error::from)?;
        Ok(decoder.final_norm.forward_plain(&residual).map(Tensor::new)?)
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
