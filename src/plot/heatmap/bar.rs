//! Draws the bar that explains colours.

use kuva::render::render::{Primitive, Scene, TextAnchor};

use crate::plot::color::ColorScale;
use crate::plot::label::{aligned, pixels};
use crate::plot::shape::{
    GAP, INK, LABEL_SIZE, Style, TICK_LENGTH, TICK_SIZE, line, outline, paint, start_group, text,
};

const WIDTH: f64 = 16.0;
const STEPS: u32 = 128;

/// The place of a colour bar.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    pub left: f64,
    pub top: f64,
    pub height: f64,
}

impl Bar {
    /// The least height at which its ticks are legible.
    pub const LOWEST: f64 = 90.0;

    /// The width of the bar with its ticks and its label.
    pub fn width(scale: &ColorScale, label: &str) -> f64 {
        let label = if label.is_empty() { 0.0 } else { f64::from(LABEL_SIZE) + GAP };
        WIDTH + TICK_LENGTH + GAP + text_width(scale) + label
    }

    /// Adds the bar, its ticks and its label.
    pub fn draw(&self, scene: &mut Scene, scale: &ColorScale, label: &str) {
        let Self { left, top, height } = *self;
        self.draw_colors(scene, scale);
        let ticks = scale.ticks();
        for (value, words) in ticks.iter().zip(aligned(&ticks)) {
            let y = top + height * (1.0 - scale.fraction(*value));
            line(scene, (left + WIDTH, y), (left + WIDTH + TICK_LENGTH, y));
            let style = Style { anchor: TextAnchor::Start, ..Style::default() };
            text(scene, &words, left + WIDTH + TICK_LENGTH + 4.0, y + f64::from(TICK_SIZE) * 0.36, style);
        }
        let x = left + WIDTH + TICK_LENGTH + GAP + text_width(scale) + f64::from(LABEL_SIZE);
        let style = Style { size: LABEL_SIZE, rotate: Some(-90.0), ..Style::default() };
        text(scene, label, x, top + height / 2.0, style);
    }

    fn draw_colors(&self, scene: &mut Scene, scale: &ColorScale) {
        let Self { left, top, height } = *self;
        let step = height / f64::from(STEPS);
        let (mut y, mut heights, mut fills) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..STEPS {
            let color = scale.rgb(scale.value(1.0 - (f64::from(index) + 0.5) / f64::from(STEPS)));
            let offset = step * f64::from(index);
            y.push(top + offset);
            // Overlapping the next step hides the seam.
            heights.push((step * 1.5).min(height - offset));
            fills.push(paint(color));
        }
        let (x, w) = (vec![left; fills.len()], vec![WIDTH; fills.len()]);
        start_group(scene, "colorbar");
        scene.add(Primitive::RectBatch { x, y, w, h: heights, fills });
        scene.add(Primitive::GroupEnd);
        outline(scene, left, top, WIDTH, height, INK, 1.0);
    }
}

/// The width of the longest tick.
fn text_width(scale: &ColorScale) -> f64 {
    aligned(&scale.ticks()).iter().map(|text| pixels(text, TICK_SIZE)).fold(0.0, f64::max)
}
