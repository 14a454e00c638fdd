//! Named tensors in files: safetensors and NumPy's archives.

use std::collections::BTreeMap;
use std::path::Path;

use rhai::plugin::*;
use rhai::{Dynamic, Map};

use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::option::Options;
use crate::bind::tensor::convert;
use crate::data::{npz, safetensors};
use crate::error::Result;
use crate::tensor::Tensor;

fn texts(what: &str, map: &Map) -> Result<BTreeMap<String, String>> {
    map.iter()
        .map(|(key, value)| match value.clone().into_string() {
            Ok(text) => Ok((key.to_string(), text)),
            Err(_) => Err(expected(&format!("`{key}` in {what}"), "a string", value)),
        })
        .collect()
}

fn by_name(tensors: BTreeMap<String, Tensor>) -> Map {
    tensors.into_iter().map(|(name, tensor)| (name.into(), Dynamic::from(tensor))).collect()
}

fn save(path: &str, tensors: &Map, options: Map) -> Result<()> {
    let metadata = Options::read("save_safetensors", options, |options| options.map("metadata"))?;
    let metadata = texts("the metadata", &metadata.unwrap_or_default())?;
    let tensors = tensors
        .iter()
        .map(|(name, value)| Ok((name.to_string(), convert::tensor(&format!("`{name}`"), value)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    safetensors::write(Path::new(path), &tensors, &metadata)
}

#[export_module(manifest)]
pub mod functions {
    /// Writes a map of tensors to a safetensors file.
    ///
    /// Missing folders are made, and an older file stays as it was if writing fails.
    ///
    /// Option: `metadata`, a map of strings stored beside the tensors.
    #[rhai_fn(return_raw, volatile)]
    pub fn save_safetensors(path: &str, tensors: Map, options: Map) -> ScriptResult<()> {
        Ok(save(path, &tensors, options)?)
    }

    /// The tensors of a safetensors file, a map by name, on the CPU.
    ///
    /// # Errors
    /// A damaged file, or a dtype that tensors don't have; the message names the tensor.
    #[rhai_fn(return_raw, volatile)]
    pub fn load_safetensors(path: &str) -> ScriptResult<Map> {
        Ok(by_name(safetensors::read(Path::new(path))?))
    }

    /// The arrays of a NumPy archive (`.npz`), a map of tensors by name, on the CPU.
    ///
    /// # Errors
    /// A damaged file, or a dtype that tensors don't have; the message names the array.
    #[rhai_fn(return_raw, volatile)]
    pub fn load_npz(path: &str) -> ScriptResult<Map> {
        Ok(by_name(npz::read(Path::new(path))?))
    }

    /// The strings stored beside the tensors of a safetensors file, a map.
    #[rhai_fn(return_raw, volatile)]
    pub fn load_safetensors_metadata(path: &str) -> ScriptResult<Map> {
        let metadata = safetensors::read_metadata(Path::new(path))?;
        Ok(metadata.into_iter().map(|(key, text)| (key.into(), Dynamic::from(text))).collect())
    }
}
