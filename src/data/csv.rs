//! CSV files: named columns of text.

use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Result};
use crate::file::{self, write_atomic};
use crate::interrupt;

/// The only cell of the line that is put behind a file, to see whether the parser is at its end.
const GUARD: &str = "\0";

/// The content of a CSV file: rows of equal length under named columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csv {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The cells, row by row.
    pub rows: Vec<Vec<String>>,
    /// The line at which each row starts, from 1.
    pub lines: Vec<u64>,
}

/// Reads a CSV file whose first line names the columns; `delimiter` separates the cells.
///
/// # Errors
/// No header line, a column named twice, a row with more or fewer cells than the header, a quote that is not closed (the
/// message names the line).
pub fn read(path: &Path, delimiter: u8) -> Result<Csv> {
    let named = |error| failure(path, error);
    let text = file::read_text(path)?;
    // The parser takes an open quote as closed at the end. Then it also takes this line, which is its own otherwise.
    let guarded = text.as_bytes().chain(&b"\n\0"[..]);
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(guarded);
    let columns: Vec<String> = reader.headers().map_err(named)?.iter().map(str::to_owned).collect();
    if columns.is_empty() || columns == [GUARD] {
        return Err(Error::new(format!("`{}`: there is no header line", path.display())));
    }
    let repeated = |(place, name): &(usize, &String)| columns.iter().take(*place).any(|earlier| earlier == *name);
    if let Some((_, name)) = columns.iter().enumerate().find(repeated) {
        return Err(Error::new(format!("`{}:1`: the header names the column `{name}` twice", path.display())));
    }
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    for record in reader.records() {
        interrupt::check()?;
        let record = record.map_err(named)?;
        lines.push(record.position().map_or(0, csv::Position::line));
        rows.push(record.iter().map(str::to_owned).collect::<Vec<_>>());
    }
    let line = lines.pop().unwrap_or(1);
    if rows.pop().is_none_or(|last| last != [GUARD]) {
        return Err(Error::new(format!(
            "`{}:{line}`: a quote is not closed in the row that starts here",
            path.display()
        ))
        .hint("a quote within quotes is written twice"));
    }
    match rows.iter().zip(&lines).find(|(row, _)| row.len() != columns.len()) {
        Some((row, line)) => {
            let (cells, wanted) = (row.len(), columns.len());
            Err(Error::new(format!("`{}:{line}`: {cells} cells where the header has {wanted}", path.display()))
                .hint("put quotes around cells that hold the delimiter or a line break"))
        }
        None => Ok(Csv { columns, rows, lines }),
    }
}

/// Writes a CSV file: a header line with `columns`, if given, then the rows.
///
/// # Errors
/// A failure to write; the message names the path.
pub fn write(path: &Path, columns: Option<&[String]>, rows: &[Vec<String>], delimiter: u8) -> Result<()> {
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

fn failure(path: &Path, error: csv::Error) -> Error {
    let line = error.position().map_or_else(String::new, |position| format!(":{}", position.line()));
    let named = |message: &str| Error::new(format!("`{}{line}`: {message}", path.display()));
    match error.kind() {
        csv::ErrorKind::Io(error) => named(&error.to_string()),
        _ => named(&error.to_string()),
    }
}
