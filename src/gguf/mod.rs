//! GGUF files: metadata and tensors (quantised ones are expanded to floats). The file is mapped, not read, so only the
//! requested tensors cost memory. Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod dequantize;
mod header;
mod value;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use tch::{Device, Kind};

pub use dequantize::{Quantization, TensorType};
pub use value::Value;

use crate::error::{Error, Result, nearest};
use crate::interrupt;
use header::TensorInfo;

/// An open GGUF file of version 2 or 3.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    file: Mmap,
    metadata: HashMap<String, Value>,
    names: Vec<String>,
    tensors: HashMap<String, TensorInfo>,
}

impl Gguf {
    /// Opens a file and reads everything but the tensors' data.
    ///
    /// # Errors
    /// A file that cannot be read, is not a little-endian GGUF of version 2 or 3, or is truncated or corrupt; the
    /// message names the file and, if there is one, the metadata key or tensor.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, &error))?;
        // SAFETY: the mapping is only read. Like every reader of mapped weights this relies on no process shortening
        // the file while it is open.
        let file = unsafe { Mmap::map(&file) }.map_err(|error| Error::io(path, &error))?;
        let in_file = |error: Error| error.context(format!("`{}`", path.display()));
        let header = header::read(&file).map_err(in_file)?;
        let names: Vec<String> = header.tensors.iter().map(|(name, _)| name.clone()).collect();
        let tensors: HashMap<String, TensorInfo> = header.tensors.into_iter().collect();
        if tensors.len() < names.len() {
            return Err(in_file(Error::new("two tensors have the same name")));
        }
        Ok(Self { path: path.to_owned(), file, metadata: header.metadata, names, tensors })
    }

    /// The file's path, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A metadata value of any type.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A text, or `None` where the key is missing; a value of another type is an error, here and below.
    ///
    /// # Errors
    /// A value of another type.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An integer, or `None` where the key is missing.
    ///
    /// # Errors
    /// A value of another type.
    pub fn integer(&self, key: &str) -> Result<Option<i64>> {
        self.typed(key, "an integer", |value| match value {
            Value::Integer(integer) => Some(*integer),
            _ => None,
        })
    }

    /// A float, or `None` where the key is missing.
    ///
    /// # Errors
    /// A value of another type.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a float", |value| match value {
            Value::Float(float) => Some(*float),
            _ => None,
        })
    }

    /// A truth value, or `None` where the key is missing.
    ///
    /// # Errors
    /// A value of another type.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| match value {
            Value::Boolean(boolean) => Some(*boolean),
            _ => None,
        })
    }

    /// An array of texts, or `None` where the key is missing.
    ///
    /// # Errors
    /// A value of another type.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Strings(items) => Some(items.as_slice()),
            _ => None,
        })
    }

    /// An array of integers, or `None` where the key is missing.
    ///
    /// # Errors
    /// A value of another type.
    pub fn integers(&self, key: &str) -> Result<Option<&[i64]>> {
        self.typed(key, "an array of integers", |value| match value {
            Value::Integers(items) => Some(items.as_slice()),
            _ => None,
        })
    }

    /// An array of floats, or `None` where the key is missing.
    ///
    /// # Errors
    /// A value of another type.
    pub fn floats(&self, key: &str) -> Result<Option<&[f64]>> {
        self.typed(key, "an array of floats", |value| match value {
            Value::Floats(items) => Some(items.as_slice()),
            _ => None,
        })
    }

    /// The error for a missing metadata key.
    pub fn missing(&self, key: &str) -> Error {
        Error::new(format!("`{}` has no metadata `{key}`", self.path.display()))
    }

    fn typed<'a, T>(&'a self, key: &str, wanted: &str, pick: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        pick(value).map(Some).ok_or_else(|| {
            let path = self.path.display();
            Error::new(format!("`{path}`: metadata `{key}` is {} and should be {wanted}", value.type_name()))
        })
    }

    /// The architecture's name in llama.cpp, such as `llama` or `gptneox`.
    ///
    /// # Errors
    /// A file that does not name its architecture.
    pub fn architecture(&self) -> Result<&str> {
        self.string("general.architecture")?.ok_or_else(|| self.missing("general.architecture"))
    }

    /// The tensors' names, in the file's order.
    pub fn tensor_names(&self) -> &[String] {
        &self.names
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor's shape in PyTorch order: a linear weight is `[out, in]`.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        self.tensors.get(name).map(|info| info.shape.clone())
    }

    /// How a tensor is stored.
    pub fn tensor_type(&self, name: &str) -> Option<TensorType> {
        self.tensors.get(name).map(|info| info.kind)
    }

    /// Loads a tensor to the CPU in PyTorch's shape: quantised ones as f32, others in their stored type. The
    /// converter's changes are not undone here; see [`Conversion`](crate::model::family::gguf::Conversion).
    ///
    /// # Errors
    /// An unknown name, or a storage type that cannot be read.
    pub fn load(&self, name: &str) -> Result<tch::Tensor> {
        interrupt::check()?;
        let path = self.path.display();
        let info = self.tensors.get(name).ok_or_else(|| {
            let error = Error::new(format!("`{path}` has no tensor `{name}`"));
            match nearest(name, self.names.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error,
            }
        })?;
        let end = info.start.saturating_add(info.bytes);
        let bytes = self.file.get(info.start..end).ok_or_else(|| {
            Error::new(format!("`{path}`: the data of tensor `{name}` is beyond the end of the file"))
        })?;
        match info.kind {
            TensorType::Plain(kind) => Ok(tch::Tensor::f_from_data_size(bytes, &info.shape, kind)?),
            TensorType::Quantized(format) => {
                let tensor = tch::Tensor::f_empty(&info.shape, (Kind::Float, Device::Cpu))?;
                if info.count > 0 {
                    // SAFETY: a new contiguous CPU tensor of `count` floats, which nothing else refers to, and which
                    // lives longer than the slice.
                    let values = unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), info.count) };
                    format.expand(bytes, values);
                }
                Ok(tensor)
            }
            TensorType::Other(_) => {
                Err(Error::new(format!("`{path}`: tensor `{name}` is stored as {}, which is not supported", info.kind))
                    .hint(format!("the supported types are {}", TensorType::readable())))
            }
        }
    }
}
