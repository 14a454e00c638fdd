//! Places the texts of points beside them, so that none covers another or a point.

use kuva::render::layout::ComputedLayout;
use kuva::render::render::{Primitive, Scene, TextAnchor};

use super::{Group, Point};
use crate::plot::label::{clip, short};
use crate::plot::shape::{Style, start_group, text};

/// The size of the texts.
pub const SIZE: u32 = 10;
/// The radius of a point.
pub const DOT: f64 = 3.5;
/// From the middle of a point to its text.
const DISTANCE: f64 = 6.0;
/// The longest text drawn, in characters.
const LONGEST: usize = 32;
/// The side of the squares of which each is free or taken.
const SQUARE: f64 = 2.0;

impl Point {
    /// Shown where the mouse rests on it.
    pub fn note(&self) -> String {
        format!("{} ({}, {})", self.text, short(self.x), short(self.y))
    }
}

/// A note on texts that are not drawn.
pub fn left_out_in_words(count: usize) -> String {
    format!("{count} {} left out for want of room", if count == 1 { "label" } else { "labels" })
}

/// Adds the texts of the points that have room, and returns how many have none.
pub fn draw(scene: &mut Scene, groups: &[Group], layout: &ComputedLayout, text_size: fn(&str) -> (f64, f64)) -> usize {
    let points = || groups.iter().flat_map(|group| &group.points);
    if points().all(|point| point.text.is_empty()) {
        return 0;
    }
    let at = |point: &Point| (layout.map_x(point.x), layout.map_y(point.y));
    let right = layout.width - layout.margin_right;
    let bottom = layout.height - layout.margin_bottom;
    let mut taken = Taken::new(Area { left: layout.margin_left, top: layout.margin_top, right, bottom });
    for point in points() {
        let (x, y) = at(point);
        taken.take(Area { left: x - DOT, top: y - DOT, right: x + DOT, bottom: y + DOT });
    }
    let mut left_out = 0;
    start_group(scene, "names");
    for point in points().filter(|point| !point.text.is_empty()) {
        let words = clip(&point.text, LONGEST);
        let (width, height) = text_size(&words);
        match taken.place(at(point), width, height) {
            Some(area) => {
                let (middle, baseline) = ((area.left + area.right) / 2.0, area.bottom - height * 0.22);
                let style = Style { size: SIZE, anchor: TextAnchor::Middle, ..Style::default() };
                text(scene, &words, middle, baseline, style);
            }
            None => left_out += 1,
        }
    }
    scene.add(Primitive::GroupEnd);
    left_out
}

#[derive(Debug, Clone, Copy)]
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

/// The squares of the plot that points and texts take.
struct Taken {
    plot: Area,
    columns: usize,
    squares: Vec<bool>,
}

impl Taken {
    fn new(plot: Area) -> Self {
        let count = |length: f64| (length.max(0.0) / SQUARE).ceil() as usize + 1;
        let (columns, rows) = (count(plot.right - plot.left), count(plot.bottom - plot.top));
        Self { plot, columns, squares: vec![false; columns * rows] }
    }

    /// The squares that an area touches.
    fn squares(&self, area: Area) -> impl Iterator<Item = usize> + use<> {
        let (plot, columns) = (self.plot, self.columns);
        let index = |distance: f64| (distance.max(0.0) / SQUARE) as usize;
        let across = index(area.left - plot.left)..=index(area.right.min(plot.right) - plot.left);
        let down = index(area.top - plot.top)..=index(area.bottom.min(plot.bottom) - plot.top);
        down.flat_map(move |row| across.clone().map(move |column| row * columns + column))
    }

    fn take(&mut self, area: Area) {
        for square in self.squares(area) {
            if let Some(taken) = self.squares.get_mut(square) {
                *taken = true;
            }
        }
    }

    /// Takes the first free place beside a point: right, left, above, below, and the corners between.
    fn place(&mut self, (x, y): (f64, f64), width: f64, height: f64) -> Option<Area> {
        let sides =
            [(1.0, 0.0), (-1.0, 0.0), (0.0, -1.0), (0.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)];
        let area = |(across, down): (f64, f64)| {
            // At a corner, less distance across: the text is already above or below.
            let distance = if down == 0.0 { DISTANCE } else { DISTANCE / 3.0 };
            let middle = (x + across * (distance + width / 2.0), y + down * (DISTANCE + height / 2.0));
            let (half, tall) = (width / 2.0, height / 2.0);
            Area { left: middle.0 - half, top: middle.1 - tall, right: middle.0 + half, bottom: middle.1 + tall }
        };
        let free = |area: &Area| {
            let Area { left, top, right, bottom } = *area;
            left >= self.plot.left
                && right <= self.plot.right
                && top >= self.plot.top
                && bottom <= self.plot.bottom
                && self.squares(*area).all(|square| self.squares.get(square) == Some(&false))
        };
        let place = sides.into_iter().map(area).find(free)?;
        self.take(place);
        Some(place)
    }
}
