//! A figure of any kind, for scripts to show and save.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::file::format_of;
use crate::plot::chart::{self, Chart};
use crate::plot::export::{self, Format};
use crate::plot::heatmap::{self, Heatmap};
use crate::plot::label::{clip, short};
use crate::plot::page;
use crate::plot::screen::Screen;

/// A file format that figures can be saved in.
#[derive(Debug, Clone, Copy)]
enum File {
    Drawing(Format),
    Page,
}

const FILES: &[(&str, File)] = &[
    ("svg", File::Drawing(Format::Svg)),
    ("pdf", File::Drawing(Format::Pdf)),
    ("png", File::Drawing(Format::Png)),
    ("html", File::Page),
];

#[derive(Debug)]
enum Content {
    Heatmap(Heatmap),
    Chart(Chart),
}

/// A figure; cloning shares it.
#[derive(Debug, Clone)]
pub struct Figure(Arc<Content>);

impl Figure {
    /// Writes the figure to `path`, as SVG, PDF, PNG or HTML by its extension; folders are created. An existing file is
    /// replaced.
    ///
    /// # Errors
    /// Another extension, or a file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = match format_of(path, FILES)? {
            File::Drawing(format) => self.render(format)?,
            File::Page => page::page(self.title(), &self.html()?).into_bytes(),
        };
        crate::file::write_atomic(path, |file| file.write_all(&bytes))
    }

    /// The figure as the bytes of a file.
    ///
    /// # Errors
    /// A figure that the drawing library fails on.
    pub fn render(&self, format: Format) -> Result<Vec<u8>> {
        let content = self.0.clone();
        export::render(format, move || match &*content {
            Content::Heatmap(heatmap) => heatmap::scene::scene(heatmap),
            Content::Chart(chart) => chart.scene(),
        })
    }

    /// The figure as an HTML fragment, which needs nothing but itself.
    ///
    /// # Errors
    /// A figure that the drawing library fails on.
    pub fn html(&self) -> Result<String> {
        let bytes = self.render(Format::Svg)?;
        let svg = String::from_utf8_lossy(&bytes);
        // The text before the element is for files of their own.
        Ok(svg.find("<svg").map_or_else(String::new, |start| svg[start..].to_owned()))
    }

    fn title(&self) -> &str {
        match &*self.0 {
            Content::Heatmap(heatmap) => &heatmap.options().labels.title,
            Content::Chart(chart) => &chart.labels().title,
        }
    }

    /// The figure as lines of text for a terminal, ending in a newline.
    ///
    /// # Errors
    /// A chart that the drawing library fails on.
    pub fn text(&self, screen: Screen) -> Result<String> {
        let content = self.0.clone();
        export::draw(move || match &*content {
            Content::Heatmap(heatmap) => Ok(heatmap::text::text(heatmap, screen)),
            Content::Chart(chart) => Ok(chart::text::text(chart, screen)),
        })
    }
}

impl From<Heatmap> for Figure {
    fn from(heatmap: Heatmap) -> Self {
        Self(Arc::new(Content::Heatmap(heatmap)))
    }
}

impl From<Chart> for Figure {
    fn from(chart: Chart) -> Self {
        Self(Arc::new(Content::Chart(chart)))
    }
}

impl fmt::Display for Figure {
    /// One line: the kind of figure, its title and its size.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, size) = match &*self.0 {
            Content::Heatmap(heatmap) => {
                let least = heatmap.numbers().fold(f64::INFINITY, f64::min);
                let greatest = heatmap.numbers().fold(f64::NEG_INFINITY, f64::max);
                let size = format!(
                    "{} × {}, {} values from {} to {}",
                    heatmap.rows(),
                    heatmap.columns(),
                    heatmap.numbers().count(),
                    short(least),
                    short(greatest)
                );
                ("heatmap", size)
            }
            Content::Chart(chart) => (chart.kind(), chart.size()),
        };
        let title = self.title();
        let title = if title.is_empty() { String::new() } else { format!(" `{}`", clip(title, 60)) };
        write!(formatter, "Figure({kind}{title}, {size})")
    }
}
