//! The checked data of coloured tokens: rows of tokens with a value each, and the colours.

pub mod html;
pub mod scene;
pub mod text;

use crate::error::{Error, Result};
use crate::format::{Item, format};
use crate::plot::color::{ColorMap, ColorScale};
use crate::plot::label::{LARGEST, clean, short};

/// The most tokens, those of all rows together.
const MOST_TOKENS: usize = 20_000;

/// The options of coloured tokens; the defaults derive every choice from the values.
#[derive(Debug, Clone, Default)]
pub struct TokenOptions {
    /// Above the figure.
    pub title: String,
    /// One name per row, such as a latent or a prompt; none if absent.
    pub names: Option<Vec<String>>,
    /// The meaning of the colours.
    pub color_label: String,
    /// The values at the ends of the colours; chosen from the values if absent.
    pub range: Option<(f64, f64)>,
    /// How numbers are written, such as `.2`; in four digits if absent.
    pub format: Option<String>,
}

/// A token with its value; NaN stands for none.
#[derive(Debug, Clone)]
struct Token {
    text: String,
    value: f64,
    number: String,
}

/// Tokens of one prompt, with the values of one feature.
#[derive(Debug, Clone)]
struct Row {
    name: String,
    tokens: Vec<Token>,
}

/// Checked rows of coloured tokens.
#[derive(Debug, Clone)]
pub struct TokenView {
    title: String,
    color_label: String,
    rows: Vec<Row>,
    scale: ColorScale,
}

impl TokenView {
    /// Rows of tokens, each with its values. A NaN leaves its token without a colour. Without a range, values of which
    /// some are negative are coloured around zero, others from zero up.
    ///
    /// # Errors
    /// No row or an empty one, another number of values than of tokens, infinities, no value that is a number, more than
    /// 20 000 tokens, names that do not fit the rows, a range that is empty, a format that is none.
    pub fn new(rows: Vec<(Vec<String>, Vec<f64>)>, options: &TokenOptions) -> Result<Self> {
        let count = rows.len();
        if let Some(names) = options.names.as_ref().filter(|names| names.len() != count) {
            return Err(Error::new(format!("labels has {} entries, there are {count} rows of values", names.len())));
        }
        let total: usize = rows.iter().map(|(tokens, _)| tokens.len()).sum();
        if total > MOST_TOKENS {
            return Err(Error::new(format!("{total} tokens are too many to show"))
                .hint(format!("choose rows or positions: at most {MOST_TOKENS} tokens in all")));
        }
        let names = options.names.clone().unwrap_or_else(|| vec![String::new(); count]);
        let mut named = Vec::new();
        for (place, ((tokens, values), name)) in rows.into_iter().zip(names).enumerate() {
            check(place, &tokens, &values)?;
            let token = |(text, value): (String, f64)| Ok(Token { number: number(value, options)?, text, value });
            let tokens = tokens.into_iter().zip(values).map(token).collect::<Result<_>>()?;
            named.push(Row { name: clean(&name), tokens });
        }
        let rows = named;
        let values: Vec<f64> =
            rows.iter().flat_map(|row| &row.tokens).map(|token| token.value).filter(|value| !value.is_nan()).collect();
        if values.is_empty() {
            return Err(Error::new("there is no token with a value"));
        }
        Ok(Self {
            title: clean(&options.title),
            color_label: clean(&options.color_label),
            rows,
            scale: scale(&values, options.range)?,
        })
    }

    /// The title; empty for none.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Its size in words.
    pub fn size(&self) -> String {
        let tokens: usize = self.rows.iter().map(|row| row.tokens.len()).sum();
        let (least, greatest) = (short(self.scale.min()), short(self.scale.max()));
        format!("{} rows, {tokens} tokens, colors from {least} to {greatest}", self.rows.len())
    }
}

fn check(row: usize, tokens: &[String], values: &[f64]) -> Result<()> {
    if tokens.len() != values.len() {
        let error = Error::new(format!("row {row} has {} values, but there are {} tokens", values.len(), tokens.len()));
        return Err(if !values.is_empty() && values.len() + 1 == tokens.len() {
            error.hint("a loss belongs to the token that is predicted: leave out the first token")
        } else {
            error.hint("give a value for each token")
        });
    }
    if tokens.is_empty() {
        return Err(Error::new(format!("row {row} has no tokens")));
    }
    match values.iter().position(|value| value.abs() > LARGEST) {
        Some(place) => Err(Error::new(format!("row {row}: value {place} is infinite or too large to show"))),
        None => Ok(()),
    }
}

fn number(value: f64, options: &TokenOptions) -> Result<String> {
    match &options.format {
        _ if value.is_nan() => Ok(String::new()),
        Some(specification) => format(Item::Float(value), specification),
        None => Ok(short(value)),
    }
}

/// White is zero, unless a range of one sign says otherwise.
fn scale(values: &[f64], range: Option<(f64, f64)>) -> Result<ColorScale> {
    let lowest = range.map_or_else(|| values.iter().copied().fold(0.0, f64::min), |(low, _)| low);
    if lowest < 0.0 {
        return ColorScale::fit(values, Some(ColorMap::Diverging), range);
    }
    let greatest = values.iter().copied().fold(0.0, f64::max);
    ColorScale::fit(values, Some(ColorMap::Reds), range.or((greatest > 0.0).then_some((0.0, greatest))))
}
