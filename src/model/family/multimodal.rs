//! Multimodal checkpoints, of which only the text part is read: its config, its tensors' names. Sources: transformers'
//! configuration_gemma3.py, configuration_mistral3.py, configuration_qwen3_vl.py.

use serde_json::Value;

use super::config_class::config_class;
use super::fields::{Fields, unsupported};
use crate::error::{Error, Result};

/// One kind of multimodal model.
#[derive(Debug)]
pub struct Multimodal {
    /// Hugging Face's `model_type`
    pub model_type: &'static str,
    /// The `model_type` of its text part
    text: &'static str,
    /// Fields of the text part that transformers uses in a text model and passes over here
    passed_over: &'static [&'static str],
    /// What the names of the tensors of its other parts begin with
    other_parts: &'static [&'static str],
}

/// Every kind, in the order in which users see them.
pub(super) const KINDS: &[Multimodal] = &[
    Multimodal {
        model_type: "gemma3",
        text: "gemma3_text",
        passed_over: &["final_logit_softcapping"],
        other_parts: &["vision_tower", "multi_modal_projector"],
    },
    Multimodal {
        model_type: "mistral3",
        text: "mistral",
        passed_over: &[],
        other_parts: &["vision_tower", "multi_modal_projector"],
    },
    Multimodal { model_type: "qwen3_vl", text: "qwen3_vl_text", passed_over: &[], other_parts: &["visual"] },
];

/// Where a tensor of a multimodal checkpoint belongs.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// In the text part, by the name that the text model's own checkpoints have
    Text(String),
    /// In another part, by that part's name
    Other(&'static str),
}

/// The kind that a config.json describes, if it is a multimodal one.
pub fn find(config: &Value) -> Option<&'static Multimodal> {
    KINDS.iter().find(|kind| config["model_type"] == kind.model_type)
}

impl Multimodal {
    /// The config.json of the text part. Whether the unembedding is tied is what the outer and the inner config say; where
    /// they are silent or disagree, the weights decide by storing one or not (`stores_unembedding`), as in transformers 5.
    ///
    /// # Errors
    /// A field that is not known, no text part or one of another kind.
    pub fn text_config(&self, config: &Value, stores_unembedding: Option<bool>) -> Result<Value> {
        const TIED: &str = "tie_word_embeddings";
        let given = config.as_object().ok_or_else(|| Error::new("the config is not a JSON object"))?;
        let class = config_class(self.model_type);
        let fields = Fields::of_class(given.clone(), class);
        let text = fields.object("text_config")?;
        let mut text = text.ok_or_else(|| Error::new("config has no field `text_config`"))?.clone();
        let kind = text.get("model_type").filter(|kind| !kind.is_null());
        if let Some(kind) = kind.filter(|kind| **kind != self.text) {
            return Err(unsupported("text_config.model_type", kind, &format!("supported: {}", self.text)));
        }
        for field in self.passed_over {
            if let Some(value) = text.get(*field).filter(|value| !value.is_null()) {
                let hint = "transformers uses it in text models and passes over it in multimodal ones";
                return Err(unsupported(&format!("text_config.{field}"), value, hint));
            }
        }
        // What else the class has is about other parts.
        for field in class.fields() {
            let _ = fields.given(field);
        }
        let eos = fields.given("eos_token_id").filter(|eos| !eos.is_null());
        if let (Some(eos), None) = (eos, text.get("eos_token_id")) {
            text.insert("eos_token_id".to_owned(), eos.clone());
        }
        let outer = fields.given(TIED).map(|_| fields.flag(TIED)).transpose()?;
        let inner = text.get(TIED).and_then(Value::as_bool);
        let tied = match (outer, inner, stores_unembedding) {
            (Some(outer), Some(inner), Some(stores)) if outer != inner => !stores,
            (Some(tied), ..) | (None, Some(tied), _) => tied,
            (None, None, Some(stores)) => !stores,
            (None, None, None) => fields.flag(TIED)?,
        };
        fields.refuse_unread()?;
        text.insert("model_type".to_owned(), self.text.into());
        text.insert(TIED.to_owned(), tied.into());
        Ok(text.into())
    }

    /// Where a stored tensor belongs. Older checkpoints have `language_model.model.`, those of transformers 5
    /// `model.language_model.`.
    pub fn place(&self, stored: &str) -> Place {
        let bare = stored.strip_prefix("model.").unwrap_or(stored);
        let first = bare.split('.').next();
        if let Some(part) = self.other_parts.iter().find(|part| Some(**part) == first) {
            return Place::Other(part);
        }
        Place::Text(match bare.strip_prefix("language_model.") {
            Some(name) if name.starts_with("lm_head.") => name.to_owned(),
            Some(name) => format!("model.{}", name.strip_prefix("model.").unwrap_or(name)),
            None => stored.to_owned(),
        })
    }
}
