//! Text on figures: titles and axis labels, safe for every output; short numbers; distances of ticks.

/// The greatest magnitude that can be drawn: differences of larger values could overflow.
pub const LARGEST: f64 = 1e300;

/// A figure's title and axis labels; an empty one is not drawn.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// Above the figure.
    pub title: String,
    /// Below the horizontal axis.
    pub x: String,
    /// Beside the vertical axis.
    pub y: String,
}

impl Labels {
    /// The labels without control characters.
    pub fn cleaned(&self) -> Self {
        Self { title: clean(&self.title), x: clean(&self.x), y: clean(&self.y) }
    }
}

/// `text` escaped for the drawing library, which would read `$...$` as mathematics.
pub fn literal(text: &str) -> String {
    text.replace('$', "\\$")
}

/// `text` without control characters and characters that XML forbids, which would otherwise reach the terminal or break
/// an SVG.
pub fn clean(text: &str) -> String {
    let forbidden = |character: char| character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}');
    let text: String = text.chars().map(|c| if forbidden(c) { ' ' } else { c }).collect();
    text.trim().to_owned()
}

/// `text` as it is shown in one line: a line break and a tab have a sign of their own, other control characters and
/// those that XML forbids are spaces. Spaces around it stay.
pub fn visible(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' => '↵',
        '\t' => '⇥',
        '\u{fffe}' | '\u{ffff}' => ' ',
        character if character.is_control() => ' ',
        character => character,
    };
    text.chars().map(shown).collect()
}

/// `text` cut to `width` pixels, an ellipsis showing the cut; empty where not even that fits.
pub fn fit(text: &str, width: f64, size: u32) -> String {
    if pixels(text, size) <= width {
        return text.to_owned();
    }
    let mut kept: Vec<char> = text.chars().collect();
    while kept.pop().is_some() {
        let cut: String = kept.iter().chain(&['…']).collect();
        if pixels(&cut, size) <= width {
            return cut;
        }
    }
    String::new()
}

/// `value` in at most four significant digits.
pub fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return value.to_string();
    }
    let scientific = format!("{value:.3e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(power @ -4..=6) => trim_zeros(&format!("{value:.*}", usize::try_from(3 - power).unwrap_or(0))),
        _ => format!("{}e{exponent}", trim_zeros(mantissa)),
    }
}

/// The values with enough decimals to distinguish them all, the same number for each.
pub fn aligned(values: &[f64]) -> Vec<String> {
    let step = values.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
    let exact = |decimals: &usize| {
        values.iter().all(|value| {
            let text = format!("{value:.decimals$}");
            text.len() <= 8 && text.parse::<f64>().is_ok_and(|read| (read - value).abs() <= step * 1e-3)
        })
    };
    match (0..=6).find(exact) {
        Some(decimals) => values.iter().map(|value| format!("{:.decimals$}", value + 0.0)).collect(),
        None => values.iter().map(|value| short(*value)).collect(),
    }
}

/// Number of decimals that shows the greatest of `values` in about three digits; none if scientific notation is better.
pub fn decimals(mut values: impl Iterator<Item = f64> + Clone) -> Option<usize> {
    let greatest = values.clone().map(f64::abs).fold(0.0, f64::max);
    match greatest {
        1e6.. => None,
        _ if values.all(|value| value.fract() == 0.0) => Some(0),
        100.0.. => Some(0),
        10.0.. => Some(1),
        0.1.. => Some(2),
        0.01.. => Some(3),
        _ => None,
    }
}

/// `value` in that many decimals; without any, the shortest form.
pub fn in_decimals(value: f64, decimals: Option<usize>) -> String {
    match decimals {
        Some(decimals) => {
            let text = format!("{value:.decimals$}");
            let zero = text.chars().all(|character| matches!(character, '-' | '0' | '.'));
            if zero { text.trim_start_matches('-').to_owned() } else { text }
        }
        None => short(value),
    }
}

/// The width of a text in pixels, estimated from above: the drawing library does not report its font's metrics.
pub fn pixels(text: &str, size: u32) -> f64 {
    let units = |character: char| match character {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | '\'' | '|' | ' ' | '-' => 0.35,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 1.0,
        'A'..='Z' => 0.72,
        character if character.is_ascii() => 0.64,
        _ => 1.0,
    };
    text.chars().map(units).sum::<f64>() * f64::from(size)
}

fn trim_zeros(number: &str) -> String {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }.to_owned()
}

/// The columns that `text` takes in a terminal.
pub fn columns(text: &str) -> usize {
    console::measure_text_width(text)
}

/// `text` cut to `width` terminal columns, an ellipsis showing the cut.
pub fn clip(text: &str, width: usize) -> String {
    console::truncate_str(text, width, "…").into_owned()
}

/// Number of ticks from one label to the next if each label needs `extent` and neighbouring ticks are `spacing` apart:
/// 1, 2, 5, 10, ...
pub fn stride(extent: f64, spacing: f64) -> usize {
    let needed = extent / spacing;
    let mut decade = 1;
    while decade < 1_000_000 {
        for step in [decade, 2 * decade, 5 * decade] {
            if step as f64 >= needed {
                return step;
            }
        }
        decade *= 10;
    }
    decade
}

#[cfg(test)]
mod tests {
    use super::{aligned, clean, decimals, in_decimals, short, stride};

    #[test]
    fn short_numbers_keep_four_digits() {
        let cases = [
            (0.0, "0"),
            (-0.125, "-0.125"),
            (0.123_456, "0.1235"),
            (12345.6, "12346"),
            (2.0, "2"),
            (1e-7, "1e-7"),
            (-2.5e12, "-2.5e12"),
            (0.000_12, "0.00012"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn aligned_numbers_share_their_decimals() {
        assert_eq!(aligned(&[-0.5, -0.25, 0.0, 0.25]), ["-0.50", "-0.25", "0.00", "0.25"]);
        assert_eq!(aligned(&[0.0, 5.0, 10.0]), ["0", "5", "10"]);
        assert_eq!(aligned(&[0.0, 1e-9, 2e-9]), ["0", "1e-9", "2e-9"]);
    }

    #[test]
    fn cells_share_their_decimals() {
        let texts = |values: &[f64]| -> Vec<String> {
            values.iter().map(|value| in_decimals(*value, decimals(values.iter().copied()))).collect()
        };
        assert_eq!(texts(&[0.5, -0.001, 0.123]), ["0.50", "0.00", "0.12"]);
        assert_eq!(texts(&[3.0, -12.0]), ["3", "-12"]);
        assert_eq!(texts(&[31.26, 2.0]), ["31.3", "2.0"]);
        assert_eq!(texts(&[1e-9, 0.0]), ["1e-9", "0"]);
    }

    #[test]
    fn labels_lose_control_characters() {
        assert_eq!(clean("\u{1b}[31mred\nline\u{0}"), "[31mred line");
    }

    #[test]
    fn strides_are_round() {
        assert_eq!(stride(3.0, 4.0), 1);
        assert_eq!(stride(3.0, 2.0), 2);
        assert_eq!(stride(9.0, 2.0), 5);
        assert_eq!(stride(12.0, 2.0), 10);
    }
}
