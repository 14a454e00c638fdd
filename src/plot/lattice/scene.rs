//! Draws a lattice: a grid of dots, links as curves between rows, tokens or other names below, a legend.

use kuva::render::render::{PathData, Primitive, Scene, TextAnchor};

use super::Lattice;
use crate::error::Result;
use crate::plot::color::Rgb;
use crate::plot::export::{self, Format};
use crate::plot::label::{clip, pixels, stride};
use crate::plot::shape::{
    FONTS, GAP, INK, LABEL_SIZE, LINE_HEIGHT, MARGIN, Style, TICK_SIZE, TITLE_SIZE, paint, start_group, text, wrap,
};

/// The sides of a grid, unless it has few or many rows or columns.
const GRID_WIDTH: f64 = 880.0;
const GRID_HEIGHT: f64 = 640.0;
/// The longest name drawn, in characters.
const NAME_COLUMNS: usize = 18;
const THINNEST: f64 = 0.5;
const THICKEST: f64 = 7.0;
const POSITIVE: Rgb = (178, 24, 43);
const NEGATIVE: Rgb = (33, 102, 172);
const FAINT: Rgb = (225, 225, 225);
/// The shares that the legend shows.
const SHARES: [f64; 4] = [0.02, 0.1, 0.5, 1.0];
const SAMPLE: f64 = 26.0;

impl Lattice {
    /// The file that shows the lattice.
    ///
    /// # Errors
    /// More than 1024 rows or columns, a point or link beyond them; a drawing that the library fails on.
    pub fn render(&self, format: Format) -> Result<Vec<u8>> {
        let cleaned = self.cleaned();
        cleaned.check()?;
        export::render(format, move || scene(&cleaned))
    }
}

/// The drawing of a lattice.
fn scene(lattice: &Lattice) -> Scene {
    let columns = lattice.columns.len();
    let step_x = (GRID_WIDTH / columns.max(1) as f64).clamp(30.0, 72.0).round();
    let step_y = (GRID_HEIGHT / lattice.rows.max(1) as f64).clamp(18.0, 64.0).round();
    let names: Vec<String> = lattice.columns.iter().map(|name| clip(name, NAME_COLUMNS)).collect();
    let widest = names.iter().map(|name| pixels(name, TICK_SIZE)).fold(0.0, f64::max);
    let upright = widest + 6.0 > step_x;
    let names_height = if upright { widest } else { f64::from(TICK_SIZE) } + 2.0 * GAP;

    let row_names: Vec<String> = match lattice.row_names.as_slice() {
        [] => (0..lattice.rows).map(|row| row.to_string()).collect(),
        names => names.iter().map(|name| clip(name, NAME_COLUMNS)).collect(),
    };
    let row_width = row_names.iter().map(|name| pixels(name, TICK_SIZE)).fold(0.0, f64::max);
    let left = MARGIN + f64::from(LABEL_SIZE) + 2.0 * GAP + row_width + 2.0 * GAP;
    let grid_width = step_x * columns.saturating_sub(1) as f64;
    let above_width = lattice.above.as_ref().map_or(0.0, |(_, name)| pixels(name, LABEL_SIZE) / 2.0);
    let mut width = left + grid_width + above_width.max(step_x / 2.0) + MARGIN;
    let legend = Legend::new(lattice);
    width = width.max(legend.width() + 2.0 * MARGIN).max(420.0);
    let title = wrap(&lattice.labels.title, width - 2.0 * MARGIN);
    let title_height = title.len() as f64 * LINE_HEIGHT;
    let left = left.max((width - grid_width) / 2.0).round();
    let top = MARGIN + title_height + GAP + LINE_HEIGHT + GAP;
    let bottom = top + step_y * lattice.rows.saturating_sub(1) as f64;
    let label_top = bottom + GAP + names_height;
    let legend_top = label_top + if lattice.labels.x.is_empty() { 0.0 } else { LINE_HEIGHT } + GAP;

    let mut scene = Scene::new(width.ceil(), (legend_top + LINE_HEIGHT + MARGIN).ceil());
    scene.font_family = Some(FONTS.to_owned());
    let at = |row: usize, column: usize| (left + step_x * column as f64, bottom - step_y * row as f64);

    for (number, words) in title.iter().enumerate() {
        let y = MARGIN + number as f64 * LINE_HEIGHT + f64::from(TITLE_SIZE);
        text(&mut scene, words, width / 2.0, y, Style { size: TITLE_SIZE, ..Style::default() });
    }
    draw_grid(&mut scene, lattice, at);
    draw_links(&mut scene, lattice, at);
    draw_points(&mut scene, lattice, at, (step_y / 2.0 - 1.5).min(8.0));
    for (column, name) in names.iter().enumerate() {
        let (x, y) = at(0, column);
        if upright {
            let style = Style { anchor: TextAnchor::End, rotate: Some(-90.0), ..Style::default() };
            text(&mut scene, name, x + f64::from(TICK_SIZE) * 0.36, y + 2.0 * GAP, style);
        } else {
            text(&mut scene, name, x, y + 2.0 * GAP + f64::from(TICK_SIZE) * 0.7, Style::default());
        }
    }
    for row in (0..lattice.rows).step_by(stride(f64::from(TICK_SIZE) + 2.0, step_y)) {
        let (x, y) = at(row, 0);
        let style = Style { anchor: TextAnchor::End, ..Style::default() };
        text(&mut scene, &row_names[row], x - 2.0 * GAP, y + f64::from(TICK_SIZE) * 0.36, style);
    }
    if let Some((column, name)) = &lattice.above {
        let (x, y) = at(lattice.rows.saturating_sub(1), *column);
        text(&mut scene, name, x, y - 2.0 * GAP, Style { size: LABEL_SIZE, ..Style::default() });
    }
    let label = Style { size: LABEL_SIZE, ..Style::default() };
    text(&mut scene, &lattice.labels.x, left + grid_width / 2.0, label_top + f64::from(LABEL_SIZE), label);
    let beside = left - 4.0 * GAP - row_width;
    text(&mut scene, &lattice.labels.y, beside, (top + bottom) / 2.0, Style { rotate: Some(-90.0), ..label });
    legend.draw(&mut scene, ((width - legend.width()) / 2.0).max(MARGIN), legend_top + LINE_HEIGHT / 2.0);
    scene
}

fn draw_grid(scene: &mut Scene, lattice: &Lattice, at: impl Fn(usize, usize) -> (f64, f64)) {
    let places = (0..lattice.rows).flat_map(|row| (0..lattice.columns.len()).map(move |column| (row, column)));
    let (cx, cy) = places.map(|(row, column)| at(row, column)).unzip();
    start_group(scene, "grid");
    let fill = paint(FAINT);
    scene.add(Primitive::CircleBatch { cx, cy, r: 1.2, fill, fill_opacity: None, stroke: None, stroke_width: None });
    scene.add(Primitive::GroupEnd);
}

/// The smallest first, so that the largest lie on top.
fn draw_links(scene: &mut Scene, lattice: &Lattice, at: impl Fn(usize, usize) -> (f64, f64)) {
    let mut links: Vec<_> = lattice.links.iter().collect();
    links.sort_by(|one, other| one.size.total_cmp(&other.size));
    start_group(scene, "links");
    for link in links {
        let ((x1, y1), (x2, y2)) = (at(link.row, link.source), at(link.end, link.target));
        let half = (y1 + y2) / 2.0;
        start_noted(scene, &link.note);
        scene.add(Primitive::Path(Box::new(PathData {
            d: format!("M {x1:.2} {y1:.2} C {x1:.2} {half:.2} {x2:.2} {half:.2} {x2:.2} {y2:.2}"),
            fill: None,
            stroke: paint(shade(link.value, link.size)),
            stroke_width: thickness(link.size),
            opacity: None,
            stroke_dasharray: None,
        })));
        scene.add(Primitive::GroupEnd);
    }
    scene.add(Primitive::GroupEnd);
}

fn draw_points(scene: &mut Scene, lattice: &Lattice, at: impl Fn(usize, usize) -> (f64, f64), largest: f64) {
    start_group(scene, "points");
    for point in &lattice.points {
        let (cx, cy) = at(point.row, point.column);
        start_noted(scene, &point.note);
        scene.add(Primitive::Circle {
            cx,
            cy,
            // The area shows the share.
            r: 1.5 + (largest - 1.5).max(0.0) * point.size.clamp(0.0, 1.0).sqrt(),
            fill: paint(if point.value < 0.0 { NEGATIVE } else { POSITIVE }),
            fill_opacity: None,
            stroke: Some(paint((255, 255, 255))),
            stroke_width: Some(0.8),
        });
        scene.add(Primitive::GroupEnd);
    }
    scene.add(Primitive::GroupEnd);
}

fn start_noted(scene: &mut Scene, note: &str) {
    scene.add(Primitive::GroupStart { transform: None, title: Some(note.to_owned()), extra_attrs: None });
}

fn thickness(share: f64) -> f64 {
    THINNEST + (THICKEST - THINNEST) * share.clamp(0.0, 1.0)
}

/// The sign's colour, paler for small shares.
fn shade(value: f64, share: f64) -> Rgb {
    let (red, green, blue) = if value < 0.0 { NEGATIVE } else { POSITIVE };
    let strength = 0.45 + 0.55 * share.clamp(0.0, 1.0).sqrt();
    let mix = |part: u8| (255.0 - (255.0 - f64::from(part)) * strength).round() as u8;
    (mix(red), mix(green), mix(blue))
}

/// The legend of colours and widths, in one line.
struct Legend {
    /// Width and colour of a sample line, and its meaning; a text alone has no sample.
    entries: Vec<(Option<(f64, Rgb)>, String)>,
}

impl Legend {
    fn new(lattice: &Lattice) -> Self {
        let (positive, negative) = &lattice.signs;
        let mut entries = vec![
            (Some((3.0, POSITIVE)), positive.clone()),
            (Some((3.0, NEGATIVE)), negative.clone()),
            (None, format!("{}:", lattice.size_label)),
        ];
        entries.extend(SHARES.map(|share| (Some((thickness(share), INK)), format!("{:.0}%", share * 100.0))));
        Self { entries }
    }

    fn entry_width((sample, words): &(Option<(f64, Rgb)>, String)) -> f64 {
        pixels(words, TICK_SIZE) + if sample.is_some() { SAMPLE + 5.0 } else { 0.0 } + 2.0 * GAP
    }

    fn width(&self) -> f64 {
        self.entries.iter().map(Self::entry_width).sum()
    }

    fn draw(&self, scene: &mut Scene, left: f64, y: f64) {
        let mut x = left;
        start_group(scene, "legend");
        for entry in &self.entries {
            let (sample, words) = entry;
            let mut start = x;
            if let Some((stroke_width, color)) = sample {
                let (stroke, stroke_width) = (paint(*color), *stroke_width);
                scene.add(Primitive::Line {
                    x1: x,
                    y1: y,
                    x2: x + SAMPLE,
                    y2: y,
                    stroke,
                    stroke_width,
                    stroke_dasharray: None,
                });
                start += SAMPLE + 5.0;
            }
            let style = Style { anchor: TextAnchor::Start, ..Style::default() };
            text(scene, words, start, y + f64::from(TICK_SIZE) * 0.36, style);
            x += Self::entry_width(entry);
        }
        scene.add(Primitive::GroupEnd);
    }
}
