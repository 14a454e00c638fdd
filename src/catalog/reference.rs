//! The reference of Lancet's own functions as Markdown, by topic.

use std::fmt::Write;
use std::path::Path;

use super::page::{by_doc, fullest};
use super::topic::Topic;
use super::{Catalog, Entry};
use crate::error::Result;
use crate::file;

impl Catalog {
    /// The titles of the topics, those of native functions first.
    pub fn topics(&self) -> Vec<String> {
        let mut titles: Vec<String> = Topic::ALL.iter().map(ToString::to_string).collect();
        let mut modules: Vec<String> = self.reference().map(|entry| entry.topic.clone()).collect();
        modules.retain(|title| !titles.contains(title));
        modules.sort();
        modules.dedup();
        titles.extend(modules);
        titles
    }

    /// One line for each name of a topic; none if there is no topic of that title (in whatever case) or module of that
    /// name.
    pub fn topic_help(&self, title: &str) -> Option<String> {
        let title = self
            .topics()
            .into_iter()
            .find(|other| other.eq_ignore_ascii_case(title) || other.strip_prefix("Module ") == Some(title))?;
        let mut entries: Vec<&Entry> = self.reference().filter(|entry| entry.topic == title).collect();
        entries.dedup_by(|a, b| a.name == b.name);
        let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0).min(28);
        let line = |entry: &&Entry| format!("  {:width$}  {}", entry.name, entry.summary()).trim_end().to_owned();
        Some(format!("{title}\n{}", entries.iter().map(line).collect::<Vec<_>>().join("\n")))
    }

    /// The whole reference as one page.
    pub fn markdown(&self) -> String {
        let mut text = String::from("# Reference\n");
        for title in self.topics() {
            let _ = write!(text, "\n## {title}\n{}", self.section(&title, 3));
        }
        text
    }

    /// Writes one page for each topic to `folder`, and returns the lines of mdBook's summary that list them.
    ///
    /// # Errors
    /// A page cannot be written.
    pub fn write_book(&self, folder: &Path) -> Result<String> {
        let place = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut summary = String::new();
        for title in self.topics() {
            let page = format!("{}.md", title.to_lowercase().replace(' ', "-"));
            file::write_text(&folder.join(&page), &format!("# {title}\n{}", self.section(&title, 2)))?;
            let _ = writeln!(summary, "- [{title}]({place}/{page})");
        }
        Ok(summary)
    }

    /// Lancet's own functions, each once.
    pub fn reference(&self) -> impl Iterator<Item = &Entry> {
        self.entries().filter(|entry| !entry.language && !entry.topic.is_empty())
    }

    /// The functions of a topic, under headings of `level`.
    fn section(&self, title: &str, level: usize) -> String {
        let entries: Vec<&Entry> = self.reference().filter(|entry| entry.topic == title).collect();
        let heading = "#".repeat(level);
        let mut text = String::new();
        for group in by_doc(&entries) {
            let Some(first) = group.first() else { continue };
            let _ = write!(text, "\n{heading} {}\n\n```text\n", first.name);
            for entry in &group {
                let _ = writeln!(text, "{}", entry.signature());
            }
            text.push_str("```\n");
            let doc = fullest(&group);
            if !doc.is_empty() {
                // Headings inside a doc comment stand below the entry's own.
                let _ = write!(text, "\n{}\n", doc.replace("\n# ", &format!("\n{heading}# ")));
            }
        }
        text
    }
}
