//! What a chat template may use. minijinja's fuel pays for steps and for the data that they make; here are the places
//! where a value is walked, or a text grows, before the fuel is asked.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

/// The steps that a template may take: a conversation of a thousand turns needs far fewer. A step also pays for
/// [`STEP_BYTES`] bytes of data.
pub const FUEL: u64 = 2_500_000;
/// The bytes of data that one step pays for, as in minijinja.
const STEP_BYTES: usize = 64;
/// The deepest nesting of lists and maps that is written out.
const DEEPEST: usize = 500;
/// The digits of a width or precision in `str.format`.
const WIDTH_DIGITS: usize = 3;

/// Pays for writing a value out: every item that is reached, as often as it is reached.
///
/// # Errors
/// Not enough fuel; lists and maps nested too deeply; an iterator that fails.
pub fn pay_for(state: &State, value: &Value) -> Result<(), Error> {
    pay_at(state, value, 0)
}

fn pay_at(state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(invalid(format!("lists and maps are nested more than {DEEPEST} deep")));
    }
    if let Some(text) = value.as_str() {
        return pay_for_bytes(state, text.len());
    }
    state.consume_fuel(1)?;
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.checked().try_for_each(|item| pay_at(state, &item?, depth + 1))
        }
        ValueKind::Map => value.try_iter()?.checked().try_for_each(|key| {
            let key = key?;
            pay_at(state, &key, depth + 1)?;
            pay_at(state, &value.get_item(&key)?, depth + 1)
        }),
        _ => Ok(()),
    }
}

fn pay_for_bytes(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / STEP_BYTES) as u64 + 1)
}

/// Python's methods of strings, lists and maps.
///
/// # Errors
/// As those methods; not enough fuel for what the method will make.
pub fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        let length = |index: usize| arguments.get(index).and_then(Value::as_str).map_or(0, str::len);
        match name {
            "replace" => {
                let old = arguments.first().and_then(Value::as_str).unwrap_or_default();
                pay_for_bytes(state, text.matches(old).count().saturating_mul(length(1)))?;
            }
            "join" => {
                for item in arguments.iter().filter(|list| list.kind() != ValueKind::String) {
                    pay_for(state, item)?;
                    let count = item.len().unwrap_or_default();
                    pay_for_bytes(state, count.saturating_mul(text.len()))?;
                }
            }
            "format" => {
                check_widths(text)?;
                arguments.iter().try_for_each(|argument| pay_for(state, argument))?;
            }
            _ => {}
        }
    }
    unknown_method_callback(state, value, name, arguments)
}

/// Refuses widths and precisions in `str.format` that no conversation needs.
fn check_widths(format: &str) -> Result<(), Error> {
    let fields = format.split('{').skip(1).map(|field| field.split('}').next().unwrap_or_default());
    for specification in fields.filter_map(|field| field.split_once(':').map(|(_, specification)| specification)) {
        let digits = specification.split(|letter: char| !letter.is_ascii_digit()).map(str::len).max();
        if digits.is_some_and(|digits| digits > WIDTH_DIGITS) {
            return Err(invalid(format!("`format` with `{specification}` makes a text of more than 999 characters")));
        }
    }
    Ok(())
}

/// An error with a message of ours.
pub fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
