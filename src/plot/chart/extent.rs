//! The ends of a chart's axes, for charts that share them.

use super::{Chart, Content};

/// The least and greatest value along each axis; none along an axis of names.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    pub x: Option<(f64, f64)>,
    pub y: (f64, f64),
}

impl Extent {
    /// The extent that holds both.
    pub fn union(self, other: Self) -> Self {
        let both = |one: (f64, f64), other: (f64, f64)| (one.0.min(other.0), one.1.max(other.1));
        Self { x: self.x.zip(other.x).map(|(one, other)| both(one, other)), y: both(self.y, other.y) }
    }
}

impl Chart {
    /// The ends of what is drawn, error bars included.
    pub fn extent(&self) -> Extent {
        match &self.content {
            Content::Lines { x, series, style } => {
                let ends = series.iter().flat_map(|series| series.values.iter().zip(style.arms(series)));
                let ends = ends.flat_map(|(value, (below, above))| [value - below, value + above]);
                Extent { x: style.names.is_empty().then(|| span(x.iter().copied())), y: span(ends) }
            }
            Content::Bars { series, .. } => {
                let values = series.iter().flat_map(|series| series.values.iter().copied());
                Extent { x: None, y: span(values.chain([0.0])) }
            }
            Content::Points { groups, .. } => {
                let points = || groups.iter().flat_map(|group| &group.points);
                Extent { x: Some(span(points().map(|point| point.x))), y: span(points().map(|point| point.y)) }
            }
            Content::Histogram { edges, counts } => {
                Extent { x: Some(span(edges.iter().copied())), y: span(counts.iter().copied().chain([0.0])) }
            }
        }
    }
}

/// The least and greatest of the values that are numbers.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values
        .filter(|value| !value.is_nan())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}
