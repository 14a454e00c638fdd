//! Typed access to the fields of a config.json. A missing or wrong field is an error that names it.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::config::Activation;

/// Upper bound on a size; products of two stay far from overflow.
const LARGEST: i64 = 1 << 24;

/// Upper bound on the number of layers, which are described before their weights are looked for.
const MOST_LAYERS: i64 = 1 << 12;

/// Fields whose presence (not null, not false) means an architecture that the decoder does not know.
const FOREIGN: &[&str] = &[
    "quantization_config",
    "num_local_experts",
    "num_experts",
    "n_routed_experts",
    "kv_lora_rank",
    "vision_config",
    "add_cross_attention",
    "is_encoder_decoder",
    "scale_attn_by_inverse_layer_idx",
    "clip_qkv",
    "use_bidirectional_attention",
];

/// The fields of a config, or of an object in it. Every read of a field goes through [`Fields::get`].
pub(super) struct Fields<'a> {
    value: &'a Value,
}

impl<'a> Fields<'a> {
    pub fn new(value: &'a Value) -> Self {
        Self { value }
    }

    /// A field that is there and not null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    /// The fields of the object that is in a field.
    pub fn object(&self, key: &str) -> Result<Option<Self>> {
        match self.get(key) {
            Some(value) if value.is_object() => Ok(Some(Self::new(value))),
            Some(_) => Err(wrong(key, "an object")),
            None => Ok(None),
        }
    }

    fn integer(&self, key: &str) -> Result<i64> {
        self.optional_integer(key)?.ok_or_else(|| missing(key))
    }

    pub fn optional_integer(&self, key: &str) -> Result<Option<i64>> {
        self.get(key).map(|value| value.as_i64().ok_or_else(|| wrong(key, "an integer"))).transpose()
    }

    pub fn size(&self, key: &str) -> Result<i64> {
        positive(key, self.integer(key)?)
    }

    pub fn size_or(&self, key: &str, default: i64) -> Result<i64> {
        positive(key, self.optional_integer(key)?.unwrap_or(default))
    }

    pub fn optional_size(&self, key: &str) -> Result<Option<i64>> {
        self.optional_integer(key)?.map(|size| positive(key, size)).transpose()
    }

    pub fn optional_number(&self, key: &str) -> Result<Option<f64>> {
        self.get(key).map(|value| value.as_f64().ok_or_else(|| wrong(key, "a number"))).transpose()
    }

    pub fn number(&self, key: &str) -> Result<f64> {
        self.optional_number(key)?.ok_or_else(|| missing(key))
    }

    pub fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        self.get(key).map_or(Ok(default), |value| value.as_bool().ok_or_else(|| wrong(key, "true or false")))
    }

    pub fn numbers(&self, key: &str) -> Result<Vec<f64>> {
        self.get(key)
            .and_then(Value::as_array)
            .and_then(|items| items.iter().map(Value::as_f64).collect())
            .ok_or_else(|| wrong(key, "an array of numbers"))
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::as_str)
    }

    pub fn activation(&self, key: &str, default: &str) -> Result<Activation> {
        match self.text(key).unwrap_or(default) {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
            "gelu" => Ok(Activation::Gelu),
            "relu" => Ok(Activation::Relu),
            other => Err(unsupported(
                key,
                format!("\"{other}\""),
                "supported: silu, gelu, gelu_new, gelu_pytorch_tanh, relu",
            )),
        }
    }

    /// Standard deviation of a random initialisation, which every config class defaults to 0.02.
    pub fn initializer_range(&self) -> Result<f64> {
        self.number_or("initializer_range", 0.02)
    }

    /// Ids that end a generated text: an integer or an array of them.
    pub fn eos_token_ids(&self) -> Result<Vec<i64>> {
        let key = "eos_token_id";
        let id = |value: &Value| value.as_i64().ok_or_else(|| wrong(key, "an integer or an array of integers"));
        match self.get(key) {
            Some(Value::Array(items)) => items.iter().map(id).collect(),
            Some(item) => Ok(vec![id(item)?]),
            None => Ok(Vec::new()),
        }
    }

    /// Fails on a field that means another architecture.
    pub fn refuse_foreign(&self) -> Result<()> {
        for key in FOREIGN {
            match self.get(key) {
                None | Some(Value::Bool(false)) => {}
                Some(found) => {
                    let shown = if found.is_object() { "{…}".to_owned() } else { found.to_string() };
                    return Err(unsupported(key, shown, "the decoder would compute something else"));
                }
            }
        }
        Ok(())
    }
}

fn missing(key: &str) -> Error {
    Error::new(format!("config has no field `{key}`"))
}

fn wrong(key: &str, wanted: &str) -> Error {
    Error::new(format!("config field `{key}` is not {wanted}"))
}

/// The error for a value that would change the numbers in an unknown way.
pub(super) fn unsupported(key: &str, value: impl std::fmt::Display, hint: &str) -> Error {
    Error::new(format!("config field `{key}` = {value} is not supported")).hint(hint.to_owned())
}

/// Fails unless `value` can be a size.
pub(super) fn positive(key: &str, value: i64) -> Result<i64> {
    let largest = if matches!(key, "num_hidden_layers" | "n_layer") { MOST_LAYERS } else { LARGEST };
    if (1..=largest).contains(&value) {
        return Ok(value);
    }
    Err(Error::new(format!("config field `{key}` is {value}, which is not a possible size")))
}

/// `d_model` / `n_heads`, where no field gives the size of a head.
pub(super) fn head_size((model_key, d_model): (&str, i64), (heads_key, n_heads): (&str, i64)) -> Result<i64> {
    if d_model % n_heads == 0 {
        return Ok(d_model / n_heads);
    }
    Err(Error::new(format!("config: `{model_key}` {d_model} is not a multiple of `{heads_key}` {n_heads}")))
}
