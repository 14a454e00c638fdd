//! Path tables as files: CSV or parquet, one row per path, written while paths are computed.

use std::io::Error as IoError;
use std::path::{Path as FilePath, PathBuf};

use super::graph::{Graph, Path};
use super::plan::PathBlock;
use super::score::TOGETHER;
use super::table::PathTable;
use crate::data::parquet::{Column, ColumnType, Writer};
use crate::error::{Error, Result};
use crate::file::{Draft, format_of};
use crate::interrupt;
use crate::linear::readout::Scale;

/// The columns of paths measured in `scale`.
fn columns_of(scale: &Scale) -> [(&'static str, ColumnType); 5] {
    [
        ("source", ColumnType::Integer),
        ("positions", ColumnType::Integers),
        ("heads", ColumnType::Text),
        (scale.name(), ColumnType::Double),
        ("rank", ColumnType::Integer),
    ]
}

/// The format of a path table's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Parquet,
}

const FORMATS: &[(&str, Format)] = &[("csv", Format::Csv), ("parquet", Format::Parquet)];

/// A file of paths that is being written. [`finish`](Self::finish) gives it its name; dropped before that, it leaves
/// nothing behind.
pub struct PathFile {
    path: PathBuf,
    rows: Rows,
}

enum Rows {
    Csv(csv::Writer<Draft>),
    Parquet(Writer),
}

impl PathFile {
    /// Starts a file of paths measured in `scale`.
    ///
    /// # Errors
    /// A file name that ends in neither .csv nor .parquet; a place that cannot be written to.
    pub fn create(path: &FilePath, scale: &Scale) -> Result<Self> {
        let columns = columns_of(scale);
        let rows = match format_of(path, FORMATS)? {
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(Draft::create(path)?);
                writer.write_record(columns.map(|(name, _)| name)).map_err(|error| csv_failure(path, error))?;
                Rows::Csv(writer)
            }
            Format::Parquet => Rows::Parquet(Writer::create(path, &columns)?),
        };
        Ok(Self { path: path.to_path_buf(), rows })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// A path whose rank is not known; an I/O error.
    pub fn append(&mut self, block: PathBlock) -> Result<()> {
        match &mut self.rows {
            Rows::Parquet(writer) => writer.append(columns(block)?),
            Rows::Csv(writer) => {
                for (path, score) in block.paths {
                    let positions = block.graph.positions(path).iter().map(u32::to_string).collect::<Vec<_>>();
                    let record = [
                        path.source.to_string(),
                        positions.join(" "),
                        heads(block.graph, path),
                        score.value.to_string(),
                        score.known_rank()?.to_string(),
                    ];
                    writer.write_record(&record).map_err(|error| csv_failure(&self.path, error))?;
                }
                Ok(())
            }
        }
    }

    /// Puts the finished file in its place.
    ///
    /// # Errors
    /// An I/O error.
    pub fn finish(self) -> Result<()> {
        match self.rows {
            Rows::Parquet(writer) => writer.finish(),
            Rows::Csv(writer) => match writer.into_inner() {
                Ok(draft) => draft.commit(),
                Err(error) => Err(Error::io(&self.path, error.error())),
            },
        }
    }
}

/// Writes the paths that a table holds.
///
/// # Errors
/// A file name that ends in neither .csv nor .parquet; a table that does not hold its paths; an I/O error.
pub fn write(path: &FilePath, table: &PathTable) -> Result<()> {
    let held = table.held()?;
    let mut file = PathFile::create(path, &table.scale)?;
    for paths in held.chunks(TOGETHER) {
        interrupt::check()?;
        file.append(PathBlock { graph: &table.graph, paths, computed: paths.len() as u64 })?;
    }
    file.finish()
}

fn csv_failure(path: &FilePath, error: csv::Error) -> Error {
    Error::io(path, &IoError::from(error))
}

fn columns(block: PathBlock) -> Result<Vec<Column>> {
    let (mut sources, mut positions, mut steps, mut values, mut ranks) = (vec![], vec![], vec![], vec![], vec![]);
    for (path, score) in block.paths {
        sources.push(i64::from(path.source));
        positions.push(block.graph.positions(path).into_iter().map(i64::from).collect());
        steps.push(heads(block.graph, path));
        values.push(score.value);
        ranks.push(score.known_rank()?);
    }
    Ok(vec![
        Column::Integer(sources),
        Column::Integers(positions),
        Column::Text(steps),
        Column::Double(values),
        Column::Integer(ranks),
    ])
}

/// The heads of each step joined by +, r for the residual stream; steps separated by spaces.
fn heads(graph: &Graph, path: &Path) -> String {
    let steps = graph.edges_of(path).map(|edge| {
        let residual = edge.residual.then(|| "r".to_owned());
        edge.heads().map(|head| head.to_string()).chain(residual).collect::<Vec<_>>().join("+")
    });
    steps.collect::<Vec<_>>().join(" ")
}
