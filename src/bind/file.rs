//! Reading and writing files: tensors, JSON, CSV tables and text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, Map};
use serde_json::Value;

use super::args::{Options, ScriptResult, expected, raise, type_name};
use super::tensor::{convert, to_nested};
use crate::data::{safetensors, table};
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;
use crate::tensor::Tensor;
use crate::tensor::element::Number;

/// Deeper nesting is taken for a mistake.
const DEEPEST: usize = 64;

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(file_functions).into());
    engine.register_global_module(exported_module!(data_functions).into());
}

fn texts(what: &str, map: &Map) -> Result<BTreeMap<String, String>> {
    map.iter()
        .map(|(key, value)| match value.clone().into_string() {
            Ok(text) => Ok((key.to_string(), text)),
            Err(_) => Err(expected(&format!("`{key}` in {what}"), "a string", value)),
        })
        .collect()
}

fn save(path: &str, tensors: &Map, options: Map) -> Result<()> {
    let mut options = Options::new("save_safetensors", options, &["metadata"])?;
    let metadata = texts("the metadata", &options.map("metadata")?.unwrap_or_default())?;
    let tensors = tensors
        .iter()
        .map(|(name, value)| Ok((name.to_string(), convert::tensor(&format!("`{name}`"), value)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    safetensors::write(Path::new(path), &tensors, &metadata)
}

/// How much of a float is written.
#[derive(Clone, Copy, PartialEq)]
enum Digits {
    /// What tells it from other f64.
    Double,
    /// What tells it from other f32, so that 0.1 of an f32 tensor is not 0.10000000149.
    Single,
}

impl Digits {
    fn of(self, value: f64) -> f64 {
        match self {
            Self::Double => value,
            Self::Single => (value as f32).to_string().parse().unwrap_or(value),
        }
    }
}

/// A value as JSON. Numbers that JSON does not have, NaN and the infinities, become null.
fn to_json(value: &Dynamic, digits: Digits, depth: usize) -> Result<Value> {
    interrupt::check()?;
    if depth > DEEPEST {
        return Err(Error::new(format!("values nested more than {DEEPEST} deep cannot be written as JSON")));
    }
    if let Some(array) = value.read_lock::<Array>() {
        return array.iter().map(|item| to_json(item, digits, depth + 1)).collect::<Result<Vec<_>>>().map(Value::Array);
    }
    if let Some(map) = value.read_lock::<Map>() {
        let entries = map.iter().map(|(key, value)| Ok((key.to_string(), to_json(value, digits, depth + 1)?)));
        return entries.collect::<Result<serde_json::Map<_, _>>>().map(Value::Object);
    }
    if let Some(tensor) = value.read_lock::<Tensor>() {
        let digits = if tensor.kind() == tch::Kind::Double { Digits::Double } else { Digits::Single };
        return to_json(&to_nested(&tensor)?, digits, depth);
    }
    if let Ok(text) = value.clone().into_string() {
        return Ok(Value::String(text));
    }
    match convert::number(value) {
        Some(Number::Bool(value)) => Ok(Value::Bool(value)),
        Some(Number::Integer(value)) => Ok(Value::from(value)),
        Some(Number::Float(value)) => {
            Ok(serde_json::Number::from_f64(digits.of(value)).map_or(Value::Null, Value::Number))
        }
        None if value.is_unit() => Ok(Value::Null),
        None if value.is_char() => Ok(Value::String(value.to_string())),
        None => Err(Error::new(format!("a {} cannot be written as JSON", type_name(value)))
            .hint("maps, arrays, strings, numbers, bools, () and tensors can")),
    }
}

fn from_json(value: Value) -> Result<Dynamic> {
    interrupt::check()?;
    Ok(match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => value.into(),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => number.as_f64().map_or(Dynamic::UNIT, Dynamic::from),
        },
        Value::String(text) => text.into(),
        Value::Array(items) => items.into_iter().map(from_json).collect::<Result<Array>>()?.into(),
        Value::Object(entries) => {
            let entries = entries.into_iter().map(|(key, value)| Ok((key.as_str().into(), from_json(value)?)));
            entries.collect::<Result<Map>>()?.into()
        }
    })
}

fn delimiter(options: &mut Options) -> Result<u8> {
    match options.string("delimiter")? {
        None => Ok(b','),
        Some(text) => match text.as_bytes() {
            [byte] => Ok(*byte),
            _ => Err(Error::new(format!("the delimiter must be one ASCII character, not `{text}`"))),
        },
    }
}

fn rows_of(path: &str, options: Map) -> Result<Array> {
    let mut options = Options::new("read_csv", options, &["numbers", "delimiter"])?;
    let numbers = options.boolean("numbers")?.unwrap_or(false);
    let table = table::read_csv(Path::new(path), delimiter(&mut options)?)?;
    let cell = |text: String| if numbers { guess(text) } else { text.into() };
    let row = |cells: Vec<String>| -> Map {
        table.columns.iter().map(|column| column.as_str().into()).zip(cells.into_iter().map(cell)).collect()
    };
    Ok(table.rows.into_iter().map(|cells| Dynamic::from(row(cells))).collect())
}

/// A cell as a number if it is written like one.
fn guess(text: String) -> Dynamic {
    if let Ok(integer) = text.parse::<i64>() {
        return integer.into();
    }
    let numeric =
        text.contains(|character: char| character.is_ascii_digit()) || ["NaN", "inf", "-inf"].contains(&&*text);
    match text.parse::<f64>() {
        Ok(float) if numeric => float.into(),
        _ => text.into(),
    }
}

/// A cell as text. Floats keep all their digits, `()` is empty.
fn cell(place: impl Fn() -> String, value: &Dynamic) -> Result<String> {
    if let Ok(text) = value.clone().into_string() {
        return Ok(text);
    }
    let single = match value.read_lock::<Tensor>() {
        Some(tensor) if tensor.numel() == 1 => Some(tensor.item()?),
        _ => convert::number(value),
    };
    match single {
        Some(Number::Bool(value)) => Ok(value.to_string()),
        Some(Number::Integer(value)) => Ok(value.to_string()),
        Some(Number::Float(value)) => Ok(format!("{value:?}")),
        None if value.is_unit() => Ok(String::new()),
        None if value.is_char() => Ok(value.to_string()),
        None => Err(expected(&place(), "a string, number, bool or ()", value)),
    }
}

/// The names of the columns of rows that are maps: as the option says, or each name the first time it appears.
fn column_names(rows: &[Map], chosen: Option<Vec<String>>) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    for row in rows {
        for key in row.keys().filter(|key| !found.iter().any(|name| name == key.as_str())).collect::<Vec<_>>() {
            found.push(key.to_string());
        }
    }
    let Some(chosen) = chosen else { return Ok(found) };
    match chosen.iter().find(|name| !rows.is_empty() && !found.contains(name)) {
        Some(name) => {
            Err(Error::new(format!("no row has the column `{name}`"))
                .hint(format!("the columns are {}", found.join(", "))))
        }
        None => Ok(chosen),
    }
}

fn names(what: &str, array: Option<Array>) -> Result<Option<Vec<String>>> {
    let Some(array) = array else { return Ok(None) };
    let name = |item: &Dynamic| {
        item.clone().into_string().map_err(|_| expected(&format!("each item of {what}"), "a string", item))
    };
    array.iter().map(name).collect::<Result<Vec<_>>>().map(Some)
}

fn save_rows(path: &str, rows: &Array, options: Map) -> Result<()> {
    let mut options = Options::new("write_csv", options, &["columns", "header", "delimiter"])?;
    let columns = names("`columns`", options.array("columns")?)?;
    let header = names("`header`", options.array("header")?)?;
    let delimiter = delimiter(&mut options)?;
    let maps: Option<Vec<Map>> = rows.iter().map(|row| row.clone().try_cast::<Map>()).collect();
    let (header, cells) = match maps {
        Some(maps) if !maps.is_empty() || columns.is_some() => {
            if header.is_some() {
                return Err(
                    Error::new("`header` is for rows that are arrays").hint("rows that are maps take `columns`")
                );
            }
            let columns = column_names(&maps, columns)?;
            let cells = map_cells(&maps, &columns)?;
            (Some(columns), cells)
        }
        _ => {
            if columns.is_some() {
                return Err(
                    Error::new("`columns` is for rows that are maps").hint("rows that are arrays take `header`")
                );
            }
            let cells = array_cells(rows, header.as_ref().map(Vec::len))?;
            (header, cells)
        }
    };
    table::write_csv(Path::new(path), header.as_deref(), &cells, delimiter)
}

fn map_cells(rows: &[Map], columns: &[String]) -> Result<Vec<Vec<String>>> {
    let row_cells = |(number, row): (usize, &Map)| {
        columns
            .iter()
            .map(|column| match row.get(column.as_str()) {
                Some(value) => cell(|| format!("column `{column}` of row {number}"), value),
                None => Err(Error::new(format!("row {number} has no column `{column}`"))
                    .hint("every row must have the same keys; put () where there is nothing")),
            })
            .collect()
    };
    rows.iter().enumerate().map(row_cells).collect()
}

fn array_cells(rows: &Array, width: Option<usize>) -> Result<Vec<Vec<String>>> {
    let mut width = width;
    let mut cells = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let Some(items) = row.read_lock::<Array>() else {
            return Err(expected(&format!("row {number}"), "an array like the others, or all rows maps", row));
        };
        let wanted = *width.get_or_insert(items.len());
        if items.len() != wanted {
            return Err(Error::new(format!("row {number} has {} cells, not {wanted}", items.len())));
        }
        let place = |column: usize| move || format!("cell {column} of row {number}");
        cells.push(items.iter().enumerate().map(|(column, item)| cell(place(column), item)).collect::<Result<_>>()?);
    }
    Ok(cells)
}

#[export_module]
mod file_functions {
    /// The text of a file, which must be UTF-8.
    #[rhai_fn(return_raw, volatile)]
    pub fn read_text(path: &str) -> ScriptResult<String> {
        file::read_text(Path::new(path)).map_err(raise)
    }

    /// Writes a text file; missing folders are made, and an older file stays as it was if writing fails.
    #[rhai_fn(return_raw, volatile)]
    pub fn write_text(path: &str, text: &str) -> ScriptResult<()> {
        file::write_text(Path::new(path), text).map_err(raise)
    }

    /// Whether there is a file or folder at a path.
    ///
    /// # Example
    /// ```rhai
    /// assert(path_exists("."));
    /// ```
    #[rhai_fn(volatile)]
    pub fn path_exists(path: &str) -> bool {
        Path::new(path).exists()
    }

    /// Makes a folder and those above it; one that is there already is fine.
    #[rhai_fn(return_raw, volatile)]
    pub fn make_dir(path: &str) -> ScriptResult<()> {
        file::make_dir(Path::new(path)).map_err(raise)
    }

    /// Two paths joined; an absolute second path stands for itself.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(join_path("results", "scores.csv"), "results/scores.csv");
    /// ```
    pub fn join_path(a: &str, b: &str) -> String {
        PathBuf::from(a).join(b).to_string_lossy().into_owned()
    }

    /// The folder that a path lies in; "." for a bare file name.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(parent_dir("results/run.csv"), "results");
    /// ```
    pub fn parent_dir(path: &str) -> String {
        match Path::new(path).parent().map(|parent| parent.display().to_string()) {
            Some(parent) if !parent.is_empty() => parent,
            _ => ".".to_owned(),
        }
    }
}

#[export_module]
mod data_functions {
    /// Writes a map of tensors to a safetensors file.
    ///
    /// Missing folders are made, and an older file stays as it was if writing fails.
    #[rhai_fn(name = "save_safetensors", return_raw, volatile)]
    pub fn save_safetensors(path: &str, tensors: Map) -> ScriptResult<()> {
        save(path, &tensors, Map::new()).map_err(raise)
    }

    /// Writes a map of tensors to a safetensors file; the option `metadata` is a map of strings stored beside them.
    #[rhai_fn(name = "save_safetensors", return_raw, volatile)]
    pub fn save_safetensors_with(path: &str, tensors: Map, options: Map) -> ScriptResult<()> {
        save(path, &tensors, options).map_err(raise)
    }

    /// The tensors of a safetensors file, a map by name, on the CPU.
    ///
    /// # Errors
    /// A damaged file, or a dtype that tensors don't have; the message names the tensor.
    #[rhai_fn(return_raw, volatile)]
    pub fn load_safetensors(path: &str) -> ScriptResult<Map> {
        let tensors = safetensors::read(Path::new(path)).map_err(raise)?;
        Ok(tensors.into_iter().map(|(name, tensor)| (name.into(), Dynamic::from(tensor))).collect())
    }

    /// The strings stored beside the tensors of a safetensors file, a map.
    #[rhai_fn(return_raw, volatile)]
    pub fn load_safetensors_metadata(path: &str) -> ScriptResult<Map> {
        let metadata = safetensors::read_metadata(Path::new(path)).map_err(raise)?;
        Ok(metadata.into_iter().map(|(key, text)| (key.into(), Dynamic::from(text))).collect())
    }

    /// Writes a value as indented JSON: maps, arrays, strings, numbers, bools, `()` (as null) and tensors (as nested
    /// arrays).
    ///
    /// NaN and the infinities, which JSON does not have, are written as null. Missing folders are made, and an older
    /// file stays as it was if writing fails.
    #[rhai_fn(return_raw, volatile)]
    pub fn write_json(path: &str, value: Dynamic) -> ScriptResult<()> {
        let write = || {
            let text = serde_json::to_string_pretty(&to_json(&value, Digits::Double, 0)?)
                .map_err(|error| Error::new(format!("`{path}`: {error}")))?;
            file::write_text(Path::new(path), &(text + "\n"))
        };
        write().map_err(raise)
    }

    /// The value in a JSON file; null becomes `()`, and a number is an integer if it is written as one.
    #[rhai_fn(return_raw, volatile)]
    pub fn read_json(path: &str) -> ScriptResult<Dynamic> {
        let read = || {
            let text = file::read_text(Path::new(path))?;
            from_json(serde_json::from_str(&text).map_err(|error| Error::new(format!("`{path}`: {error}")))?)
        };
        read().map_err(raise)
    }

    /// The rows of a CSV file, an array of maps from column name to string; the first line names the columns.
    ///
    /// # Errors
    /// No header line, or a row with more or fewer cells than it; the message names the line.
    #[rhai_fn(name = "read_csv", return_raw, volatile)]
    pub fn read_csv(path: &str) -> ScriptResult<Array> {
        rows_of(path, Map::new()).map_err(raise)
    }

    /// The rows of a CSV file, with the options `numbers` (true turns cells that are written as numbers into numbers) and
    /// `delimiter` (`,` unless given).
    #[rhai_fn(name = "read_csv", return_raw, volatile)]
    pub fn read_csv_with(path: &str, options: Map) -> ScriptResult<Array> {
        rows_of(path, options).map_err(raise)
    }

    /// Writes rows to a CSV file: maps, whose keys become the header line, or arrays of cells.
    ///
    /// Cells are strings, numbers, bools, tensors of one element, or `()` for an empty cell. The columns of maps are in
    /// alphabetical order; the option `columns` chooses others. Missing folders are made, and an older file stays as it
    /// was if writing fails.
    #[rhai_fn(name = "write_csv", return_raw, volatile)]
    pub fn write_csv(path: &str, rows: Array) -> ScriptResult<()> {
        save_rows(path, &rows, Map::new()).map_err(raise)
    }

    /// Writes rows to a CSV file, with the options `columns` (which keys of maps, in this order), `header` (the names of
    /// the columns, for rows that are arrays) and `delimiter`.
    #[rhai_fn(name = "write_csv", return_raw, volatile)]
    pub fn write_csv_with(path: &str, rows: Array, options: Map) -> ScriptResult<()> {
        save_rows(path, &rows, options).map_err(raise)
    }
}
