//! The decoder as a sum of token-to-token linear maps (the paper's section 6): at one prompt every norm's scale, every
//! attention probability and every activation's slope is frozen, and what remains is affine in the embeddings.
//!
//! `norm` and `frozen` hold the frozen factors, `forward` and `transposed` apply them to whole prompts, `row` to single
//! edges; `flow` splits a logit. `graph`, `walk`, `estimate`, `edge`, `evaluate`, `cuts`, `ends`, `segment`, `search`, `table`,
//! `path_graph` and `export` are about paths; `operator` is one map as an object with its singular values; `predict` compares
//! with what the model itself does. Maps stay factored; only pieces that many paths share are folded to [d_model, d_model],
//! within a bound for each segment of the paths.

pub mod cuts;
pub mod edge;
pub mod ends;
pub mod estimate;
pub mod evaluate;
pub mod export;
pub mod flow;
pub mod forward;
pub mod frozen;
pub mod graph;
pub mod norm;
pub mod operator;
pub mod path_graph;
pub mod predict;
pub mod row;
pub mod search;
pub mod segment;
pub mod table;
pub mod transposed;
pub mod walk;
