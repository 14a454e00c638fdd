//! Tables of text in CSV files.

use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::file::write_atomic;
use crate::interrupt;

/// Rows of equally many cells under named columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The cells, row by row.
    pub rows: Vec<Vec<String>>,
}

/// Reads a CSV file whose first line names the columns; `delimiter` separates the cells.
///
/// # Errors
/// No header line, a column named twice, a row with more or fewer cells than the header (the message names the line).
pub fn read_csv(path: &Path, delimiter: u8) -> Result<Table> {
    let named = |error: Error| error.context(format!("`{}`", path.display()));
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).from_path(path).map_err(|error| named(failure(error)))?;
    let columns: Vec<String> =
        reader.headers().map_err(|error| named(failure(error)))?.iter().map(str::to_owned).collect();
    if columns.is_empty() {
        return Err(named(Error::new("there is no header line")));
    }
    let repeated = |(place, name): &(usize, &String)| columns.iter().take(*place).any(|earlier| earlier == *name);
    if let Some((_, name)) = columns.iter().enumerate().find(repeated) {
        return Err(named(Error::new(format!("the header names the column `{name}` twice"))));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        interrupt::check()?;
        let record = record.map_err(|error| named(failure(error)))?;
        rows.push(record.iter().map(str::to_owned).collect());
    }
    Ok(Table { columns, rows })
}

/// Writes a CSV file: a header line with `columns`, if given, then the rows.
///
/// # Errors
/// Whatever stops the writing; the message names the path.
pub fn write_csv(path: &Path, columns: Option<&[String]>, rows: &[Vec<String>], delimiter: u8) -> Result<()> {
    write_atomic(path, |file| {
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).flexible(true).from_writer(file);
        if let Some(columns) = columns {
            writer.write_record(columns).map_err(io::Error::other)?;
        }
        for row in rows {
            interrupt::check().map_err(io::Error::other)?;
            writer.write_record(row).map_err(io::Error::from)?;
        }
        writer.flush()
    })
}

fn failure(error: csv::Error) -> Error {
    let line = error.position().map_or_else(String::new, |position| format!("line {}: ", position.line()));
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Error::new(format!("{line}{len} cells where the header has {expected_len}"))
                .hint("put quotes around cells that hold the delimiter or a line break")
        }
        csv::ErrorKind::Utf8 { .. } => Error::new(format!("{line}not UTF-8 text")),
        csv::ErrorKind::Io(error) => Error::new(error.to_string()),
        _ => Error::new(format!("{line}{error}")),
    }
}
