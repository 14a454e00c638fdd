//! Writing tables to parquet files batch by batch, compressed with Zstandard.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use crate::error::{Error, Result};
use crate::file::Draft;
use crate::interrupt;

/// Rows buffered per row group. Readers fetch and skip whole groups.
const GROUP_ROWS: usize = 1 << 17;

/// The type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// 64-bit integers.
    Integer,
    /// 32-bit floats.
    Single,
    /// 64-bit floats.
    Double,
    /// Texts in UTF-8.
    Text,
    /// Lists of 64-bit integers of any lengths.
    Integers,
    /// Lists of texts of any lengths.
    Texts,
}

/// Values of one column, in order of the rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// 64-bit integers.
    Integer(Vec<i64>),
    /// 32-bit floats.
    Single(Vec<f32>),
    /// 64-bit floats.
    Double(Vec<f64>),
    /// Texts.
    Text(Vec<String>),
    /// Lists of 64-bit integers.
    Integers(Vec<Vec<i64>>),
    /// Lists of texts.
    Texts(Vec<Vec<String>>),
}

impl Column {
    /// The type of its values.
    pub fn column_type(&self) -> ColumnType {
        match self {
            Self::Integer(_) => ColumnType::Integer,
            Self::Single(_) => ColumnType::Single,
            Self::Double(_) => ColumnType::Double,
            Self::Text(_) => ColumnType::Text,
            Self::Integers(_) => ColumnType::Integers,
            Self::Texts(_) => ColumnType::Texts,
        }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Integer(values) => values.len(),
            Self::Single(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Texts(values) => values.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn empty(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Integer => Self::Integer(Vec::new()),
            ColumnType::Single => Self::Single(Vec::new()),
            ColumnType::Double => Self::Double(Vec::new()),
            ColumnType::Text => Self::Text(Vec::new()),
            ColumnType::Integers => Self::Integers(Vec::new()),
            ColumnType::Texts => Self::Texts(Vec::new()),
        }
    }

    /// Moves the rows of `other`, a column of the same type, to the end.
    fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Integer(all), Self::Integer(mut more)) => all.append(&mut more),
            (Self::Single(all), Self::Single(mut more)) => all.append(&mut more),
            (Self::Double(all), Self::Double(mut more)) => all.append(&mut more),
            (Self::Text(all), Self::Text(mut more)) => all.append(&mut more),
            (Self::Integers(all), Self::Integers(mut more)) => all.append(&mut more),
            (Self::Texts(all), Self::Texts(mut more)) => all.append(&mut more),
            _ => {}
        }
    }
}

/// A parquet file that is written batch by batch. [`finish`](Self::finish) gives it its name; dropped before that, it
/// leaves nothing behind.
pub struct Writer {
    path: PathBuf,
    names: Vec<String>,
    pending: Vec<Column>,
    file: SerializedFileWriter<Draft>,
}

impl Writer {
    /// Starts a file with these columns.
    ///
    /// # Errors
    /// No columns, a name that is empty or given twice, a place that cannot be written to.
    pub fn create(path: &Path, columns: &[(&str, ColumnType)]) -> Result<Self> {
        let wrong = |message: String| Err(Error::new(format!("`{}`: {message}", path.display())));
        if columns.is_empty() {
            return wrong("a table needs at least one column".to_owned());
        }
        for (place, (name, _)) in columns.iter().enumerate() {
            if name.is_empty() {
                return wrong(format!("column {place} has no name"));
            }
            if columns.iter().take(place).any(|(earlier, _)| earlier == name) {
                return wrong(format!("there are two columns `{name}`"));
            }
        }
        let fields = columns.iter().map(|(name, kind)| field(name, *kind)).collect::<std::result::Result<Vec<_>, _>>();
        let schema = fields.and_then(|fields| Type::group_type_builder("schema").with_fields(fields).build());
        let schema = schema.map_err(|error| failure(path, error))?;
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let file = SerializedFileWriter::new(Draft::create(path)?, Arc::new(schema), Arc::new(properties))
            .map_err(|error| failure(path, error))?;
        Ok(Self {
            path: path.to_path_buf(),
            names: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
            pending: columns.iter().map(|(_, kind)| Column::empty(*kind)).collect(),
            file,
        })
    }

    /// Adds rows: one batch of values per column, in the columns' order, all of one length.
    ///
    /// # Errors
    /// Columns that do not fit, Ctrl-C, a failure to write.
    pub fn append(&mut self, batch: Vec<Column>) -> Result<()> {
        interrupt::check()?;
        self.fits(&batch).map_err(|error| error.context(format!("`{}`", self.path.display())))?;
        for (column, more) in self.pending.iter_mut().zip(batch) {
            column.append(more);
        }
        if self.pending_rows() >= GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    /// Writes the rest of the rows and gives the file its name.
    ///
    /// # Errors
    /// A failure to write.
    pub fn finish(mut self) -> Result<()> {
        if self.pending_rows() > 0 {
            self.write_group()?;
        }
        self.file.into_inner().map_err(|error| failure(&self.path, error))?.commit()
    }

    fn pending_rows(&self) -> usize {
        self.pending.first().map_or(0, Column::len)
    }

    fn fits(&self, batch: &[Column]) -> Result<()> {
        if batch.len() != self.names.len() {
            return Err(Error::new(format!("a batch has {} columns, not {}", batch.len(), self.names.len())));
        }
        let rows = batch.first().map_or(0, Column::len);
        for ((name, column), known) in self.names.iter().zip(batch).zip(&self.pending) {
            if column.column_type() != known.column_type() {
                let (given, wanted) = (column.column_type(), known.column_type());
                return Err(Error::new(format!("column `{name}` holds {wanted:?}, not {given:?}")));
            }
            if column.len() != rows {
                return Err(Error::new(format!("column `{name}` has {} rows where others have {rows}", column.len())));
            }
        }
        Ok(())
    }

    fn write_group(&mut self) -> Result<()> {
        let mut write = || -> std::result::Result<(), ParquetError> {
            let mut group = self.file.next_row_group()?;
            for column in &mut self.pending {
                check()?;
                write_column(&mut group, column)?;
                *column = Column::empty(column.column_type());
            }
            group.close().map(|_| ())
        };
        write().map_err(|error| failure(&self.path, error))
    }
}

/// A column in the file's schema. Values are required; a list is the format's three-level group.
fn field(name: &str, kind: ColumnType) -> std::result::Result<TypePtr, ParquetError> {
    let plain = |name: &str, physical: Physical, logical: Option<LogicalType>| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    };
    let list = |element: TypePtr| {
        let items = Type::group_type_builder("list").with_repetition(Repetition::REPEATED);
        let items = Arc::new(items.with_fields(vec![element]).build()?);
        let list = Type::group_type_builder(name).with_repetition(Repetition::REQUIRED);
        list.with_logical_type(Some(LogicalType::List)).with_fields(vec![items]).build().map(Arc::new)
    };
    match kind {
        ColumnType::Integer => plain(name, Physical::INT64, None),
        ColumnType::Single => plain(name, Physical::FLOAT, None),
        ColumnType::Double => plain(name, Physical::DOUBLE, None),
        ColumnType::Text => plain(name, Physical::BYTE_ARRAY, Some(LogicalType::String)),
        ColumnType::Integers => list(plain("element", Physical::INT64, None)?),
        ColumnType::Texts => list(plain("element", Physical::BYTE_ARRAY, Some(LogicalType::String))?),
    }
}

fn write_column(
    group: &mut SerializedRowGroupWriter<'_, Draft>,
    column: &Column,
) -> std::result::Result<(), ParquetError> {
    let bytes = |text: &String| ByteArray::from(text.as_str());
    match column {
        Column::Integer(values) => write_values::<Int64Type>(group, values, None),
        Column::Single(values) => write_values::<FloatType>(group, values, None),
        Column::Double(values) => write_values::<DoubleType>(group, values, None),
        Column::Text(values) => {
            write_values::<ByteArrayType>(group, &values.iter().map(bytes).collect::<Vec<_>>(), None)
        }
        Column::Integers(lists) => write_values::<Int64Type>(group, &lists.concat(), Some(&Levels::of(lists))),
        Column::Texts(lists) => {
            let values: Vec<ByteArray> = lists.iter().flatten().map(bytes).collect();
            write_values::<ByteArrayType>(group, &values, Some(&Levels::of(lists)))
        }
    }
}

fn check() -> std::result::Result<(), ParquetError> {
    interrupt::check().map_err(|error| ParquetError::External(Box::new(error)))
}

fn write_values<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Draft>,
    values: &[T::T],
    levels: Option<&Levels>,
) -> std::result::Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    match levels {
        // Plain values in pieces, so that Ctrl-C need not wait for all of them.
        None => {
            for piece in values.chunks(GROUP_ROWS) {
                check()?;
                column.typed::<T>().write_batch(piece, None, None)?;
            }
        }
        Some(levels) => {
            column.typed::<T>().write_batch(values, Some(&levels.definition), Some(&levels.repetition))?;
        }
    }
    column.close()
}

/// How the values of lists divide into rows: per value, or per empty list, whether there is a value, and whether it
/// continues the previous value's list. <https://parquet.apache.org/docs/file-format/nestedencoding/>
struct Levels {
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

impl Levels {
    fn of<T>(lists: &[Vec<T>]) -> Self {
        let (mut definition, mut repetition) = (Vec::new(), Vec::new());
        for list in lists {
            definition.push(i16::from(!list.is_empty()));
            repetition.push(0);
            for _ in list.iter().skip(1) {
                definition.push(1);
                repetition.push(1);
            }
        }
        Self { definition, repetition }
    }
}

fn failure(path: &Path, error: ParquetError) -> Error {
    let error = match error {
        ParquetError::External(error) => match error.downcast::<Error>() {
            Ok(ours) => return *ours,
            Err(error) => ParquetError::External(error),
        },
        error => error,
    };
    Error::new(format!("`{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::parquet::open;

    #[test]
    fn batches_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paths.parquet");
        let columns = [
            ("layer", ColumnType::Integer),
            ("logit", ColumnType::Single),
            ("share", ColumnType::Double),
            ("token", ColumnType::Text),
            ("nodes", ColumnType::Integers),
            ("names", ColumnType::Texts),
        ];
        let batch = |start: i64, rows: i64| {
            let numbers = || start..start + rows;
            vec![
                Column::Integer(numbers().collect()),
                Column::Single(numbers().map(|number| number as f32 / 3.0).collect()),
                Column::Double(numbers().map(|number| number as f64 / 3.0).collect()),
                Column::Text(numbers().map(|number| format!("ü{number}")).collect()),
                Column::Integers(numbers().map(|number| (0..number % 4).collect()).collect()),
                Column::Texts(numbers().map(|number| vec![number.to_string(); (number % 3) as usize]).collect()),
            ]
        };
        let mut writer = Writer::create(&path, &columns).unwrap();
        // Three batches, of which two fill a group of rows.
        let half = GROUP_ROWS as i64 / 2;
        for part in 0..3 {
            writer.append(batch(part * half, half)).unwrap();
        }
        assert!(!path.exists());
        writer.finish().unwrap();
        let rows: Vec<String> = open(&path).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(rows.len(), 3 * GROUP_ROWS / 2);
        assert_eq!(rows[3], r#"{layer: 3, logit: 1.0, share: 1.0, token: "ü3", nodes: [0, 1, 2], names: []}"#);
        let last = rows.len() - 1;
        assert!(rows[last].starts_with(&format!("{{layer: {last}, ")), "{}", rows[last]);
        assert!(rows[4].contains("nodes: [], names: [\"4\"]"), "{}", rows[4]);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paths.parquet");
        let create = |columns: &[(&str, ColumnType)]| Writer::create(&path, columns);
        assert!(create(&[]).err().unwrap().to_string().contains("at least one column"));
        let twice = [("a", ColumnType::Integer), ("a", ColumnType::Text)];
        assert!(create(&twice).err().unwrap().to_string().contains("two columns `a`"));
        let mut writer = create(&[("a", ColumnType::Integer), ("b", ColumnType::Double)]).unwrap();
        for (batch, message) in [
            (vec![Column::Integer(vec![1])], "1 columns, not 2"),
            (vec![Column::Integer(vec![1]), Column::Integer(vec![1])], "column `b` holds Double, not Integer"),
            (vec![Column::Integer(vec![1]), Column::Double(vec![])], "column `b` has 0 rows where others have 1"),
        ] {
            let error = writer.append(batch).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn damaged_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paths.parquet");
        let mut writer = Writer::create(&path, &[("a", ColumnType::Texts)]).unwrap();
        writer.append(vec![Column::Texts(vec![vec!["x".repeat(40)]; 50])]).unwrap();
        writer.finish().unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut refused = 0;
        for cut in 0..whole.len() {
            for bytes in [whole[..cut].to_vec(), [&whole[..cut], &[!whole[cut]], &whole[cut + 1..]].concat()] {
                std::fs::write(&path, bytes).unwrap();
                let read: Result<Vec<_>> = open(&path).and_then(Iterator::collect);
                refused += usize::from(read.is_err());
            }
        }
        // Bits of texts and statistics may change unnoticed; every cut is noticed.
        assert!(refused >= whole.len(), "{refused} of {}", whole.len());
    }
}
