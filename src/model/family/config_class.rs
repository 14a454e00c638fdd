//! The defaults of transformers' config classes, from `config_classes.json` (written by
//! tests/fixtures/make_config_classes.py).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

/// One of transformers' config classes.
#[derive(Debug, Deserialize)]
pub(super) struct ConfigClass {
    /// transformers' name
    pub name: String,
    /// Its own fields with their defaults
    fields: BTreeMap<String, Value>,
    /// The fields that may be null
    nullable: Vec<String>,
    /// The default bases of the rotary frequencies: `global` for all layers, `local` for layers with a sliding window
    default_theta: BTreeMap<String, f64>,
    /// The fields with a second name, by that name
    #[serde(default)]
    aliases: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Table {
    /// The fields of every config class
    common: Vec<String>,
    /// The settings of generation
    generation: Vec<String>,
    classes: BTreeMap<String, ConfigClass>,
}

#[expect(clippy::expect_used, reason = "the file is part of the program")]
static TABLE: LazyLock<Table> =
    LazyLock::new(|| serde_json::from_str(include_str!("config_classes.json")).expect("our own table"));

/// The class of a `model_type`, which has to be in our own table.
pub(super) fn config_class(model_type: &str) -> &'static ConfigClass {
    &TABLE.classes[model_type]
}

/// Whether a field belongs to all config classes or is a setting of generation. None of them changes the numbers,
/// except `is_encoder_decoder`.
pub(super) fn is_common(field: &str) -> bool {
    TABLE.common.iter().chain(&TABLE.generation).any(|name| name == field) && field != "is_encoder_decoder"
}

impl ConfigClass {
    /// Whether the class has this field.
    pub fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// The names of its own fields.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// The field's default; `None` if that is null, or for a field that the class does not have.
    pub fn default(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// Whether the class refuses null here.
    pub fn refuses_null(&self, field: &str) -> bool {
        self.has(field) && !self.nullable.iter().any(|name| name == field)
    }

    /// The field's second name.
    pub fn alias(&self, field: &str) -> Option<&str> {
        self.aliases.iter().find(|(_, name)| *name == field).map(|(alias, _)| alias.as_str())
    }

    /// The default base of the rotary frequencies of all layers, or of those with a sliding window.
    pub fn default_theta(&self, layers: &str) -> f64 {
        self.default_theta[layers]
    }
}
