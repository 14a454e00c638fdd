//! How a family names and packs its weights: module names as in Hugging Face's checkpoints.

/// How the query, key and value projections are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are the literature's own.
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
#[allow(missing_docs)] // The names are the literature's own.
pub enum MlpNaming {
    /// Three matrices
    Gated { gate: &'static str, up: &'static str },
    /// Gate and up in one matrix, gate first (Phi-3)
    GatedStacked(&'static str),
    /// Two matrices
    Plain { up: &'static str },
    /// A router, and three matrices for each expert, whose number follows `experts`
    Experts { router: &'static str, experts: &'static str, gate: &'static str, up: &'static str },
    /// A router, and for all experts one matrix [expert, in, 2 · out] with gate and up in turn, another [expert, in, out],
    /// and their biases (gpt-oss)
    StackedExperts { router: &'static str, gate_up: &'static str },
}

/// How the norms of a layer are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are the literature's own.
pub enum NormNaming {
    /// One before each sublayer
    Pre { attention: &'static str, mlp: &'static str },
    /// One before both sublayers, which run in parallel (Cohere, Phi-2, GPT-J)
    Shared(&'static str),
    /// One after each sublayer (OLMo-2, OLMo-3)
    Post { attention: &'static str, mlp: &'static str },
    /// Both (Gemma-2, Gemma-3)
    Both { attention: &'static str, attention_post: &'static str, mlp: &'static str, mlp_post: &'static str },
}

/// The names of one family.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // The names are the literature's own.
pub struct Naming {
    /// Prefix of all names but the unembedding's; some checkpoints leave it out
    pub root: &'static str,
    pub embedding: &'static str,
    /// Families with learned positions only
    pub position_embedding: Option<&'static str>,
    /// The stored position that belongs to the first token (OPT: 2)
    pub position_offset: i64,
    pub final_norm: &'static str,
    /// Full name, without the root
    pub unembedding: &'static str,
    /// The prefix of a layer's number
    pub layers: &'static str,
    pub attention: AttentionNaming,
    pub attention_output: &'static str,
    pub query_norm: &'static str,
    pub key_norm: &'static str,
    pub mlp: MlpNaming,
    /// Within an expert, where there are some
    pub mlp_down: &'static str,
    /// Families with a norm of the hidden activations only
    pub mlp_norm: &'static str,
    /// Families with attention sinks only
    pub sinks: &'static str,
    pub norms: NormNaming,
    /// Weights are stored [in, out]
    pub transposed: bool,
}
