//! A diagnostic as text: for a terminal with colour and line drawings, otherwise plain.

use std::fmt::Write;
use std::ops::Range;

use ariadne::{CharSet, Color, Config, IndexType, Label, Report, ReportKind, Source};

use super::{Diagnostic, Place};
use crate::syntax::source::SourceMap;

/// Longer chains, as in a recursion, are cut in the middle.
const CALLS_SHOWN: usize = 12;

impl Diagnostic {
    /// The report, without a line break at the end.
    pub fn render(&self, sources: &SourceMap, color: bool) -> String {
        let excerpt = self.place.as_ref().and_then(|place| self.excerpt(place, sources.text(&place.source)?, color));
        let mut text = format!("{}: {}\n{}", paint("error", "1;31", color), self.message, excerpt.unwrap_or_default());
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "{}: {hint}", paint("hint", "1;36", color));
        }
        let hidden = self.calls.len().saturating_sub(CALLS_SHOWN);
        for (index, call) in self.calls.iter().enumerate() {
            if hidden > 0 && index == CALLS_SHOWN / 2 {
                let _ = writeln!(text, "  ... {hidden} more calls");
            }
            if hidden > 0 && (CALLS_SHOWN / 2..CALLS_SHOWN / 2 + hidden).contains(&index) {
                continue;
            }
            let _ = match &call.place {
                Some(place) => {
                    writeln!(text, "  in {}, from {}:{}:{}", call.function, place.source, place.line, place.column)
                }
                None => writeln!(text, "  in {}", call.function),
            };
        }
        text.trim_end().to_owned()
    }

    fn excerpt(&self, place: &Place, source: &str, color: bool) -> Option<String> {
        let config = Config::new()
            .with_color(color)
            .with_char_set(if color { CharSet::Unicode } else { CharSet::Ascii })
            .with_index_type(IndexType::Char);
        let characters = |byte: usize| source.get(..byte).map(|before| before.chars().count());
        let span = characters(place.span.start)?..characters(place.span.end)?;
        let shown: String = source.chars().map(shown).collect();
        let marked = (place.source.as_str(), widened(span.clone(), &shown));
        // A label without a message is not drawn.
        let label = Label::new(marked).with_color(Color::Red).with_message(self.label.as_deref().unwrap_or("here"));
        let report = Report::build(ReportKind::Custom("error", Color::Red), (place.source.as_str(), span))
            .with_config(config)
            .with_label(label)
            .finish();
        let mut bytes = Vec::new();
        report.write((place.source.as_str(), Source::from(shown)), &mut bytes).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        // Its first line would be the message, coloured for any configuration.
        Some(text.lines().skip(1).map(|line| format!("{}\n", line.trim_end())).collect())
    }
}

/// A character as an excerpt shows it. Control characters for the terminal, and characters that only the renderer
/// counts as line ends, are replaced by a visible sign.
fn shown(character: char) -> char {
    match character {
        '\n' | '\t' => character,
        '\u{2028}' | '\u{2029}' => char::REPLACEMENT_CHARACTER,
        control if control.is_ascii_control() => {
            let picture = if control == '\x7F' { 0x21 } else { u32::from(control) };
            char::from_u32(0x2400 + picture).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        other if other.is_control() || is_format(other) => char::REPLACEMENT_CHARACTER,
        other => other,
    }
}

/// Whether a character has no width and only controls the layout of others: the byte order mark, changes of direction.
fn is_format(character: char) -> bool {
    matches!(character, '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

/// The characters to mark; combining ones together with their base character.
fn widened(span: Range<usize>, text: &str) -> Range<usize> {
    let characters: Vec<char> = text.chars().take(span.end).collect();
    let mut start = span.start;
    let width = |from: usize| console::measure_text_width(&characters[from..].iter().collect::<String>());
    while start > 0 && characters[start - 1] != '\n' && width(start) == 0 {
        start -= 1;
    }
    start..span.end
}

fn paint(text: &str, style: &str, color: bool) -> String {
    if color { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
}
