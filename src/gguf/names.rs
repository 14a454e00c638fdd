//! From Hugging Face's weight names to llama.cpp's, and what llama.cpp's converter changed in the weights. Names as in
//! gguf-py's `tensor_mapping.py`, changes as in `convert_hf_to_gguf.py`.

/// What the converter changed in an architecture's weights; whoever loads them has to undo it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conversion {
    /// Rows of the query and key projections (and of their biases) are permuted within each head: see
    /// [`unpermute_rotary`](super::unpermute_rotary).
    pub rotary_permuted: bool,
    /// Every norm weight is stored with one added, where Hugging Face's code adds it when it computes.
    pub norm_plus_one: bool,
    /// Linear weights are stored `[out, in]`, where Hugging Face's checkpoint has `Conv1D` weights, `[in, out]`.
    pub linear_layout: bool,
    /// The fused projection holds all queries, then all keys, then all values, where Hugging Face interleaves the three
    /// head by head.
    pub qkv_split: bool,
}

/// What the converter changed for llama.cpp's `architecture`.
pub fn conversion(architecture: &str) -> Conversion {
    let unchanged = Conversion::default();
    match architecture {
        "llama" => Conversion { rotary_permuted: true, ..unchanged },
        "gemma2" | "gemma3" => Conversion { norm_plus_one: true, ..unchanged },
        "gpt2" => Conversion { linear_layout: true, ..unchanged },
        "gptneox" => Conversion { qkv_split: true, ..unchanged },
        _ => unchanged,
    }
}

/// Hugging Face's name and llama.cpp's, without `.weight` or `.bias`.
type Names = &'static [(&'static str, &'static str)];

const DECODER: Names = &[("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

const DECODER_LAYER: Names = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Where the norm after attention is the one before the feed-forward part.
const PRE_NORM: Names = &[("post_attention_layernorm", "ffn_norm")];

/// Where the norms after attention and after the feed-forward part act on their outputs.
const POST_NORM: Names = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

const GPT2: Names = &[("wte", "token_embd"), ("wpe", "position_embd"), ("ln_f", "output_norm"), ("lm_head", "output")];

const GPT2_LAYER: Names = &[
    ("ln_1", "attn_norm"),
    ("attn.c_attn", "attn_qkv"),
    ("attn.c_proj", "attn_output"),
    ("ln_2", "ffn_norm"),
    ("mlp.c_fc", "ffn_up"),
    ("mlp.c_proj", "ffn_down"),
];

const GPT_NEOX: Names =
    &[("gpt_neox.embed_in", "token_embd"), ("gpt_neox.final_layer_norm", "output_norm"), ("embed_out", "output")];

const GPT_NEOX_LAYER: Names = &[
    ("input_layernorm", "attn_norm"),
    ("attention.query_key_value", "attn_qkv"),
    ("attention.dense", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.dense_h_to_4h", "ffn_up"),
    ("mlp.dense_4h_to_h", "ffn_down"),
];

/// The GGUF name of a Hugging Face weight (`model.layers.3.self_attn.q_proj.weight` is `blk.3.attn_q.weight`), or `None`
/// for an architecture or a weight that llama.cpp does not store.
pub fn tensor_name(architecture: &str, name: &str) -> Option<String> {
    let (name, suffix) = name.rsplit_once('.').filter(|(_, suffix)| matches!(*suffix, "weight" | "bias"))?;
    let (outer, prefix, layer): (Names, &str, &[Names]) = match architecture {
        "llama" | "qwen2" | "qwen3" | "phi3" => (DECODER, "model.layers.", &[DECODER_LAYER, PRE_NORM]),
        "gemma2" | "gemma3" | "olmo2" => (DECODER, "model.layers.", &[DECODER_LAYER, POST_NORM]),
        "gpt2" => (GPT2, "h.", &[GPT2_LAYER]),
        "gptneox" => (GPT_NEOX, "gpt_neox.layers.", &[GPT_NEOX_LAYER]),
        _ => return None,
    };
    // Checkpoints of the bare GPT-2 model lack the prefix.
    let name = if architecture == "gpt2" { name.strip_prefix("transformer.").unwrap_or(name) } else { name };
    let find = |names: Names, name: &str| names.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
    if let Some(found) = find(outer, name) {
        return Some(format!("{found}.{suffix}"));
    }
    let (number, part) = name.strip_prefix(prefix)?.split_once('.')?;
    let number: usize = number.parse().ok()?;
    let found = layer.iter().find_map(|names| find(names, part))?;
    Some(format!("blk.{number}.{found}.{suffix}"))
}
