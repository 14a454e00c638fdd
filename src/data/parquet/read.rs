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
    guarded(path, || check_dictionaries(&reader))?;
    let rows = guarded(path, || Ok(RowIter::from_file_into(Box::new(reader))))?;
    Ok(Parquet { path: path.to_path_buf(), rows })
}

/// Refuses a dictionary that claims more values than it has bytes: the library would take memory for all of them.
fn check_dictionaries(reader: &impl FileReader) -> parquet::errors::Result<()> {
    for number in 0..reader.num_row_groups() {
        let group = reader.get_row_group(number)?;
        for column in 0..group.num_columns() {
            let mut pages = group.get_column_page_reader(column)?;
            while let Some(next) = pages.peek_next_page()? {
                if !next.is_dict {
                    pages.skip_next_page()?;
                } else if let Some(page) = pages.get_next_page()?
                    && page.num_values() as usize > page.buffer().len()
                {
                    let (values, bytes) = (page.num_values(), page.buffer().len());
                    return Err(ParquetError::General(format!("a dictionary of {values} values in {bytes} bytes")));
                }
            }
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_that_claims_too_much_is_refused() {
        let mut bytes = std::fs::read("tests/fixtures/tasks/snarks.parquet").unwrap();
        // The header of the file's first page: a dictionary, and the number of its values.
        let number = bytes.windows(2).position(|pair| pair == [0x4c, 0x15]).unwrap() + 2;
        bytes.splice(number..=number, [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let error = open(file.path()).err().unwrap().to_string();
        assert!(error.contains("a dictionary of 2147483647 values in 1342 bytes"), "{error}");
    }
}
