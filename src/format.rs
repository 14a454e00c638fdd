//! Formats numbers and texts by a short specification, a subset of Python's: `[<>^][+][0][width][,][.digits][f|e|g|%]`.

use crate::error::{Error, Result};

/// A value to format.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'a> {
    /// An integer.
    Integer(i64),
    /// A floating-point number.
    Float(f64),
    /// A text.
    Text(&'a str),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Notation {
    Fixed,
    Exponent,
    General,
    Percent,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Specification {
    align: Option<char>,
    plus: bool,
    zeros: bool,
    width: usize,
    grouped: bool,
    digits: Option<usize>,
    notation: Option<Notation>,
}

/// Largest width and number of digits, so that a script cannot ask for gigabytes of padding.
const LONGEST: usize = 1000;

/// Formats `item` by `specification`.
///
/// # Errors
/// An invalid specification, or one for numbers with a text.
pub fn format(item: Item<'_>, specification: &str) -> Result<String> {
    let parsed = parse(specification)?;
    let body = match item {
        Item::Text(text) => {
            if parsed.plus || parsed.zeros || parsed.grouped || parsed.digits.is_some() || parsed.notation.is_some() {
                return Err(Error::new(format!("the format `{specification}` is for numbers, not for a string")));
            }
            text.to_owned()
        }
        Item::Integer(value) if parsed.digits.is_none() && parsed.notation.is_none() => {
            signed(value < 0, group(&value.unsigned_abs().to_string(), parsed.grouped), &parsed)
        }
        Item::Integer(value) => float(value as f64, &parsed),
        Item::Float(value) => float(value, &parsed),
    };
    let align = parsed.align.unwrap_or(if matches!(item, Item::Text(_)) { '<' } else { '>' });
    let width = parsed.width;
    Ok(match align {
        '<' => format!("{body:<width$}"),
        '^' => format!("{body:^width$}"),
        _ => format!("{body:>width$}"),
    })
}

fn parse(specification: &str) -> Result<Specification> {
    let wrong = || {
        Error::new(format!("`{specification}` is not a number format"))
            .hint("such as `.3` (digits after the point), `8.3` (and width), `.2e`, `.4g`, `.1%`, `+.2`, `,`")
    };
    let mut parsed = Specification::default();
    let mut rest = specification;
    let take = |rest: &mut &str, wanted: char| match rest.strip_prefix(wanted) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    };
    parsed.align = ['<', '>', '^'].into_iter().find(|&align| take(&mut rest, align));
    parsed.plus = take(&mut rest, '+');
    parsed.zeros = take(&mut rest, '0');
    parsed.width = number(&mut rest).map_err(|()| wrong())?.unwrap_or(0);
    parsed.grouped = take(&mut rest, ',');
    if take(&mut rest, '.') {
        parsed.digits = Some(number(&mut rest).map_err(|()| wrong())?.ok_or_else(wrong)?);
    }
    parsed.notation = match rest {
        "" => None,
        "f" => Some(Notation::Fixed),
        "e" => Some(Notation::Exponent),
        "g" => Some(Notation::General),
        "%" => Some(Notation::Percent),
        _ => return Err(wrong()),
    };
    Ok(parsed)
}

/// Takes the digits at the start of `rest`.
fn number(rest: &mut &str) -> std::result::Result<Option<usize>, ()> {
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    if digits.is_empty() {
        return Ok(None);
    }
    digits.parse().ok().filter(|&value| value <= LONGEST).map(Some).ok_or(())
}

fn float(value: f64, specification: &Specification) -> String {
    if !value.is_finite() {
        let text = if value.is_nan() { "nan" } else { "inf" };
        return signed(value < 0.0, text.to_owned(), &Specification { zeros: false, ..specification.clone() });
    }
    let size = value.abs();
    let body = match (specification.notation, specification.digits) {
        (None, None) => format!("{size:?}"),
        (None | Some(Notation::Fixed), digits) => format!("{size:.digits$}", digits = digits.unwrap_or(6)),
        (Some(Notation::Exponent), digits) => exponent(size, digits.unwrap_or(6)),
        (Some(Notation::General), digits) => general(size, digits.unwrap_or(6).max(1)),
        (Some(Notation::Percent), digits) => format!("{:.digits$}%", size * 100.0, digits = digits.unwrap_or(6)),
    };
    signed(value.is_sign_negative(), group(&body, specification.grouped), specification)
}

/// Scientific notation with the exponent as `e-05`.
fn exponent(size: f64, digits: usize) -> String {
    let text = format!("{size:.digits$e}");
    match text.split_once('e') {
        Some((mantissa, power)) => {
            let (sign, power) = match power.strip_prefix('-') {
                Some(power) => ('-', power),
                None => ('+', power),
            };
            format!("{mantissa}e{sign}{power:0>2}")
        }
        None => text,
    }
}

/// `digits` significant digits, in whichever notation is shorter, without trailing zeros.
fn general(size: f64, digits: usize) -> String {
    let trim = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    let scientific = exponent(size, digits - 1);
    let power = scientific.split_once('e').and_then(|(_, power)| power.parse::<i64>().ok()).unwrap_or(0);
    if (-4..digits as i64).contains(&power) {
        return trim(&format!("{size:.after$}", after = (digits as i64 - 1 - power) as usize));
    }
    match scientific.split_once('e') {
        Some((mantissa, power)) => format!("{}e{power}", trim(mantissa)),
        None => scientific,
    }
}

/// Commas between groups of three digits before the point.
fn group(body: &str, grouped: bool) -> String {
    if !grouped {
        return body.to_owned();
    }
    let end = body.find(|character: char| !character.is_ascii_digit()).unwrap_or(body.len());
    let (whole, rest) = body.split_at(end);
    let mut text = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// The sign, then zeros if the specification asks for them, then the digits.
fn signed(negative: bool, body: String, specification: &Specification) -> String {
    let sign = match (negative, specification.plus) {
        (true, _) => "-",
        (false, true) => "+",
        (false, false) => "",
    };
    let width = if specification.zeros { specification.width.saturating_sub(sign.len()) } else { 0 };
    format!("{sign}{body:0>width$}")
}
