//! A figure of any kind, for scripts to show and save.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::plot::chart::{self, Chart};
use crate::plot::export::{self, Format};
use crate::plot::heatmap::{self, Heatmap};
use crate::plot::label::{clip, short};
use crate::plot::screen::Screen;

#[derive(Debug)]
enum Content {
    Heatmap(Heatmap),
    Chart(Chart),
}

/// A figure; cloning shares it.
#[derive(Debug, Clone)]
pub struct Figure(Arc<Content>);

impl Figure {
    /// Writes the figure to `path`, as SVG, PDF or PNG by its extension; folders are created. An existing file is
    /// replaced.
    ///
    /// # Errors
    /// Another extension, or a file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = self.render(Format::of(path)?)?;
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
        let (kind, title, size) = match &*self.0 {
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
                ("heatmap", &heatmap.options().labels.title, size)
            }
            Content::Chart(chart) => (chart.kind(), &chart.labels().title, chart.size()),
        };
        let title = if title.is_empty() { String::new() } else { format!(" `{}`", clip(title, 60)) };
        write!(formatter, "Figure({kind}{title}, {size})")
    }
}
