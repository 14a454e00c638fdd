//! The decoder as a sum of token-to-token linear maps (the paper's section 6): at one prompt every norm's divisor,
//! every attention probability and every activation's slope is frozen, and what remains is affine in the embeddings.
//!
//! `frozen`, `frozen_mlp` and `norm` hold the frozen factors, `layer`, `experts` and `attention` (its queries and keys)
//! apply those of one layer, `map` those of the whole model. `live` lets scores move, to first order.
//! `readout` is what its parts are measured in, `root` a head's score as that. `head_score` splits one over pairs of
//! `source`s. `contribution` and `flow` split logits, `predict` compares the map with
//! the model, `grid` predicts patches of sets of layers, `operator` and `singular` treat the map between two nodes as
//! one matrix. `path` follows single paths through the layers; `path_graph` draws them.
//! Maps stay factored; only path pieces shared by many paths are folded to [d_model, d_model], within a bound on
//! memory.

pub mod attention;
pub mod contribution;
mod experts;
pub mod flow;
pub mod frozen;
pub mod frozen_mlp;
pub mod grid;
pub mod head_score;
pub mod layer;
pub mod live;
pub mod map;
pub mod norm;
pub mod operator;
pub mod path;
pub mod path_graph;
pub mod predict;
pub mod readout;
pub mod root;
pub mod singular;
pub mod source;
