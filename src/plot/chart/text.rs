//! Charts in characters: the plotting library's terminal drawing. Without colours, each series has its own character.

use kuva::backend::terminal::TerminalBackend;
use kuva::render::theme::Theme;

use super::names::left_out_in_words;
use super::scene::Look;
use super::{Chart, Extent};
use crate::plot::color::{Rgb, series_colors};
use crate::plot::label::{clip, columns, stride};
use crate::plot::screen::{ColorDepth, Glyph, Screen, painted};

/// The characters of the first, second, ... series without colours: in lines and points, and in bars.
const MARKS: [char; 7] = ['o', 'x', '+', '*', '#', '@', '%'];
const FILLS: [char; 7] = ['█', '░', '▓', '▒', '#', '+', '.'];
/// The size of a character in units of the drawing, chosen so that a letter of the drawing takes one character.
const CHARACTER: (f64, f64) = (7.0, 14.0);

/// The chart as lines of text, 40 to 100 columns wide, with the legend below; its axes end where `shared` says.
pub fn text(chart: &Chart, screen: Screen, shared: Option<Extent>) -> String {
    let width = screen.columns.clamp(40, 100);
    let height = (width * 3 / 10).clamp(14, 26);
    // Legible on dark and on light terminals.
    let gray = || "#808080".to_owned();
    let theme =
        Theme { text_color: gray(), axis_color: gray(), tick_color: gray(), show_grid: false, ..Theme::light() };
    let bars = bar_names(chart.bar_names(), width.saturating_sub(8));
    let text_size: fn(&str) -> (f64, f64) = |text| (columns(text) as f64 * CHARACTER.0, CHARACTER.1);
    let look = Look { theme, has_legend: false, bar_names: &bars, text_size };
    let (scene, left_out) = chart.draw(look, |layout| {
        let layout = layout.with_width(width as f64 * CHARACTER.0).with_height(height as f64 * CHARACTER.1);
        let layout = layout.with_title_size(12).with_label_size(11).with_tick_size(11).with_term_rows(height as u32);
        chart.within(layout, shared)
    });
    let drawn = TerminalBackend::new(width, height).render_scene(&scene);
    let names = chart.names();
    let plain = screen.depth == ColorDepth::None && names.len() > 1;
    let line = |line: &str| {
        let mut glyphs = glyphs(line);
        if plain {
            glyphs.iter_mut().for_each(mark);
        }
        while glyphs.last().is_some_and(|glyph| glyph.character == ' ') {
            glyphs.pop();
        }
        painted(&glyphs, screen.depth)
    };
    let mut lines: Vec<String> = drawn.lines().map(line).skip_while(String::is_empty).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.extend(legend(&names, !bars.is_empty(), width, screen.depth));
    if left_out > 0 {
        lines.push(format!("  {}", left_out_in_words(left_out)));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The names cut to the width of each bar; if that is small, only every second, fifth, tenth, ... name.
fn bar_names(names: &[String], width: usize) -> Vec<String> {
    let room = width / names.len().max(1);
    let longest = names.iter().map(|name| columns(name)).max().unwrap_or(0);
    if longest < room || room >= 8 {
        return names.iter().map(|name| clip(name, room.saturating_sub(1))).collect();
    }
    let every = stride((longest + 1) as f64, width as f64 / names.len().max(1) as f64);
    let shown = |(index, name): (usize, &String)| if index % every == 0 { name.clone() } else { String::new() };
    names.iter().enumerate().map(shown).collect()
}

fn legend(names: &[&str], bars: bool, width: usize, depth: ColorDepth) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (name, color) in names.iter().zip(series_colors()) {
        let mut swatch = Glyph { character: if bars { '█' } else { '\u{28ff}' }, ink: Some(color), paper: None };
        if depth == ColorDepth::None && names.len() > 1 {
            mark(&mut swatch);
        }
        let entry = format!("{} {name}", painted(&[swatch], depth));
        match lines.last_mut() {
            Some(line) if columns(line) + columns(&entry) + 3 <= width => {
                line.push_str("   ");
                line.push_str(&entry);
            }
            _ => lines.push(format!("  {entry}")),
        }
    }
    lines
}

/// Replaces a braille pattern or a block in a series' colour by the character that stands for the series.
fn mark(glyph: &mut Glyph) {
    let series = glyph.ink.and_then(|ink| series_colors().take(MARKS.len()).position(|color| color == ink));
    let character = match (series, glyph.character) {
        (Some(series), '\u{2800}'..='\u{28ff}') => MARKS.get(series),
        (Some(series), '█') => FILLS.get(series),
        _ => None,
    };
    glyph.character = character.copied().unwrap_or(glyph.character);
}

/// The characters of a line of terminal output with the colours that its escape codes give them.
fn glyphs(line: &str) -> Vec<Glyph> {
    let mut glyphs = Vec::new();
    let mut ink = None;
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        if character == '\u{1b}' {
            let code: String = rest.by_ref().take_while(|character| *character != 'm').collect();
            ink = foreground(code.trim_start_matches('['));
        } else {
            glyphs.push(Glyph { character, ink: if character == ' ' { None } else { ink }, paper: None });
        }
    }
    glyphs
}

/// The colour that an escape code sets; none if it resets it.
fn foreground(code: &str) -> Option<Rgb> {
    let channels = code.strip_prefix("38;2;")?.split(';').map(|channel| channel.parse().ok());
    match channels.collect::<Option<Vec<u8>>>()?.as_slice() {
        &[red, green, blue] => Some((red, green, blue)),
        _ => None,
    }
}
