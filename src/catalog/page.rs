//! Help texts: of one name, of a type, the result of a search.

use std::fmt::Write;

use super::{Catalog, Entry, Kind, types};
use crate::error::nearest;

impl Catalog {
    /// The help text of a name: of a function, property or method every way to call it, then what it does; of a type
    /// what its values have.
    ///
    /// # Errors
    /// The nearest known name, if there is one.
    pub fn help(&self, name: &str) -> Result<String, Option<String>> {
        let plain = name.rsplit_once('.').map_or(name, |(_, member)| member).trim_end_matches("()");
        let receiver = name.rsplit_once('.').map(|(receiver, _)| receiver);
        let fits = |entry: &&Entry| receiver.is_none_or(|receiver| entry.receiver() == receiver);
        let entries: Vec<&Entry> = self.named(plain).filter(fits).collect();
        if let Some(topic) = self.topic_help(name) {
            // A module may have the name of a type.
            return Ok(match self.type_help(name) {
                Some(kind) => format!("{topic}\n\n{}", kind.trim_end()),
                None => topic,
            });
        }
        let kind = if receiver.is_none() { self.type_help(plain) } else { None };
        if entries.is_empty() && kind.is_none() {
            let names = self.entries().flat_map(|entry| [entry.name.as_str(), entry.receiver()]);
            return Err(nearest(plain, names).map(str::to_owned));
        }
        let mut text = String::new();
        for group in by_doc(&entries) {
            if !text.is_empty() {
                text.push('\n');
            }
            for entry in &group {
                let _ = writeln!(text, "{}", entry.signature());
            }
            for line in fullest(&group).lines() {
                let _ = writeln!(text, "{}", format!("  {line}").trim_end());
            }
        }
        if let Some(kind) = kind {
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = write!(text, "{gap}{kind}");
        }
        Ok(text.trim_end().to_owned())
    }

    /// What makes values of a type, and their properties and methods; none if there is no such type.
    pub fn type_help(&self, kind: &str) -> Option<String> {
        let names = |found: &dyn Fn(&&Entry) -> bool| {
            let mut names: Vec<&str> = self.entries().filter(found).map(|entry| entry.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let of = |wanted: Kind| names(&|entry| entry.kind == wanted && entry.receiver() == kind);
        let makers = names(&|entry| entry.kind == Kind::Function && entry.returns == kind && entry.receiver() != kind);
        let (properties, methods) = (of(Kind::Property), of(Kind::Function));
        if kind == types::ANY || properties.is_empty() && methods.is_empty() {
            return None;
        }
        let mut text = format!("the type {kind}\n");
        for (what, names) in [("made by", makers), ("properties:", properties), ("methods:", methods)] {
            if !names.is_empty() {
                let _ = writeln!(text, "  {what} {}", names.join(", "));
            }
        }
        Some(text)
    }

    /// One line per name whose name or text holds `word`: Lancet's own first, then those of the language.
    pub fn search(&self, word: &str) -> Vec<String> {
        let word = word.to_lowercase();
        let mut found: Vec<&Entry> = self
            .entries()
            .filter(|entry| entry.kind != Kind::Operator && entry.name != "[]")
            .filter(|entry| entry.name.to_lowercase().contains(&word) || entry.doc.to_lowercase().contains(&word))
            .collect();
        found.sort_by_key(|entry| (entry.language, !entry.name.to_lowercase().contains(&word), entry.name.clone()));
        found.dedup_by(|a, b| a.name == b.name);
        let width = found.iter().map(|entry| entry.name.len()).max().unwrap_or(0).min(28);
        found.iter().map(|entry| format!("{:width$}  {}", entry.name, entry.summary()).trim_end().to_owned()).collect()
    }
}

/// The longest text among signatures that stand together.
pub fn fullest<'a>(group: &[&'a Entry]) -> &'a str {
    group.iter().map(|entry| entry.doc.as_str()).max_by_key(|doc| doc.len()).unwrap_or_default()
}

/// Signatures that share a name and a summary, or lack a text of their own, stand together.
pub fn by_doc<'a>(entries: &[&'a Entry]) -> Vec<Vec<&'a Entry>> {
    let mut groups: Vec<Vec<&Entry>> = Vec::new();
    for entry in entries {
        let group = groups.iter_mut().find(|group| {
            group.first().is_some_and(|first| {
                first.name == entry.name && (entry.doc.is_empty() || first.summary() == entry.summary())
            })
        });
        match group {
            Some(group) => group.push(entry),
            None => groups.push(vec![entry]),
        }
    }
    groups
}

/// The text of doc comments, without their markers.
pub fn doc_text<'a>(comments: impl Iterator<Item = &'a str>) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for comment in comments {
        let block = comment.strip_prefix("/**").map(|inner| inner.trim_end_matches("*/"));
        for line in block.unwrap_or(comment).lines() {
            let line = match block {
                Some(_) => line.trim_start().trim_start_matches('*'),
                None => line.trim_start().trim_start_matches("///"),
            };
            lines.push(line.strip_prefix(' ').unwrap_or(line).trim_end());
        }
    }
    lines.join("\n").trim().to_owned()
}

/// The contents of the ```` ```rhai ```` blocks of a text.
pub fn code_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        match (&mut open, line.trim()) {
            (None, "```rhai") => open = Some(String::new()),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), _) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doc_comments_lose_their_markers() {
        let text = doc_text(["/// One.\n///\n/// # Example\n/// ```rhai\n///   f(1)\n/// ```"].into_iter());
        assert_eq!(text, "One.\n\n# Example\n```rhai\n  f(1)\n```");
        assert_eq!(code_blocks(&text), ["  f(1)\n"]);
        assert_eq!(doc_text(["/** One.\n * Two. */"].into_iter()), "One.\nTwo.");
    }
}
