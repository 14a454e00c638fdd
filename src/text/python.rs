//! Values as Python writes them: `str` for what a template prints, `json.dumps` for `tojson`.

use serde_json::Value as Json;

use crate::error::{Error, Result};

/// The largest indentation of JSON; a template that asks for more is not one for conversations.
const MOST_INDENT: i64 = 64;

/// The options of `json.dumps` that transformers' `tojson` takes.
#[derive(Debug, Clone, Default)]
pub struct JsonOptions {
    /// Whether characters beyond ASCII are written as `\uXXXX`
    pub ensure_ascii: bool,
    /// Spaces for each level on lines of their own; `None` writes one line
    pub indent: Option<i64>,
    /// What stands between items, and between a key and its value; `None` takes Python's defaults
    pub separators: Option<(String, String)>,
    /// Whether keys are sorted
    pub sort_keys: bool,
}

/// The JSON of a value as `json.dumps` writes it.
///
/// # Errors
/// An indentation above 64.
pub fn json(value: &Json, options: &JsonOptions) -> Result<String> {
    if options.indent.is_some_and(|indent| indent > MOST_INDENT) {
        return Err(Error::new(format!("`tojson` indents by at most {MOST_INDENT}")));
    }
    let mut text = String::new();
    write_json(value, options, 0, &mut text);
    Ok(text)
}

fn write_json(value: &Json, options: &JsonOptions, depth: usize, text: &mut String) {
    let (comma, colon) = match (&options.separators, options.indent) {
        (Some((comma, colon)), _) => (comma.as_str(), colon.as_str()),
        (None, Some(_)) => (",", ": "),
        (None, None) => (", ", ": "),
    };
    let line = |depth: usize, text: &mut String| {
        if let Some(indent) = options.indent {
            text.push('\n');
            text.push_str(&" ".repeat(indent.max(0) as usize * depth));
        }
    };
    match value {
        Json::Array(items) if !items.is_empty() => {
            text.push('[');
            for (number, item) in items.iter().enumerate() {
                text.push_str(if number > 0 { comma } else { "" });
                line(depth + 1, text);
                write_json(item, options, depth + 1, text);
            }
            line(depth, text);
            text.push(']');
        }
        Json::Object(entries) if !entries.is_empty() => {
            let mut entries: Vec<(&String, &Json)> = entries.iter().collect();
            if options.sort_keys {
                entries.sort_by_key(|(key, _)| *key);
            }
            text.push('{');
            for (number, (key, item)) in entries.into_iter().enumerate() {
                text.push_str(if number > 0 { comma } else { "" });
                line(depth + 1, text);
                text.push_str(&quoted(key, options.ensure_ascii));
                text.push_str(colon);
                write_json(item, options, depth + 1, text);
            }
            line(depth, text);
            text.push('}');
        }
        Json::String(string) => text.push_str(&quoted(string, options.ensure_ascii)),
        Json::Number(number) => text.push_str(&number_text(number)),
        other => text.push_str(&other.to_string()),
    }
}

fn quoted(string: &str, ensure_ascii: bool) -> String {
    let quoted = Json::from(string).to_string();
    if !ensure_ascii {
        return quoted;
    }
    let mut text = String::with_capacity(quoted.len());
    for character in quoted.chars() {
        if character.is_ascii() && character != '\x7f' {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

/// What `str(value)` gives; strings are as they are at the top, and quoted inside lists and maps.
pub fn text(value: &Json) -> String {
    match value {
        Json::String(string) => string.clone(),
        other => repr(other),
    }
}

fn repr(value: &Json) -> String {
    match value {
        Json::Null => "None".into(),
        Json::Bool(true) => "True".into(),
        Json::Bool(false) => "False".into(),
        Json::Number(number) => number_text(number),
        Json::String(string) => repr_of_string(string),
        Json::Array(items) => format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Json::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", repr_of_string(key), repr(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn repr_of_string(string: &str) -> String {
    let quote = if string.contains('\'') && !string.contains('"') { '"' } else { '\'' };
    let mut text = String::from(quote);
    for character in string.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            character if character == quote => text.extend(['\\', character]),
            ' ' => text.push(' '),
            character if character.is_control() || character.is_whitespace() => {
                text.push_str(&match u32::from(character) {
                    code @ 0..=0xff => format!("\\x{code:02x}"),
                    code => format!("\\u{code:04x}"),
                });
            }
            character => text.push(character),
        }
    }
    text.push(quote);
    text
}

/// A number as Python's `repr` writes it: floats with the fewest digits, and an exponent below 1e-4 and from 1e16 on.
fn number_text(number: &serde_json::Number) -> String {
    if number.is_i64() || number.is_u64() {
        return number.to_string();
    }
    let Some(value) = number.as_f64() else { return number.to_string() };
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let scientific = format!("{value:e}");
        let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What Python 3.11's `json.dumps` and `str` give.
    #[test]
    fn values_are_written_as_python_writes_them() {
        let value = json!({ "b": [1, 2.0, 1e16, 1.5e-5, 0.0001, 123456789.125], "a": "é\u{1f600}\n'" , "c": [null, true], "d": {} });
        let written = |options: JsonOptions| json(&value, &options).unwrap();
        assert_eq!(
            written(JsonOptions::default()),
            "{\"b\": [1, 2.0, 1e+16, 1.5e-05, 0.0001, 123456789.125], \"a\": \"é😀\\n'\", \"c\": [null, true], \"d\": {}}"
        );
        let compact = JsonOptions {
            ensure_ascii: true,
            separators: Some((",".into(), ":".into())),
            sort_keys: true,
            ..JsonOptions::default()
        };
        assert_eq!(
            written(compact),
            "{\"a\":\"\\u00e9\\ud83d\\ude00\\n'\",\"b\":[1,2.0,1e+16,1.5e-05,0.0001,123456789.125],\"c\":[null,true],\"d\":{}}"
        );
        assert!(json(&value, &JsonOptions { indent: Some(1 << 40), ..JsonOptions::default() }).is_err());
        let two = json!({ "a": [1, []] });
        let indented = JsonOptions { indent: Some(2), ..JsonOptions::default() };
        assert_eq!(json(&two, &indented).unwrap(), "{\n  \"a\": [\n    1,\n    []\n  ]\n}");
        assert_eq!(
            text(&value),
            "{'b': [1, 2.0, 1e+16, 1.5e-05, 0.0001, 123456789.125], 'a': \"é😀\\n'\", 'c': [None, True], 'd': {}}"
        );
        assert_eq!(text(&json!("it's")), "it's");
        let rare = json!(["\u{a0}\u{2028}\u{1}\u{7f}"]);
        assert_eq!(text(&rare), "['\\xa0\\u2028\\x01\\x7f']");
        let ascii = JsonOptions { ensure_ascii: true, ..JsonOptions::default() };
        assert_eq!(super::json(&rare, &ascii).unwrap(), "[\"\\u00a0\\u2028\\u0001\\u007f\"]");
    }
}
