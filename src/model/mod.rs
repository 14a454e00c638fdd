//! One decoder for every family, and the places where it can be touched.
//!
//! `config` says what a checkpoint is, `family` reads it from Hugging Face's config.json, `weights` brings the tensors in,
//! `decoder` runs them, `hook` names the places, `run` carries what is done there.

pub mod attention;
pub mod block;
pub mod built_in;
pub mod cache;
pub mod config;
pub mod decoder;
pub mod family;
pub mod fingerprint;
pub mod generate;
pub mod hook;
pub mod intervention;
pub mod language_model;
pub mod layer;
pub mod load;
pub mod naming;
pub mod rope;
pub mod run;
pub mod source;
pub mod window;
