//! Models against transformers, PyTorch and identities: loading, running, hooks, patching, grids, linear maps and
//! paths.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

mod ablation;
mod adapter;
mod anova;
mod chat_template;
mod checkpoint;
mod config;
mod corpus;
mod direction;
mod experts;
mod fused;
mod generate;
mod gguf;
mod gguf_metadata;
mod head_score;
mod hook;
mod hook_name;
mod interaction;
mod intervention;
mod leftover;
mod linear;
mod linear_grid;
mod linear_metric;
mod linear_reference;
mod live_paths;
mod load;
mod made_grid;
mod metric;
mod multimodal;
mod not_finite;
mod padding;
mod parity;
mod partial;
mod patching;
mod path_graph;
mod residual;
mod sae;
mod sae_refusal;
mod simulated_gpu;
mod standard_library;
mod sweep;
mod tokenizer;
mod weights;
