//! The configs of the paper's models, so that their architectures can be built without a network (`init: "random"`).

use serde_json::{Value, json};

/// The config.json of a built-in model, where there is one.
pub fn config(name: &str) -> Option<Value> {
    Some(match name {
        "olmo2-1b" | "olmo2-1b-sft" | "olmo2-1b-dpo" => olmo2(2048, 16, 16, 8192),
        "olmo2-7b" | "olmo2-7b-sft" | "olmo2-7b-dpo" => olmo2(4096, 32, 32, 11008),
        "olmo3-7b" => json!({
            "model_type": "olmo3",
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "intermediate_size": 11008,
            "vocab_size": 100278,
            "max_position_embeddings": 65536,
            "sliding_window": 4096,
            "rope_theta": 500000.0,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 8.0,
                "original_max_position_embeddings": 8192,
                "attention_factor": 1.2079441541679836,
                "beta_fast": 32.0,
                "beta_slow": 1.0
            },
            "rms_norm_eps": 1e-6,
            "hidden_act": "silu",
            "tie_word_embeddings": false
        }),
        _ => return None,
    })
}

fn olmo2(hidden: i64, layers: i64, heads: i64, intermediate: i64) -> Value {
    json!({
        "model_type": "olmo2",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": intermediate,
        "vocab_size": 100352,
        "max_position_embeddings": 4096,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "tie_word_embeddings": false
    })
}
