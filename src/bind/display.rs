//! How any value is shown, at the prompt and by `print`.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FnPtr, Map};

use super::{handle, module};
use crate::catalog::topic::Topic;
use crate::tensor::Tensor;

/// Containers are broken into lines to stay within this many characters.
const LINE_WIDTH: usize = 100;
/// A tensor of one dimension stands in a container with its elements if it has at most so many.
const SHORT_TENSOR: usize = 8;
/// Containers nested deeper are not opened.
const DEEPEST: usize = 32;

/// Registers what `print`, `to_string` and interpolation show of arrays and maps.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Utilities, exported_manifest!(display_functions));
}

/// The value as text: a string is itself, a tensor shows its elements, containers are laid out with strings in quotes
/// and tensors in one line.
pub fn display(value: &Dynamic) -> String {
    if value.is_string() {
        return value.to_string();
    }
    handle::show(value).unwrap_or_else(|| literal(value))
}

/// The value as the prompt echoes it: as [`display`], but a string in quotes.
pub fn echo(value: &Dynamic) -> String {
    if value.is_string() { literal(value) } else { display(value) }
}

/// The value as it stands in a container: a string in quotes, a tensor in one line, with its elements if they are few.
pub fn literal(value: &Dynamic) -> String {
    nested(value, 0, 0)
}

/// Lays out `value`, whose first line starts at column `column`.
fn nested(value: &Dynamic, depth: usize, column: usize) -> String {
    if let Some(array) = value.read_lock::<Array>() {
        return array_text(&array, depth, column);
    }
    if let Some(map) = value.read_lock::<Map>() {
        return map_text(&map, depth, column);
    }
    if let Some(tensor) = value.read_lock::<Tensor>()
        && tensor.ndim() == 1
        && tensor.numel() <= SHORT_TENSOR
    {
        return tensor.summary().replace('\n', " ");
    }
    if let Some(function) = value.read_lock::<FnPtr>() {
        return format!("Fn({})", function.fn_name());
    }
    if let Ok(number) = value.as_float() {
        return format!("{number:?}");
    }
    if value.is_string() || value.is_char() {
        return format!("{:?}", value.to_string());
    }
    if value.is_unit() {
        return "()".to_owned();
    }
    handle::describe(value).unwrap_or_else(|| value.to_string())
}

fn array_text(array: &Array, depth: usize, column: usize) -> String {
    if depth >= DEEPEST {
        return "[…]".to_owned();
    }
    let simple = !array.iter().any(|item| item.is_array() || item.is_map() || item.is::<Tensor>());
    let items: Vec<String> = array.iter().map(|item| nested(item, depth + 1, column + 2)).collect();
    if let Some(line) = one_line("[", &items, "]", column) {
        return line;
    }
    let indent = " ".repeat(column + 2);
    let lines = if simple { fill(&items, column + 2) } else { items };
    format!("[\n{indent}{}\n{}]", lines.join(&format!(",\n{indent}")), " ".repeat(column))
}

fn map_text(map: &Map, depth: usize, column: usize) -> String {
    if depth >= DEEPEST {
        return "#{…}".to_owned();
    }
    let entries: Vec<String> = map
        .iter()
        .map(|(key, value)| {
            let key = key_text(key);
            format!("{key}: {}", nested(value, depth + 1, column + 2))
        })
        .collect();
    if let Some(line) = one_line("#{", &entries, "}", column) {
        return line;
    }
    let indent = " ".repeat(column + 2);
    format!("#{{\n{indent}{}\n{}}}", entries.join(&format!(",\n{indent}")), " ".repeat(column))
}

/// A key as a script would write it.
fn key_text(key: &str) -> String {
    let plain = key.starts_with(|first: char| first.is_alphabetic() || first == '_')
        && key.chars().all(|character| character.is_alphanumeric() || character == '_');
    if plain { key.to_owned() } else { format!("{key:?}") }
}

/// The parts in one line, if they fit.
fn one_line(open: &str, parts: &[String], close: &str, column: usize) -> Option<String> {
    let width = parts.iter().map(|part| part.chars().count() + 2).sum::<usize>();
    let fits = column + width < LINE_WIDTH && !parts.iter().any(|part| part.contains('\n'));
    fits.then(|| format!("{open}{}{close}", parts.join(", ")))
}

/// As many parts in each line as fit.
fn fill(parts: &[String], column: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if column + line.chars().count() + part.chars().count() + 2 < LINE_WIDTH => {
                line.push_str(", ");
                line.push_str(part);
            }
            _ => lines.push(part.clone()),
        }
    }
    lines
}

#[export_module(manifest)]
mod display_functions {
    /// The array as text, with strings in quotes and tensors in one line.
    #[rhai_fn(name = "to_string", name = "print", name = "to_debug", name = "debug", pure)]
    pub fn array_to_string(array: &mut Array) -> String {
        super::array_text(array, 0, 0)
    }

    /// The map as text, with strings in quotes and tensors in one line.
    #[rhai_fn(name = "to_string", name = "print", name = "to_debug", name = "debug", pure)]
    pub fn map_to_string(map: &mut Map) -> String {
        super::map_text(map, 0, 0)
    }
}
