//! Coloured tokens in characters: on colours if the terminal has them, else with their numbers in brackets.

use super::{Token, TokenView};
use crate::plot::color::is_light;
use crate::plot::label::{clip, columns, visible};
use crate::plot::legend::legend;
use crate::plot::screen::{ColorDepth, Glyph, Screen, painted};
use crate::plot::shape::{BLACK, WHITE};

/// The most rows that are shown.
const MOST_ROWS: usize = 20;

/// The tokens as lines of text.
pub fn text(view: &TokenView, screen: Screen) -> String {
    let width = screen.columns.max(20);
    let mut lines = Vec::new();
    if !view.title.is_empty() {
        lines.push(clip(&view.title, width));
    }
    for row in view.rows.iter().take(MOST_ROWS) {
        if !row.name.is_empty() {
            lines.push(clip(&format!("{}:", row.name), width));
        }
        let mut line: Vec<Glyph> = Vec::new();
        let mut used = 0;
        for token in &row.tokens {
            let words = clip(&words(token, screen.depth), width);
            if used + columns(&words) > width {
                lines.push(painted(&line, screen.depth));
                line.clear();
                used = 0;
            }
            used += columns(&words);
            line.extend(glyphs(view, token, &words, screen.depth));
            if token.text.contains('\n') {
                lines.push(painted(&line, screen.depth));
                line.clear();
                used = 0;
            }
        }
        lines.push(painted(&line, screen.depth));
    }
    if view.rows.len() > MOST_ROWS {
        lines.push(format!("and {} rows more, which a file shows", view.rows.len() - MOST_ROWS));
    }
    let name = if view.color_label.is_empty() { "value" } else { &view.color_label };
    if screen.depth == ColorDepth::None {
        lines.push(clip(&format!("in brackets: {name}"), width));
    } else {
        lines.extend(legend(name, &view.scale, false, width, screen.depth));
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn words(token: &Token, depth: ColorDepth) -> String {
    let text = visible(&token.text);
    match depth {
        ColorDepth::None if !token.value.is_nan() => format!("{text}[{}]", token.number.trim()),
        _ => text,
    }
}

fn glyphs(view: &TokenView, token: &Token, words: &str, depth: ColorDepth) -> Vec<Glyph> {
    let paper = (depth != ColorDepth::None && !token.value.is_nan()).then(|| view.scale.rgb(token.value));
    let ink = paper.map(|paper| if is_light(paper) { BLACK } else { WHITE });
    words.chars().map(|character| Glyph { character, ink, paper }).collect()
}
