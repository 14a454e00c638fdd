//! Figures: what they show is described by plain numbers and texts, and the same description is drawn in the terminal,
//! as SVG, as PDF and as PNG. The drawing library is named in this folder only. No system font is needed.

mod chart;
mod color;
mod export;
mod figure;
mod heatmap;
mod label;
mod lattice;
mod screen;
mod shape;

pub use chart::{Chart, LineStyle, Series};
pub use color::{ColorMap, ColorScale};
pub use export::Format;
pub use figure::Figure;
pub use heatmap::{Heatmap, HeatmapOptions};
pub use label::{Labels, short};
pub use lattice::{Lattice, Link, Point};
pub use screen::{ColorDepth, Screen};
