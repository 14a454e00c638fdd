//! The settings in `adapter_config.json` that decide what an adapter computes.

use std::path::Path;

use regex::Regex;
use serde_json::{Map, Value};

use crate::data::json;
use crate::error::{Error, Result};
use crate::hub::adapter::CONFIG;

/// Fields that may say something: those that are read, that the tensors of the file tell, or that change no number. All
/// others must be empty.
const KNOWN: [&str; 30] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "eva_config",
    "exclude_modules",
    // The layout of the family's checkpoints says whether weights are stored [in, out].
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_bias",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "task_type",
    "trainable_token_indices",
    "use_dora",
    "use_rslora",
];

/// Ways to begin the training that leave the model's own weights as they are.
const PLAIN_BEGINNINGS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// The settings of a LoRA adapter.
#[derive(Debug)]
pub struct Settings {
    /// The model that it was trained on.
    pub base: Option<String>,
    rank: Number,
    alpha: Number,
    is_rank_stabilized: bool,
    /// Whether it has a magnitude for each output (DoRA).
    pub has_magnitudes: bool,
    /// The rows of an embedding that were trained: ids for each module, or for the embedding.
    pub token_indices: Value,
    targets: Value,
    excluded: Value,
    layers: Option<Vec<i64>>,
}

/// A number with others for some modules.
#[derive(Debug)]
struct Number {
    usual: f64,
    others: Vec<(Regex, f64)>,
}

impl Number {
    fn read(fields: &Map<String, Value>, name: &str, pattern: &str) -> Result<Self> {
        let number = |what: &str, value: &Value| {
            let number = value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
            number.ok_or_else(|| Error::new(format!("`{what}` must be a number above 0, not {value}")))
        };
        let usual = number(name, &fields[name])?;
        let others = match &fields[pattern] {
            Value::Null => Vec::new(),
            Value::Object(others) => others
                .iter()
                .map(|(key, value)| Ok((regex(&format!(r"^(?:.*\.)?(?:{key})$"), pattern)?, number(pattern, value)?)))
                .collect::<Result<_>>()?,
            other => return Err(Error::new(format!("`{pattern}` must be an object, not {other}"))),
        };
        Ok(Self { usual, others })
    }

    fn of(&self, module: &str) -> f64 {
        self.others.iter().find(|(pattern, _)| pattern.is_match(module)).map_or(self.usual, |(_, number)| *number)
    }
}

fn regex(pattern: &str, field: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|_| Error::new(format!("`{field}` has a pattern that is not supported: `{pattern}`")))
}

impl Settings {
    /// Reads the file.
    ///
    /// # Errors
    /// A file that is no JSON object, another type than LoRA, a field that is not supported or of the wrong type.
    pub fn read(path: &Path) -> Result<Self> {
        let Value::Object(mut fields) = json::read(path)? else { return Err(Error::new("there is no JSON object")) };
        let kind = fields.get("peft_type").and_then(Value::as_str).unwrap_or_default().to_owned();
        if kind != "LORA" {
            return Err(Error::new(format!("the adapter's `peft_type` is `{kind}`, which is not supported"))
                .hint("LoRA (`LORA`) is; merge others with peft's `merge_and_unload` and save the model"));
        }
        for name in KNOWN {
            fields.entry(name).or_insert(Value::Null);
        }
        let is_unknown = |(name, value): &(&String, &Value)| !KNOWN.contains(&name.as_str()) && is_set(value);
        if let Some((name, value)) = fields.iter().find(is_unknown) {
            return Err(Error::new(format!("the adapter's field `{name}` is not supported: {value}")).hint(MERGE));
        }
        match &fields["init_lora_weights"] {
            Value::Null | Value::Bool(_) => {}
            Value::String(word) if PLAIN_BEGINNINGS.contains(&word.as_str()) => {}
            other => {
                return Err(Error::new(format!(
                    "the adapter's `init_lora_weights` is {other}, which changes the model's own weights"
                ))
                .hint(
                    "convert it to a plain LoRA with peft's `path_initial_model_for_weight_conversion`, or merge it",
                ));
            }
        }
        let layers = match &fields["layers_to_transform"] {
            Value::Null => None,
            Value::Array(layers) => Some(layers.clone()),
            one => Some(vec![one.clone()]),
        };
        let number = |layer: &Value| {
            layer.as_i64().ok_or_else(|| Error::new(format!("`layers_to_transform` must hold integers, not {layer}")))
        };
        let layers = layers.map(|layers| layers.iter().map(number).collect::<Result<Vec<_>>>()).transpose()?;
        let flag = |name: &str| match &fields[name] {
            Value::Null => Ok(false),
            Value::Bool(is) => Ok(*is),
            other => Err(Error::new(format!("`{name}` must be true or false, not {other}"))),
        };
        Ok(Self {
            base: fields["base_model_name_or_path"].as_str().map(str::to_owned),
            rank: Number::read(&fields, "r", "rank_pattern")?,
            alpha: Number::read(&fields, "lora_alpha", "alpha_pattern")?,
            is_rank_stabilized: flag("use_rslora")?,
            has_magnitudes: flag("use_dora")?,
            token_indices: fields["trainable_token_indices"].take(),
            targets: fields["target_modules"].take(),
            excluded: fields["exclude_modules"].take(),
            layers: layers.filter(|layers| !layers.is_empty()),
        })
    }

    /// The factor of a module's change, whose matrices have this rank.
    ///
    /// # Errors
    /// Another rank than the settings say, a module that the settings do not choose.
    pub fn scaling(&self, module: &str, rank: i64) -> Result<f64> {
        let wanted = self.rank.of(module);
        if wanted != rank as f64 {
            return Err(Error::new(format!("`{module}` has rank {rank} here and {wanted} in {CONFIG}")));
        }
        if !self.chooses(module)? {
            return Err(Error::new(format!("`{module}` has weights here, but {CONFIG} does not choose it")).hint(
                "peft leaves such weights out; see `target_modules`, `exclude_modules` and `layers_to_transform`",
            ));
        }
        let divisor = if self.is_rank_stabilized { wanted.sqrt() } else { wanted };
        Ok(self.alpha.of(module) / divisor)
    }

    fn chooses(&self, module: &str) -> Result<bool> {
        let is_named = |choice: &Value, field: &str| -> Result<bool> {
            match choice {
                Value::String(word) if word == "all-linear" => Ok(true),
                Value::String(pattern) => Ok(regex(&format!("^(?:{pattern})$"), field)?.is_match(module)),
                Value::Array(names) => Ok(names
                    .iter()
                    .filter_map(Value::as_str)
                    .any(|name| module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))),
                _ => Ok(false),
            }
        };
        let number = module.split('.').skip(1).find_map(|part| part.parse::<i64>().ok());
        let in_layers = self.layers.as_ref().is_none_or(|layers| number.is_some_and(|number| layers.contains(&number)));
        Ok(in_layers && is_named(&self.targets, "target_modules")? && !is_named(&self.excluded, "exclude_modules")?)
    }
}

const MERGE: &str = "merge the adapter with peft's `merge_and_unload` and save the model";

/// Whether a field says anything.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}
