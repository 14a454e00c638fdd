//! Where each family keeps its weights: module names as Hugging Face's checkpoints have them, and how they are packed.

/// How the query, key and value projections are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionNaming {
    /// Three matrices
    Separate { query: &'static str, key: &'static str, value: &'static str },
    /// One matrix, rows in the order of all queries, all keys, all values (Phi-3)
    Stacked(&'static str),
    /// One matrix, rows in the order head, (query, key, value), dimension (GPT-NeoX)
    PerHead(&'static str),
    /// One matrix stored [in, out], columns in the order of all queries, all keys, all values (GPT-2)
    StackedColumns(&'static str),
}

/// How the MLP's matrices are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpNaming {
    /// Three matrices
    Gated { gate: &'static str, up: &'static str },
    /// Gate and up in one matrix, gate first (Phi-3)
    GatedStacked(&'static str),
    /// Two matrices
    Plain { up: &'static str },
}

/// The names of one family.
#[derive(Debug, Clone, Copy)]
pub struct Naming {
    /// What all names but the unembedding's begin with; some checkpoints leave it out
    pub root: &'static str,
    pub embedding: &'static str,
    pub position_embedding: &'static str,
    pub final_norm: &'static str,
    /// Full name, without the root
    pub unembedding: &'static str,
    /// What a layer's number follows
    pub layers: &'static str,
    pub attention: AttentionNaming,
    pub attention_output: &'static str,
    pub query_norm: &'static str,
    pub key_norm: &'static str,
    pub mlp: MlpNaming,
    pub mlp_down: &'static str,
    pub ln1: &'static str,
    pub ln1_post: &'static str,
    pub ln2: &'static str,
    pub ln2_post: &'static str,
    /// Weights are stored [in, out]
    pub transposed: bool,
}

const LLAMA: Naming = Naming {
    root: "model.",
    embedding: "embed_tokens",
    position_embedding: "",
    final_norm: "norm",
    unembedding: "lm_head",
    layers: "layers.",
    attention: AttentionNaming::Separate {
        query: "self_attn.q_proj",
        key: "self_attn.k_proj",
        value: "self_attn.v_proj",
    },
    attention_output: "self_attn.o_proj",
    query_norm: "self_attn.q_norm",
    key_norm: "self_attn.k_norm",
    mlp: MlpNaming::Gated { gate: "mlp.gate_proj", up: "mlp.up_proj" },
    mlp_down: "mlp.down_proj",
    ln1: "input_layernorm",
    ln1_post: "",
    ln2: "post_attention_layernorm",
    ln2_post: "",
    transposed: false,
};

const OLMO: Naming = Naming { ln1: "post_attention_layernorm", ln2: "post_feedforward_layernorm", ..LLAMA };

const GEMMA: Naming = Naming {
    ln1_post: "post_attention_layernorm",
    ln2: "pre_feedforward_layernorm",
    ln2_post: "post_feedforward_layernorm",
    ..LLAMA
};

const PHI: Naming = Naming {
    attention: AttentionNaming::Stacked("self_attn.qkv_proj"),
    mlp: MlpNaming::GatedStacked("mlp.gate_up_proj"),
    ..LLAMA
};

const GPT2: Naming = Naming {
    root: "transformer.",
    embedding: "wte",
    position_embedding: "wpe",
    final_norm: "ln_f",
    layers: "h.",
    attention: AttentionNaming::StackedColumns("attn.c_attn"),
    attention_output: "attn.c_proj",
    mlp: MlpNaming::Plain { up: "mlp.c_fc" },
    mlp_down: "mlp.c_proj",
    ln1: "ln_1",
    ln2: "ln_2",
    transposed: true,
    ..LLAMA
};

const NEOX: Naming = Naming {
    root: "gpt_neox.",
    embedding: "embed_in",
    final_norm: "final_layer_norm",
    unembedding: "embed_out",
    attention: AttentionNaming::PerHead("attention.query_key_value"),
    attention_output: "attention.dense",
    mlp: MlpNaming::Plain { up: "mlp.dense_h_to_4h" },
    mlp_down: "mlp.dense_4h_to_h",
    ..LLAMA
};

/// The names of a supported `model_type`.
pub fn naming(model_type: &str) -> Naming {
    match model_type {
        "olmo2" | "olmo3" => OLMO,
        "gemma2" | "gemma3_text" => GEMMA,
        "phi3" => PHI,
        "gpt2" => GPT2,
        "gpt_neox" => NEOX,
        _ => LLAMA,
    }
}

/// Whether a tensor is a buffer that older checkpoints carry and nobody reads: masks and rotary frequencies.
pub fn is_buffer(name: &str) -> bool {
    [".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}
