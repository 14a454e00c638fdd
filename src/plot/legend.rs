//! Legends of colours in characters, and the characters that stand for colours.

use crate::plot::color::ColorScale;
use crate::plot::label::{clip, columns, short};
use crate::plot::screen::{ColorDepth, Glyph, painted};

/// Low to high, for output without colours; an odd number, so that zero has its own on a diverging scale.
const SHADES: [char; 9] = ['.', ':', '~', '=', '+', '*', '#', '%', '@'];

/// The character of `value`.
pub fn shade(scale: &ColorScale, value: f64) -> char {
    let level = (scale.fraction(value) * (SHADES.len() - 1) as f64).round() as usize;
    SHADES.get(level).copied().unwrap_or(' ')
}

/// The legend of the colours or characters, in lines of at most `width` columns.
pub fn legend(name: &str, scale: &ColorScale, has_blanks: bool, width: usize, depth: ColorDepth) -> Vec<String> {
    if depth != ColorDepth::None {
        let (name, low, high) = (clip(name, width / 3), short(scale.min()), short(scale.max()));
        let steps = width.saturating_sub(columns(&name) + low.len() + high.len() + 4).clamp(2, 32);
        let block = |step: usize| Glyph {
            character: ' ',
            ink: None,
            paper: Some(scale.rgb(scale.value(step as f64 / (steps - 1) as f64))),
        };
        let bar = painted(&(0..steps).map(block).collect::<Vec<_>>(), depth);
        return vec![format!("{name}: {low} {bar} {high}")];
    }
    let last = (SHADES.len() - 1) as f64;
    let mut entries: Vec<String> = SHADES
        .iter()
        .enumerate()
        .map(|(level, shade)| format!("{shade} {}", short(scale.value(level as f64 / last))))
        .collect();
    if has_blanks {
        entries.push("(blank: no value)".to_owned());
    }
    let mut lines = vec![format!("{}:", clip(name, width / 2))];
    for entry in entries {
        match lines.last_mut() {
            Some(line) if columns(line) + columns(&entry) + 2 <= width => {
                line.push_str(if line.ends_with(':') && line.len() > 3 { " " } else { "  " });
                line.push_str(&entry);
            }
            _ => lines.push(format!("  {entry}")),
        }
    }
    lines
}
