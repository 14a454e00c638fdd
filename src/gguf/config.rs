//! Hugging Face's `config.json` from the metadata of a GGUF file, key by key as llama.cpp's converter wrote them.

use serde_json::{Map, Value as Json, json};

use super::{Gguf, Value};
use crate::error::{Error, Result};

const SUPPORTED: &str = "llama, qwen2, qwen3, gemma2, gemma3, phi3, gpt2, gptneox, olmo2";

/// The `config.json` of the checkpoint that the file was converted from, as far as the metadata and the tensors tell.
///
/// Two things are not as in Hugging Face's files. `rope_scaling` is `{"rope_type": "frequency_factors"}` where the file
/// has a tensor `rope_freqs.weight` (Llama 3.1 and later): each inverse frequency is divided by its factor. And sliding
/// windows are always spelled out as `layer_types`.
///
/// # Errors
/// An architecture that is not supported, or a required key that is missing or of the wrong type.
pub fn config_json(gguf: &Gguf) -> Result<Json> {
    let architecture = gguf.architecture()?;
    let reader = Reader { gguf, architecture };
    let config = match architecture {
        "llama" | "qwen2" | "qwen3" => reader.decoder(architecture)?,
        "olmo2" => reader.olmo()?,
        "gemma2" | "gemma3" => reader.gemma()?,
        "phi3" => reader.phi3()?,
        "gpt2" => reader.gpt2()?,
        "gptneox" => reader.gpt_neox()?,
        other => {
            let path = gguf.path().display();
            return Err(Error::new(format!("`{path}`: the architecture `{other}` is not supported"))
                .hint(format!("the supported ones are {SUPPORTED}")));
        }
    };
    Ok(Json::Object(config))
}

/// Reads the keys that begin with the architecture's name.
struct Reader<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl Reader<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::new(format!("`{}`: {message}", self.gguf.path().display()))
    }

    /// An integer; an array of equal integers, one a layer, counts as one.
    fn optional_integer(&self, name: &str) -> Result<Option<i64>> {
        let key = self.key(name);
        match self.gguf.metadata(&key) {
            Some(Value::Integers(layers)) => match layers.first() {
                Some(first) if layers.iter().all(|layer| layer == first) => Ok(Some(*first)),
                _ => Err(self.error(format!("metadata `{key}` differs between layers, which is not supported"))),
            },
            _ => self.gguf.integer(&key),
        }
    }

    fn integer(&self, name: &str) -> Result<i64> {
        self.optional_integer(name)?.ok_or_else(|| self.gguf.missing(&self.key(name)))
    }

    /// A float, as the shortest decimal that names the stored 32-bit value: the file's `1e-5` is 9.999999747378752e-6.
    fn optional_float(&self, name: &str) -> Result<Option<f64>> {
        let stored = self.gguf.float(&self.key(name))?;
        Ok(stored.map(|stored| (stored as f32).to_string().parse().unwrap_or(stored)))
    }

    fn float(&self, name: &str) -> Result<f64> {
        self.optional_float(name)?.ok_or_else(|| self.gguf.missing(&self.key(name)))
    }

    /// The number of embeddings stored; the metadata may count differently or not at all.
    fn vocabulary_size(&self) -> Result<i64> {
        let shape = self.gguf.shape("token_embd.weight").unwrap_or_default();
        match shape.as_slice() {
            [size, _] => Ok(*size),
            _ => Err(self.error("there is no matrix `token_embd.weight`")),
        }
    }

    fn heads(&self) -> Result<i64> {
        let heads = self.integer("attention.head_count")?;
        if heads < 1 {
            return Err(self.error(format!("metadata `{}` is {heads}", self.key("attention.head_count"))));
        }
        Ok(heads)
    }

    /// What configurations of every architecture hold.
    fn common(&self, model_type: &str) -> Result<Map<String, Json>> {
        if self.optional_integer("expert_count")?.unwrap_or(0) > 0 {
            return Err(self.error("mixtures of experts are not supported"));
        }
        if self.gguf.integer("split.count")?.unwrap_or(1) > 1 {
            return Err(self
                .error("the file is one part of a model that is split over several")
                .hint("join the parts with `llama-gguf-split --merge`"));
        }
        let mut config = Map::new();
        config.insert("model_type".into(), model_type.into());
        config.insert("vocab_size".into(), self.vocabulary_size()?.into());
        config.insert("tie_word_embeddings".into(), (!self.gguf.contains("output.weight")).into());
        for (name, key) in
            [("bos_token_id", "tokenizer.ggml.bos_token_id"), ("eos_token_id", "tokenizer.ggml.eos_token_id")]
        {
            if let Some(id) = self.gguf.integer(key)? {
                config.insert(name.into(), id.into());
            }
        }
        Ok(config)
    }

    /// The configuration of everything shaped like Llama.
    fn decoder(&self, model_type: &str) -> Result<Map<String, Json>> {
        let mut config = self.common(model_type)?;
        let (hidden, heads) = (self.integer("embedding_length")?, self.heads()?);
        let mut head_dim = self.optional_integer("attention.key_length")?;
        if self.architecture == "llama" && head_dim.is_none() {
            head_dim = self.optional_integer("rope.dimension_count")?;
        }
        let activation = if self.architecture.starts_with("gemma") { "gelu_pytorch_tanh" } else { "silu" };
        config.insert("hidden_size".into(), hidden.into());
        config.insert("num_hidden_layers".into(), self.integer("block_count")?.into());
        config.insert("num_attention_heads".into(), heads.into());
        config.insert(
            "num_key_value_heads".into(),
            self.optional_integer("attention.head_count_kv")?.unwrap_or(heads).into(),
        );
        config.insert("head_dim".into(), head_dim.unwrap_or(hidden / heads).into());
        config.insert("intermediate_size".into(), self.integer("feed_forward_length")?.into());
        config.insert("hidden_act".into(), activation.into());
        config.insert("max_position_embeddings".into(), self.integer("context_length")?.into());
        config.insert("rms_norm_eps".into(), self.float("attention.layer_norm_rms_epsilon")?.into());
        config.insert("rope_theta".into(), self.optional_float("rope.freq_base")?.unwrap_or(10_000.0).into());
        config.insert("rope_scaling".into(), self.rope_scaling()?);
        config.insert("attention_bias".into(), self.gguf.contains("blk.0.attn_q.bias").into());
        config.insert("mlp_bias".into(), self.gguf.contains("blk.0.ffn_up.bias").into());
        Ok(config)
    }

    fn rope_scaling(&self) -> Result<Json> {
        if self.gguf.contains("rope_freqs.weight") {
            return Ok(json!({ "rope_type": "frequency_factors" }));
        }
        let key = self.key("rope.scaling.type");
        let original = self.optional_integer("rope.scaling.original_context_length")?;
        match self.gguf.string(&key)? {
            None => match self.optional_float("rope.scale_linear")? {
                Some(factor) if factor != 1.0 => Ok(json!({ "rope_type": "linear", "factor": factor })),
                _ => Ok(Json::Null),
            },
            Some("none") => Ok(Json::Null),
            Some("linear") => Ok(json!({ "rope_type": "linear", "factor": self.float("rope.scaling.factor")? })),
            Some("yarn") => {
                let mut scaling = Map::new();
                scaling.insert("rope_type".into(), "yarn".into());
                scaling.insert("factor".into(), self.float("rope.scaling.factor")?.into());
                if let Some(original) = original {
                    scaling.insert("original_max_position_embeddings".into(), original.into());
                }
                if let Some(factor) = self.optional_float("rope.scaling.attn_factor")? {
                    scaling.insert("attention_factor".into(), factor.into());
                }
                Ok(Json::Object(scaling))
            }
            Some(other) => Err(self
                .error(format!("the rotary scaling `{other}` is not supported"))
                .hint("linear, yarn and frequency factors are")),
        }
    }
}

/// The architectures that need more than Llama's keys.
impl Reader<'_> {
    /// OLMo 2, or OLMo 3, which the converter files under the same name and which has sliding windows.
    fn olmo(&self) -> Result<Map<String, Json>> {
        let Some(window) = self.optional_integer("attention.sliding_window")? else { return self.decoder("olmo2") };
        let mut config = self.decoder("olmo3")?;
        let layers = self.integer("block_count")?;
        let key = self.key("attention.sliding_window_pattern");
        let slides: Vec<bool> = match self.gguf.metadata(&key) {
            Some(Value::Booleans(pattern)) if i64::try_from(pattern.len()) == Ok(layers) => pattern.clone(),
            Some(_) => return Err(self.error(format!("metadata `{key}` should be {layers} truth values"))),
            None => (1..=layers).map(|layer| layer % 4 != 0).collect(),
        };
        config.insert("sliding_window".into(), window.into());
        config.insert("layer_types".into(), layer_types(slides));
        Ok(config)
    }

    fn gemma(&self) -> Result<Map<String, Json>> {
        let third = self.architecture == "gemma3";
        let mut config = self.decoder(if third { "gemma3_text" } else { "gemma2" })?;
        let layers = self.integer("block_count")?;
        let head_dim = self.integer("attention.key_length")?;
        // The file does not say how attention is scaled; by llama.cpp's rule it is by the head's size, except in the
        // 27B models, which are known by their number of layers.
        let largest = layers == if third { 62 } else { 46 };
        let scalar = if largest { self.integer("embedding_length")? / self.heads()? } else { head_dim };
        config.insert("query_pre_attn_scalar".into(), scalar.into());
        let activation = config.get("hidden_act").cloned().unwrap_or_default();
        config.insert("hidden_activation".into(), activation);
        // Early Gemma 2 files leave out what all its models share.
        for (name, default) in [("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)] {
            let default = if third { None } else { Some(default) };
            config.insert(name.into(), self.optional_float(name)?.or(default).map_or(Json::Null, Json::from));
        }
        if third {
            config.insert("rope_theta".into(), self.optional_float("rope.freq_base")?.unwrap_or(1_000_000.0).into());
            let local = self.optional_float("rope.freq_base_swa")?.unwrap_or(10_000.0);
            config.insert("rope_local_base_freq".into(), local.into());
        }
        let default = if third { None } else { Some(4096) };
        let window = self.optional_integer("attention.sliding_window")?.or(default);
        config.insert("sliding_window".into(), window.map_or(Json::Null, Json::from));
        let period = if third { 6 } else { 2 };
        let slides = (1..=layers).map(|layer| window.is_some() && layer % period != 0);
        config.insert("layer_types".into(), layer_types(slides));
        Ok(config)
    }

    fn phi3(&self) -> Result<Map<String, Json>> {
        let mut config = self.decoder("phi3")?;
        let head_dim = config.get("head_dim").and_then(Json::as_i64).unwrap_or(1).max(1);
        let rotary = self.optional_integer("rope.dimension_count")?.unwrap_or(head_dim);
        config.insert("partial_rotary_factor".into(), (rotary as f64 / head_dim as f64).into());
        // Zero is the converter's word for none.
        let window = self.optional_integer("attention.sliding_window")?.filter(|window| *window > 0);
        config.insert("sliding_window".into(), window.map_or(Json::Null, Json::from));
        if let Some(original) = self.optional_integer("rope.scaling.original_context_length")? {
            config.insert("original_max_position_embeddings".into(), original.into());
        }
        if self.gguf.contains("rope_factors_long.weight") {
            let mut scaling = Map::new();
            scaling.insert("rope_type".into(), "longrope".into());
            scaling.insert("long_factor".into(), self.factors("rope_factors_long.weight")?);
            scaling.insert("short_factor".into(), self.factors("rope_factors_short.weight")?);
            if let Some(factor) = self.optional_float("rope.scaling.attn_factor")? {
                scaling.insert("attention_factor".into(), factor.into());
            }
            config.insert("rope_scaling".into(), Json::Object(scaling));
        }
        Ok(config)
    }

    fn factors(&self, tensor: &str) -> Result<Json> {
        let factors = self.gguf.load(tensor)?.f_flatten(0, -1)?.f_to_kind(tch::Kind::Double)?;
        Ok(Json::from(Vec::<f64>::try_from(&factors)?))
    }

    fn gpt2(&self) -> Result<Map<String, Json>> {
        let mut config = self.common("gpt2")?;
        let context = self.integer("context_length")?;
        config.insert("n_embd".into(), self.integer("embedding_length")?.into());
        config.insert("n_layer".into(), self.integer("block_count")?.into());
        config.insert("n_head".into(), self.heads()?.into());
        config.insert("n_inner".into(), self.integer("feed_forward_length")?.into());
        config.insert("n_ctx".into(), context.into());
        config.insert("n_positions".into(), context.into());
        config.insert("activation_function".into(), "gelu_new".into());
        config.insert("layer_norm_epsilon".into(), self.float("attention.layer_norm_epsilon")?.into());
        Ok(config)
    }

    fn gpt_neox(&self) -> Result<Map<String, Json>> {
        let mut config = self.common("gpt_neox")?;
        let (hidden, heads) = (self.integer("embedding_length")?, self.heads()?);
        let head_dim = (hidden / heads).max(1);
        let rotary = self.optional_integer("rope.dimension_count")?.unwrap_or(head_dim);
        let theta = self.optional_float("rope.freq_base")?.unwrap_or(10_000.0);
        config.insert("hidden_size".into(), hidden.into());
        config.insert("num_hidden_layers".into(), self.integer("block_count")?.into());
        config.insert("num_attention_heads".into(), heads.into());
        config.insert("intermediate_size".into(), self.integer("feed_forward_length")?.into());
        config.insert("hidden_act".into(), "gelu".into());
        config.insert("max_position_embeddings".into(), self.integer("context_length")?.into());
        config.insert("layer_norm_eps".into(), self.float("attention.layer_norm_epsilon")?.into());
        config.insert("rotary_pct".into(), (rotary as f64 / head_dim as f64).into());
        config.insert("rotary_emb_base".into(), theta.into());
        let parallel = self.gguf.boolean(&self.key("use_parallel_residual"))?.unwrap_or(true);
        config.insert("use_parallel_residual".into(), parallel.into());
        config.insert("attention_bias".into(), self.gguf.contains("blk.0.attn_qkv.bias").into());
        Ok(config)
    }
}

fn layer_types(slides: impl IntoIterator<Item = bool>) -> Json {
    slides.into_iter().map(|slides| if slides { "sliding_attention" } else { "full_attention" }).collect()
}
