//! Path tables as files, written while the paths are computed.

use std::io::Write;
use std::path::Path as FilePath;

use super::evaluate::{Score, TOGETHER};
use super::graph::{Graph, Path};
use super::table::{PathTable, Sink};
use crate::data::parquet::{Column, ColumnType, Writer};
use crate::error::{Error, Result};
use crate::file;

/// What a path table is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Parquet,
}

/// Runs `trace` and writes every path that it hands over to `path`, which appears when all are there.
///
/// # Errors
/// A file name that ends in neither .csv nor .parquet; whatever the disk or `trace` raises.
pub fn streamed(path: &FilePath, trace: impl FnOnce(Sink) -> Result<PathTable>) -> Result<PathTable> {
    match Format::of(path)? {
        Format::Csv => {
            let mut outcome = Err(Error::Interrupted);
            let written = file::write_atomic(path, |out| {
                writeln!(out, "{}", names().join(","))?;
                outcome =
                    trace(&mut |graph, paths, _| rows(out, graph, paths).map_err(|error| Error::io(path, &error)));
                // An error here keeps a half-written file from taking the name.
                outcome.as_ref().map(|_| ()).map_err(|error| std::io::Error::other(error.to_string()))
            });
            let table = outcome?;
            written?;
            Ok(table)
        }
        Format::Parquet => {
            let mut writer = Writer::create(path, &COLUMNS)?;
            let table = trace(&mut |graph, paths, _| writer.append(columns(graph, paths)?))?;
            writer.finish()?;
            Ok(table)
        }
    }
}

/// Writes the paths that a table holds.
///
/// # Errors
/// A file name that ends in neither .csv nor .parquet; a table that does not hold its paths; whatever the disk raises.
pub fn write(path: &FilePath, table: &PathTable) -> Result<()> {
    let held = table.held()?;
    match Format::of(path)? {
        Format::Csv => file::write_atomic(path, |out| {
            writeln!(out, "{}", names().join(","))?;
            rows(out, &table.graph, held)
        }),
        Format::Parquet => {
            let mut writer = Writer::create(path, &COLUMNS)?;
            for block in held.chunks(TOGETHER) {
                writer.append(columns(&table.graph, block)?)?;
            }
            writer.finish()
        }
    }
}

const COLUMNS: [(&str, ColumnType); 5] = [
    ("source", ColumnType::Integer),
    ("positions", ColumnType::Integers),
    ("heads", ColumnType::Text),
    ("logit", ColumnType::Double),
    ("rank", ColumnType::Integer),
];

fn names() -> [&'static str; 5] {
    COLUMNS.map(|(name, _)| name)
}

impl Format {
    fn of(path: &FilePath) -> Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => Ok(Self::Csv),
            Some("parquet") => Ok(Self::Parquet),
            _ => Err(Error::new(format!("`{}` does not say how paths are to be written", path.display()))
                .hint("end the name in .csv or .parquet")),
        }
    }
}

fn rows(out: &mut dyn Write, graph: &Graph, paths: &[(Path, Score)]) -> std::io::Result<()> {
    for (path, score) in paths {
        let positions = graph.positions(path).map_err(std::io::Error::other)?;
        let positions = positions.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        let heads = heads(graph, path).map_err(std::io::Error::other)?;
        let rank = score.rank.map_or(String::new(), |rank| rank.to_string());
        writeln!(out, "{},{positions},{heads},{},{rank}", path.source, score.logit)?;
    }
    Ok(())
}

fn columns(graph: &Graph, paths: &[(Path, Score)]) -> Result<Vec<Column>> {
    let (mut sources, mut positions, mut steps, mut logits, mut ranks) = (vec![], vec![], vec![], vec![], vec![]);
    for (path, score) in paths {
        sources.push(i64::from(path.source));
        positions.push(graph.positions(path)?.into_iter().map(i64::from).collect());
        steps.push(heads(graph, path)?);
        logits.push(score.logit);
        ranks.push(score.rank.ok_or_else(|| Error::new("a path without a rank is to be written"))?);
    }
    Ok(vec![
        Column::Integer(sources),
        Column::Integers(positions),
        Column::Text(steps),
        Column::Double(logits),
        Column::Integer(ranks),
    ])
}

/// The heads of each step joined by +, r for the residual stream; steps apart by spaces.
fn heads(graph: &Graph, path: &Path) -> Result<String> {
    let mut steps = Vec::with_capacity(path.edges.len());
    for (layer, number) in path.edges.iter().enumerate() {
        let edge = graph.edge(layer, *number)?;
        let residual = edge.residual.then(|| "r".to_owned());
        steps.push(edge.heads().map(|head| head.to_string()).chain(residual).collect::<Vec<_>>().join("+"));
    }
    Ok(steps.join(" "))
}
