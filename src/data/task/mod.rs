//! Tasks: an instruction, templates, and samples. A task is a JSON file that names the file of its data.

mod bigbench;
mod sample;

use std::path::{Path, PathBuf};

use super::fetch::dataset;
use super::json::{Members, Source};
use crate::error::{self, Error, Result};
use crate::file;

use sample::Rules;
pub use sample::Sample;

/// The fields of a task file.
const FIELDS: &[&str] = &[
    "name",
    "title",
    "instruction",
    "data",
    "format",
    "query_column",
    "column",
    "replace",
    "answers",
    "query_template",
    "example_template",
    "answer_prefix",
    "examples",
    "one_token_column",
    "rephrasings",
    "judge",
    "responses",
];

/// Stands before the name of a data file for the folder where `lancet data` puts its files.
const FETCHED: &str = "{data}/";

/// A task with its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// A short name, as in file names.
    pub name: String,
    /// The name in figures.
    pub title: String,
    /// The instruction to the model.
    pub instruction: String,
    /// The file that the samples come from.
    pub data: PathBuf,
    /// The column of the answers.
    pub column: String,
    /// The template of a question, with `{query}`.
    pub query_template: String,
    /// The template of a solved example, with `{query}` and `{answer}`.
    pub example_template: String,
    /// The text between a question and its answer, such as a space.
    pub answer_prefix: String,
    /// The queries of the solved examples.
    pub examples: Vec<String>,
    /// The column whose text must be one token for a sample to be used.
    pub one_token_column: Option<String>,
    /// Other wordings of the instruction.
    pub rephrasings: Option<Rephrasings>,
    /// A judge's criterion for an answer that fits the instruction.
    pub judge: Option<String>,
    /// All answers that fit the instruction, where they can be listed.
    pub responses: Option<Vec<String>>,
    /// The samples in the data's order, each query once.
    pub samples: Vec<Sample>,
    /// Number of records left out because they repeat a query.
    pub repeated: usize,
}

/// Wordings of an instruction that mean the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Rephrasings {
    /// The file they come from, with a column `instruction`.
    pub file: PathBuf,
    /// The wordings in the file's order.
    pub texts: Vec<String>,
}

/// Reads a task file and its data.
///
/// # Errors
/// A file that is not JSON; a field that is missing, unknown, given twice or of the wrong type; a template without its
/// placeholders; missing data, or data that does not fit. The message names the file, the line and, if known, the
/// column.
pub fn load(path: &Path) -> Result<Task> {
    let text = file::read_text(path)?;
    let source = Source::new(path, &text);
    let fields = source.members(source.whole()?, "the task")?;
    fields.only(FIELDS)?;
    let rules = Rules::new(&fields)?;
    let mut task = Task {
        name: required(&fields, "name")?,
        title: fields.optional("title", "a text")?.map_or_else(|| required(&fields, "name"), Ok)?,
        instruction: required(&fields, "instruction")?,
        data: named_file(path, &fields, "data")?,
        column: rules.column.clone(),
        query_template: template(&fields, "query_template", &["{query}"])?,
        example_template: template(&fields, "example_template", &["{query}", "{answer}"])?,
        answer_prefix: required(&fields, "answer_prefix")?,
        examples: Vec::new(),
        one_token_column: rules.one_token_column.clone(),
        rephrasings: rephrasings(path, &fields)?,
        judge: fields.optional("judge", "a text")?,
        responses: fields.texts("responses")?.map(|texts| texts.into_iter().map(|(text, _)| text).collect()),
        samples: Vec::new(),
        repeated: 0,
    };
    (task.samples, task.repeated) = sample::read(&task.data, &rules)?;
    task.examples = examples(&source, &fields, &task)?;
    Ok(task)
}

/// A field that every task has.
fn required(fields: &Members, name: &str) -> Result<String> {
    fields.text(name).map_err(|error| match fields.raw(name) {
        Some(_) => error,
        None => error.hint("`scripts/tasks/adj_comp.json` is a whole task, and `:help read_task` explains its fields"),
    })
}

fn template(fields: &Members, name: &str, places: &[&str]) -> Result<String> {
    let template = required(fields, name)?;
    match places.iter().find(|place| !template.contains(**place)) {
        Some(place) => Err(fields.error(name, &format!("`{name}` has no place `{place}`"))),
        None => Ok(template),
    }
}

/// The file that a field names: beside the task file, or in the folder of fetched data.
fn named_file(path: &Path, fields: &Members, field: &str) -> Result<PathBuf> {
    let name = required(fields, field)?;
    let found = match name.strip_prefix(FETCHED) {
        Some(name) => dataset::find(name)?,
        None => path.parent().unwrap_or(Path::new("")).join(&name),
    };
    if found.is_file() {
        return Ok(found);
    }
    let error = fields.error(field, &format!("there is no file `{}`", found.display()));
    Err(match name.strip_prefix(FETCHED).and_then(|name| name.split_once('/')) {
        Some((dataset, _)) => error.hint(format!("run `lancet data {dataset}` to fetch it")),
        None => error.hint(format!("`{field}` is a path from the task file's folder")),
    })
}

fn rephrasings(path: &Path, fields: &Members) -> Result<Option<Rephrasings>> {
    if fields.raw("rephrasings").is_none() {
        return Ok(None);
    }
    let file = named_file(path, fields, "rephrasings")?;
    Ok(Some(Rephrasings { texts: sample::column(&file, "instruction")?, file }))
}

/// The queries of the solved examples: given one by one, or as a number of samples from the top.
fn examples(source: &Source, fields: &Members, task: &Task) -> Result<Vec<String>> {
    let queries = || task.samples.iter().map(|sample| sample.query.as_str());
    if let Some(number) = fields.raw("examples").and_then(|value| value.get().parse::<usize>().ok()) {
        return Ok(queries().take(number).map(str::to_owned).collect());
    }
    let given = fields.texts("examples")?.unwrap_or_default();
    for (query, place) in &given {
        if !queries().any(|known| known == query) {
            let data = task.data.display();
            return Err(source.error_at(place, &format!("the example \"{query}\" is not in `{data}`")));
        }
    }
    Ok(given.into_iter().map(|(query, _)| query).collect())
}

/// The error for an unknown word in a field.
fn unknown_word(fields: &Members, name: &str, word: &str, known: &[&str]) -> Error {
    let unknown = error::unknown(name, word, known);
    fields.error(name, &unknown.to_string()).hint(unknown.hint_text().unwrap_or_default())
}
