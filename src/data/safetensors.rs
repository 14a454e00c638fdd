//! Named tensors in a safetensors file: the length of a JSON header as 8 little-endian bytes, the header (name → dtype,
//! shape, place of the data), then the data. <https://github.com/huggingface/safetensors>

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorInfo};
use serde_json::{Map, Value};
use tch::Kind;

use crate::error::{Error, Result};
use crate::file::write_atomic;
use crate::interrupt;
use crate::tensor::{Tensor, kind_name};

const METADATA: &str = "__metadata__";
const LENGTH_BYTES: u64 = 8;
/// As the reference implementation; a longer header is taken for damage.
const LONGEST_HEADER: u64 = 100_000_000;

/// Writes `tensors` and `metadata`; see [`write_atomic`] for what happens to an older file.
///
/// # Errors
/// A tensor that the format has no dtype for, and whatever stops the writing.
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
    text.push_str(&" ".repeat(text.len().next_multiple_of(LENGTH_BYTES as usize) - text.len()));
    Ok(text)
}

/// Reads the tensors of a file, to the CPU.
///
/// # Errors
/// A file that cannot be read or is damaged; the message names the file and the tensor.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    named(path, |file| {
        let header = read_header(file)?;
        let mut tensors = BTreeMap::new();
        for (name, entry) in header.entries {
            interrupt::check()?;
            let tensor = read_tensor(file, entry, header.data, header.total)
                .map_err(|error| error.context(format!("tensor `{name}`")))?;
            tensors.insert(name, tensor);
        }
        Ok(tensors)
    })
}

/// Reads the texts stored beside the tensors of a file.
///
/// # Errors
/// A file that cannot be read or is damaged; the message names the file.
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    named(path, |file| Ok(read_header(file)?.metadata))
}

fn named<T>(path: &Path, read: impl FnOnce(&mut File) -> Result<T>) -> Result<T> {
    let mut file = File::open(path).map_err(|error| Error::io(path, &error))?;
    read(&mut file).map_err(|error| error.context(format!("`{}`", path.display())))
}

struct Header {
    /// What is said of each tensor.
    entries: Map<String, Value>,
    metadata: BTreeMap<String, String>,
    /// Where in the file the data starts.
    data: u64,
    /// The length of the file.
    total: u64,
}

fn read_header(file: &mut File) -> Result<Header> {
    let system = |error: io::Error| Error::new(error.to_string());
    let total = file.metadata().map_err(system)?.len();
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut length).map_err(|_| Error::new("too short for a safetensors file"))?;
    let length = u64::from_le_bytes(length);
    let data = length.saturating_add(LENGTH_BYTES);
    if length > LONGEST_HEADER || data > total {
        return Err(Error::new(format!("not a safetensors file, or cut off: a header of {length} bytes in {total}")));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(system)?;
    let mut entries: Map<String, Value> = serde_json::from_slice(&header)
        .map_err(|error| Error::new(format!("not a safetensors file: its header is not JSON ({error})")))?;
    let metadata = match entries.remove(METADATA) {
        Some(texts) => serde_json::from_value(texts)
            .map_err(|error| Error::new(format!("`{METADATA}` is not a map of texts ({error})")))?,
        None => BTreeMap::new(),
    };
    Ok(Header { entries, metadata, data, total })
}

/// Reads the tensor that a header entry describes from a file of `total` bytes whose data starts at `data`.
fn read_tensor(file: &mut File, entry: Value, data: u64, total: u64) -> Result<Tensor> {
    let info: TensorInfo =
        serde_json::from_value(entry).map_err(|error| Error::new(format!("its header entry is damaged ({error})")))?;
    let kind = kind(info.dtype)?;
    let (start, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
    if start > end || end > total - data {
        return Err(Error::new(format!(
            "its data would be at {start}..{end} of {}; the file is damaged or cut off",
            total - data
        )));
    }
    let shape = info
        .shape
        .iter()
        .map(|&length| i64::try_from(length))
        .collect::<std::result::Result<Vec<i64>, _>>()
        .map_err(|_| Error::new(format!("its shape {:?} is impossible", info.shape)))?;
    let mut bytes = vec![0; (end - start) as usize];
    file.seek(SeekFrom::Start(data + start))
        .and_then(|_| file.read_exact(&mut bytes))
        .map_err(|error| Error::new(error.to_string()))?;
    Tensor::from_bytes(&bytes, &shape, kind)
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

fn kind(dtype: Dtype) -> Result<Kind> {
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
