//! Draws the cells of a heatmap: squares, or boxes as wide as their texts.

use kuva::render::render::{Primitive, Scene};

use crate::plot::color::is_light;
use crate::plot::heatmap::Heatmap;
use crate::plot::label::{decimals, fit, in_decimals, pixels, short};
use crate::plot::shape::{BLACK, Style, TICK_SIZE, WHITE, paint, start_group, text};

/// The width of a grid of texts that are cut, unless its cells are at their narrowest.
const TABLE_WIDTH: f64 = 960.0;
const NARROWEST: f64 = 64.0;
const WIDEST: f64 = 120.0;
/// Free space left and right of a cell's text, together.
const PADDING: f64 = 6.0;

/// The size of a cell. Whole pixels, so that neighbouring cells leave no seam.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub width: f64,
    pub height: f64,
}

impl Cell {
    /// The size at which the longer side of the grid is `grid_side`, within limits.
    pub fn of(heatmap: &Heatmap, grid_side: f64) -> Self {
        let texts = heatmap.options().cells.iter().flatten().flatten();
        if let Some(widest) = texts.map(|text| pixels(text, TICK_SIZE) + PADDING).reduce(f64::max) {
            let most = (TABLE_WIDTH / heatmap.columns() as f64).clamp(NARROWEST, WIDEST);
            let height = (grid_side / heatmap.rows() as f64).clamp(18.0, 26.0);
            return Self { width: widest.clamp(26.0, most).ceil(), height: height.floor() };
        }
        let side = side(heatmap, grid_side);
        Self { width: side, height: side }
    }
}

fn side(heatmap: &Heatmap, grid_side: f64) -> f64 {
    let room = (grid_side / heatmap.rows().max(heatmap.columns()) as f64).floor();
    // Few columns are as wide as their names.
    let names =
        (0..heatmap.columns()).map(|column| pixels(&heatmap.x_tick(column), TICK_SIZE) + 6.0).fold(0.0, f64::max);
    let side = room.clamp(2.0, if names <= 72.0 { names.ceil().max(44.0) } else { 44.0 });
    if heatmap.options().annotate {
        return side.max(26.0);
    }
    side
}

/// Adds the cells of a grid whose corner is at (`left`, `top`).
pub fn draw_cells(scene: &mut Scene, heatmap: &Heatmap, left: f64, top: f64, cell: Cell) {
    start_group(scene, "cells");
    if heatmap.options().cells.is_some() {
        draw_texts(scene, heatmap, left, top, cell);
    } else {
        draw_squares(scene, heatmap, left, top, cell.width);
    }
    scene.add(Primitive::GroupEnd);
    if heatmap.options().annotate {
        draw_numbers(scene, heatmap, left, top, cell.width);
    }
}

/// The place of each cell that is not blank, with its value.
fn filled(heatmap: &Heatmap) -> impl Iterator<Item = (usize, usize, f64)> {
    let places = (0..heatmap.rows()).flat_map(|row| (0..heatmap.columns()).map(move |column| (row, column)));
    places.filter_map(|(row, column)| heatmap.value(row, column).map(|value| (row, column, value)))
}

fn draw_squares(scene: &mut Scene, heatmap: &Heatmap, left: f64, top: f64, side: f64) {
    let (mut x, mut y, mut fills) = (Vec::new(), Vec::new(), Vec::new());
    for (row, column, value) in filled(heatmap) {
        x.push(left + column as f64 * side);
        y.push(top + row as f64 * side);
        fills.push(paint(heatmap.scale().rgb(value)));
    }
    let sides = vec![side; x.len()];
    scene.add(Primitive::RectBatch { x, y, w: sides.clone(), h: sides, fills });
}

/// Each text in its box, and in full where the mouse rests on it.
fn draw_texts(scene: &mut Scene, heatmap: &Heatmap, left: f64, top: f64, cell: Cell) {
    for (row, column, value) in filled(heatmap) {
        let (Cell { width, height }, color) = (cell, heatmap.scale().rgb(value));
        let (x, y) = (left + column as f64 * width, top + row as f64 * height);
        let words = heatmap.cell(row, column).unwrap_or_default();
        let note = format!("{}, {}: {words} ({})", heatmap.y_tick(row), heatmap.x_tick(column), short(value));
        scene.add(Primitive::GroupStart { transform: None, title: Some(note), extra_attrs: None });
        let fill = paint(color);
        scene.add(Primitive::Rect { x, y, width, height, fill, stroke: None, stroke_width: None, opacity: None });
        let style = Style { color: if is_light(color) { BLACK } else { WHITE }, ..Style::default() };
        let words = fit(words.trim(), width - PADDING, TICK_SIZE);
        text(scene, &words, x + width / 2.0, y + height / 2.0 + f64::from(TICK_SIZE) * 0.36, style);
        scene.add(Primitive::GroupEnd);
    }
}

/// The numbers in one size for all, so that the widest fits its cell.
fn draw_numbers(scene: &mut Scene, heatmap: &Heatmap, left: f64, top: f64, side: f64) {
    let decimals = decimals(heatmap.numbers());
    let widest = heatmap.numbers().map(|value| pixels(&in_decimals(value, decimals), TICK_SIZE)).fold(1.0, f64::max);
    let size = (f64::from(TICK_SIZE) * ((side - 3.0) / widest).min(1.0)).floor().max(5.0) as u32;
    for (row, column, value) in filled(heatmap) {
        let ink = if is_light(heatmap.scale().rgb(value)) { BLACK } else { WHITE };
        let (x, y) = (left + (column as f64 + 0.5) * side, top + (row as f64 + 0.5) * side);
        let style = Style { size, color: ink, ..Style::default() };
        text(scene, &in_decimals(value, decimals), x, y + f64::from(size) * 0.36, style);
    }
}
