//! Reads the part of a GGUF file before the tensor data: header, metadata, tensor descriptions. Every length is checked
//! against the remaining bytes before anything is allocated, so a broken file can only lead to an error.

use std::collections::HashMap;

use super::dequantize::TensorType;
use super::value::Value;
use crate::error::{Error, Result};

/// Arrays may hold arrays; deeper nesting than this counts as corruption.
const DEEPEST_ARRAY: usize = 4;
/// ggml tensors have no more dimensions.
const MOST_DIMENSIONS: u32 = 4;
const DEFAULT_ALIGNMENT: i64 = 32;

/// The file without the tensor data.
pub(super) struct Header {
    pub metadata: HashMap<String, Value>,
    /// In the file's order.
    pub tensors: Vec<(String, TensorInfo)>,
}

/// A tensor's place in the file and its storage type.
#[derive(Debug, Clone)]
pub(super) struct TensorInfo {
    /// In PyTorch order: the last dimension is contiguous.
    pub shape: Vec<i64>,
    pub kind: TensorType,
    /// The number of values.
    pub count: usize,
    /// The byte position of the data in the file.
    pub start: usize,
    /// The number of bytes; 0 where the type's size is not known.
    pub bytes: usize,
}

/// Reads the header of a whole file.
pub(super) fn read(file: &[u8]) -> Result<Header> {
    let mut cursor = Cursor { bytes: file, position: 0 };
    let (tensor_count, metadata_count) = preamble(&mut cursor)?;
    let metadata = metadata(&mut cursor, metadata_count)?;
    // A name's length, the number of dimensions, the type and the offset.
    cursor.room_for(tensor_count, 8 + 4 + 4 + 8, "the tensor descriptions")?;
    let mut descriptions = Vec::new();
    for _ in 0..tensor_count {
        let name = cursor.string("a tensor's name")?;
        let description = description(&mut cursor).map_err(|error| error.context(format!("tensor `{name}`")))?;
        descriptions.push((name, description));
    }
    let alignment = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(Value::Integer(alignment)) => *alignment,
        Some(other) => {
            return Err(Error::new(format!("metadata `general.alignment` is {}", other.type_name()))
                .hint("an integer is expected"));
        }
    };
    let data_start = usize::try_from(alignment)
        .ok()
        .filter(|alignment| alignment.is_power_of_two())
        .and_then(|alignment| cursor.position.checked_next_multiple_of(alignment))
        .ok_or_else(|| {
            Error::new(format!("the alignment `{alignment}` cannot be used")).hint("a power of two is expected")
        })?;
    let tensors = descriptions
        .into_iter()
        .map(|(name, description)| {
            let info = locate(description, data_start, file.len())
                .map_err(|error| error.context(format!("tensor `{name}`")))?;
            Ok((name, info))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Header { metadata, tensors })
}

/// Magic and version; returns the number of tensors and of metadata entries.
fn preamble(cursor: &mut Cursor) -> Result<(u64, u64)> {
    if cursor.take(4, "the magic bytes")? != b"GGUF" {
        return Err(Error::new("not a GGUF file").hint("a GGUF file begins with the letters GGUF"));
    }
    let version = u32::from_le_bytes(cursor.array("the version")?);
    match version {
        2 | 3 => {}
        1 => return Err(Error::new("GGUF version 1 is not supported").hint("convert the file to version 3")),
        _ if matches!(version.swap_bytes(), 1..=3) => {
            return Err(Error::new("big-endian GGUF is not supported").hint("convert the file to little-endian"));
        }
        other => {
            return Err(Error::new(format!("GGUF version {other} is not supported")).hint("versions 2 and 3 are"));
        }
    }
    let tensors = u64::from_le_bytes(cursor.array("the number of tensors")?);
    let entries = u64::from_le_bytes(cursor.array("the number of metadata entries")?);
    Ok((tensors, entries))
}

fn metadata(cursor: &mut Cursor, count: u64) -> Result<HashMap<String, Value>> {
    // A key's length, the type and at least one byte of value.
    cursor.room_for(count, 8 + 4 + 1, "the metadata")?;
    let mut metadata = HashMap::new();
    for _ in 0..count {
        let key = cursor.string("a metadata key")?;
        let value = ValueType::read(cursor)
            .and_then(|kind| value(cursor, kind, 0))
            .map_err(|error| error.context(format!("metadata `{key}`")))?;
        if metadata.contains_key(&key) {
            return Err(Error::new(format!("metadata `{key}` is given twice")));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

/// A tensor's description as stored in the file.
struct Description {
    shape: Vec<i64>,
    kind: TensorType,
    offset: u64,
}

fn description(cursor: &mut Cursor) -> Result<Description> {
    let dimensions = u32::from_le_bytes(cursor.array("the number of dimensions")?);
    if dimensions > MOST_DIMENSIONS {
        return Err(Error::new(format!("{dimensions} dimensions, and there can be {MOST_DIMENSIONS} at most")));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let size = u64::from_le_bytes(cursor.array("a dimension")?);
        shape.push(i64::try_from(size).map_err(|_| Error::new(format!("a dimension of {size}")))?);
    }
    // ggml names the contiguous dimension first, PyTorch last.
    shape.reverse();
    let kind = TensorType::from_code(u32::from_le_bytes(cursor.array("the tensor type")?));
    let offset = u64::from_le_bytes(cursor.array("the offset")?);
    Ok(Description { shape, kind, offset })
}

fn locate(description: Description, data_start: usize, file_length: usize) -> Result<TensorInfo> {
    let Description { shape, kind, offset } = description;
    let too_long = || Error::new(format!("the shape {shape:?} does not fit the file"));
    let mut count = 1_usize;
    for &size in &shape {
        count = usize::try_from(size).ok().and_then(|size| count.checked_mul(size)).ok_or_else(too_long)?;
    }
    let mut bytes = 0;
    if let Some((block_values, block_bytes)) = kind.block() {
        let row = shape.last().copied().unwrap_or(1);
        if row % block_values as i64 != 0 {
            return Err(Error::new(format!(
                "rows of {row} values do not divide into {} blocks of {block_values}",
                kind
            )));
        }
        bytes = (count / block_values).checked_mul(block_bytes).ok_or_else(too_long)?;
    }
    let start = usize::try_from(offset).ok().and_then(|offset| data_start.checked_add(offset));
    let start =
        start.filter(|start| start.checked_add(bytes).is_some_and(|end| end <= file_length)).ok_or_else(|| {
            Error::new("its data is beyond the end of the file").hint("the file may be incomplete: download it again")
        })?;
    Ok(TensorInfo { shape, kind, count, start, bytes })
}

/// The type of a metadata value, as coded in the file.
#[derive(Clone, Copy)]
enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Boolean,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    fn read(cursor: &mut Cursor) -> Result<Self> {
        Ok(match u32::from_le_bytes(cursor.array("the value's type")?) {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Boolean,
            8 => Self::String,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            other => return Err(Error::new(format!("unknown value type {other}"))),
        })
    }

    /// The fewest bytes that a value takes.
    fn least_bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Boolean => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::String | Self::U64 | Self::I64 | Self::F64 => 8,
            Self::Array => 4 + 8,
        }
    }
}

fn value(cursor: &mut Cursor, kind: ValueType, depth: usize) -> Result<Value> {
    Ok(match kind {
        ValueType::F32 | ValueType::F64 => Value::Float(float(cursor, kind)?),
        ValueType::Boolean => Value::Boolean(boolean(cursor)?),
        ValueType::String => Value::String(cursor.string("a string")?),
        ValueType::Array => array(cursor, depth)?,
        _ => Value::Integer(integer(cursor, kind)?),
    })
}

fn array(cursor: &mut Cursor, depth: usize) -> Result<Value> {
    if depth >= DEEPEST_ARRAY {
        return Err(Error::new(format!("arrays nested more than {DEEPEST_ARRAY} deep")));
    }
    let kind = ValueType::read(cursor)?;
    let count = u64::from_le_bytes(cursor.array("an array's length")?);
    cursor.room_for(count, kind.least_bytes(), "an array")?;
    let items = 0..count;
    Ok(match kind {
        ValueType::F32 | ValueType::F64 => Value::Floats(items.map(|_| float(cursor, kind)).collect::<Result<_>>()?),
        ValueType::Boolean => Value::Booleans(items.map(|_| boolean(cursor)).collect::<Result<_>>()?),
        ValueType::String => Value::Strings(items.map(|_| cursor.string("a string")).collect::<Result<_>>()?),
        ValueType::Array => Value::Arrays(items.map(|_| array(cursor, depth + 1)).collect::<Result<_>>()?),
        _ => Value::Integers(items.map(|_| integer(cursor, kind)).collect::<Result<_>>()?),
    })
}

fn integer(cursor: &mut Cursor, kind: ValueType) -> Result<i64> {
    const WHAT: &str = "an integer";
    Ok(match kind {
        ValueType::U8 => u8::from_le_bytes(cursor.array(WHAT)?).into(),
        ValueType::I8 => i8::from_le_bytes(cursor.array(WHAT)?).into(),
        ValueType::U16 => u16::from_le_bytes(cursor.array(WHAT)?).into(),
        ValueType::I16 => i16::from_le_bytes(cursor.array(WHAT)?).into(),
        ValueType::U32 => u32::from_le_bytes(cursor.array(WHAT)?).into(),
        ValueType::I32 => i32::from_le_bytes(cursor.array(WHAT)?).into(),
        ValueType::U64 => {
            let wide = u64::from_le_bytes(cursor.array(WHAT)?);
            i64::try_from(wide).map_err(|_| Error::new(format!("the integer {wide} is too large")))?
        }
        _ => i64::from_le_bytes(cursor.array(WHAT)?),
    })
}

fn float(cursor: &mut Cursor, kind: ValueType) -> Result<f64> {
    Ok(match kind {
        ValueType::F32 => f32::from_le_bytes(cursor.array("a float")?).into(),
        _ => f64::from_le_bytes(cursor.array("a float")?),
    })
}

fn boolean(cursor: &mut Cursor) -> Result<bool> {
    let [byte] = cursor.array("a truth value")?;
    Ok(byte != 0)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: u64, what: &str) -> Result<&'a [u8]> {
        let end = usize::try_from(length).ok().and_then(|length| self.position.checked_add(length));
        let taken = end.and_then(|end| Some((self.bytes.get(self.position..end)?, end)));
        let (bytes, end) = taken.ok_or_else(|| ends_inside(what))?;
        self.position = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        self.take(N as u64, what)?.first_chunk().copied().ok_or_else(|| ends_inside(what))
    }

    fn string(&mut self, what: &str) -> Result<String> {
        let length = u64::from_le_bytes(self.array(what)?);
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Error::new(format!("{what} is not UTF-8 text")))
    }

    /// Fails if `count` items of at least `least` bytes do not fit into the rest of the file.
    fn room_for(&self, count: u64, least: usize, what: &str) -> Result<()> {
        let left = self.bytes.len().saturating_sub(self.position);
        match count.checked_mul(least as u64) {
            Some(bytes) if bytes <= left as u64 => Ok(()),
            _ => Err(ends_inside(what)),
        }
    }
}

fn ends_inside(what: &str) -> Error {
    Error::new(format!("the file ends inside {what}")).hint("the file may be incomplete: download it again")
}
