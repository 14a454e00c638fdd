//! Facets in characters: as many panels side by side as the screen has room for.

use super::{Facets, Panels};
use crate::plot::chart::text::text as chart_text;
use crate::plot::heatmap::text::text as heatmap_text;
use crate::plot::label::{clip, columns};
use crate::plot::screen::Screen;

/// The least width of a panel.
const HEATMAP: usize = 26;
const CHART: usize = 44;
const GAP: usize = 2;

/// All panels as lines of text.
pub fn text(facets: &Facets, screen: Screen) -> String {
    let least = match facets.panels {
        Panels::Heatmaps { .. } => HEATMAP,
        Panels::Charts { .. } => CHART,
    };
    let per_line = ((screen.columns + GAP) / (least + GAP)).clamp(1, facets.columns);
    let width = (screen.columns + GAP) / per_line - GAP;
    let screen = Screen { columns: width, ..screen };
    let panels: Vec<String> = match &facets.panels {
        Panels::Heatmaps { panels, .. } => panels.iter().map(|panel| heatmap_text(panel, screen)).collect(),
        Panels::Charts { panels, extent } => panels.iter().map(|panel| chart_text(panel, screen, *extent)).collect(),
    };
    let mut lines = Vec::new();
    if !facets.title.is_empty() {
        lines.push(clip(&facets.title, (width + GAP) * per_line));
    }
    for (place, row) in panels.chunks(per_line).enumerate() {
        if place > 0 {
            lines.push(String::new());
        }
        lines.extend(side_by_side(row, width));
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn side_by_side(panels: &[String], width: usize) -> Vec<String> {
    let height = panels.iter().map(|panel| panel.lines().count()).max().unwrap_or(0);
    let line = |number: usize| {
        let parts = panels.iter().map(|panel| {
            let part = panel.lines().nth(number).unwrap_or_default();
            format!("{part}{}", " ".repeat((width + GAP).saturating_sub(columns(part))))
        });
        parts.collect::<String>()
    };
    (0..height).map(line).collect()
}
