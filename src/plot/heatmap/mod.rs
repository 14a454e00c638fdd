//! The checked data of a heatmap: a grid of values (NaN is blank), their colours and their names.

pub mod bar;
mod cells;
pub mod scene;
mod table;
pub mod text;

use crate::error::{Error, Result};
use crate::plot::color::{ColorMap, ColorScale};
use crate::plot::label::{LARGEST, Labels, clean, short, visible};

/// The most rows, and the most columns, that a heatmap can have.
const MOST_CELLS: usize = 1024;

/// The options of a heatmap; the defaults derive every choice from the values.
#[derive(Debug, Clone, Default)]
pub struct HeatmapOptions {
    /// Title and axis labels.
    pub labels: Labels,
    /// One name per column; their indices if absent.
    pub x_ticks: Option<Vec<String>>,
    /// One name per row; their indices if absent.
    pub y_ticks: Option<Vec<String>>,
    /// Chosen by the signs of the values if absent.
    pub color_map: Option<ColorMap>,
    /// The values at the ends of the colours; chosen from the values if absent.
    pub range: Option<(f64, f64)>,
    /// Cells to outline, as (row, column).
    pub marks: Vec<(usize, usize)>,
    /// Whether each cell shows its number.
    pub annotate: bool,
    /// A text for each cell, in rows like the values; none if absent.
    pub cells: Option<Vec<Vec<String>>>,
    /// The meaning of the colours.
    pub color_label: String,
}

/// A checked heatmap. Row 0 is at the top and column 0 at the left, in every output.
#[derive(Debug, Clone)]
pub struct Heatmap {
    values: Vec<Vec<f64>>,
    scale: ColorScale,
    options: HeatmapOptions,
}

impl Heatmap {
    /// A heatmap of `values` (rows of equal length); NaN makes a cell blank.
    ///
    /// # Errors
    /// No rows or columns, more than 1024 of either, rows of different lengths, infinities, no cell that is a number,
    /// tick names or texts that do not fit the shape, both texts and numbers in the cells, a mark outside the grid or on a blank cell, an empty or non-finite range.
    pub fn new(values: Vec<Vec<f64>>, mut options: HeatmapOptions) -> Result<Self> {
        let rows = values.len();
        let columns = values.first().map_or(0, Vec::len);
        if rows == 0 || columns == 0 {
            return Err(Error::new("a heatmap needs at least one row and one column"));
        }
        if rows > MOST_CELLS || columns > MOST_CELLS {
            return Err(Error::new(format!("{rows} × {columns} is too large for a heatmap"))
                .hint(format!("draw a part of it, or averages: at most {MOST_CELLS} rows and {MOST_CELLS} columns")));
        }
        for (row, line) in values.iter().enumerate() {
            if line.len() != columns {
                return Err(Error::new(format!(
                    "row {row} of the heatmap has {} values, row 0 has {columns}",
                    line.len()
                ))
                .hint("rows must have the same length; NaN leaves a cell blank"));
            }
            if let Some((column, value)) = line.iter().enumerate().find(|(_, value)| value.abs() > LARGEST) {
                return Err(Error::new(format!(
                    "the heatmap's value at row {row}, column {column} is {}",
                    short(*value)
                ))
                .hint("values must be finite; NaN leaves a cell blank"));
            }
        }
        let numbers: Vec<f64> = values.iter().flatten().copied().filter(|value| !value.is_nan()).collect();
        if numbers.is_empty() {
            return Err(Error::new("every value of the heatmap is NaN"));
        }
        let scale = ColorScale::fit(&numbers, options.color_map, options.range)?;
        check_ticks("x_ticks", options.x_ticks.as_mut(), columns, "columns")?;
        check_ticks("y_ticks", options.y_ticks.as_mut(), rows, "rows")?;
        check_texts(&mut options, rows, columns)?;
        for &(row, column) in &options.marks {
            match values.get(row).and_then(|line| line.get(column)) {
                None => {
                    return Err(Error::new(format!("mark [{row}, {column}] is outside the heatmap"))
                        .hint(format!("it has {rows} rows and {columns} columns, counted from 0")));
                }
                Some(value) if value.is_nan() => {
                    return Err(Error::new(format!("mark [{row}, {column}] is on a blank cell")));
                }
                Some(_) => {}
            }
        }
        options.labels = options.labels.cleaned();
        options.color_label = clean(&options.color_label);
        Ok(Self { values, scale, options })
    }

    /// The number of rows, at least 1.
    pub fn rows(&self) -> usize {
        self.values.len()
    }

    /// The number of columns, at least 1.
    pub fn columns(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }

    /// The value of a cell; `None` if it is blank or outside.
    pub fn value(&self, row: usize, column: usize) -> Option<f64> {
        self.values.get(row)?.get(column).copied().filter(|value| !value.is_nan())
    }

    /// The text of a cell; `None` if there are no texts, or if the cell is blank or outside.
    pub fn cell(&self, row: usize, column: usize) -> Option<&str> {
        self.value(row, column)?;
        self.options.cells.as_ref()?.get(row)?.get(column).map(String::as_str)
    }

    /// The values that are not blank, row by row.
    pub fn numbers(&self) -> impl Iterator<Item = f64> + Clone {
        self.values.iter().flatten().copied().filter(|value| !value.is_nan())
    }

    /// Whether any cell is blank.
    pub fn has_blanks(&self) -> bool {
        self.values.iter().flatten().any(|value| value.is_nan())
    }

    /// The same heatmap with the colours of another scale.
    pub fn with_scale(&self, scale: ColorScale) -> Self {
        Self { scale, ..self.clone() }
    }

    /// The colours.
    pub fn scale(&self) -> &ColorScale {
        &self.scale
    }

    /// The options it was made with.
    pub fn options(&self) -> &HeatmapOptions {
        &self.options
    }

    /// The text at a column.
    pub fn x_tick(&self, column: usize) -> String {
        tick(self.options.x_ticks.as_deref(), column)
    }

    /// The text at a row.
    pub fn y_tick(&self, row: usize) -> String {
        tick(self.options.y_ticks.as_deref(), row)
    }

    /// Each marked cell in words, such as `row 3 (late), column 7 = 0.123`.
    pub fn marks_in_words(&self) -> Vec<String> {
        let named = |axis: &str, index: usize, tick: String| {
            if tick == index.to_string() { format!("{axis} {index}") } else { format!("{axis} {index} ({tick})") }
        };
        let words = |&(row, column): &(usize, usize)| {
            let value = self.value(row, column).map_or_else(|| "blank".to_owned(), short);
            let row_name = named("row", row, self.y_tick(row));
            format!("{row_name}, {} = {value}", named("column", column, self.x_tick(column)))
        };
        self.options.marks.iter().map(words).collect()
    }
}

fn tick(names: Option<&[String]>, index: usize) -> String {
    names.and_then(|names| names.get(index)).cloned().unwrap_or_else(|| index.to_string())
}

fn check_ticks(option: &str, names: Option<&mut Vec<String>>, count: usize, axis: &str) -> Result<()> {
    let Some(names) = names else { return Ok(()) };
    if names.len() != count {
        return Err(Error::new(format!("{option} has {} entries, the heatmap has {count} {axis}", names.len()))
            .hint("give one for each; the figure leaves out those that would overlap"));
    }
    for name in names {
        *name = clean(name);
    }
    Ok(())
}

fn check_texts(options: &mut HeatmapOptions, rows: usize, columns: usize) -> Result<()> {
    let Some(texts) = &mut options.cells else { return Ok(()) };
    if options.annotate {
        return Err(Error::new("a cell shows its text or its number, not both").hint("leave out `annotate` or `cells`"));
    }
    if texts.len() != rows {
        return Err(Error::new(format!("cells has {} rows, the heatmap has {rows}", texts.len())));
    }
    for (row, line) in texts.iter_mut().enumerate() {
        if line.len() != columns {
            let message = format!("row {row} of cells has {} texts, the heatmap has {columns} columns", line.len());
            return Err(Error::new(message));
        }
        line.iter_mut().for_each(|text| *text = visible(text));
    }
    Ok(())
}
