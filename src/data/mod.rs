//! Data in files: tables and named tensors.

pub mod safetensors;
pub mod table;
