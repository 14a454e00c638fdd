//! The data of a lattice: points on a grid of rows and columns, and links between them.

mod scene;

use crate::error::{Error, Result};
use crate::plot::label::{Labels, clean};

/// The most rows, and the most columns, that a lattice can have.
const MOST: usize = 1024;

/// A highlighted point of the grid. Its colour shows the value's sign.
#[derive(Debug, Clone)]
pub struct Point {
    /// Its row.
    pub row: usize,
    /// Its column.
    pub column: usize,
    /// Its area, as a share from 0 to 1.
    pub size: f64,
    /// The value whose sign is shown.
    pub value: f64,
    /// Shown where the mouse rests on it.
    pub note: String,
}

/// A link from a column of one row to one of a row above. Its colour shows the value's sign.
#[derive(Debug, Clone)]
pub struct Link {
    /// The row that it starts from.
    pub row: usize,
    /// Its column in that row.
    pub source: usize,
    /// The row where it ends.
    pub end: usize,
    /// Its column in that row.
    pub target: usize,
    /// Its width, as a share from 0 to 1.
    pub size: f64,
    /// The value whose sign is shown.
    pub value: f64,
    /// Shown where the mouse rests on it.
    pub note: String,
}

/// A lattice. Row 0 is at the bottom.
#[derive(Debug, Clone)]
pub struct Lattice {
    /// Title and axis labels.
    pub labels: Labels,
    /// One name per column, below the grid.
    pub columns: Vec<String>,
    /// The number of rows.
    pub rows: usize,
    /// One name per row, beside the grid; none for their numbers.
    pub row_names: Vec<String>,
    /// The highlighted points.
    pub points: Vec<Point>,
    /// The links between rows.
    pub links: Vec<Link>,
    /// A column and its name above the grid.
    pub above: Option<(usize, String)>,
    /// The meaning of either sign, positive first.
    pub signs: (String, String),
    /// The meaning of sizes and widths.
    pub size_label: String,
}

impl Lattice {
    fn check(&self) -> Result<()> {
        let (rows, columns) = (self.rows, self.columns.len());
        if rows > MOST || columns > MOST {
            return Err(Error::new(format!("{rows} rows and {columns} columns are too many to draw"))
                .hint(format!("at most {MOST} of each")));
        }
        let point = |row: usize, column: usize| row < rows && column < columns;
        let all_there = self.points.iter().all(|at| point(at.row, at.column))
            && self.links.iter().all(|link| point(link.row, link.source) && point(link.end, link.target))
            && (self.row_names.is_empty() || self.row_names.len() == rows)
            && self.above.iter().all(|(column, _)| *column < columns);
        if all_there { Ok(()) } else { Err(Error::new("a point or link is outside the lattice")) }
    }

    /// A copy without control characters in any text.
    fn cleaned(&self) -> Self {
        let mut cleaned = self.clone();
        cleaned.labels = cleaned.labels.cleaned();
        let notes = cleaned.points.iter_mut().map(|point| &mut point.note);
        let notes = notes.chain(cleaned.links.iter_mut().map(|link| &mut link.note));
        let names = cleaned
            .columns
            .iter_mut()
            .chain(&mut cleaned.row_names)
            .chain(cleaned.above.iter_mut().map(|(_, name)| name));
        let legend = [&mut cleaned.signs.0, &mut cleaned.signs.1, &mut cleaned.size_label];
        for text in notes.chain(names).chain(legend) {
            *text = clean(text);
        }
        cleaned
    }
}
