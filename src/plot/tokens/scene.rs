//! Draws coloured tokens: boxes in lines, one paragraph for each row.

use kuva::render::render::{Primitive, Scene, TextAnchor};

use super::{Token, TokenView};
use crate::plot::color::is_light;
use crate::plot::heatmap::bar::Bar;
use crate::plot::label::{fit, pixels, visible};
use crate::plot::shape::{
    BLACK, FONTS, GAP, LABEL_SIZE, LINE_HEIGHT, MARGIN, Style, TITLE_SIZE, WHITE, paint, start_group, text, wrap,
};

/// The width of the lines of tokens.
const WIDTH: f64 = 640.0;
const BOX_HEIGHT: f64 = 19.0;
const LINE_STEP: f64 = 23.0;
/// Free space left and right of a token, together.
const PADDING: f64 = 6.0;
/// The height of the colour bar, where the tokens leave it the choice.
const BAR_HEIGHT: f64 = 120.0;

const START: Style = Style { size: LABEL_SIZE, anchor: TextAnchor::Start, rotate: None, color: BLACK };

/// The drawing of the tokens.
pub fn scene(view: &TokenView) -> Scene {
    let mut y = MARGIN;
    let title = wrap(&view.title, WIDTH);
    let title_top = y;
    y += title.len() as f64 * LINE_HEIGHT + if title.is_empty() { 0.0 } else { GAP };
    let body_top = y;
    let mut boxes = Vec::new();
    let mut names = Vec::new();
    for row in &view.rows {
        if !row.name.is_empty() {
            names.push((fit(&row.name, WIDTH, LABEL_SIZE), y + f64::from(LABEL_SIZE)));
            y += LINE_HEIGHT;
        }
        let mut x = MARGIN;
        for (place, token) in row.tokens.iter().enumerate() {
            let words = fit(visible(&token.text).trim(), WIDTH - PADDING, LABEL_SIZE);
            let width = (pixels(&words, LABEL_SIZE) + PADDING).max(12.0);
            if x > MARGIN && x + width > MARGIN + WIDTH {
                (x, y) = (MARGIN, y + LINE_STEP);
            }
            boxes.push(Placed { place, token, words, x, y, width });
            x += width + 1.0;
            if token.text.contains('\n') {
                (x, y) = (MARGIN, y + LINE_STEP);
            }
        }
        y += if x > MARGIN { LINE_STEP } else { 0.0 } + GAP;
    }
    let name_ends = names.iter().map(|(name, _)| MARGIN + pixels(name, LABEL_SIZE));
    let right = boxes.iter().map(|placed| placed.x + placed.width).chain(name_ends).fold(240.0, f64::max);
    let bar = Bar { left: right + 2.0 * GAP, top: body_top, height: BAR_HEIGHT };
    let title_width = title.iter().map(|line| pixels(line, TITLE_SIZE) * 1.1).fold(0.0, f64::max) + 2.0 * MARGIN;
    let width = (bar.left + Bar::width(&view.scale, &view.color_label) + MARGIN).max(title_width);
    let label_height = pixels(&view.color_label, LABEL_SIZE).max(bar.height);
    let bar = Bar { top: body_top + (label_height - bar.height) / 2.0 + GAP, ..bar };
    let height = y.max(body_top + label_height + GAP) + MARGIN;

    let mut scene = Scene::new(width.ceil(), height.ceil());
    scene.font_family = Some(FONTS.to_owned());
    for (number, words) in title.iter().enumerate() {
        let y = title_top + number as f64 * LINE_HEIGHT + f64::from(TITLE_SIZE);
        text(&mut scene, words, MARGIN, y, Style { size: TITLE_SIZE, ..START });
    }
    for (name, y) in &names {
        text(&mut scene, name, MARGIN, *y, START);
    }
    start_group(&mut scene, "tokens");
    boxes.iter().for_each(|placed| placed.draw(&mut scene, view));
    scene.add(Primitive::GroupEnd);
    bar.draw(&mut scene, &view.scale, &view.color_label);
    scene
}

/// A token at its place on the page.
struct Placed<'a> {
    place: usize,
    token: &'a Token,
    words: String,
    x: f64,
    y: f64,
    width: f64,
}

impl Placed<'_> {
    fn draw(&self, scene: &mut Scene, view: &TokenView) {
        let Self { x, y, width, .. } = *self;
        let paper = if self.token.value.is_nan() { WHITE } else { view.scale.rgb(self.token.value) };
        let number = if self.token.value.is_nan() { "no value" } else { &self.token.number };
        let note = format!("{}: {} = {number}", self.place, visible(&self.token.text));
        scene.add(Primitive::GroupStart { transform: None, title: Some(note), extra_attrs: None });
        let fill = paint(paper);
        scene.add(Primitive::Rect {
            x,
            y,
            width,
            height: BOX_HEIGHT,
            fill,
            stroke: None,
            stroke_width: None,
            opacity: None,
        });
        let style = Style { size: LABEL_SIZE, color: if is_light(paper) { BLACK } else { WHITE }, ..Style::default() };
        text(scene, &self.words, x + width / 2.0, y + BOX_HEIGHT / 2.0 + f64::from(LABEL_SIZE) * 0.36, style);
        scene.add(Primitive::GroupEnd);
    }
}
