//! Fields of a config.json that change no number.

use serde_json::Value;

use super::config_class::is_common;

/// Fields that change no number, in addition to the common ones of all transformers' config classes.
const HARMLESS: &[&str] = &[
    // Dropout, only in training
    "activation_dropout",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "classifier_dropout",
    "embd_pdrop",
    "embed_dropout",
    "hidden_dropout",
    "hidden_dropout_prob",
    "neftune_noise_alpha",
    "resid_dropout",
    "resid_pdrop",
    "summary_first_dropout",
    // Heads of other than language models
    "num_labels",
    "_num_labels",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    // Implementations of the same numbers in transformers
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_flash_attn_2_enabled",
    "attn_implementation",
    "cache_implementation",
    "gradient_checkpointing",
    "output_attentions",
    "output_past",
    "pretraining_tp",
    "reorder_and_upcast_attn",
    "torch_dtype",
    "torchscript",
    "use_bfloat16",
    "use_flash_attention_2",
    "use_flash_attn",
    "use_return_dict",
    // Tokens
    "max_sequence_length",
    "model_max_length",
    "n_special",
    "predict_special_tokens",
    "prefix",
    "tokenizer_class",
    // Origin of the checkpoint
    "_commit_hash",
    "_name_or_path",
    "auto_map",
    "custom_pipelines",
    "finetuning_task",
    "is_decoder",
    "is_llama_config",
    "model_type",
    "name_or_path",
    "task_specific_params",
    "tf_legacy_loss",
    "transformers.js_config",
    "unsloth_fixed",
    "unsloth_version",
];

/// Fields with the only supported value, which turns a feature off. No class of the supported families reads them.
const HARMLESS_AS: &[(&str, Value)] = &[
    ("add_cross_attention", Value::Bool(false)),
    ("attention_bias", Value::Bool(false)),
    ("is_encoder_decoder", Value::Bool(false)),
    ("lm_head_bias", Value::Bool(false)),
    ("mlp_bias", Value::Bool(false)),
    ("rope_interleaved", Value::Bool(false)),
    ("tie_encoder_decoder", Value::Bool(false)),
    ("use_bidirectional_attention", Value::Bool(false)),
    ("use_mrope", Value::Bool(false)),
];

/// Whether a field changes no number: in a config, as ids of special tokens, or with this value.
pub(super) fn is_harmless(key: &str, value: &Value, in_config: bool) -> bool {
    in_config && (is_common(key) || HARMLESS.contains(&key) || key.ends_with("_token_id"))
        || HARMLESS_AS.iter().any(|(name, harmless)| *name == key && harmless == value)
}
