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
use crate::linear::readout::Target;

/// The columns of paths to `target`; those to a head's score have no ranks.
fn columns_of(target: &Target) -> Vec<(&'static str, ColumnType)> {
    let mut columns = vec![
        ("source", ColumnType::Integer),
        ("positions", ColumnType::Integers),
        ("heads", ColumnType::Text),
        (target.name(), ColumnType::Double),
    ];
    if has_ranks(target) {
        columns.push(("rank", ColumnType::Integer));
    }
    columns
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
    has_ranks: bool,
}

enum Rows {
    Csv(csv::Writer<Draft>),
    Parquet(Writer),
}

impl PathFile {
    /// Starts a file of paths to `target`.
    ///
    /// # Errors
    /// A file name that ends in neither .csv nor .parquet; a place that cannot be written to.
    pub fn create(path: &FilePath, target: &Target) -> Result<Self> {
        let columns = columns_of(target);
        let rows = match format_of(path, FORMATS)? {
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(Draft::create(path)?);
                writer.write_record(columns.iter().map(|(name, _)| name)).map_err(|error| csv_failure(path, error))?;
                Rows::Csv(writer)
            }
            Format::Parquet => Rows::Parquet(Writer::create(path, &columns)?),
        };
        Ok(Self { path: path.to_path_buf(), rows, has_ranks: has_ranks(target) })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// A path whose rank is not known; an I/O error.
    pub fn append(&mut self, block: PathBlock) -> Result<()> {
        match &mut self.rows {
            Rows::Parquet(writer) => writer.append(columns(block, self.has_ranks)?),
            Rows::Csv(writer) => {
                for (path, score) in block.paths {
                    let positions = block.graph.positions(path).iter().map(u32::to_string).collect::<Vec<_>>();
                    let mut record = vec![
                        path.source.to_string(),
                        positions.join(" "),
                        heads(block.graph, path),
                        score.value.to_string(),
                    ];
                    if self.has_ranks {
                        record.push(score.known_rank()?.to_string());
                    }
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
    let mut file = PathFile::create(path, &table.target)?;
    for paths in held.chunks(TOGETHER) {
        interrupt::check()?;
        file.append(PathBlock { graph: &table.graph, paths, computed: paths.len() as u64 })?;
    }
    file.finish()
}

fn csv_failure(path: &FilePath, error: csv::Error) -> Error {
    Error::io(path, &IoError::from(error))
}

fn columns(block: PathBlock, has_ranks: bool) -> Result<Vec<Column>> {
    let (mut sources, mut positions, mut steps, mut values, mut ranks) = (vec![], vec![], vec![], vec![], vec![]);
    for (path, score) in block.paths {
        sources.push(i64::from(path.source));
        positions.push(block.graph.positions(path).into_iter().map(i64::from).collect());
        steps.push(heads(block.graph, path));
        values.push(score.value);
        if has_ranks {
            ranks.push(score.known_rank()?);
        }
    }
    let mut columns =
        vec![Column::Integer(sources), Column::Integers(positions), Column::Text(steps), Column::Double(values)];
    if has_ranks {
        columns.push(Column::Integer(ranks));
    }
    Ok(columns)
}

fn has_ranks(target: &Target) -> bool {
    matches!(target, Target::Answer { .. })
}

/// The heads of each step joined by +, r for the residual stream; steps separated by spaces. Where paths may pass
/// queries and keys too, a letter says which: 3V, 3Q, 3K.
fn heads(graph: &Graph, path: &Path) -> String {
    let through = graph.request.through;
    let steps = graph.edges_of(path).map(|edge| {
        let residual = edge.residual.then(|| "r".to_owned());
        edge.heads().map(|head| edge.hop.label(head, through)).chain(residual).collect::<Vec<_>>().join("+")
    });
    steps.collect::<Vec<_>>().join(" ")
}
