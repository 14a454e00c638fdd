//! Rows of scripts as CSV files and back.

use std::path::Path;

use rhai::{Array, Dynamic, Map};

use crate::bind::convert::expected;
use crate::bind::option::Options;
use crate::bind::table;
use crate::data::csv;
use crate::error::{Error, Result};
use crate::interrupt;

fn delimiter(options: &mut Options) -> Result<u8> {
    match options.string("delimiter")? {
        None => Ok(b','),
        Some(text) => match text.as_bytes() {
            [byte] => Ok(*byte),
            _ => Err(Error::new(format!("the delimiter must be one ASCII character, not `{text}`"))),
        },
    }
}

/// Reads the rows of a CSV file as maps.
pub fn read_rows(path: &str, options: Map) -> Result<Array> {
    let (numbers, delimiter) = Options::read("read_csv", options, |options| {
        Ok((options.boolean("numbers")?.unwrap_or(false), delimiter(options)?))
    })?;
    let found = csv::read(Path::new(path), delimiter)?;
    let cell = |text: String| if numbers { guess(text) } else { text.into() };
    let row = |cells: Vec<String>| -> Result<Dynamic> {
        interrupt::check()?;
        let names = found.columns.iter().map(|column| column.as_str().into());
        Ok(Dynamic::from(names.zip(cells.into_iter().map(cell)).collect::<Map>()))
    };
    found.rows.into_iter().map(row).collect()
}

/// A cell as a number if it is written like one.
fn guess(text: String) -> Dynamic {
    if let Ok(integer) = text.parse::<i64>() {
        return integer.into();
    }
    // A float would not hold all digits of a larger integer.
    if text.trim_start_matches(['+', '-']).bytes().all(|byte| byte.is_ascii_digit()) {
        return text.into();
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
    Ok(table::cell(place, value)?.exact())
}

/// The names of the columns of rows that are maps: as the option says, or each name the first time it appears.
fn column_names(rows: &[Map], chosen: Option<Vec<String>>) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    for row in rows {
        interrupt::check()?;
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

/// Writes rows, maps or arrays, to a CSV file.
pub fn write_rows(path: &str, rows: &Array, options: Map) -> Result<()> {
    let (columns, header, delimiter) = Options::read("write_csv", options, |options| {
        let columns = names("`columns`", options.array("columns")?)?;
        let header = names("`header`", options.array("header")?)?;
        Ok((columns, header, delimiter(options)?))
    })?;
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
    csv::write(Path::new(path), header.as_deref(), &cells, delimiter)
}

fn map_cells(rows: &[Map], columns: &[String]) -> Result<Vec<Vec<String>>> {
    let row_cells = |(number, row): (usize, &Map)| {
        interrupt::check()?;
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
        interrupt::check()?;
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
