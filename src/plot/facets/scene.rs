//! Draws facets: the drawing of each panel at its place, one title, one colour bar if the colours are shared.

use kuva::render::render::{Primitive, Scene};

use super::{Facets, Panels};
use crate::plot::chart::scene::Frame;
use crate::plot::heatmap::bar::Bar;
use crate::plot::heatmap::scene::{Room, scene as heatmap_scene};
use crate::plot::label::pixels;
use crate::plot::shape::{FONTS, GAP, LABEL_SIZE, LINE_HEIGHT, MARGIN, Style, TITLE_SIZE, text, wrap};

/// The width that the panels of a row share, unless they are at their least or greatest.
const PAGE: f64 = 1000.0;

/// The drawing of all panels.
pub fn scene(facets: &Facets) -> Scene {
    let share = PAGE / facets.columns as f64;
    let drawings = panels(facets, share);
    let columns = facets.columns;
    let width_of = |column| drawings.iter().skip(column).step_by(columns).map(|one| one.width).fold(0.0, f64::max);
    let widths: Vec<f64> = (0..columns).map(width_of).collect();
    let heights: Vec<f64> =
        drawings.chunks(columns).map(|row| row.iter().map(|one| one.height).fold(0.0, f64::max)).collect();
    let (body_width, body_height) = (widths.iter().sum::<f64>(), heights.iter().sum::<f64>());

    let title = wrap(&facets.title, body_width.max(300.0));
    let top = if title.is_empty() { 0.0 } else { MARGIN + title.len() as f64 * LINE_HEIGHT };
    let title_width = title.iter().map(|line| pixels(line, TITLE_SIZE) * 1.1).fold(0.0, f64::max);
    let bar = bar(facets, body_width, top, body_height);
    let bar_width = bar.as_ref().map_or(0.0, |(_, width, _)| 2.0 * GAP + width + MARGIN);
    let bar_bottom = bar.as_ref().map_or(0.0, |(bar, _, label)| bar.top + bar.height.max(*label) + MARGIN);
    let width = (body_width + bar_width).max(title_width + 2.0 * MARGIN);

    let mut scene = Scene::new(width.ceil(), (top + body_height).max(bar_bottom).ceil());
    scene.font_family = Some(FONTS.to_owned());
    for (number, words) in title.iter().enumerate() {
        let y = MARGIN + number as f64 * LINE_HEIGHT + f64::from(TITLE_SIZE);
        text(&mut scene, words, width / 2.0, y, Style { size: TITLE_SIZE, ..Style::default() });
    }
    for (place, drawing) in drawings.into_iter().enumerate() {
        let x: f64 = widths.iter().take(place % columns).sum();
        let y: f64 = top + heights.iter().take(place / columns).sum::<f64>();
        put(&mut scene, drawing, x, y);
    }
    if let (Some((bar, ..)), Panels::Heatmaps { panels, scale: Some(scale) }) = (bar, &facets.panels) {
        bar.draw(&mut scene, scale, panels.first().map_or("", |panel| &panel.options().color_label));
    }
    scene
}

fn panels(facets: &Facets, share: f64) -> Vec<Scene> {
    match &facets.panels {
        Panels::Heatmaps { panels, scale } => {
            let room = Room { side: (share * 0.8).clamp(90.0, 440.0), has_bar: scale.is_none() };
            panels.iter().map(|panel| heatmap_scene(panel, room)).collect()
        }
        Panels::Charts { panels, extent } => {
            let width = share.clamp(240.0, 500.0);
            let frame = Frame { width, height: (width * 0.68).max(200.0), extent: *extent };
            panels.iter().map(|panel| panel.scene(frame)).collect()
        }
    }
}

/// The shared colour bar, the width that it needs and the length of its label.
fn bar(facets: &Facets, left: f64, top: f64, height: f64) -> Option<(Bar, f64, f64)> {
    let Panels::Heatmaps { panels, scale: Some(scale) } = &facets.panels else { return None };
    let label = panels.first().map_or("", |panel| &panel.options().color_label);
    let bar_height = (height * 0.7).clamp(Bar::LOWEST, 300.0);
    let length = pixels(label, LABEL_SIZE);
    let bar = Bar {
        left: left + 2.0 * GAP,
        top: top + MARGIN + (length.max(height) - bar_height).max(0.0) / 2.0,
        height: bar_height,
    };
    Some((bar, Bar::width(scale, label), length))
}

/// Adds a whole drawing with its corner at (`x`, `y`).
fn put(scene: &mut Scene, drawing: Scene, x: f64, y: f64) {
    let transform = Some(format!("translate({x},{y})"));
    scene.add(Primitive::GroupStart { transform, title: None, extra_attrs: Some("class=\"panel\"".to_owned()) });
    drawing.elements.into_iter().for_each(|element| scene.add(element));
    scene.add(Primitive::GroupEnd);
    scene.defs.extend(drawing.defs);
}
