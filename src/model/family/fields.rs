//! Typed access to the fields of a config.json. A missing field has the default of transformers' config class; a wrong
//! one, or one that nothing reads, is an error that names it.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::config_class::ConfigClass;
use super::harmless::is_harmless;
use crate::error::{Error, Result};
use crate::model::config::Activation;

/// Upper bound on a size; products of two stay far from overflow.
const LARGEST: i64 = 1 << 24;

/// Upper bound on the number of layers, because they are described before their weights are found.
const MOST_LAYERS: i64 = 1 << 12;

/// The fields of a config, or of an object in it. Every read of a field goes through [`Fields::given`].
pub(super) struct Fields {
    given: Map<String, Value>,
    /// The class with the defaults of missing fields; `None` for an object in a config
    class: Option<&'static ConfigClass>,
    /// The prefix of a field's name in messages
    prefix: String,
    read: RefCell<BTreeSet<String>>,
}

impl Fields {
    /// A config, with the defaults of `class` for missing fields.
    pub fn of_class(given: Map<String, Value>, class: &'static ConfigClass) -> Self {
        Self { given, class: Some(class), prefix: String::new(), read: RefCell::default() }
    }

    /// A config of no class of transformers'.
    pub fn without_class(given: Map<String, Value>) -> Self {
        Self { given, class: None, prefix: String::new(), read: RefCell::default() }
    }

    /// An object in the field `name` of a config.
    pub fn of_object(given: Map<String, Value>, name: &str) -> Self {
        Self { given, class: None, prefix: format!("{name}."), read: RefCell::default() }
    }

    /// The class with the defaults of missing fields; `None` for an object in a config.
    pub fn class(&self) -> Option<&'static ConfigClass> {
        self.class
    }

    /// A field's name in messages.
    pub fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A field of the config, null or not. A second name of the field has precedence, as in transformers.
    pub fn given(&self, key: &str) -> Option<&Value> {
        let alias = self.class.and_then(|class| class.alias(key));
        for name in alias.into_iter().chain([key]) {
            self.read.borrow_mut().insert(name.to_owned());
        }
        alias.and_then(|alias| self.given.get(alias)).or_else(|| self.given.get(key))
    }

    /// A field's value: the given one or the class's default. `None` if that is null.
    fn get(&self, key: &str) -> Result<Option<&Value>> {
        match (self.given(key), self.class) {
            (None, Some(class)) => Ok(class.default(key)),
            (None, None) => Ok(None),
            (Some(Value::Null), Some(class)) if class.refuses_null(key) => Err(Error::new(format!(
                "config field `{}` is null, which transformers' {} refuses",
                self.name(key),
                class.name
            ))),
            (Some(Value::Null), _) => Ok(None),
            (Some(value), _) => Ok(Some(value)),
        }
    }

    fn typed<'a, T>(&'a self, key: &str, wanted: &str, pick: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        self.get(key)?.map(|value| pick(value).ok_or_else(|| self.wrong(key, wanted))).transpose()
    }

    /// An object; an empty one counts as null, as in transformers.
    pub fn object(&self, key: &str) -> Result<Option<&Map<String, Value>>> {
        Ok(self.typed(key, "an object", Value::as_object)?.filter(|object| !object.is_empty()))
    }

    /// An integer, or None for null.
    pub fn optional_integer(&self, key: &str) -> Result<Option<i64>> {
        self.typed(key, "an integer", Value::as_i64)
    }

    /// An integer.
    pub fn integer(&self, key: &str) -> Result<i64> {
        self.optional_integer(key)?.ok_or_else(|| self.missing(key))
    }

    /// A positive integer of a possible size.
    pub fn size(&self, key: &str) -> Result<i64> {
        positive(&self.name(key), self.integer(key)?)
    }

    /// A positive integer of a possible size, or None for null.
    pub fn optional_size(&self, key: &str) -> Result<Option<i64>> {
        self.optional_integer(key)?.map(|size| positive(&self.name(key), size)).transpose()
    }

    /// A number, or None for null.
    pub fn optional_number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<f64> {
        self.optional_number(key)?.ok_or_else(|| self.missing(key))
    }

    /// A number that must not be null, or `None` if it is missing.
    pub fn given_number(&self, key: &str) -> Result<Option<f64>> {
        match self.given(key) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    /// True or false, or None for null.
    pub fn optional_flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Result<bool> {
        self.optional_flag(key)?.ok_or_else(|| self.missing(key))
    }

    /// True or false if the class has the field, else false.
    pub fn flag_of_class(&self, key: &str) -> Result<bool> {
        if self.class.is_some_and(|class| class.has(key)) { self.flag(key) } else { Ok(false) }
    }

    /// Fails unless a field that transformers ignores is missing, null or `used`.
    pub fn only(&self, key: &str, used: bool) -> Result<()> {
        match self.optional_flag(key)? {
            Some(given) if given != used => {
                Err(unsupported(&self.name(key), given, &format!("this family computes as for {used}")))
            }
            _ => Ok(()),
        }
    }

    /// An array of numbers.
    pub fn numbers(&self, key: &str) -> Result<Vec<f64>> {
        let numbers = |value: &Value| value.as_array()?.iter().map(Value::as_f64).collect();
        self.typed(key, "an array of numbers", numbers)?.ok_or_else(|| self.missing(key))
    }

    /// An array, or None for null.
    pub fn array(&self, key: &str) -> Result<Option<&Vec<Value>>> {
        self.typed(key, "an array", Value::as_array)
    }

    /// A text, or None for null.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", Value::as_str)
    }

    /// An activation function by transformers' name.
    pub fn activation(&self, key: &str) -> Result<Activation> {
        match self.text(key)?.ok_or_else(|| self.missing(key))? {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
            "gelu" | "gelu_python" => Ok(Activation::Gelu),
            "relu" => Ok(Activation::Relu),
            other => Err(unsupported(
                key,
                format!("\"{other}\""),
                "supported: silu, gelu, gelu_new, gelu_pytorch_tanh, relu",
            )),
        }
    }

    /// Ids that end a generated text: an integer or an array of them.
    pub fn eos_token_ids(&self) -> Result<Vec<i64>> {
        let ids = |value: &Value| match value {
            Value::Array(items) => items.iter().map(Value::as_i64).collect(),
            item => item.as_i64().map(|id| vec![id]),
        };
        Ok(self.typed("eos_token_id", "an integer or an array of integers", ids)?.unwrap_or_default())
    }

    /// Fails if a field that transformers ignores is given and differs from `used`.
    pub fn agrees(&self, key: &str, used: f64) -> Result<()> {
        match self.optional_number(key)? {
            Some(given) if given != used => {
                Err(unsupported(&self.name(key), given, &format!("this family takes {used} from other fields")))
            }
            _ => Ok(()),
        }
    }

    /// Fails on an unread field unless it is known to change no number. To be called after all fields are read.
    pub fn refuse_unread(&self) -> Result<()> {
        let read = self.read.borrow();
        for (key, value) in &self.given {
            let harmless = value.is_null() || read.contains(key) || is_harmless(key, value, self.class.is_some());
            if !harmless {
                return Err(unsupported(
                    &self.name(key),
                    shown(value),
                    "the decoder might compute something else; if the field changes no number, delete it from the file",
                ));
            }
        }
        Ok(())
    }

    fn missing(&self, key: &str) -> Error {
        Error::new(format!("config has no field `{}`", self.name(key)))
    }

    fn wrong(&self, key: &str, wanted: &str) -> Error {
        Error::new(format!("config field `{}` is not {wanted}", self.name(key)))
    }
}

/// A value as in the file, without its contents.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "{…}".to_owned(),
        Value::Array(_) => "[…]".to_owned(),
        plain => plain.to_string(),
    }
}

/// The error for a value that would change the numbers in an unknown way.
pub(super) fn unsupported(key: &str, value: impl std::fmt::Display, hint: &str) -> Error {
    Error::new(format!("config field `{key}` = {value} is not supported")).hint(hint.to_owned())
}

/// Fails unless `value` is a possible size.
fn positive(key: &str, value: i64) -> Result<i64> {
    let largest =
        if matches!(key, "num_hidden_layers" | "num_layers" | "n_layer" | "n_layers") { MOST_LAYERS } else { LARGEST };
    if (1..=largest).contains(&value) {
        return Ok(value);
    }
    Err(Error::new(format!("config field `{key}` is {value}, which is not a possible size")))
}

/// `d_model` / `n_heads`, for configs without the size of a head.
pub(super) fn head_size((model_key, d_model): (&str, i64), (heads_key, n_heads): (&str, i64)) -> Result<i64> {
    if d_model % n_heads == 0 {
        return Ok(d_model / n_heads);
    }
    Err(Error::new(format!("config: `{model_key}` {d_model} is not a multiple of `{heads_key}` {n_heads}")))
}
