//! The description of a decoder as data: its sizes, and the choices in which families differ.

/// The function between an MLP's two projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x)
    Silu,
    /// GELU with the tanh approximation (`gelu_new`, `gelu_pytorch_tanh`)
    GeluTanh,
    /// GELU with the error function
    Gelu,
    /// max(x, 0)
    Relu,
    /// x · softmax(x), over the hidden activations of a position (Elhage et al. 2022)
    Solu,
}

impl Activation {
    /// TransformerLens's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu_new",
            Self::Gelu => "gelu",
            Self::Relu => "relu",
            Self::Solu => "solu",
        }
    }
}

/// A gated MLP whose two factors are bounded: min(gate, limit) · sigmoid(slope · min(gate, limit)) · (clip(up) + 1), where
/// clip(up) lies between -limit and limit (gpt-oss).
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // The names are the formula's own.
pub struct ClampedGate {
    pub slope: f64,
    pub limit: f64,
}

/// The experts in every layer's MLP. A token's output is the sum of those of its experts, weighted by the softmax of the
/// router's logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// How many there are
    pub count: i64,
    /// How many each token has: those with the largest logits
    pub per_token: i64,
    /// Whether the softmax is over a token's own experts rather than all
    pub normalized: bool,
}

/// The normalisation used everywhere in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Root mean square, times a weight
    Rms,
    /// Root mean square, times one plus a weight (Gemma)
    RmsPlusOne,
    /// LayerNorm with weight and bias
    Layer,
    /// LayerNorm with a weight only (Cohere)
    LayerWithoutBias,
    /// LayerNorm with neither (OLMo)
    LayerPlain,
    /// No norm anywhere: what would be normalised stays as it is (toys)
    Absent,
}

impl NormKind {
    /// Whether the mean is subtracted first.
    pub fn is_centred(self) -> bool {
        matches!(self, Self::Layer | Self::LayerWithoutBias | Self::LayerPlain)
    }
}

/// Where a block's norms are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before attention and MLP
    Pre,
    /// After them, before the residual sum (OLMo-2, OLMo-3)
    Post,
    /// Both (Gemma-2, Gemma-3)
    Both,
}

/// Norms on queries and keys before the rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKeyNorm {
    /// None
    Absent,
    /// Over the whole projection (OLMo-2, OLMo-3)
    Projection,
    /// Over each head, with the same weights for all (Qwen3, Gemma-3)
    Head,
    /// Over each head, with weights of its own (Cohere)
    HeadWeights,
}

/// How a checkpoint scales the rotary frequencies `theta^(-2i/dim)`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // The names are the literature's own.
pub enum RopeScaling {
    /// Not at all
    Default,
    /// Divided by a factor
    Linear { factor: f64 },
    /// Llama 3.1's piecewise scaling
    Llama3 { factor: f64, low_frequency_factor: f64, high_frequency_factor: f64, original_context: f64 },
    /// YaRN (Peng et al. 2023)
    Yarn { factor: f64, attention_factor: f64, beta_fast: f64, beta_slow: f64, original_context: f64, truncate: bool },
    /// One divisor per frequency, another set beyond the original context (Phi-3)
    LongRope { short: Vec<f64>, long: Vec<f64>, attention_factor: f64, original_context: i64 },
    /// One divisor per frequency, stored as a tensor beside the weights (GGUF)
    Divisors(Vec<f64>),
}

/// One kind of rotary embedding; a model has one or, with sliding windows, two.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies
    pub theta: f64,
    /// Number of dimensions of a head that are rotated, from the first
    pub dim: i64,
    /// The divisor of the frequencies' exponents: `dim`, or one less if a config requires an odd number
    pub exponent_dim: i64,
    /// How the frequencies are scaled
    pub scaling: RopeScaling,
    /// Whether neighbouring dimensions are rotated together, rather than those half of `dim` apart (Cohere, GPT-J)
    pub interleaved: bool,
}

/// How the model encodes positions.
#[derive(Debug, Clone, PartialEq)]
pub enum PositionEmbedding {
    /// A learned vector per position, added to the embedding (GPT-2)
    Learned,
    /// Rotations of queries and keys
    Rotary,
}

/// The window and the rotary embedding of one layer's attention.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerAttention {
    /// Size of the sliding window in positions, counting the current one; None without a window
    pub window: Option<i64>,
    /// Its rotary embedding; None with learned positions, or in a layer without positions (SmolLM3)
    pub rope: Option<Rope>,
}

/// The sizes of a decoder, by TransformerLens's names.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // The names are the literature's own.
pub struct Sizes {
    pub n_layers: i64,
    pub d_model: i64,
    pub n_heads: i64,
    pub n_kv_heads: i64,
    pub d_head: i64,
    pub d_mlp: i64,
    pub d_vocab: i64,
    pub n_ctx: i64,
}

/// A decoder, described. Sizes follow TransformerLens's names.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // The names are the literature's own.
pub struct Config {
    /// Hugging Face's `model_type`
    pub model_type: String,
    pub n_layers: i64,
    pub d_model: i64,
    pub n_heads: i64,
    pub n_kv_heads: i64,
    pub d_head: i64,
    pub d_mlp: i64,
    pub d_vocab: i64,
    /// Number of logits
    pub d_vocab_out: i64,
    /// A logit is a token's; otherwise it is one of something else, which cannot be decoded (Tracr's programs)
    pub outputs_are_tokens: bool,
    pub n_ctx: i64,
    pub activation: Activation,
    /// act(gate) · up rather than act(in)
    pub gated_mlp: bool,
    /// Instead of act(gate) · up
    pub clamped_gate: Option<ClampedGate>,
    /// None where every token passes through the same MLP
    pub experts: Option<Experts>,
    /// A norm of the hidden activations (SoLU models)
    pub mlp_norm: bool,
    /// There are no MLPs
    pub attention_only: bool,
    pub norm: NormKind,
    pub norm_eps: f64,
    pub norm_placement: NormPlacement,
    pub query_key_norm: QueryKeyNorm,
    /// Attention and MLP both read the block's input (GPT-NeoX)
    pub parallel: bool,
    /// One norm serves attention and MLP (Cohere, Phi-2, GPT-J)
    pub shared_norm: bool,
    pub position_embedding: PositionEmbedding,
    /// A position sees those up to itself; otherwise it sees all
    pub causal: bool,
    /// One entry per layer
    pub layers: Vec<LayerAttention>,
    /// Factor of the attention scores, usually 1/√d_head
    pub attention_scale: f64,
    /// The scores of layer l are divided by l + 1 as well (Stanford CRFM's GPT-2)
    pub attention_scale_by_layer: bool,
    /// Each head has one more score, of a key without a value (gpt-oss)
    pub attention_sinks: bool,
    /// c · tanh(scores / c)
    pub attention_soft_cap: Option<f64>,
    /// Bound of the absolute value of queries, keys and values (OLMo)
    pub query_key_value_clip: Option<f64>,
    /// c · tanh(logits / c)
    pub logit_soft_cap: Option<f64>,
    /// Factor of the logits (Cohere, Granite)
    pub logit_scale: Option<f64>,
    /// Factor of the embeddings (Gemma, Granite)
    pub embedding_scale: Option<f64>,
    /// Factor of what attention and MLP add to the residual stream (Granite)
    pub residual_scale: Option<f64>,
    /// The unembedding is the embedding
    pub tied: bool,
    pub query_key_value_bias: bool,
    pub attention_output_bias: bool,
    pub mlp_bias: bool,
    pub unembedding_bias: bool,
    /// Standard deviation of a random initialisation
    pub initializer_range: f64,
    /// Ids that end a generated text, by the config
    pub eos_token_ids: Vec<i64>,
}

impl Config {
    /// A pre-norm decoder of these sizes with RMS norms, gated SiLU MLPs and no biases, in which every layer sees all
    /// earlier positions. A family adds the layers' rotary embeddings and its other differences.
    pub fn new(model_type: &str, sizes: Sizes) -> Self {
        let Sizes { n_layers, d_model, n_heads, n_kv_heads, d_head, d_mlp, d_vocab, n_ctx } = sizes;
        Self {
            model_type: model_type.to_owned(),
            n_layers,
            d_model,
            n_heads,
            n_kv_heads,
            d_head,
            d_mlp,
            d_vocab,
            d_vocab_out: d_vocab,
            outputs_are_tokens: true,
            n_ctx,
            activation: Activation::Silu,
            gated_mlp: true,
            clamped_gate: None,
            experts: None,
            mlp_norm: false,
            attention_only: false,
            norm: NormKind::Rms,
            norm_eps: 1e-6,
            norm_placement: NormPlacement::Pre,
            query_key_norm: QueryKeyNorm::Absent,
            parallel: false,
            shared_norm: false,
            position_embedding: PositionEmbedding::Rotary,
            causal: true,
            layers: vec![LayerAttention { window: None, rope: None }; n_layers as usize],
            attention_scale: (d_head as f64).powf(-0.5),
            attention_scale_by_layer: false,
            attention_sinks: false,
            attention_soft_cap: None,
            query_key_value_clip: None,
            logit_soft_cap: None,
            logit_scale: None,
            embedding_scale: None,
            residual_scale: None,
            tied: false,
            query_key_value_bias: false,
            attention_output_bias: false,
            mlp_bias: false,
            unembedding_bias: false,
            initializer_range: 0.02,
            eos_token_ids: Vec::new(),
        }
    }

    /// TransformerLens's name of the activation.
    pub fn activation_name(&self) -> &'static str {
        if self.mlp_norm && self.activation == Activation::Solu { "solu_ln" } else { self.activation.name() }
    }

    /// TransformerLens's name of the norm: `RMS`, `LN`, or `LNPre` for LayerNorm without weights; None without norms.
    pub fn normalization_type(&self) -> Option<&'static str> {
        match self.norm {
            NormKind::Rms | NormKind::RmsPlusOne => Some("RMS"),
            NormKind::Layer | NormKind::LayerWithoutBias => Some("LN"),
            NormKind::LayerPlain => Some("LNPre"),
            NormKind::Absent => None,
        }
    }

    /// Whether there are norms of the residual stream.
    pub fn has_norm(&self) -> bool {
        self.norm != NormKind::Absent
    }

    /// TransformerLens's name of the attention's direction: `causal` or `bidirectional`.
    pub fn attention_dir(&self) -> &'static str {
        if self.causal { "causal" } else { "bidirectional" }
    }

    /// The factor of a layer's attention scores.
    pub fn attention_scale_at(&self, layer: i64) -> f64 {
        if self.attention_scale_by_layer { self.attention_scale / (layer + 1) as f64 } else { self.attention_scale }
    }

    /// Where the norms are: `pre`, `post`, `both`.
    pub fn norm_placement_name(&self) -> &'static str {
        match self.norm_placement {
            NormPlacement::Pre => "pre",
            NormPlacement::Post => "post",
            NormPlacement::Both => "both",
        }
    }

    /// Whether queries and keys are normed.
    pub fn has_query_key_norm(&self) -> bool {
        self.query_key_norm != QueryKeyNorm::Absent
    }

    /// TransformerLens's name of the position embedding: `standard` (learned) or `rotary`.
    pub fn positional_embedding_type(&self) -> &'static str {
        match self.position_embedding {
            PositionEmbedding::Learned => "standard",
            PositionEmbedding::Rotary => "rotary",
        }
    }
}
