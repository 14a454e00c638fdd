//! What a sparse autoencoder or transcoder computes, and where in a model it belongs.

use serde_json::{Map, Value};

use crate::error::{Error, Result, unknown};

/// How latents come from what the encoder gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0)
    Relu,
    /// ReLU of the magnitudes where the gates are positive
    Gated,
    /// x above the latent's threshold, else 0
    JumpRelu,
    /// ReLU of the k largest
    TopK(TopK),
    /// The k of largest size, with their sign
    AbsTopK(TopK),
}

/// Which latents a top-k activation keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopK {
    /// How many
    pub k: i64,
    /// Whether latents count, and are given, times the lengths of their decoder's rows
    pub by_decoder_norm: bool,
}

/// What is done to activations before they are encoded, and undone after they are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalization {
    /// Nothing
    None,
    /// Scaled to the length √d_in
    ConstantNorm,
    /// Less their mean, over their standard deviation
    LayerNorm,
}

impl Normalization {
    /// The names that SAELens's files have for them.
    pub const NAMES: [(&str, Self); 3] =
        [("none", Self::None), ("constant_norm_rescale", Self::ConstantNorm), ("layer_norm", Self::LayerNorm)];

    /// SAELens's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ConstantNorm => "constant_norm_rescale",
            Self::LayerNorm => "layer_norm",
        }
    }
}

/// The kind of dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// How latents come from what the encoder gives
    pub activation: Activation,
    /// Whether it predicts another activation than the one it reads
    pub is_transcoder: bool,
    /// Whether a linear map of the input is added to the output
    pub has_skip: bool,
}

/// SAELens's architectures that this module computes.
const NAMES: [&str; 9] = [
    "standard",
    "gated",
    "jumprelu",
    "topk",
    "abstopk",
    "transcoder",
    "skip_transcoder",
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
];

impl Architecture {
    /// The architecture that SAELens calls `name`; `top_k` gives what only top-k activations have.
    ///
    /// # Errors
    /// A name that stands for something else; what `top_k` finds wrong.
    pub fn named(name: &str, top_k: impl FnOnce() -> Result<TopK>) -> Result<Self> {
        if ["batchtopk", "matryoshka_batchtopk"].contains(&name) {
            return Err(Error::new(format!("`{name}` is an architecture for training only"))
                .hint("save the SAE with SAELens's `save_inference_model`, which makes it a `jumprelu` SAE"));
        }
        if !NAMES.contains(&name) {
            return Err(unknown("architecture", name, &NAMES));
        }
        let (before, is_transcoder) = match name.strip_suffix("transcoder") {
            Some(before) => (before, true),
            None => (name, false),
        };
        let activation = match before.trim_end_matches("skip_").trim_end_matches('_') {
            "gated" => Activation::Gated,
            "jumprelu" => Activation::JumpRelu,
            "topk" => Activation::TopK(top_k()?),
            "abstopk" => Activation::AbsTopK(top_k()?),
            _ => Activation::Relu,
        };
        Ok(Self { activation, is_transcoder, has_skip: before.ends_with("skip_") })
    }

    /// SAELens's name, or one like them.
    pub fn name(self) -> String {
        let activation = match self.activation {
            Activation::Relu => "",
            Activation::Gated => "gated",
            Activation::JumpRelu => "jumprelu",
            Activation::TopK(_) => "topk",
            Activation::AbsTopK(_) => "abstopk",
        };
        match (activation, self.is_transcoder) {
            ("", false) => "standard".into(),
            (activation, false) => activation.into(),
            (activation, true) => {
                let parts = [activation, if self.has_skip { "skip" } else { "" }, "transcoder"];
                parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
            }
        }
    }

    /// Whether SAELens has it.
    pub fn is_known_to_saelens(self) -> bool {
        NAMES.contains(&self.name().as_str())
    }

    /// What only top-k activations have.
    pub fn top_k(self) -> Option<TopK> {
        match self.activation {
            Activation::TopK(top_k) | Activation::AbsTopK(top_k) => Some(top_k),
            _ => None,
        }
    }
}

/// What an SAE computes, apart from its weights, and where in a model it belongs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The kind of dictionary
    pub architecture: Architecture,
    /// Whether the decoder's bias is subtracted from what is encoded
    pub apply_b_dec_to_input: bool,
    /// What is done to activations first
    pub normalization: Normalization,
    /// Whether the heads of an activation, [.., head, d_head], are encoded as one vector
    pub joins_heads: bool,
    /// The hook that it reads
    pub hook_name: Option<String>,
    /// The hook that a transcoder predicts
    pub hook_name_out: Option<String>,
    /// The one head that it reads
    pub hook_head_index: Option<i64>,
    /// What its file says about the model and the training
    pub metadata: Map<String, Value>,
}
