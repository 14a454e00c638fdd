//! Heatmaps of texts in characters: a table whose columns that do not fit follow below.

use crate::plot::color::is_light;
use crate::plot::heatmap::Heatmap;
use crate::plot::heatmap::text::{TICK_COLUMNS, joined};
use crate::plot::label::{clip, columns};
use crate::plot::legend::{legend, shade};
use crate::plot::screen::{ColorDepth, Glyph, painted};
use crate::plot::shape::{BLACK, WHITE};

/// The width of a cell, with the space behind its text: what many columns leave to each, and the most.
const NARROWEST: usize = 12;
const WIDEST: usize = 24;

/// The table as lines of text. Without colours, each text is followed by the character of its value.
pub fn text(heatmap: &Heatmap, width: usize, depth: ColorDepth) -> String {
    let options = heatmap.options();
    let name = |row: usize| clip(&heatmap.y_tick(row), TICK_COLUMNS.min(width / 4));
    let margin = (0..heatmap.rows()).map(|row| columns(&name(row))).max().unwrap_or(0) + 1;
    let room = (width - margin).max(1);
    let extra = if depth == ColorDepth::None { 3 } else { 1 };
    let texts =
        (0..heatmap.rows()).flat_map(|row| (0..heatmap.columns()).map(move |column| words(heatmap, row, column)));
    let ticks = (0..heatmap.columns()).map(|column| heatmap.x_tick(column));
    let longest = texts.map(|text| columns(&text) + extra).chain(ticks.map(|tick| columns(&tick) + 1)).max();
    let share = (room / heatmap.columns()).clamp(NARROWEST, WIDEST);
    let cell = longest.unwrap_or(1).min(share).min(room).max(1);

    let mut lines: Vec<String> = [&options.labels.title, &options.labels.y]
        .into_iter()
        .filter(|text| !text.is_empty())
        .map(|text| clip(text, width))
        .collect();
    let per_block = (room / cell).max(1);
    for first in (0..heatmap.columns()).step_by(per_block) {
        let block = first..(first + per_block).min(heatmap.columns());
        if first > 0 {
            lines.push(String::new());
        }
        for row in 0..heatmap.rows() {
            let cells: String =
                block.clone().map(|column| painted(&glyphs(heatmap, row, column, cell, depth), depth)).collect();
            lines.push(format!("{}{} {cells}", " ".repeat(margin - 1 - columns(&name(row))), name(row)));
        }
        let ticks: String = block.map(|column| padded(&heatmap.x_tick(column), cell - 1) + " ").collect();
        lines.push(format!("{}{ticks}", " ".repeat(margin)));
    }
    if !options.labels.x.is_empty() {
        let shown = per_block.min(heatmap.columns()) * cell;
        let label = clip(&options.labels.x, room);
        lines.push(format!("{}{label}", " ".repeat(margin + (shown / 2).saturating_sub(columns(&label) / 2))));
    }
    let meaning = if options.color_label.is_empty() { "scale" } else { &options.color_label };
    lines.extend(legend(meaning, heatmap.scale(), heatmap.has_blanks(), width, depth));
    lines.extend(heatmap.marks_in_words().iter().map(|mark| format!("marked: {mark}")));
    joined(&lines)
}

/// The text of a cell, in brackets if it is marked.
fn words(heatmap: &Heatmap, row: usize, column: usize) -> String {
    let text = heatmap.cell(row, column).unwrap_or_default().trim();
    if heatmap.options().marks.contains(&(row, column)) { format!("[{text}]") } else { text.to_owned() }
}

fn glyphs(heatmap: &Heatmap, row: usize, column: usize, cell: usize, depth: ColorDepth) -> Vec<Glyph> {
    let Some(value) = heatmap.value(row, column) else { return vec![Glyph::plain(' '); cell] };
    let words = words(heatmap, row, column);
    if depth == ColorDepth::None {
        let shaded = format!("{} {} ", padded(&words, cell.saturating_sub(3)), shade(heatmap.scale(), value));
        return clip(&shaded, cell).chars().map(Glyph::plain).collect();
    }
    let paper = heatmap.scale().rgb(value);
    let ink = Some(if is_light(paper) { BLACK } else { WHITE });
    padded(&words, cell).chars().map(|character| Glyph { character, ink, paper: Some(paper) }).collect()
}

/// `text` in exactly `width` columns of a terminal.
fn padded(text: &str, width: usize) -> String {
    let text = clip(text, width);
    let free = width.saturating_sub(columns(&text));
    format!("{text}{}", " ".repeat(free))
}
