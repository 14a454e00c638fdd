//! Makes the samples of a task, queries and answers, from the records of its data.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use super::{bigbench, unknown_word};
use crate::data::json::Members;
use crate::data::record::{self, Record};
use crate::error::{Error, Result};

/// One query with its correct answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The query, for the templates' `{query}`.
    pub query: String,
    /// The correct answer.
    pub answer: String,
    /// The record that it comes from.
    pub record: Record,
}

/// The task file's rules for making samples from records.
pub(super) struct Rules {
    format: Format,
    query_column: String,
    /// The column of the answers.
    pub column: String,
    replace: Vec<(String, String)>,
    answers: Answers,
    /// The column whose text must be one token for a sample to be used.
    pub one_token_column: Option<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    /// A column of queries and one of answers.
    Table,
    /// The fields of BIG-bench.
    BigBench,
}

/// Which of the correct answers to take, and how to write it.
enum Answers {
    First,
    /// The first that consists of digits.
    Number,
    /// The first listed answer, replaced by its listed text.
    Listed(Vec<(String, String)>),
}

impl Rules {
    /// Reads the rules from a task file.
    ///
    /// # Errors
    /// A field of the wrong type, an unknown word, or fields that exclude each other.
    pub fn new(fields: &Members) -> Result<Self> {
        let format = match fields.optional::<String>("format", "a text")?.as_deref() {
            None | Some("table") => Format::Table,
            Some("bigbench") => Format::BigBench,
            Some(other) => return Err(unknown_word(fields, "format", other, &["table", "bigbench"])),
        };
        let own_columns = ["query_column", "column"].into_iter().find(|name| fields.raw(name).is_some());
        if let (Format::BigBench, Some(name)) = (format, own_columns) {
            return Err(fields.error(name, &format!("`{name}` is for tables; the format bigbench has its own columns")));
        }
        Ok(Self {
            format,
            query_column: fields.optional("query_column", "a text")?.unwrap_or_else(|| "query".to_owned()),
            column: if format == Format::BigBench { "answer".to_owned() } else { super::required(fields, "column")? },
            replace: fields.pairs("replace")?.unwrap_or_default(),
            answers: Answers::new(fields)?,
            one_token_column: fields.optional("one_token_column", "a text")?,
        })
    }

    fn sample(&self, record: Record) -> Result<Sample> {
        let (query, answers) = match self.format {
            Format::Table => (text(&record, &self.query_column)?, vec![text(&record, &self.column)?]),
            Format::BigBench => bigbench::question(&record)?,
        };
        let query = self.replace.iter().fold(query, |query, (old, new)| query.replace(old, new));
        if query.trim().is_empty() {
            return Err(record.error("the query is empty"));
        }
        if answers.iter().all(|answer| answer.trim().is_empty()) {
            return Err(record.error("the answer is empty"));
        }
        if let Some(column) = &self.one_token_column {
            text(&record, column)?;
        }
        Ok(Sample { query, answer: self.answers.choose(&answers, &record)?, record })
    }
}

impl Answers {
    fn new(fields: &Members) -> Result<Self> {
        match fields.raw("answers").map(|value| value.get().starts_with('"')) {
            None => Ok(Self::First),
            Some(true) => match fields.text("answers")?.as_str() {
                "number" => Ok(Self::Number),
                other => Err(unknown_word(fields, "answers", other, &["number", "an object from answer to text"])),
            },
            Some(false) => Ok(Self::Listed(fields.pairs("answers")?.unwrap_or_default())),
        }
    }

    fn choose(&self, answers: &[String], record: &Record) -> Result<String> {
        let is_number = |answer: &&String| !answer.is_empty() && answer.bytes().all(|byte| byte.is_ascii_digit());
        let (chosen, wanted) = match self {
            Self::First => (answers.first(), String::new()),
            Self::Number => (answers.iter().find(is_number), "a number in digits".to_owned()),
            Self::Listed(pairs) => {
                let written = |answer: &String| pairs.iter().find(|(key, _)| key == answer).map(|(_, text)| text);
                let keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
                (answers.iter().find_map(written), format!("one of `answers`: {}", keys.join(", ")))
            }
        };
        let error = || record.error(format!("the answer `{}` is not {wanted}", answers.join("`, `")));
        chosen.cloned().ok_or_else(error)
    }
}

/// The samples of a data file, each query once, and the number of records that repeat a query.
pub(super) fn read(path: &Path, rules: &Rules) -> Result<(Vec<Sample>, usize)> {
    let columns = match rules.format {
        Format::Table => {
            vec![Some(rules.query_column.as_str()), Some(&rules.column), rules.one_token_column.as_deref()]
        }
        Format::BigBench => Vec::new(),
    };
    let records = records(path, columns.into_iter().flatten())?;
    let total = records.len();
    let mut seen = HashSet::new();
    let mut samples = Vec::new();
    for record in records {
        let sample = rules.sample(record)?;
        if seen.insert(sample.query.clone()) {
            samples.push(sample);
        }
    }
    let repeated = total - samples.len();
    Ok((samples, repeated))
}

/// The texts in one column of a file, none of them empty.
pub(super) fn column(path: &Path, column: &str) -> Result<Vec<String>> {
    let full = |record: Record| match text(&record, column)? {
        text if text.trim().is_empty() => Err(record.error(format!("the {column} is empty"))),
        text => Ok(text),
    };
    records(path, [column].into_iter())?.into_iter().map(full).collect()
}

/// The records of a file, at least one; where the file has a header, it names these columns.
fn records<'a>(path: &Path, mut columns: impl Iterator<Item = &'a str>) -> Result<Vec<Record>> {
    let records = record::read(path)?;
    let Some(first) = records.first() else {
        return Err(Error::new(format!("`{}`: there are no records", path.display())));
    };
    match columns.find(|column| record::has_header(path) && !first.fields.contains_key(*column)) {
        Some(column) => Err(Error::new(format!("`{}:1`: there is no column `{column}`", path.display()))
            .hint(format!("the columns are {}", first.names()))),
        None => Ok(records),
    }
}

/// The text in a column. A number counts as the text of its digits.
fn text(record: &Record, column: &str) -> Result<String> {
    match record.fields.get(column) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::Null) => Ok(String::new()),
        Some(_) => Err(record.error(format!("`{column}` is neither a text nor a number"))),
        None => Err(record
            .error(format!("there is no column `{column}`"))
            .hint(format!("the columns are {}", record.names()))),
    }
}
