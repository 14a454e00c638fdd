//! CSV files: named columns of text.

use std::io::{self, Chain, Read};
use std::path::{Path, PathBuf};

use csv::{StringRecord, StringRecordsIntoIter};

use super::stream::{self, Bytes};
use crate::error::{Error, Result};
use crate::file::write_atomic;
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
}

/// The rows of a CSV file, read one after the other, each with the line at which it starts, from 1.
pub struct Rows {
    /// The names of the columns.
    pub columns: Vec<String>,
    path: PathBuf,
    records: StringRecordsIntoIter<Chain<Bytes, &'static [u8]>>,
    /// The record that comes next; only the last one of the file may be the guard.
    next: Option<csv::Result<StringRecord>>,
}

/// Opens a CSV file whose first line names the columns; `delimiter` separates the cells.
///
/// # Errors
/// No header line, a column named twice, a file that cannot be read. A row may be an error: more or fewer cells than the
/// header, a quote that is not closed (the message names the line).
pub fn open(path: &Path, delimiter: u8) -> Result<Rows> {
    let named = |error| failure(path, error);
    // The parser takes an open quote as closed at the end. Then it also takes this line, which is its own otherwise.
    let guarded = stream::open(path)?.chain(&b"\n\0"[..]);
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(guarded);
    let columns: Vec<String> = reader.headers().map_err(named)?.iter().map(str::to_owned).collect();
    if columns.is_empty() || columns == [GUARD] {
        return Err(Error::new(format!("`{}`: there is no header line", path.display())));
    }
    let repeated = |(place, name): &(usize, &String)| columns.iter().take(*place).any(|earlier| earlier == *name);
    if let Some((_, name)) = columns.iter().enumerate().find(repeated) {
        return Err(Error::new(format!("`{}:1`: the header names the column `{name}` twice", path.display())));
    }
    let mut records = reader.into_records();
    let next = records.next();
    if next.is_none() {
        return Err(not_closed(path, 1));
    }
    Ok(Rows { columns, path: path.to_path_buf(), records, next })
}

impl Rows {
    fn cells(&self, record: StringRecord) -> Result<(u64, Vec<String>)> {
        let line = record.position().map_or(0, csv::Position::line);
        if self.next.is_none() {
            return Err(not_closed(&self.path, line));
        }
        let (cells, wanted) = (record.len(), self.columns.len());
        if cells != wanted {
            let place = format!("{}:{line}", self.path.display());
            return Err(Error::new(format!("`{place}`: {cells} cells where the header has {wanted}"))
                .hint("put quotes around cells that hold the delimiter or a line break"));
        }
        Ok((line, record.iter().map(str::to_owned).collect()))
    }
}

impl Iterator for Rows {
    type Item = Result<(u64, Vec<String>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(interrupted) = interrupt::check() {
            return Some(Err(interrupted));
        }
        let record = self.next.take()?;
        self.next = self.records.next();
        match record {
            Ok(record) if self.next.is_none() && record == [GUARD][..] => None,
            Ok(record) => Some(self.cells(record)),
            Err(error) => Some(Err(failure(&self.path, error))),
        }
    }
}

/// Reads a CSV file; see [`open`].
///
/// # Errors
/// As for [`open`], also for the rows.
pub fn read(path: &Path, delimiter: u8) -> Result<Csv> {
    let mut rows = open(path, delimiter)?;
    let cells = rows.by_ref().map(|row| Ok(row?.1)).collect::<Result<_>>()?;
    Ok(Csv { columns: rows.columns, rows: cells })
}

fn not_closed(path: &Path, line: u64) -> Error {
    Error::new(format!("`{}:{line}`: a quote is not closed in the row that starts here", path.display()))
        .hint("a quote within quotes is written twice")
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
    let place = format!("{}{line}", path.display());
    let said = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => stream::failure(path, error),
        csv::ErrorKind::Utf8 { err, .. } => Error::new(format!("`{place}` is not UTF-8 text: {err}")),
        _ => Error::new(format!("`{place}`: {said}")),
    }
}
