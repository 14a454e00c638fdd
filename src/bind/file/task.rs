//! Tasks as maps.

use std::path::Path;

use rhai::{Array, Dynamic, Map};

use super::json;
use crate::bind::map::map;
use crate::data::task::{self, Rephrasings, Sample};
use crate::error::Result;

/// Reads a task file and its data as one map.
pub fn read(path: &str) -> Result<Map> {
    let task = task::load(Path::new(path))?;
    let texts = |texts: Vec<String>| texts.into_iter().map(Dynamic::from).collect::<Array>();
    let rows = task.samples.into_iter().map(|sample| row(sample, &task.column).map(Dynamic::from));
    let rows = rows.collect::<Result<Array>>()?;
    Ok(map! {
        "name" => task.name,
        "title" => task.title,
        "instruction" => task.instruction,
        "data" => task.data.display().to_string(),
        "column" => task.column,
        "query_template" => task.query_template,
        "example_template" => task.example_template,
        "answer_prefix" => task.answer_prefix,
        "examples" => texts(task.examples),
        "one_token_column" => task.one_token_column.map_or(Dynamic::UNIT, Dynamic::from),
        "rephrasings" => task.rephrasings.map_or(Dynamic::UNIT, rephrasings),
        "judge" => task.judge.map_or(Dynamic::UNIT, Dynamic::from),
        "responses" => task.responses.map_or(Dynamic::UNIT, |responses| texts(responses).into()),
        "repeated" => task.repeated as i64,
        "rows" => rows,
    })
}

fn rephrasings(rephrasings: Rephrasings) -> Dynamic {
    let texts: Array = rephrasings.texts.into_iter().map(Dynamic::from).collect();
    map! { "file" => rephrasings.file.display().to_string(), "texts" => texts }.into()
}

/// The record's own values by column, with the query and the answer as the task file makes them.
fn row(sample: Sample, column: &str) -> Result<Map> {
    let mut row = Map::new();
    for (name, value) in sample.record.fields {
        row.insert(name.into(), json::from_json(value)?);
    }
    for (name, value) in [("query", sample.query), (column, sample.answer.clone()), ("answer", sample.answer)] {
        row.insert(name.into(), value.into());
    }
    row.insert("place".into(), sample.record.place.into());
    Ok(row)
}
