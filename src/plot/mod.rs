//! Figures: plain numbers and texts describe them, and the same description is drawn in the terminal, as SVG, PDF,
//! PNG and HTML. Only this folder names the drawing library. No system font is needed.

mod attention;
mod chart;
mod color;
mod export;
mod facets;
mod figure;
pub mod graphviz;
mod heatmap;
mod label;
mod lattice;
mod legend;
mod page;
mod screen;
mod shape;
mod tokens;

pub use attention::{AttentionOptions, AttentionView, Head};
pub use chart::{Chart, LineStyle, Series};
pub use color::{ColorMap, ColorScale};
pub use export::Format;
pub use facets::FacetOptions;
pub use figure::Figure;
pub use heatmap::{Heatmap, HeatmapOptions};
pub use label::{Labels, short};
pub use lattice::{Lattice, Link, Point};
pub use screen::{ColorDepth, Screen};
pub use tokens::{TokenOptions, TokenView};
