//! Named tensors in a safetensors file: the length of a JSON header as 8 little-endian bytes, the header (name → dtype,
//! shape, place of the data), then the data. <https://github.com/huggingface/safetensors>

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Map, Value};
use tch::{Device, Kind};

use super::json;
use crate::error::{Error, Result};
use crate::file::{self, write_atomic};
use crate::interrupt;
use crate::tensor::{Tensor, kind_name};

const METADATA: &str = "__metadata__";
/// The header is padded so that the data is aligned to this many bytes.
const ALIGNMENT: usize = 8;
/// As in the reference implementation; a longer header counts as damage.
const LONGEST_HEADER: usize = 100_000_000;

/// Writes `tensors` and `metadata`; an older file is replaced as [`write_atomic`] describes.
///
/// # Errors
/// A tensor whose dtype the format lacks, or a failure to write.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Result<()> {
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    // Wide elements first, so that all data is aligned.
    order.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.kind().elt_size_in_bytes()));
    let header = header(&order, metadata).map_err(|error| error.context(format!("`{}`", path.display())))?;
    write_atomic(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for (name, tensor) in &order {
            interrupt::check().map_err(io::Error::other)?;
            let bytes = tensor.bytes().map_err(|error| io::Error::other(error.context(format!("tensor `{name}`"))))?;
            file.write_all(&bytes)?;
        }
        Ok(())
    })
}

fn header(tensors: &[(&String, &Tensor)], metadata: &BTreeMap<String, String>) -> Result<String> {
    let mut entries = Map::new();
    if !metadata.is_empty() {
        let texts = metadata.iter().map(|(key, text)| (key.clone(), Value::from(text.as_str()))).collect();
        entries.insert(METADATA.to_owned(), Value::Object(texts));
    }
    let mut start = 0;
    for (name, tensor) in tensors {
        if name.as_str() == METADATA {
            return Err(Error::new(format!("a tensor cannot be named `{METADATA}`")));
        }
        let end = start + tensor.nbytes();
        let info = TensorInfo {
            dtype: dtype(tensor.kind()).map_err(|error| error.context(format!("tensor `{name}`")))?,
            shape: tensor.shape().iter().map(|&length| length as usize).collect(),
            data_offsets: (start, end),
        };
        let info = serde_json::to_value(info).map_err(|error| Error::new(format!("tensor `{name}`: {error}")))?;
        entries.insert((*name).clone(), info);
        start = end;
    }
    let mut text = Value::Object(entries).to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(ALIGNMENT) - text.len()));
    Ok(text)
}

/// A memory-mapped safetensors file: reads each tensor on request, straight to its device.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    /// Where in the file the tensors' data starts
    data: usize,
}

impl SafetensorsFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// A file that cannot be read, is cut off or is damaged; the message names the file.
    pub fn open(path: &Path) -> Result<Self> {
        let map = file::map(path)?;
        let (metadata, data) = read_header(&map).map_err(|error| {
            Error::new(format!("`{}` is not a complete safetensors file: {error}", path.display()))
                .hint("the download or copy may have been cut off; fetch it again")
        })?;
        Ok(Self { path: path.to_owned(), map, metadata, data })
    }

    /// The file's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, in the order of their data.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// How a tensor is stored.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.metadata.info(name)
    }

    /// A tensor, copied to `device`, as `kind` or in the dtype in which it is stored.
    ///
    /// # Errors
    /// An unknown name, or a dtype that libtorch does not have.
    pub fn load(&self, name: &str, kind: Option<Kind>, device: Device) -> Result<tch::Tensor> {
        let info = self.info(name).ok_or_else(|| Error::new(format!("there is no tensor `{name}`")))?;
        let stored = kind_of(info.dtype).map_err(|error| error.context(format!("tensor `{name}`")))?;
        let kind = kind.unwrap_or(stored);
        let shape: Vec<i64> = info.shape.iter().map(|length| *length as i64).collect();
        let (start, end) = info.data_offsets;
        let bytes = &self.map[self.data + start..self.data + end];
        let aligned = bytes.as_ptr().align_offset(std::mem::align_of::<f64>()) == 0;
        if bytes.is_empty() || !aligned {
            let copy = tch::Tensor::f_from_data_size(bytes, &shape, stored)?;
            return Ok(copy.f_to_device_(device, kind, false, false)?);
        }
        let strides = contiguous_strides(&shape);
        // SAFETY: the bytes are in bounds, aligned and as many as shape and type require (`read_header` has checked
        // it), and the borrowed tensor does not outlive this function: the function returns a copy.
        let borrowed = unsafe { tch::Tensor::f_from_blob(bytes.as_ptr(), &shape, &strides, stored, Device::Cpu) }?;
        Ok(borrowed.f_to_device_(device, kind, false, true)?)
    }
}

fn contiguous_strides(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for dim in (1..shape.len()).rev() {
        strides[dim - 1] = strides[dim] * shape[dim];
    }
    strides
}

/// Reads the tensors of a file, to the CPU.
///
/// # Errors
/// A file that cannot be read or is damaged; the message names the file and the tensor.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let file = SafetensorsFile::open(path)?;
    let mut tensors = BTreeMap::new();
    for name in file.names() {
        interrupt::check()?;
        let tensor =
            file.load(&name, None, Device::Cpu).map_err(|error| error.context(format!("`{}`", path.display())))?;
        tensors.insert(name, tensor.into());
    }
    Ok(tensors)
}

/// Reads the texts stored beside the tensors of a file.
///
/// # Errors
/// A file that cannot be read or is damaged; the message names the file.
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let file = SafetensorsFile::open(path)?;
    Ok(file.metadata.metadata().clone().unwrap_or_default().into_iter().collect())
}

/// The description of every tensor in a file, checked, and where the data starts.
fn read_header(file: &[u8]) -> Result<(Metadata, usize)> {
    let (length, rest) = file.split_first_chunk().ok_or_else(|| Error::new("it is too short"))?;
    let length = u64::from_le_bytes(*length);
    let parts = usize::try_from(length).ok().filter(|length| *length <= LONGEST_HEADER);
    let (header, data) = parts.and_then(|length| rest.split_at_checked(length)).ok_or_else(|| {
        Error::new(format!("a header of {length} bytes in {}, so it is not a safetensors file or cut off", file.len()))
    })?;
    let not_json = |error: &dyn std::fmt::Display| Error::new(format!("its header is not JSON ({error})"));
    let header = std::str::from_utf8(header).map_err(|error| not_json(&error))?;
    let header = json::decode(Path::new("header"), header).map_err(|error| not_json(&error))?;
    let Value::Object(mut entries) = header else { return Err(not_json(&"it is not an object")) };
    let texts = match entries.remove(METADATA) {
        Some(texts) => Some(
            serde_json::from_value(texts)
                .map_err(|error| Error::new(format!("`{METADATA}` is not a map of texts ({error})")))?,
        ),
        None => None,
    };
    let mut tensors = Vec::new();
    for (name, entry) in entries {
        let info = read_info(entry, data.len()).map_err(|error| error.context(format!("tensor `{name}`")))?;
        tensors.push((name, info));
    }
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let metadata = Metadata::new(texts, tensors).map_err(|error| Error::new(error.to_string()))?;
    if metadata.data_len() != data.len() {
        return Err(Error::new(format!("its tensors take {} bytes of {}", metadata.data_len(), data.len())));
    }
    Ok((metadata, file.len() - data.len()))
}

/// One tensor's description in a file with `size` bytes of data.
fn read_info(entry: Value, size: usize) -> Result<TensorInfo> {
    let info: TensorInfo =
        serde_json::from_value(entry).map_err(|error| Error::new(format!("its header entry is damaged ({error})")))?;
    let (start, end) = info.data_offsets;
    if start > end || end > size {
        return Err(Error::new(format!(
            "its data would be at {start}..{end} of {size}; the file is damaged or cut off"
        )));
    }
    let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, length| bits.checked_mul(*length));
    if bits != (end - start).checked_mul(8) {
        let dtype = kind_of(info.dtype).map_or_else(|_| info.dtype.to_string(), |kind| kind_name(kind).to_owned());
        return Err(Error::new(format!(
            "{} bytes do not make a tensor of shape {:?} and dtype {dtype}",
            end - start,
            info.shape
        )));
    }
    Ok(info)
}

fn dtype(kind: Kind) -> Result<Dtype> {
    Ok(match kind {
        Kind::Bool => Dtype::BOOL,
        Kind::Uint8 => Dtype::U8,
        Kind::Int8 => Dtype::I8,
        Kind::Int16 => Dtype::I16,
        Kind::Int => Dtype::I32,
        Kind::Int64 => Dtype::I64,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        other => return Err(Error::new(format!("dtype {} cannot be saved", kind_name(other)))),
    })
}

fn kind_of(dtype: Dtype) -> Result<Kind> {
    Ok(match dtype {
        Dtype::BOOL => Kind::Bool,
        Dtype::U8 => Kind::Uint8,
        Dtype::I8 => Kind::Int8,
        Dtype::I16 => Kind::Int16,
        Dtype::I32 => Kind::Int,
        Dtype::I64 => Kind::Int64,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        other => {
            return Err(Error::new(format!("dtype {other} is not supported"))
                .hint("one of F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL"));
        }
    })
}
