//! A figure of any kind, for scripts to show and save.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::file::format_of;
use crate::plot::attention::{self, AttentionView};
use crate::plot::chart::scene::Frame;
use crate::plot::chart::{self, Chart};
use crate::plot::export::{self, Format};
use crate::plot::facets::{self, FacetOptions, Facets};
use crate::plot::heatmap::scene::Room;
use crate::plot::heatmap::{self, Heatmap};
use crate::plot::label::{clip, short};
use crate::plot::page;
use crate::plot::screen::Screen;
use crate::plot::tokens::{self, TokenView};

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
    Facets(Facets),
    Attention(AttentionView),
    Tokens(TokenView),
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
            Content::Heatmap(heatmap) => heatmap::scene::scene(heatmap, Room::default()),
            Content::Chart(chart) => chart.scene(Frame::default()),
            Content::Facets(facets) => facets::scene::scene(facets),
            Content::Attention(view) => facets::scene::scene(view.drawing()),
            Content::Tokens(view) => tokens::scene::scene(view),
        })
    }

    /// `figures` as panels of one figure.
    ///
    /// # Errors
    /// Figures of different kinds, or of a kind that cannot be a panel; what facets refuse.
    pub fn facets(figures: &[Self], options: &FacetOptions) -> Result<Self> {
        let (mut heatmaps, mut charts) = (Vec::new(), Vec::new());
        for figure in figures {
            match &*figure.0 {
                Content::Heatmap(heatmap) => heatmaps.push(heatmap.clone()),
                Content::Chart(chart) => charts.push(chart.clone()),
                Content::Facets(_) | Content::Attention(_) | Content::Tokens(_) => {
                    return Err(Error::new(format!("{figure} cannot be a panel")).hint("give heatmaps or charts"));
                }
            }
        }
        let facets = match (heatmaps.is_empty(), charts.first()) {
            (false, Some(chart)) => return Err(facets::different("heatmap", chart.kind())),
            (true, Some(_)) => Facets::charts(charts, options)?,
            (_, None) => Facets::heatmaps(heatmaps, options)?,
        };
        Ok(facets.into())
    }

    /// The figure as an HTML fragment, which needs nothing but itself.
    ///
    /// # Errors
    /// A figure that the drawing library fails on.
    pub fn html(&self) -> Result<String> {
        match &*self.0 {
            Content::Attention(view) => return Ok(attention::html::html(view)),
            Content::Tokens(view) => return Ok(tokens::html::html(view)),
            Content::Heatmap(_) | Content::Chart(_) | Content::Facets(_) => {}
        }
        let bytes = self.render(Format::Svg)?;
        let svg = String::from_utf8_lossy(&bytes);
        // The text before the element is for files of their own.
        Ok(svg.find("<svg").map_or_else(String::new, |start| svg[start..].to_owned()))
    }

    fn title(&self) -> &str {
        match &*self.0 {
            Content::Heatmap(heatmap) => &heatmap.options().labels.title,
            Content::Chart(chart) => &chart.labels().title,
            Content::Facets(facets) => facets.title(),
            Content::Attention(view) => view.title(),
            Content::Tokens(view) => view.title(),
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
            Content::Chart(chart) => Ok(chart::text::text(chart, screen, None)),
            Content::Facets(facets) => Ok(facets::text::text(facets, screen)),
            Content::Attention(view) => Ok(heatmap::text::text(view.enlarged(), screen)),
            Content::Tokens(view) => Ok(tokens::text::text(view, screen)),
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

impl From<Facets> for Figure {
    fn from(facets: Facets) -> Self {
        Self(Arc::new(Content::Facets(facets)))
    }
}

impl From<AttentionView> for Figure {
    fn from(view: AttentionView) -> Self {
        Self(Arc::new(Content::Attention(view)))
    }
}

impl From<TokenView> for Figure {
    fn from(view: TokenView) -> Self {
        Self(Arc::new(Content::Tokens(view)))
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
            Content::Facets(facets) => ("facets", facets.size()),
            Content::Attention(view) => ("attention_view", view.size()),
            Content::Tokens(view) => ("token_view", view.size()),
        };
        let title = self.title();
        let title = if title.is_empty() { String::new() } else { format!(" `{}`", clip(title, 60)) };
        write!(formatter, "Figure({kind}{title}, {size})")
    }
}
