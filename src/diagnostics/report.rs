//! A diagnostic as text: for a terminal with colour and line drawings, otherwise plain.

use std::fmt::Write;

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
            .with_index_type(IndexType::Byte);
        let span = || (place.source.as_str(), place.span.clone());
        // A label without a message is not drawn.
        let label = Label::new(span()).with_color(Color::Red).with_message(self.label.as_deref().unwrap_or("here"));
        let report = Report::build(ReportKind::Custom("error", Color::Red), span())
            .with_config(config)
            .with_label(label)
            .finish();
        let mut bytes = Vec::new();
        report.write((place.source.as_str(), Source::from(source)), &mut bytes).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        // Its first line would be the message, coloured whatever the configuration says.
        Some(text.lines().skip(1).map(|line| format!("{}\n", line.trim_end())).collect())
    }
}

fn paint(text: &str, style: &str, color: bool) -> String {
    if color { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
}
