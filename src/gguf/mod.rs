//! GGUF files: metadata and tensors (quantised ones are expanded to floats). The file is mapped, not read, so only the
//! requested tensors cost memory. Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod block;
mod dequantize;
mod header;
pub mod part;
mod value;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use tch::{Device, Kind};

pub use dequantize::{Quantization, TensorType};
pub use value::Value;

use crate::error::{Error, Result, nearest};
use crate::file;
use crate::interrupt;
use header::TensorInfo;

const SPLIT_NUMBER: &str = "split.no";
const SPLIT_COUNT: &str = "split.count";
const SPLIT_TENSORS: &str = "split.tensors.count";

/// Maps a file and reads its header.
fn map(path: &Path) -> Result<(Mmap, header::Header)> {
    let file = file::map(path)?;
    let header = header::read(&file).map_err(|error| error.context(format!("`{}`", path.display())))?;
    Ok((file, header))
}

/// An open GGUF file of version 2 or 3, with the other parts where the model is split.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    files: Vec<Mmap>,
    metadata: HashMap<String, Value>,
    names: Vec<String>,
    /// By name: which file a tensor is in, and where
    tensors: HashMap<String, (usize, TensorInfo)>,
    /// The metadata keys that were asked for
    read: RefCell<HashSet<String>>,
}

impl Gguf {
    /// Opens a file and reads everything but the tensors' data. Of a split model, that is the first part; the others
    /// are opened too.
    ///
    /// # Errors
    /// A file that cannot be read, is not a little-endian GGUF of version 2 or 3, or is truncated or corrupt; the
    /// message names the file and, if there is one, the metadata key or tensor. A part that is missing or not the first.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, header) = map(path)?;
        let mut gguf = Self {
            path: path.to_owned(),
            files: Vec::new(),
            metadata: header.metadata,
            names: Vec::new(),
            tensors: HashMap::new(),
            read: RefCell::default(),
        };
        gguf.add(path, file, header.tensors)?;
        let count = gguf.integer(SPLIT_COUNT)?.unwrap_or(1);
        if count > 1 {
            gguf.add_parts(count)?;
        }
        Ok(gguf)
    }

    fn add(&mut self, path: &Path, file: Mmap, tensors: Vec<(String, TensorInfo)>) -> Result<()> {
        for (name, info) in tensors {
            if self.tensors.insert(name.clone(), (self.files.len(), info)).is_some() {
                return Err(Error::new(format!("`{}`: two tensors have the same name, `{name}`", path.display())));
            }
            self.names.push(name);
        }
        self.files.push(file);
        Ok(())
    }

    /// Opens the other parts of a model in `count` parts.
    fn add_parts(&mut self, count: i64) -> Result<()> {
        let this = self.path.display().to_string();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parts = part::files(&name);
        if i64::try_from(parts.len()) != Ok(count) {
            return Err(Error::new(format!("`{this}` is one of {count} parts, which its name does not say"))
                .hint(format!("name the parts `NAME-00001-of-{count:05}.gguf`, as they were")));
        }
        if self.integer(SPLIT_NUMBER)? != Some(0) || parts[0] != name {
            return Err(Error::new(format!("`{this}` is not the first part of its model"))
                .hint(format!("load `{}`", self.path.with_file_name(&parts[0]).display())));
        }
        for (number, part) in (0_i64..).zip(&parts).skip(1) {
            let path = self.path.with_file_name(part);
            let (file, header) =
                map(&path).map_err(|error| error.context(format!("part {} of `{this}`", number + 1)))?;
            for (key, expected) in [(SPLIT_NUMBER, number), (SPLIT_COUNT, count)] {
                if header.metadata.get(key) != Some(&Value::Integer(expected)) {
                    return Err(Error::new(format!("`{}`: metadata `{key}` is not {expected}", path.display()))
                        .hint("the parts do not belong together"));
                }
            }
            self.add(&path, file, header.tensors)?;
        }
        match self.integer(SPLIT_TENSORS)? {
            Some(total) if i64::try_from(self.names.len()) != Ok(total) => Err(Error::new(format!(
                "the parts of `{this}` have {} tensors, and metadata `{SPLIT_TENSORS}` is {total}",
                self.names.len()
            ))
            .hint("the parts do not belong together")),
            _ => Ok(()),
        }
    }

    /// The file's path, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A metadata value of any type.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.read.borrow_mut().insert(key.to_owned());
        self.metadata.get(key)
    }

    /// The metadata, and of each key whether it was asked for.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &Value, bool)> {
        let read = self.read.borrow().clone();
        self.metadata.iter().map(move |(key, value)| (key.as_str(), value, read.contains(key)))
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
        let Some(value) = self.metadata(key) else { return Ok(None) };
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
        self.tensors.get(name).map(|(_, info)| info.shape.clone())
    }

    /// How a tensor is stored.
    pub fn tensor_type(&self, name: &str) -> Option<TensorType> {
        self.tensors.get(name).map(|(_, info)| info.kind)
    }

    /// Loads a tensor to the CPU in PyTorch's shape: quantised ones as f32, others in their stored type. The
    /// converter's changes are not undone here; the model's families do that.
    ///
    /// # Errors
    /// An unknown name, or a storage type that cannot be read.
    pub fn load(&self, name: &str) -> Result<tch::Tensor> {
        interrupt::check()?;
        let path = self.path.display();
        let (file, info) = self.tensors.get(name).ok_or_else(|| {
            let error = Error::new(format!("`{path}` has no tensor `{name}`"));
            match nearest(name, self.names.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error,
            }
        })?;
        let end = info.start.saturating_add(info.bytes);
        let bytes = self.files[*file].get(info.start..end).ok_or_else(|| {
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
