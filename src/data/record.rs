//! Records of data files of any format, each with its place: CSV, JSON lines, JSON and parquet, by the file's
//! extension.

use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::csv;
use super::json::{self, Source};
use super::parquet::{self, Field, Row};
use crate::error::{Error, Result};
use crate::{file, interrupt};

/// One record: named values, and its place in its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The place, for messages: `path:line`, or `path, row n` (from 0) where a file has no lines.
    pub place: String,
    /// The values by name.
    pub fields: Map<String, Value>,
}

impl Record {
    /// An error about this record.
    pub fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::new(format!("`{}`: {message}", self.place))
    }

    /// The names of its values, for messages.
    pub fn names(&self) -> String {
        self.fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// The records of a file, read one after the other.
pub type Records = Box<dyn Iterator<Item = Result<Record>>>;

/// Opens a file of records. In a `.json` file, which is read as a whole, they are the items of an array, or of the array
/// `examples` of an object, which is how BIG-bench's `task.json` has them.
///
/// # Errors
/// An unknown file extension, a file that cannot be read or does not have the format of its extension.
pub fn open(path: &Path) -> Result<Records> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "csv" => separated(path, b','),
        "tsv" => separated(path, b'\t'),
        "json" => Ok(Box::new(examples(path)?.into_iter().map(Ok))),
        "jsonl" | "ndjson" => lines(path),
        "parquet" => rows(path),
        _ => Err(Error::new(format!("`{}`: unknown file extension", path.display()))
            .hint("data is read from .csv, .tsv, .json, .jsonl and .parquet files")),
    }
}

/// Reads all records of a file; see [`open`].
///
/// # Errors
/// As for [`open`].
pub fn read(path: &Path) -> Result<Vec<Record>> {
    open(path)?.collect()
}

/// Whether a file's first line names its columns.
pub fn has_header(path: &Path) -> bool {
    has_extension(path, &["csv", "tsv"])
}

/// Whether a file's extension is one of those of records.
pub fn is_known(path: &Path) -> bool {
    has_extension(path, &["csv", "tsv", "json", "jsonl", "ndjson", "parquet"])
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|extension| extensions.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

fn separated(path: &Path, delimiter: u8) -> Result<Records> {
    let (rows, shown) = (csv::open(path, delimiter)?, path.display().to_string());
    let columns = rows.columns.clone();
    Ok(Box::new(rows.map(move |row| {
        let (line, cells) = row?;
        let fields = columns.iter().cloned().zip(cells.into_iter().map(Value::from)).collect();
        Ok(Record { place: format!("{shown}:{line}"), fields })
    })))
}

fn lines(path: &Path) -> Result<Records> {
    let shown = path.display().to_string();
    Ok(Box::new(json::lines(path)?.map(move |line| match line? {
        (line, Value::Object(fields)) => Ok(Record { place: format!("{shown}:{line}"), fields }),
        (line, _) => Err(Error::new(format!("`{shown}:{line}`: each line must be an object"))),
    })))
}

fn examples(path: &Path) -> Result<Vec<Record>> {
    let text = file::read_text(path)?;
    let source = Source::new(path, &text);
    let whole = source.whole()?;
    let items = if whole.get().starts_with('[') {
        serde_json::from_str::<Vec<&RawValue>>(whole.get()).ok()
    } else {
        source.members(whole, "the file")?.optional("examples", "an array")?
    };
    let items = items.ok_or_else(|| {
        source
            .error_at(whole, "there are no records")
            .hint("an array of objects, or an object with the array `examples`")
    })?;
    let record = |item: &RawValue| {
        interrupt::check()?;
        match source.value(item)? {
            Value::Object(fields) => Ok(Record { place: format!("{}:{}", path.display(), source.line(item)), fields }),
            _ => Err(source.error_at(item, "each record must be an object")),
        }
    };
    items.into_iter().map(record).collect()
}

fn rows(path: &Path) -> Result<Records> {
    let shown = path.display().to_string();
    Ok(Box::new(parquet::open(path)?.enumerate().map(move |(number, row): (usize, Result<Row>)| {
        let fields = row?.into_columns().into_iter().map(|(name, field)| (name, value(&field))).collect();
        Ok(Record { place: format!("{shown}, row {number}"), fields })
    })))
}

/// A parquet value as JSON: dates, times and decimals as they are written. Bytes have no JSON form and are null, as what
/// is absent.
fn value(field: &Field) -> Value {
    match field {
        Field::Bool(value) => Value::from(*value),
        Field::Byte(value) => Value::from(*value),
        Field::Short(value) => Value::from(*value),
        Field::Int(value) => Value::from(*value),
        Field::Long(value) => Value::from(*value),
        Field::UByte(value) => Value::from(*value),
        Field::UShort(value) => Value::from(*value),
        Field::UInt(value) => Value::from(*value),
        Field::ULong(value) => Value::from(*value),
        Field::Float16(value) => Value::from(f64::from(*value)),
        Field::Float(value) => Value::from(*value),
        Field::Double(value) => Value::from(*value),
        Field::Str(text) => Value::from(text.as_str()),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::Group(row) => {
            Value::Object(row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect())
        }
        Field::Null | Field::Bytes(_) => Value::Null,
        other => Value::from(other.to_string()),
    }
}
