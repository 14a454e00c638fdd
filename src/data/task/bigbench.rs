//! The two layouts of BIG-bench's questions: its own `task.json` (`input`, and `target` or `target_scores`), and the
//! Hugging Face Hub's (`inputs`, `targets`, `multiple_choice_targets`, `multiple_choice_scores`), whose inputs are
//! whole prompts.
//! <https://github.com/google/BIG-bench/blob/main/docs/doc.md>

use serde_json::Value;

use crate::data::record::Record;
use crate::error::Result;

/// The query of a record, with each run of white space replaced by one space, and its correct answers.
///
/// # Errors
/// A record without a query or a correct answer.
pub fn question(record: &Record) -> Result<(String, Vec<String>)> {
    let (query, answers) = match (record.fields.get("input"), record.fields.get("inputs")) {
        (Some(Value::String(input)), _) => (input.as_str(), own_answers(record)),
        (None, Some(Value::String(prompt))) => (without_prompt(prompt), hub_answers(record)),
        (Some(_), _) | (None, Some(_)) => return Err(record.error("the input is not a text")),
        (None, None) => {
            let error = record.error("there is neither `input` nor `inputs`, as BIG-bench has them");
            return Err(error.hint(format!("the columns are {}", record.names())));
        }
    };
    let answers = answers.ok_or_else(|| {
        record.error("no answer is correct: there are no targets, or no choice scores higher than another")
    })?;
    Ok((query.split_whitespace().collect::<Vec<_>>().join(" "), answers))
}

fn own_answers(record: &Record) -> Option<Vec<String>> {
    let field = |name: &str| record.fields.get(name);
    field("target").and_then(texts).or_else(|| {
        let choices = field("target_scores")?.as_object()?;
        best(choices.iter().map(|(choice, score)| (choice.as_str(), score.as_f64())))
    })
}

fn hub_answers(record: &Record) -> Option<Vec<String>> {
    let field = |name: &str| record.fields.get(name);
    field("targets").and_then(texts).or_else(|| {
        let choices = field("multiple_choice_targets")?.as_array()?.iter().map(|choice| choice.as_str());
        let scores = field("multiple_choice_scores")?.as_array()?.iter().map(Value::as_f64);
        best(choices.zip(scores).map(|(choice, score)| (choice.unwrap_or_default(), score)))
    })
}

/// A text, a number, or a list of them; `None` for an empty list.
fn texts(value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let texts = match value {
        Value::Array(items) => items.iter().map(text).collect::<Option<Vec<_>>>()?,
        one => vec![text(one)?],
    };
    (!texts.is_empty()).then_some(texts)
}

/// The first choice with the highest score, unless all choices score the same.
fn best<'a>(choices: impl Iterator<Item = (&'a str, Option<f64>)>) -> Option<Vec<String>> {
    let choices: Vec<(&str, f64)> = choices.map(|(choice, score)| Some((choice, score?))).collect::<Option<_>>()?;
    let highest = choices.iter().map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max);
    let lowest = choices.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let (choice, _) = choices.iter().find(|(_, score)| *score == highest)?;
    (highest > lowest || choices.len() == 1).then(|| vec![(*choice).trim().to_owned()])
}

/// The question of a prompt in BIG-bench's default form: the text between `Q: ` and the choices or `A:`, each at the
/// start of a line. For tasks of another form, `replace` removes the text around it.
fn without_prompt(prompt: &str) -> &str {
    let start = if prompt.starts_with("Q: ") { Some(0) } else { prompt.find("\nQ: ").map(|place| place + 1) };
    let question = start.and_then(|place| prompt.get(place + "Q: ".len()..)).unwrap_or(prompt);
    let question = question.trim_end();
    let question = question.strip_suffix("\nA:").unwrap_or(question);
    question.split("\n  choice: ").next().unwrap_or(question)
}
