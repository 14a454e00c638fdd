//! How many numbers a decoder's weights are, part by part, from its config alone.

use super::config::{Config, NormKind, NormPlacement, PositionEmbedding, QueryKeyNorm};

/// The numbers of a decoder's weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    /// Embedding and learned positions
    pub input: f64,
    /// Each layer
    pub layers: Vec<f64>,
    /// Final norm and unembedding; an unembedding that is the embedding is not counted again
    pub output: f64,
    /// The unembedding is the embedding
    pub tied: bool,
    /// The largest weight
    pub largest: f64,
}

impl Counts {
    /// The numbers of a config's weights.
    pub fn new(config: &Config) -> Self {
        let (model, vocabulary) = (config.d_model as f64, config.d_vocab as f64);
        let positions = if config.position_embedding == PositionEmbedding::Learned { config.n_ctx as f64 } else { 0.0 };
        let unembedding = if config.tied { 0.0 } else { config.d_vocab_out as f64 * model };
        let bias = if config.unembedding_bias { config.d_vocab_out as f64 } else { 0.0 };
        let experts = config.experts.map_or(1.0, |experts| experts.count as f64);
        let largest = [vocabulary * model, unembedding, experts * config.d_mlp as f64 * model];
        Self {
            input: (vocabulary + positions) * model,
            layers: vec![layer(config); config.n_layers as usize],
            output: norm(config, model) + unembedding + bias,
            tied: config.tied,
            largest: largest.into_iter().fold(0.0, f64::max),
        }
    }

    /// All of them.
    pub fn total(&self) -> f64 {
        self.input + self.layers.iter().sum::<f64>() + self.output
    }
}

fn norm(config: &Config, width: f64) -> f64 {
    match config.norm {
        NormKind::Layer => 2.0 * width,
        NormKind::Rms | NormKind::RmsPlusOne | NormKind::LayerWithoutBias => width,
        NormKind::LayerPlain | NormKind::Absent => 0.0,
    }
}

fn layer(config: &Config) -> f64 {
    let linear = |outputs: f64, inputs: f64, bias: bool| outputs * inputs + if bias { outputs } else { 0.0 };
    let (model, head) = (config.d_model as f64, config.d_head as f64);
    let (queries, keys) = (config.n_heads as f64 * head, config.n_kv_heads as f64 * head);
    let bias = config.query_key_value_bias;
    let attention = linear(queries, model, bias)
        + 2.0 * linear(keys, model, bias)
        + linear(model, queries, config.attention_output_bias)
        + if config.attention_sinks { config.n_heads as f64 } else { 0.0 };
    let query_key_norms = match config.query_key_norm {
        QueryKeyNorm::Absent => 0.0,
        QueryKeyNorm::Projection | QueryKeyNorm::HeadWeights => norm(config, queries) + norm(config, keys),
        QueryKeyNorm::Head => 2.0 * norm(config, head),
    };
    let norms = match (config.norm_placement, config.attention_only || config.shared_norm) {
        (NormPlacement::Both, _) => 4.0,
        (_, true) => 1.0,
        (_, false) => 2.0,
    };
    let mlp = if config.attention_only { 0.0 } else { mlp(config) };
    attention + query_key_norms + norms * norm(config, model) + mlp
}

fn mlp(config: &Config) -> f64 {
    let (model, hidden) = (config.d_model as f64, config.d_mlp as f64);
    let inputs = if config.gated_mlp { 2.0 } else { 1.0 };
    let (maps, biases) = ((inputs + 1.0) * model * hidden, inputs * hidden + model);
    match config.experts {
        None => {
            maps + if config.mlp_bias { biases } else { 0.0 } + if config.mlp_norm { norm(config, hidden) } else { 0.0 }
        }
        Some(experts) => {
            // With its row of the router.
            let each = maps + model + if config.mlp_bias { biases + 1.0 } else { 0.0 };
            experts.count as f64 * each
        }
    }
}
