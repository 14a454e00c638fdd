//! Rows of scripts from parquet files, and columns of scripts into them.

use std::path::Path;

use rhai::{Array, Dynamic, Map};
use tch::Kind;

use crate::bind::convert::{expected, number, type_name};
use crate::bind::option::Options;
use crate::data::parquet::{Column, Field, Row, Writer, open};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::tensor::raw::values;

/// Reads the rows of a parquet file as maps.
pub fn read_rows(path: &str) -> Result<Array> {
    open(Path::new(path))?.map(|row| map(row?).map(Dynamic::from)).collect()
}

fn map(row: Row) -> Result<Map> {
    row.into_columns().into_iter().map(|(name, field)| Ok((name.into(), value(field)?))).collect()
}

fn value(field: Field) -> Result<Dynamic> {
    Ok(match field {
        Field::Null => Dynamic::UNIT,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => i64::from(value).into(),
        Field::Short(value) => i64::from(value).into(),
        Field::Int(value) => i64::from(value).into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => i64::from(value).into(),
        Field::UShort(value) => i64::from(value).into(),
        Field::UInt(value) => i64::from(value).into(),
        Field::ULong(value) => match i64::try_from(value) {
            Ok(value) => value.into(),
            Err(_) => return Err(Error::new(format!("{value} is more than an integer can hold"))),
        },
        Field::Float16(value) => f64::from(value).into(),
        Field::Float(value) => f64::from(value).into(),
        Field::Double(value) => value.into(),
        Field::Str(text) => text.into(),
        Field::Bytes(bytes) => Dynamic::from_blob(bytes.data().to_vec()),
        Field::ListInternal(list) => {
            let items = list.elements().iter().cloned().map(value);
            items.collect::<Result<Array>>()?.into()
        }
        Field::Group(row) => map(row)?.into(),
        // Dates, times, decimals and maps of other keys than texts, as they are written.
        other => other.to_string().into(),
    })
}

/// Writes columns to a parquet file.
pub fn write_columns(path: &str, columns: &Map, options: Map) -> Result<()> {
    let names = match Options::read("write_parquet", options, |options| options.array("columns"))? {
        Some(names) => names.into_iter().map(|name| chosen(columns, name)).collect::<Result<Vec<_>>>()?,
        None => columns.keys().map(ToString::to_string).collect(),
    };
    let values = names.iter().map(|name| column(name, columns.get(name.as_str()))).collect::<Result<Vec<_>>>()?;
    let types: Vec<_> = names.iter().map(String::as_str).zip(values.iter().map(Column::column_type)).collect();
    let mut writer = Writer::create(Path::new(path), &types)?;
    writer.append(values)?;
    writer.finish()
}

fn chosen(columns: &Map, name: Dynamic) -> Result<String> {
    let name = name.into_string().map_err(|_| Error::new("option `columns` of `write_parquet` must hold strings"))?;
    if columns.contains_key(name.as_str()) {
        return Ok(name);
    }
    let names: Vec<&str> = columns.keys().map(|name| name.as_str()).collect();
    Err(Error::new(format!("there is no column `{name}`")).hint(format!("the columns are {}", names.join(", "))))
}

fn column(name: &str, value: Option<&Dynamic>) -> Result<Column> {
    let what = format!("column `{name}`");
    let Some(value) = value else { return Err(Error::new(format!("there is no {what}"))) };
    if let Some(tensor) = value.read_lock::<Tensor>() {
        return from_tensor(&what, &tensor);
    }
    let Some(items) = value.read_lock::<Array>() else {
        return Err(expected(&what, "an array or a tensor of one dimension", value));
    };
    let nested = items.first().is_some_and(Dynamic::is_array);
    if !nested {
        return flat(&what, &items);
    }
    let parts = items.iter().enumerate().map(|(row, item)| match item.read_lock::<Array>() {
        Some(part) => flat(&format!("row {row} of {what}"), &part),
        None => Err(expected(&format!("row {row} of {what}"), "an array like the first", item)),
    });
    lists(&what, parts.collect::<Result<Vec<_>>>()?)
}

/// A column of plain values; whole numbers among floats are floats.
fn flat(what: &str, items: &Array) -> Result<Column> {
    if let Some(integers) = items.iter().map(|item| item.as_int().ok()).collect() {
        return Ok(Column::Integer(integers));
    }
    if let Some(numbers) = items.iter().map(number).collect() {
        return Ok(Column::Double(numbers));
    }
    if let Some(texts) = items.iter().map(|item| item.clone().into_string().ok()).collect() {
        return Ok(Column::Text(texts));
    }
    let odd = items.iter().find(|item| number(item).is_none() && !item.is_string());
    let found = odd.map_or("a mixture", type_name);
    Err(Error::new(format!("{what} must hold numbers or strings only, not {found}"))
        .hint("or arrays of integers or of strings, one per row"))
}

fn lists(what: &str, parts: Vec<Column>) -> Result<Column> {
    let is_text = parts.iter().any(|part| matches!(part, Column::Text(_)));
    let error = || Error::new(format!("{what} must hold arrays of integers or arrays of strings, all alike"));
    if is_text {
        let texts = parts.into_iter().map(|part| match part {
            Column::Text(texts) => Some(texts),
            Column::Integer(none) if none.is_empty() => Some(Vec::new()),
            _ => None,
        });
        return texts.collect::<Option<_>>().map(Column::Texts).ok_or_else(error);
    }
    let integers = parts.into_iter().map(|part| match part {
        Column::Integer(integers) => Some(integers),
        _ => None,
    });
    integers.collect::<Option<_>>().map(Column::Integers).ok_or_else(error)
}

fn from_tensor(what: &str, tensor: &Tensor) -> Result<Column> {
    if tensor.tch().dim() != 1 {
        return Err(Error::new(format!("{what} is a tensor of {} dimensions, not 1", tensor.tch().dim())));
    }
    Ok(match tensor.kind() {
        Kind::Double => Column::Double(values(tensor.tch())?),
        Kind::Float | Kind::Half | Kind::BFloat16 => Column::Single(values(tensor.tch())?),
        _ => Column::Integer(values(tensor.tch())?),
    })
}
