//! Data in files: tables, records, tasks and named tensors.

pub mod csv;
pub mod json;
pub mod parquet;
pub mod record;
pub mod safetensors;
pub mod table;
pub mod task;
