//! One decoder for every family, and the places where scripts can read and change it.
//!
//! `config` describes a decoder, and `family` reads that description from a checkpoint's files. `source` and `load`
//! bring the weights in, and `decoder` and `forward` run them. `hook` names the places, and `run` runs captures, callbacks and
//! interventions there.

pub mod adapter;
pub mod attention;
pub mod backward;
pub mod block;
pub mod built_in;
pub mod cache;
pub mod config;
pub mod decoder;
pub mod experts;
pub mod family;
pub mod fingerprint;
pub mod forward;
pub mod generate;
pub mod gradient;
pub mod head;
pub mod hook;
pub mod intervention;
pub mod key_value;
pub mod language_model;
pub mod layer;
pub mod leftover;
pub mod lens_checkpoint;
pub mod load;
pub mod mxfp4;
pub mod naming;
mod opened;
pub mod padding;
pub mod parameter;
pub mod placement;
pub mod processing;
pub mod requirement;
pub mod residual;
pub mod room;
pub mod rope;
pub mod run;
pub mod save;
pub mod size;
pub mod source;
pub mod text_part;
pub mod window;
