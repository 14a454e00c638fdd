//! Reads JSON with errors that name line and column, and objects member by member, so that unknown and repeated members
//! are refused.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::stream;
use crate::error::{Error, Result, nearest};
use crate::file;
use crate::interrupt;

/// What is nested deeper is refused, as serde_json does.
const DEEPEST: usize = 128;

/// The value in a JSON file.
///
/// # Errors
/// A file that cannot be read, is not JSON, or holds what [`Source::value`] refuses; the message names line and column.
pub fn read(path: &Path) -> Result<Value> {
    decode(path, &file::read_text(path)?)
}

/// The value in a JSON text, which messages call `path`.
///
/// # Errors
/// As for [`read`].
pub fn decode(path: &Path, text: &str) -> Result<Value> {
    let source = Source::new(path, text);
    source.value(source.whole()?)
}

/// A JSON text, not yet read.
fn raw(text: &str) -> serde_json::Result<&RawValue> {
    // Whoever reads the values says more exactly what is wrong.
    serde_json::from_str(text).map_err(|error| serde_json::from_str::<Value>(text).err().unwrap_or(error))
}

/// The values in a file of JSON lines, each with the number of its line, read one after the other. Blank lines are
/// skipped.
///
/// # Errors
/// A file that cannot be opened. A value may be an error as for [`read`].
pub fn lines(path: &Path) -> Result<impl Iterator<Item = Result<(usize, Value)>> + use<>> {
    let owned = path.to_path_buf();
    let value = move |line: Result<(usize, String)>| {
        let (number, text) = match line {
            Ok((_, text)) if text.trim().is_empty() => return None,
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        let source = Source { path: &owned, text: &text, first_line: number };
        Some(source.whole().and_then(|whole| source.value(whole)).map(|value| (number, value)))
    };
    Ok(stream::lines(path)?.filter_map(value))
}

/// The error for a place in a file; line and column count from 1.
fn at(path: &Path, line: usize, column: usize, message: &str) -> Error {
    Error::new(format!("`{}:{line}:{column}`: {message}", path.display()))
}

/// The parser's message without its own line and column.
fn bare_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message).to_owned()
}

/// Number of characters in the first `bytes` bytes of a line.
fn characters(line: &str, bytes: usize) -> usize {
    line.char_indices().take_while(|(place, _)| *place < bytes).count()
}

/// A JSON text and the file it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    path: &'a Path,
    text: &'a str,
    /// The number of the text's first line.
    first_line: usize,
}

impl<'a> Source<'a> {
    /// The text of the file at `path`; a leading byte order mark is skipped.
    pub fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text: text.strip_prefix('\u{feff}').unwrap_or(text), first_line: 1 }
    }

    /// The whole text, not yet read.
    ///
    /// # Errors
    /// Text that is not JSON; the message names line and column.
    pub fn whole(&self) -> Result<&'a RawValue> {
        raw(self.text).map_err(|error| {
            let line = self.text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
            let column = characters(line, error.column().saturating_sub(1)) + 1;
            at(self.path, error.line().max(1) - 1 + self.first_line, column, &bare_message(&error))
        })
    }

    /// The members of an object within this text; `what` names it in messages.
    ///
    /// # Errors
    /// A value that is not an object, or a member given twice.
    pub fn members(&self, object: &'a RawValue, what: &'a str) -> Result<Members<'a>> {
        if !object.get().starts_with('{') {
            return Err(self.error_at(object, &format!("{what} must be an object, not {}", kind(object))));
        }
        let read = Pairs.deserialize(&mut serde_json::Deserializer::from_str(object.get()));
        let entries = read.map_err(|error| self.error_at(object, &bare_message(&error)))?;
        let mut names = HashSet::new();
        for (name, value) in &entries {
            if !names.insert(name.as_str()) {
                return Err(self.error(self.key_offset(name, value), &format!("{what} has `{name}` twice")));
            }
        }
        Ok(Members { source: *self, what, object, entries })
    }

    /// The value of a part of this text.
    ///
    /// # Errors
    /// An object with a name twice, an integer beyond 64 bits, a number beyond the floats, a text with half a surrogate
    /// pair, more than 128 levels; the message names line and column.
    pub fn value(&self, part: &'a RawValue) -> Result<Value> {
        self.nested(part, 0)
    }

    fn nested(&self, part: &'a RawValue, depth: usize) -> Result<Value> {
        let text = part.get();
        if depth > DEEPEST {
            return Err(self.error_at(part, &format!("values are nested more than {DEEPEST} deep")));
        }
        let failed = |error: serde_json::Error| self.error_at(part, &bare_message(&error));
        match text.bytes().next() {
            Some(b'{') => {
                interrupt::check()?;
                let members = self.members(part, "an object")?.entries.into_iter();
                let members = members.map(|(name, value)| Ok((name, self.nested(value, depth + 1)?)));
                members.collect::<Result<_>>().map(Value::Object)
            }
            Some(b'[') => {
                interrupt::check()?;
                let items: Vec<&'a RawValue> = serde_json::from_str(text).map_err(failed)?;
                items.into_iter().map(|item| self.nested(item, depth + 1)).collect::<Result<_>>().map(Value::Array)
            }
            Some(b'-' | b'0'..=b'9') => self.number(part),
            _ => serde_json::from_str(text).map_err(failed),
        }
    }

    fn number(&self, part: &RawValue) -> Result<Value> {
        let text = part.get();
        let float = text.contains(['.', 'e', 'E']).then(|| text.parse::<f64>().unwrap_or(f64::INFINITY));
        match (float, text.parse::<i64>()) {
            (None, Ok(integer)) => Ok(integer.into()),
            (None, Err(_)) => Err(self
                .error_at(part, &format!("the integer {text} takes more than 64 bits"))
                .hint("write it as a text, or with a decimal point, which keeps 15 digits")),
            (Some(float), _) if float.is_finite() => Ok(float.into()),
            (Some(_), _) => Err(self.error_at(part, &format!("the number {text} is beyond the floats"))),
        }
    }

    /// The line at which a part of this text starts, from 1.
    pub fn line(&self, part: &RawValue) -> usize {
        self.place(self.offset(part)).0
    }

    /// An error at a part of this text.
    pub fn error_at(&self, part: &RawValue, message: &str) -> Error {
        self.error(self.offset(part), message)
    }

    fn error(&self, offset: usize, message: &str) -> Error {
        let (line, column) = self.place(offset);
        at(self.path, line, column, message)
    }

    fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + self.first_line, line.chars().count() + 1)
    }

    /// Where a part of this text starts, by its address: it is borrowed from this text.
    fn offset(&self, part: &RawValue) -> usize {
        (part.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize)
    }

    /// Where the name in front of a value starts.
    fn key_offset(&self, name: &str, value: &RawValue) -> usize {
        let offset = self.offset(value);
        let before = self.text.get(..offset).unwrap_or_default();
        before.rfind(&format!("\"{name}\"")).unwrap_or(offset)
    }
}

/// The members of an object.
#[derive(Debug)]
pub struct Members<'a> {
    source: Source<'a>,
    what: &'a str,
    object: &'a RawValue,
    entries: Vec<(String, &'a RawValue)>,
}

impl<'a> Members<'a> {
    /// Refuses members with names other than these.
    ///
    /// # Errors
    /// The first member of another name, with the nearest known name.
    pub fn only(&self, names: &[&str]) -> Result<()> {
        let unknown = self.entries.iter().find(|(name, _)| !names.contains(&name.as_str()));
        let Some((name, value)) = unknown else { return Ok(()) };
        let offset = self.source.key_offset(name, value);
        let error = self.source.error(offset, &format!("{} has no field `{name}`", self.what));
        Err(match nearest(name, names.iter().copied()) {
            Some(near) => error.hint(format!("did you mean `{near}`? The fields are {}", names.join(", "))),
            None => error.hint(format!("the fields are {}", names.join(", "))),
        })
    }

    /// The text of a member; null counts as absent.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        let (_, value) = self.entries.iter().find(|(key, _)| key == name)?;
        (value.get() != "null").then_some(*value)
    }

    /// A member that may be absent or null; `wanted` names its type in messages.
    ///
    /// # Errors
    /// A value of another type.
    pub fn optional<T: Deserialize<'a>>(&self, name: &str, wanted: &str) -> Result<Option<T>> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let read = serde_json::from_str(value.get());
        read.map(Some).map_err(|_| self.error(name, &format!("`{name}` must be {wanted}, not {}", kind(value))))
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// A member that is absent or not a text.
    pub fn text(&self, name: &str) -> Result<String> {
        self.optional(name, "a text")?.ok_or_else(|| self.error(name, &format!("{} has no `{name}`", self.what)))
    }

    /// An array of texts, which may be absent or null; each comes with its place.
    ///
    /// # Errors
    /// A value that is not an array, or an item that is not a text.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<(String, &'a RawValue)>>> {
        let Some(items) = self.optional::<Vec<&RawValue>>(name, "an array of texts")? else { return Ok(None) };
        let text = |item: &'a RawValue| match serde_json::from_str(item.get()) {
            Ok(text) => Ok((text, item)),
            Err(_) => {
                let message = format!("each item of `{name}` must be a text, not {}", kind(item));
                Err(self.source.error_at(item, &message))
            }
        };
        items.into_iter().map(text).collect::<Result<_>>().map(Some)
    }

    /// An object of texts in its order, which may be absent or null.
    ///
    /// # Errors
    /// A value that is not an object, or a member of it that is not a text.
    pub fn pairs(&self, name: &'a str) -> Result<Option<Vec<(String, String)>>> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let members = self.source.members(value, name)?;
        members.entries.iter().map(|(key, _)| Ok((key.clone(), members.text(key)?))).collect::<Result<_>>().map(Some)
    }

    /// An error about a member, at its value, or at the object's start where it is absent.
    pub fn error(&self, name: &str, message: &str) -> Error {
        self.source.error_at(self.raw(name).unwrap_or(self.object), message)
    }
}

/// A value's type, for messages.
fn kind(value: &RawValue) -> &'static str {
    match value.get().bytes().next() {
        Some(b'"') => "a text",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a bool",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Reads an object as its names and unread values, in order.
struct Pairs;

impl<'de> DeserializeSeed<'de> for Pairs {
    type Value = Vec<(String, &'de RawValue)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}
