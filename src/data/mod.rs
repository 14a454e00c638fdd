//! Data in files: tables, records, texts, tasks and named tensors; data sets that are fetched.

pub mod csv;
pub mod fetch;
pub mod json;
pub mod npz;
pub mod parquet;
pub mod record;
pub mod safetensors;
pub mod stream;
pub mod table;
pub mod task;
pub mod texts;
