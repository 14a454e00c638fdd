//! The elements of drawings: texts, lines, boxes and groups, in one style.

use kuva::render::color::Color;
use kuva::render::render::{Primitive, Scene, TextAnchor};

use crate::plot::color::Rgb;
use crate::plot::label::{literal, pixels};

pub const TICK_SIZE: u32 = 11;
pub const LABEL_SIZE: u32 = 13;
pub const TITLE_SIZE: u32 = 15;
pub const LINE_HEIGHT: f64 = 20.0;
/// Space left free around a figure, and between its parts.
pub const MARGIN: f64 = 14.0;
pub const GAP: f64 = 8.0;
pub const TICK_LENGTH: f64 = 4.0;
pub const INK: Rgb = (34, 34, 34);
pub const BLACK: Rgb = (0, 0, 0);
pub const WHITE: Rgb = (255, 255, 255);
/// The first of these that is installed.
pub const FONTS: &str = "DejaVu Sans, Verdana, Liberation Sans, Arial, sans-serif";

/// The title in lines no wider than `limit`, as far as its words allow.
pub fn wrap(title: &str, limit: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in title.split_whitespace() {
        match lines.last_mut() {
            Some(line) if pixels(&format!("{line} {word}"), TITLE_SIZE) * 1.1 <= limit => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The style of a text; by default a tick's.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub size: u32,
    pub anchor: TextAnchor,
    pub rotate: Option<f64>,
    pub color: Rgb,
}

impl Default for Style {
    fn default() -> Self {
        Self { size: TICK_SIZE, anchor: TextAnchor::Middle, rotate: None, color: INK }
    }
}

/// Adds a text, unless it is empty.
pub fn text(scene: &mut Scene, content: &str, x: f64, y: f64, style: Style) {
    if content.is_empty() {
        return;
    }
    let Style { size, anchor, rotate, color } = style;
    let content = literal(content);
    scene.add(Primitive::Text { x, y, content, size, anchor, rotate, bold: false, color: Some(paint(color)) });
}

/// Adds a thin line.
pub fn line(scene: &mut Scene, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    scene.add(Primitive::Line { x1, y1, x2, y2, stroke: paint(INK), stroke_width: 1.0, stroke_dasharray: None });
}

/// Adds a box that is not filled.
pub fn outline(scene: &mut Scene, x: f64, y: f64, width: f64, height: f64, color: Rgb, stroke: f64) {
    let (stroke, stroke_width) = (Some(paint(color)), Some(stroke));
    scene.add(Primitive::Rect { x, y, width, height, fill: Color::None, stroke, stroke_width, opacity: None });
}

/// Begins a group of this class; `GroupEnd` ends it.
pub fn start_group(scene: &mut Scene, class: &str) {
    scene.add(Primitive::GroupStart { transform: None, title: None, extra_attrs: Some(format!("class=\"{class}\"")) });
}

/// The drawing library's own colour.
pub fn paint((red, green, blue): Rgb) -> Color {
    Color::Rgb(red, green, blue)
}
