//! TransformerLens's own models, such as `attn-only-2l`, `gelu-1l` and `solu-4l`: a config.json without `model_type`, whose
//! fields are TransformerLens's. Source: TransformerLens 4.3's tl_legacy.py and native/model.py.

use serde_json::{Map, Value};

use super::Family;
use super::fields::{Fields, unsupported};
use super::llama::NAMING as LLAMA;
use crate::error::Result;
use crate::model::config::{Activation, Config, NormKind, PositionEmbedding, Sizes};
use crate::model::naming::{AttentionNaming, MlpNaming, Naming, NormNaming};

pub(super) const TRANSFORMER_LENS: Family =
    Family { model_type: "transformer_lens", naming: NAMING, config: transformer_lens };

/// The names of TransformerLens's native model; `lens_checkpoint` gives older ones these names.
pub(super) const NAMING: Naming = Naming {
    root: "",
    embedding: "embed",
    position_embedding: Some("pos_embed"),
    final_norm: "ln_final",
    unembedding: "unembed",
    layers: "blocks.",
    attention: AttentionNaming::Separate { query: "attn.q", key: "attn.k", value: "attn.v" },
    attention_output: "attn.o",
    mlp: MlpNaming::Plain { up: "mlp.in" },
    mlp_down: "mlp.out",
    norms: NormNaming::Pre { attention: "ln1", mlp: "ln2" },
    ..LLAMA
};

/// Fields of TransformerLens's config with the only values that these models have. It reads none of them from such a file,
/// but writes them when it saves a config.
const ONLY: &[(&str, &[Value])] = &[
    ("final_rms", &[Value::Bool(false)]),
    ("shortformer_pos", &[Value::Bool(false)]),
    ("gated_mlp", &[Value::Bool(false)]),
    ("parallel_attn_mlp", &[Value::Bool(false)]),
    ("use_attn_scale", &[Value::Bool(true)]),
    ("use_local_attn", &[Value::Bool(false)]),
    ("use_qk_norm", &[Value::Bool(false)]),
    ("scale_attn_by_inverse_layer_idx", &[Value::Bool(false)]),
    ("post_embedding_ln", &[Value::Bool(false)]),
    ("use_normalization_before_and_after", &[Value::Bool(false)]),
];

/// Fields of TransformerLens's config that such a file has only as null.
const ABSENT: &[&str] = &["num_experts", "experts_per_token", "window_size", "attn_types", "rotary_dim"];

/// Whether a config.json is TransformerLens's.
pub(super) fn is_config(given: &Map<String, Value>) -> bool {
    ["d_model", "n_layers", "n_heads", "d_head"].iter().all(|field| given.contains_key(*field))
}

fn transformer_lens(fields: &Fields) -> Result<Config> {
    refuse_others(fields)?;
    let attention_only = fields.flag("attn_only")?;
    let d_mlp = fields.optional_size("d_mlp")?.unwrap_or(4 * fields.size("d_model")?);
    // Models without MLPs may name any activation.
    let (activation, mlp_norm) = if attention_only { (Activation::Relu, false) } else { activation(fields)? };
    // Older files have the first name.
    let key = if fields.given("normalization").is_some() { "normalization" } else { "normalization_type" };
    let norm = match fields.text(key)? {
        Some("LN") => NormKind::Layer,
        Some("LNPre") => NormKind::LayerPlain,
        other => {
            let hint = "supported: LN, LNPre";
            return Err(unsupported(key, other.map_or("null".into(), |name| format!("\"{name}\"")), hint));
        }
    };
    Ok(Config {
        activation,
        mlp_norm,
        attention_only,
        norm,
        norm_eps: 1e-5,
        unembedding_bias: true,
        ..plain("transformer_lens", sizes(fields, d_mlp)?)
    })
}

/// The sizes by TransformerLens's names.
pub(super) fn sizes(fields: &Fields, d_mlp: i64) -> Result<Sizes> {
    let n_heads = fields.size("n_heads")?;
    Ok(Sizes {
        n_layers: fields.size("n_layers")?,
        d_model: fields.size("d_model")?,
        n_heads,
        n_kv_heads: n_heads,
        d_head: fields.size("d_head")?,
        d_mlp,
        d_vocab: fields.size("d_vocab")?,
        n_ctx: fields.size("n_ctx")?,
    })
}

/// The activation by TransformerLens's name, and whether a norm follows it.
pub(super) fn activation(fields: &Fields) -> Result<(Activation, bool)> {
    Ok(match fields.text("act_fn")? {
        Some("relu") => (Activation::Relu, false),
        Some("gelu") => (Activation::Gelu, false),
        Some("gelu_new" | "gelu_fast" | "gelu_pytorch_tanh") => (Activation::GeluTanh, false),
        Some("silu") => (Activation::Silu, false),
        Some("solu") => (Activation::Solu, false),
        Some("solu_ln") => (Activation::Solu, true),
        other => {
            let hint = "supported: relu, gelu, gelu_new, silu, solu, solu_ln";
            return Err(unsupported("act_fn", other.map_or("null".into(), |name| format!("\"{name}\"")), hint));
        }
    })
}

/// A decoder with learned positions, plain MLPs, and biases in every layer.
pub(super) fn plain(model_type: &str, sizes: Sizes) -> Config {
    Config {
        gated_mlp: false,
        position_embedding: PositionEmbedding::Learned,
        query_key_value_bias: true,
        attention_output_bias: true,
        mlp_bias: true,
        ..Config::new(model_type, sizes)
    }
}

/// Fails on a value that these models do not have. Other fields are notes of a training run.
fn refuse_others(fields: &Fields) -> Result<()> {
    for (key, only) in ONLY {
        if let Some(value) = fields.given(key).filter(|value| !value.is_null() && !only.contains(value)) {
            return Err(unsupported(key, value, &format!("only {} is", only[0])));
        }
    }
    for key in ABSENT {
        if let Some(value) = fields.given(key).filter(|value| !value.is_null()) {
            return Err(unsupported(key, value, "only null is"));
        }
    }
    for (key, only) in [("positional_embedding_type", "standard"), ("attention_dir", "causal")] {
        if let Some(other) = fields.text(key)?.filter(|other| *other != only) {
            return Err(unsupported(key, format!("\"{other}\""), &format!("only \"{only}\" is")));
        }
    }
    // -1 stands for no cap and for 1 / √d_head.
    for (key, only) in [("attn_scores_soft_cap", -1.0), ("output_logits_soft_cap", -1.0), ("eps", 1e-5)] {
        fields.agrees(key, only)?;
    }
    if let (Some(scale), size) = (fields.optional_number("attn_scale")?, fields.size("d_head")?)
        && scale >= 0.0
    {
        fields.agrees("attn_scale", (size as f64).sqrt())?;
    }
    let (heads, vocabulary) = (fields.integer("n_heads")?, fields.integer("d_vocab")?);
    fields.agrees("n_key_value_heads", heads as f64)?;
    if fields.optional_integer("d_vocab_out")?.is_some_and(|size| size >= 0) {
        fields.agrees("d_vocab_out", vocabulary as f64)?;
    }
    Ok(())
}
