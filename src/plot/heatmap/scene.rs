//! Draws a heatmap: cells, ticks, colour bar and outlined marks, as shapes and texts at positions in pixels. The
//! plotting library's own heatmap has no blank cells, marks or fixed colour range.

use kuva::render::render::{Primitive, Scene, TextAnchor};

use crate::plot::heatmap::Heatmap;
use crate::plot::heatmap::bar::Bar;
use crate::plot::heatmap::cells::{Cell, draw_cells};
use crate::plot::label::{clip, pixels, stride};
use crate::plot::shape::{
    BLACK, FONTS, GAP, INK, LABEL_SIZE, LINE_HEIGHT, MARGIN, Style, TICK_LENGTH, TICK_SIZE, TITLE_SIZE, WHITE, line,
    outline, start_group, text, wrap,
};

/// The longest tick text drawn, in characters.
const TICK_COLUMNS: usize = 28;

const LABEL: Style = Style { size: LABEL_SIZE, anchor: TextAnchor::Middle, rotate: None, color: INK };
const SIDE_LABEL: Style = Style { rotate: Some(-90.0), ..LABEL };

/// The labelled ticks of one axis.
struct Ticks {
    /// Index and text of those that are drawn.
    drawn: Vec<(usize, String)>,
    /// The width of the longest text.
    width: f64,
    /// Whether the texts stand upright, read from below.
    upright: bool,
}

/// The drawing of a heatmap.
pub fn scene(heatmap: &Heatmap, room: Room) -> Scene {
    let layout = Layout::of(heatmap, room);
    let Layout { left, grid_top, grid_width, grid_height, cell, .. } = layout;
    let mut scene = Scene::new(layout.width.ceil(), layout.height.ceil());
    scene.font_family = Some(FONTS.to_owned());
    draw_cells(&mut scene, heatmap, left, grid_top, cell);
    outline(&mut scene, left, grid_top, grid_width, grid_height, INK, 1.0);
    draw_marks(&mut scene, heatmap, left, grid_top, cell);
    for (number, words) in layout.title.iter().enumerate() {
        let y = layout.title_top + number as f64 * LINE_HEIGHT + f64::from(TITLE_SIZE);
        text(&mut scene, words, left + grid_width / 2.0, y, Style { size: TITLE_SIZE, ..Style::default() });
    }
    layout.draw_columns(&mut scene, &heatmap.options().labels.x);
    layout.draw_rows(&mut scene, &heatmap.options().labels.y);
    if let Some(bar) = &layout.bar {
        bar.draw(&mut scene, heatmap.scale(), &heatmap.options().color_label);
    }
    scene
}

/// Where the parts of a heatmap are, in pixels.
struct Layout {
    width: f64,
    height: f64,
    cell: Cell,
    left: f64,
    grid_top: f64,
    grid_width: f64,
    grid_height: f64,
    title: Vec<String>,
    title_top: f64,
    x_ticks: Ticks,
    y_ticks: Ticks,
    /// The height of the column ticks with their texts.
    tick_space: f64,
    /// The place of the colour bar; none if it is drawn elsewhere.
    bar: Option<Bar>,
}

/// What a heatmap may take of a page.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// The longer side of the grid, unless the size of the cells is at its limit.
    pub side: f64,
    /// Whether the colour bar is beside it.
    pub has_bar: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self { side: 440.0, has_bar: true }
    }
}

impl Layout {
    fn of(heatmap: &Heatmap, room: Room) -> Self {
        let cell = Cell::of(heatmap, room.side);
        let (grid_width, grid_height) = (cell.width * heatmap.columns() as f64, cell.height * heatmap.rows() as f64);
        let labels = &heatmap.options().labels;
        let color_label = &heatmap.options().color_label;
        let (x_ticks, y_ticks) = (x_ticks(heatmap, cell.width), y_ticks(heatmap, cell.height));
        let bar_height = if room.has_bar { grid_height.max(Bar::LOWEST) } else { grid_height };
        let bar_space = if room.has_bar { Bar::width(heatmap.scale(), color_label) } else { 0.0 };
        let bar_label = if room.has_bar { pixels(color_label, LABEL_SIZE) } else { 0.0 };

        // Margins for the texts beside the grid.
        let label_space = |label: &str| if label.is_empty() { 0.0 } else { f64::from(LABEL_SIZE) + GAP };
        let mut left = MARGIN + label_space(&labels.y) + y_ticks.width + TICK_LENGTH + GAP;
        let mut right = 2.0 * GAP + bar_space + if room.has_bar { MARGIN } else { 0.0 };
        let title =
            wrap(&labels.title, (left + grid_width + right - 2.0 * MARGIN).max(if room.has_bar { 300.0 } else { 0.0 }));
        let title_width = title.iter().map(|line| pixels(line, TITLE_SIZE) * 1.1).fold(0.0, f64::max);
        let overhang = (pixels(&labels.x, LABEL_SIZE).max(title_width) - grid_width) / 2.0 + MARGIN;
        left = left.max(overhang).round();
        right = right.max(overhang);

        let title_height = if title.is_empty() { 0.0 } else { title.len() as f64 * LINE_HEIGHT + GAP };
        let top = MARGIN + title_height;
        let upright = pixels(&labels.y, LABEL_SIZE).max(bar_label);
        let body = bar_height.max(upright);
        let grid_top = (top + (body - grid_height) / 2.0).round();
        let tick_space = TICK_LENGTH + if x_ticks.upright { x_ticks.width + GAP } else { f64::from(TICK_SIZE) + GAP };
        let below = grid_top + grid_height + tick_space + label_space(&labels.x);
        // Beside a label taller than the grid, the title stays with the grid if it is no wider.
        let lowered = if title_width <= grid_width { grid_top - top } else { 0.0 };
        let bar = room.has_bar.then(|| Bar {
            left: left + grid_width + 2.0 * GAP,
            top: (top + (body - bar_height) / 2.0).round(),
            height: bar_height,
        });
        Self {
            width: left + grid_width + right,
            height: (top + body).max(below) + MARGIN,
            cell,
            left,
            grid_top,
            grid_width,
            grid_height,
            title,
            title_top: MARGIN + lowered,
            x_ticks,
            y_ticks,
            tick_space,
            bar,
        }
    }

    /// The ticks of the columns and the label below them.
    fn draw_columns(&self, scene: &mut Scene, label: &str) {
        let bottom = self.grid_top + self.grid_height;
        for (column, tick) in &self.x_ticks.drawn {
            let x = self.left + (*column as f64 + 0.5) * self.cell.width;
            line(scene, (x, bottom), (x, bottom + TICK_LENGTH));
            let y = bottom + TICK_LENGTH + 3.0;
            if self.x_ticks.upright {
                let style = Style { anchor: TextAnchor::End, rotate: Some(-90.0), ..Style::default() };
                text(scene, tick, x + f64::from(TICK_SIZE) * 0.36, y, style);
            } else {
                text(scene, tick, x, y + f64::from(TICK_SIZE), Style::default());
            }
        }
        let (middle, y) = (self.left + self.grid_width / 2.0, bottom + self.tick_space + f64::from(LABEL_SIZE));
        text(scene, label, middle, y, LABEL);
    }

    /// The ticks of the rows and the label beside them.
    fn draw_rows(&self, scene: &mut Scene, label: &str) {
        for (row, tick) in &self.y_ticks.drawn {
            let y = self.grid_top + (*row as f64 + 0.5) * self.cell.height;
            line(scene, (self.left - TICK_LENGTH, y), (self.left, y));
            let style = Style { anchor: TextAnchor::End, ..Style::default() };
            text(scene, tick, self.left - TICK_LENGTH - 4.0, y + f64::from(TICK_SIZE) * 0.36, style);
        }
        let x = self.left - TICK_LENGTH - self.y_ticks.width - 2.0 * GAP;
        text(scene, label, x, self.grid_top + self.grid_height / 2.0, SIDE_LABEL);
    }
}

fn draw_marks(scene: &mut Scene, heatmap: &Heatmap, left: f64, top: f64, cell: Cell) {
    if heatmap.options().marks.is_empty() {
        return;
    }
    start_group(scene, "marks");
    // White around black shows on every colour; small cells are outlined from outside, so that their colour stays
    // visible.
    let grow = if cell.height < 12.0 { 2.0 } else { 0.0 };
    for &(row, column) in &heatmap.options().marks {
        let (x, y) = (left + column as f64 * cell.width - grow, top + row as f64 * cell.height - grow);
        let (width, height) = (cell.width + 2.0 * grow, cell.height + 2.0 * grow);
        outline(scene, x - 1.0, y - 1.0, width + 2.0, height + 2.0, WHITE, 1.5);
        outline(scene, x, y, width, height, BLACK, 2.0);
    }
    scene.add(Primitive::GroupEnd);
}

/// The column ticks: side by side, or upright if they are names too long for that.
fn x_ticks(heatmap: &Heatmap, spacing: f64) -> Ticks {
    let texts = tick_texts(heatmap.columns(), |column| heatmap.x_tick(column));
    let widest = widest(&texts);
    let flat = stride(widest + 6.0, spacing);
    let names = texts.iter().any(|text| text.parse::<f64>().is_err());
    let upright = names && flat > 1;
    let every = if upright { stride(f64::from(TICK_SIZE) + 1.0, spacing) } else { flat };
    thinned(texts, every, upright)
}

fn y_ticks(heatmap: &Heatmap, spacing: f64) -> Ticks {
    let texts = tick_texts(heatmap.rows(), |row| heatmap.y_tick(row));
    thinned(texts, stride(f64::from(TICK_SIZE) + 2.0, spacing), false)
}

fn tick_texts(count: usize, text: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(|index| clip(&text(index), TICK_COLUMNS)).collect()
}

fn thinned(texts: Vec<String>, every: usize, upright: bool) -> Ticks {
    let drawn: Vec<(usize, String)> = texts.into_iter().enumerate().step_by(every.max(1)).collect();
    let width = drawn.iter().map(|(_, text)| pixels(text, TICK_SIZE)).fold(0.0, f64::max);
    Ticks { drawn, width, upright }
}

fn widest(texts: &[String]) -> f64 {
    texts.iter().map(|text| pixels(text, TICK_SIZE)).fold(0.0, f64::max)
}
