//! The screen that text is drawn for: its width and colours, and characters in colour.

use crate::plot::color::Rgb;

/// The colours of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorDepth {
    /// None: a file, a pipe, or a user who turned colours off.
    None,
    /// The 256 colours of an xterm.
    Indexed,
    /// Any colour.
    True,
}

/// The output that text is drawn for.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// Characters per line.
    pub columns: usize,
    /// Colours.
    pub depth: ColorDepth,
}

impl Screen {
    /// The standard output: 80 columns and no colours unless it is a terminal; `NO_COLOR` is respected.
    pub fn stdout() -> Self {
        let terminal = console::Term::stdout();
        let columns = terminal.size_checked().map_or(80, |(_, columns)| usize::from(columns));
        let depth = match (console::colors_enabled(), console::true_colors_enabled()) {
            (false, _) => ColorDepth::None,
            (true, false) => ColorDepth::Indexed,
            (true, true) => ColorDepth::True,
        };
        Self { columns, depth }
    }
}

/// One character position.
#[derive(Clone, Copy)]
pub struct Glyph {
    pub character: char,
    pub ink: Option<Rgb>,
    pub paper: Option<Rgb>,
}

impl Glyph {
    pub fn plain(character: char) -> Self {
        Self { character, ink: None, paper: None }
    }
}

/// The characters with the escape codes for their colours, if there are any.
pub fn painted(glyphs: &[Glyph], depth: ColorDepth) -> String {
    let mut text = String::new();
    let mut current = (None, None);
    for glyph in glyphs {
        if depth != ColorDepth::None && (glyph.ink, glyph.paper) != current {
            text.push_str("\x1b[0m");
            for (layer, color) in [(38, glyph.ink), (48, glyph.paper)] {
                if let Some(color) = color {
                    text.push_str(&escape(layer, color, depth));
                }
            }
            current = (glyph.ink, glyph.paper);
        }
        text.push(glyph.character);
    }
    if current != (None, None) {
        text.push_str("\x1b[0m");
    }
    text
}

fn escape(layer: u8, (red, green, blue): Rgb, depth: ColorDepth) -> String {
    if depth == ColorDepth::True {
        return format!("\x1b[{layer};2;{red};{green};{blue}m");
    }
    // The 6 × 6 × 6 colours from 16 on have the levels 0, 95, 135, 175, 215, 255.
    let level = |channel: u8| if channel < 48 { 0 } else { ((u16::from(channel).max(75) - 35) / 40).min(5) };
    format!("\x1b[{layer};5;{}m", 16 + 36 * level(red) + 6 * level(green) + level(blue))
}
