//! Reading the rows of a parquet file.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Row;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;

/// The rows of a parquet file, read one after the other.
pub struct Parquet {
    path: PathBuf,
    rows: RowIter<'static>,
}

/// Opens a parquet file.
///
/// # Errors
/// A file that cannot be read or is not a parquet file; a column that is there twice.
pub fn open(path: &Path) -> Result<Parquet> {
    let file = file::open(path)?;
    let reader = guarded(path, || SerializedFileReader::new(file))?;
    if let Some(name) = repeated(reader.metadata().file_metadata().schema()) {
        return Err(Error::new(format!("`{}` has the column `{name}` twice", path.display())));
    }
    let rows = guarded(path, || Ok(RowIter::from_file_into(Box::new(reader))))?;
    Ok(Parquet { path: path.to_path_buf(), rows })
}

/// A name that two columns of one group have, which a row could hold once only.
fn repeated(group: &Type) -> Option<&str> {
    let fields = if group.is_group() { group.get_fields() } else { &[] };
    let mut names = HashSet::new();
    fields
        .iter()
        .map(|field| field.name())
        .find(|name| !names.insert(*name))
        .or_else(|| fields.iter().find_map(|field| repeated(field)))
}

impl Iterator for Parquet {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        if let Err(interrupted) = interrupt::check() {
            return Some(Err(interrupted));
        }
        let rows = &mut self.rows;
        guarded(&self.path, || rows.next().transpose()).transpose()
    }
}

/// Runs a part of the reader and turns its panics, which some damaged files cause, into errors.
fn guarded<T>(path: &Path, read: impl FnOnce() -> std::result::Result<T, ParquetError>) -> Result<T> {
    let outcome = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(ParquetError::General(message) | ParquetError::EOF(message))) => message,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the file is damaged".to_owned(),
    };
    Err(Error::new(format!("`{}`: not a complete parquet file: {outcome}", path.display())))
}
