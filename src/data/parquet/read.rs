//! Reading the rows of a parquet file.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use parquet::file::reader::SerializedFileReader;
use parquet::record::Row;
use parquet::record::reader::RowIter;

use crate::error::{Error, Result};
use crate::interrupt;

/// The rows of a parquet file, read one after the other.
pub struct Parquet {
    path: PathBuf,
    rows: RowIter<'static>,
}

/// Opens a parquet file.
///
/// # Errors
/// A file that cannot be read or is not a parquet file.
pub fn open(path: &Path) -> Result<Parquet> {
    let file = File::open(path).map_err(|error| Error::io(path, &error))?;
    let rows = guarded(path, || Ok(RowIter::from_file_into(Box::new(SerializedFileReader::new(file)?))))?;
    Ok(Parquet { path: path.to_path_buf(), rows })
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
