//! Heatmaps in characters: coloured blocks if the terminal has colours, else shading characters.

use crate::plot::color::is_light;
use crate::plot::heatmap::{Heatmap, table};
use crate::plot::label::{clip, columns, decimals, in_decimals, stride};
use crate::plot::legend::{legend, shade};
use crate::plot::screen::{ColorDepth, Glyph, Screen, painted};

/// The longest tick text, in columns.
pub(super) const TICK_COLUMNS: usize = 16;
/// More rows than this are drawn two to a line if there are colours.
const TALL: usize = 40;

/// The grid on the screen: each shown cell is the mean of `bin` × `bin` cells and `cell` characters wide.
struct Grid<'a> {
    heatmap: &'a Heatmap,
    bin: usize,
    rows: usize,
    columns: usize,
    cell: usize,
    /// Two rows share a line, one in its upper and one in its lower half.
    halved: bool,
    depth: ColorDepth,
    /// The decimals of the numbers in the cells, if there are numbers.
    numbers: Option<Option<usize>>,
}

/// The heatmap as lines of text: title, grid with ticks, the meaning of the colours, and the marked cells.
pub fn text(heatmap: &Heatmap, screen: Screen) -> String {
    let width = screen.columns.max(20);
    let options = heatmap.options();
    if options.cells.is_some() {
        return table::text(heatmap, width, screen.depth);
    }
    let tick = |row: usize| clip(&heatmap.y_tick(row), TICK_COLUMNS.min(width / 4));
    let margin = (0..heatmap.rows()).map(|row| columns(&tick(row))).max().unwrap_or(0) + 1;
    let grid = Grid::fit(heatmap, width - margin, screen.depth);
    let mut lines = Vec::new();
    if !options.labels.title.is_empty() {
        lines.push(clip(&options.labels.title, width));
    }
    if !options.labels.y.is_empty() {
        lines.push(clip(&options.labels.y, width));
    }
    let per_line = if grid.halved { 2 } else { 1 };
    for row in (0..grid.rows).step_by(per_line) {
        let name = tick(row * grid.bin);
        let padding = " ".repeat(margin.saturating_sub(columns(&name) + 1));
        lines.push(format!("{padding}{name} {}", painted(&grid.line(row), screen.depth)));
    }
    let indent = " ".repeat(margin);
    lines.push(format!("{indent}{}", grid.x_ticks()));
    if !options.labels.x.is_empty() {
        let label = clip(&options.labels.x, width);
        let shift = (margin + grid.columns * grid.cell / 2).saturating_sub(columns(&label) / 2);
        lines.push(format!("{}{label}", " ".repeat(shift.min(width - columns(&label)))));
    }
    if grid.bin > 1 {
        lines.push(format!("each cell shown is the mean of {0} × {0} cells", grid.bin));
    }
    let name = if options.color_label.is_empty() { "scale" } else { &options.color_label };
    if grid.numbers.is_none() || screen.depth != ColorDepth::None {
        lines.extend(legend(name, heatmap.scale(), heatmap.has_blanks(), width, screen.depth));
    } else if !options.color_label.is_empty() {
        lines.push(clip(&format!("values: {name}"), width));
    }
    lines.extend(heatmap.marks_in_words().iter().map(|mark| format!("marked: {mark}")));
    joined(&lines)
}

/// The lines without spaces at their ends, each ending in a newline.
pub(super) fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

impl<'a> Grid<'a> {
    fn fit(heatmap: &'a Heatmap, width: usize, depth: ColorDepth) -> Self {
        let width = width.max(1);
        let bin = heatmap.columns().div_ceil(width);
        let (rows, columns_shown) = (heatmap.rows().div_ceil(bin), heatmap.columns().div_ceil(bin));
        let room = width / columns_shown;
        let halved = depth != ColorDepth::None && (room < 2 || rows > TALL);
        let longest = |texts: &mut dyn Iterator<Item = String>| texts.map(|text| columns(&text)).max().unwrap_or(0);
        let decimals = decimals(heatmap.numbers());
        let number = longest(&mut heatmap.numbers().map(|value| in_decimals(value, decimals))) + 1;
        let annotated = heatmap.options().annotate && bin == 1 && !halved && number <= room;
        let brackets = if heatmap.options().marks.is_empty() { 0 } else { 1 };
        let mut wanted = if annotated { number.max(2) + brackets } else { 2 };
        if heatmap.options().x_ticks.is_some() {
            wanted = wanted
                .max(longest(&mut (0..heatmap.columns()).map(|column| heatmap.x_tick(column))) + 1)
                .min(12.max(number));
        }
        let cell = if halved { 1 } else { wanted.min(room).max(1) };
        let numbers = annotated.then_some(decimals);
        Self { heatmap, bin, rows, columns: columns_shown, cell, halved, depth, numbers }
    }

    /// The mean of the cells behind one shown cell, or none if all of them are blank.
    fn value(&self, row: usize, column: usize) -> Option<f64> {
        let span = |index: usize| index * self.bin..(index + 1) * self.bin;
        let cells = span(row).flat_map(|row| span(column).map(move |column| (row, column)));
        let values: Vec<f64> = cells.filter_map(|(row, column)| self.heatmap.value(row, column)).collect();
        if values.is_empty() { None } else { Some(values.iter().map(|value| value / values.len() as f64).sum()) }
    }

    fn line(&self, row: usize) -> Vec<Glyph> {
        (0..self.columns)
            .flat_map(|column| if self.halved { self.half(row, column) } else { self.full(row, column) })
            .collect()
    }

    fn half(&self, row: usize, column: usize) -> Vec<Glyph> {
        let color = |row: usize| self.value(row, column).map(|value| self.heatmap.scale().rgb(value));
        let (character, ink, paper) = match (color(row), color(row + 1)) {
            (None, None) => (' ', None, None),
            (Some(upper), lower) => ('▀', Some(upper), lower),
            (None, Some(lower)) => ('▄', Some(lower), None),
        };
        vec![Glyph { character, ink, paper }]
    }

    fn full(&self, row: usize, column: usize) -> Vec<Glyph> {
        let Some(value) = self.value(row, column) else { return vec![Glyph::plain(' '); self.cell] };
        let scale = self.heatmap.scale();
        let colored = self.depth != ColorDepth::None;
        let filler = if colored { ' ' } else { shade(scale, value) };
        let marked = self.bin == 1 && self.heatmap.options().marks.contains(&(row, column));
        let content = if let Some(decimals) = self.numbers {
            let number = in_decimals(value, decimals);
            // The brackets of a marked cell go around its number if there is room.
            let number = if marked && columns(&number) + 2 <= self.cell { format!("[{number}]") } else { number };
            format!("{number:>width$}", width = self.cell)
        } else if marked && self.cell > 1 {
            format!("[{}]", filler.to_string().repeat(self.cell - 2))
        } else if marked {
            "X".to_owned()
        } else {
            filler.to_string().repeat(self.cell)
        };
        let paper = colored.then(|| scale.rgb(value));
        let ink = paper.map(|paper| if is_light(paper) { (0, 0, 0) } else { (255, 255, 255) });
        content.chars().map(|character| Glyph { character, ink, paper }).collect()
    }

    /// The line of column names, each starting where its column does.
    fn x_ticks(&self) -> String {
        let name = |column: usize| clip(&self.heatmap.x_tick(column * self.bin), TICK_COLUMNS);
        let longest = (0..self.columns).map(|column| columns(&name(column))).max().unwrap_or(0);
        let mut line = String::new();
        for column in (0..self.columns).step_by(stride((longest + 1) as f64, self.cell as f64)) {
            let position = column * self.cell;
            line.push_str(&" ".repeat(position.saturating_sub(columns(&line))));
            line.push_str(&name(column));
        }
        clip(&line, self.columns * self.cell + longest)
    }
}
