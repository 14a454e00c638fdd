//! The checked data of facets: figures of one kind as panels of one figure, on shared scales.

pub mod scene;
pub mod text;

use crate::error::{Error, Result};
use crate::plot::chart::{Chart, Extent};
use crate::plot::color::ColorScale;
use crate::plot::heatmap::Heatmap;
use crate::plot::label::clean;

/// The most panels.
const MOST: usize = 1024;

/// The options of facets.
#[derive(Debug, Clone, Default)]
pub struct FacetOptions {
    /// Above all panels.
    pub title: String,
    /// Panels per row; up to 4 if absent.
    pub columns: Option<usize>,
    /// Whether each panel keeps a scale of its own.
    pub are_separate: bool,
}

#[derive(Debug)]
enum Panels {
    Heatmaps { panels: Vec<Heatmap>, scale: Option<ColorScale> },
    Charts { panels: Vec<Chart>, extent: Option<Extent> },
}

/// Checked panels.
#[derive(Debug)]
pub struct Facets {
    title: String,
    columns: usize,
    panels: Panels,
}

impl Facets {
    /// Heatmaps as panels, by default in the same colours.
    ///
    /// # Errors
    /// No panel, more than 1024, no columns.
    pub fn heatmaps(panels: Vec<Heatmap>, options: &FacetOptions) -> Result<Self> {
        let scale = if options.are_separate { None } else { Some(shared_scale(&panels)?) };
        let panels = match scale {
            Some(scale) => panels.iter().map(|panel| panel.with_scale(scale)).collect(),
            None => panels,
        };
        Self::new(Panels::Heatmaps { panels, scale }, options)
    }

    /// Charts as panels, by default with the same ends of their axes.
    ///
    /// # Errors
    /// No panel, more than 1024, no columns; charts of different kinds.
    pub fn charts(panels: Vec<Chart>, options: &FacetOptions) -> Result<Self> {
        if let Some(pair) = panels.windows(2).find(|pair| pair[0].kind() != pair[1].kind()) {
            return Err(different(pair[0].kind(), pair[1].kind()));
        }
        if panels.windows(2).any(|pair| pair[0].is_logarithmic() != pair[1].is_logarithmic()) {
            return Err(
                Error::new("only some of the panels have a logarithmic axis").hint("give all of them one, or none")
            );
        }
        let extent = panels.iter().map(Chart::extent).reduce(Extent::union).filter(|_| !options.are_separate);
        Self::new(Panels::Charts { panels, extent }, options)
    }

    fn new(panels: Panels, options: &FacetOptions) -> Result<Self> {
        let count = panels.count();
        if count == 0 || count > MOST {
            return Err(Error::new(format!("{count} figures cannot be panels")).hint(format!("give 1 to {MOST}")));
        }
        if options.columns == Some(0) {
            return Err(Error::new("panels need at least one column"));
        }
        let columns = options.columns.unwrap_or(4).min(count);
        Ok(Self { title: clean(&options.title), columns, panels })
    }

    /// The title; empty for none.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Its size in words.
    pub fn size(&self) -> String {
        let kind = match &self.panels {
            Panels::Heatmaps { .. } => "heatmap",
            Panels::Charts { panels, .. } => panels.first().map_or("chart", Chart::kind),
        };
        format!("{} panels of {kind} in {} columns", self.panels.count(), self.columns)
    }
}

impl Panels {
    fn count(&self) -> usize {
        match self {
            Self::Heatmaps { panels, .. } => panels.len(),
            Self::Charts { panels, .. } => panels.len(),
        }
    }
}

/// The error for panels of different kinds.
pub fn different(one: &str, other: &str) -> Error {
    Error::new(format!("the panels are of different kinds: {one} and {other}"))
        .hint("give heatmaps, or charts of one kind")
}

/// The scale of all values, with the colours and the range of the panels if they agree on one.
fn shared_scale(panels: &[Heatmap]) -> Result<ColorScale> {
    let numbers: Vec<f64> = panels.iter().flat_map(Heatmap::numbers).collect();
    let agreed = |same: &dyn Fn(&Heatmap, &Heatmap) -> bool| panels.windows(2).all(|pair| same(&pair[0], &pair[1]));
    let first = panels.first().map(Heatmap::options);
    let map = first.and_then(|options| options.color_map);
    let range = first.and_then(|options| options.range);
    let map = map.filter(|_| agreed(&|one, other| one.options().color_map == other.options().color_map));
    let range = range.filter(|_| agreed(&|one, other| one.options().range == other.options().range));
    if numbers.is_empty() {
        return Err(Error::new("0 figures cannot be panels").hint(format!("give 1 to {MOST}")));
    }
    ColorScale::fit(&numbers, map, range)
}
