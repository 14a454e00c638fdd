//! Tables of results: named columns, each with one header and one number format. A table is shown in a terminal and saved
//! as CSV (names and all digits), LaTeX and HTML (headers and formatted numbers).

mod html;
mod latex;
mod text;

use std::cmp::Ordering;
use std::path::Path;

use super::csv;
use crate::error::{Error, Result, nearest};
use crate::file::{format_of, write_text};
use crate::format::{self, Item};

pub use html::escape as escape_html;

/// The value of one cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// True or false.
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// A number; NaN where it is undefined.
    Float(f64),
    /// A text.
    Text(String),
}

impl Cell {
    fn is_number(&self) -> bool {
        matches!(self, Self::Integer(_) | Self::Float(_))
    }

    fn is_blank(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Float(value) => value.is_nan(),
            _ => false,
        }
    }

    /// The cell with all its digits, for files that programs read.
    pub fn exact(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => format!("{value:?}"),
            Self::Text(text) => text.clone(),
        }
    }

    /// Numbers come before booleans, booleans before texts, blanks last; -0.0 is below 0.0.
    fn compare(&self, other: &Self) -> Ordering {
        let class = |cell: &Self| match cell {
            _ if cell.is_blank() => 3,
            Self::Integer(_) | Self::Float(_) => 0,
            Self::Bool(_) => 1,
            _ => 2,
        };
        match (self, other) {
            (Self::Integer(one), Self::Integer(two)) => one.cmp(two),
            (Self::Bool(one), Self::Bool(two)) => one.cmp(two),
            (Self::Text(one), Self::Text(two)) => one.cmp(two),
            _ => match (self.float(), other.float()) {
                (Some(one), Some(two)) => one.total_cmp(&two),
                _ => class(self).cmp(&class(other)),
            },
        }
    }

    fn float(&self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Float(value) if !value.is_nan() => Some(*value),
            _ => None,
        }
    }
}

/// One column: its name for programs, its header for people, and the format of its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name, which rows and CSV files use.
    pub name: String,
    /// The header, which the terminal, LaTeX and HTML show.
    pub header: String,
    /// The format of its numbers (see [`format::format`]); without one, integers and the shortest exact floats.
    pub format: Option<String>,
}

/// Rows of cells under named columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    title: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    ///
    /// # Errors
    /// No columns, two columns of one name, or an invalid format.
    pub fn new(title: String, columns: Vec<Column>) -> Result<Self> {
        if columns.is_empty() {
            return Err(Error::new("a table needs at least one column"));
        }
        for (place, column) in columns.iter().enumerate() {
            if columns[..place].iter().any(|earlier| earlier.name == column.name) {
                return Err(Error::new(format!("the table has the column `{}` twice", column.name)));
            }
            if let Some(format) = &column.format {
                format::format(Item::Float(0.0), format)
                    .map_err(|error| error.context(format!("column `{}`", column.name)))?;
            }
        }
        Ok(Self { title, columns, rows: Vec::new() })
    }

    /// A table without rows and title, whose columns are headed by their names, from names and formats of numbers.
    ///
    /// # Errors
    /// As for [`Table::new`].
    pub fn plain(columns: &[(&str, Option<&str>)]) -> Result<Self> {
        let column = |(name, format): &(&str, Option<&str>)| Column {
            name: (*name).to_owned(),
            header: (*name).to_owned(),
            format: format.map(str::to_owned),
        };
        Self::new(String::new(), columns.iter().map(column).collect())
    }

    /// The title, empty if there is none.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The columns in their order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The rows; each has one cell for each column.
    pub fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    /// Adds a row, given as pairs of a column's name and the cell.
    ///
    /// # Errors
    /// A name that no column has, or a column without a cell.
    pub fn push(&mut self, cells: Vec<(String, Cell)>) -> Result<()> {
        let mut row: Vec<Option<Cell>> = vec![None; self.columns.len()];
        for (name, cell) in cells {
            let place = self.place(&name)?;
            row[place] = Some(cell);
        }
        if let Some(place) = row.iter().position(Option::is_none) {
            return Err(Error::new(format!("the row has no cell for the column `{}`", self.columns[place].name)));
        }
        self.rows.push(row.into_iter().flatten().collect());
        Ok(())
    }

    /// Adds the rows of a table with the same columns.
    ///
    /// # Errors
    /// Columns of other names or in another order.
    pub fn append(&mut self, other: &Self) -> Result<()> {
        let names = |table: &Self| table.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let (ours, theirs) = (names(self), names(other));
        if ours != theirs {
            return Err(Error::new(format!(
                "the tables have different columns: {} and {}",
                ours.join(", "),
                theirs.join(", ")
            )));
        }
        self.rows.extend(other.rows.iter().cloned());
        Ok(())
    }

    /// The cells of one column.
    ///
    /// # Errors
    /// A name that no column has.
    pub fn column(&self, name: &str) -> Result<Vec<&Cell>> {
        let place = self.place(name)?;
        Ok(self.rows.iter().map(|row| &row[place]).collect())
    }

    /// The table with its rows in the order of one column; equal rows keep their order, blank cells stay last.
    ///
    /// # Errors
    /// A name that no column has.
    pub fn sorted_by(&self, name: &str, descending: bool) -> Result<Self> {
        let place = self.place(name)?;
        let mut sorted = self.clone();
        sorted.rows.sort_by(|one, two| {
            let (one, two) = (&one[place], &two[place]);
            let order = one.compare(two);
            if descending && !one.is_blank() && !two.is_blank() { order.reverse() } else { order }
        });
        Ok(sorted)
    }

    /// Writes the table to a file in the format of its extension; missing folders are created.
    ///
    /// # Errors
    /// An extension other than `.csv`, `.tex` and `.html`, or a failure to write the file.
    pub fn save(&self, path: &Path) -> Result<()> {
        type Write = fn(&Table, &Path) -> Result<()>;
        let formats: [(&str, Write); 3] = [
            ("csv", Self::save_csv),
            ("tex", |table, path| write_text(path, &table.latex()?)),
            ("html", |table, path| write_text(path, &table.html()?)),
        ];
        format_of(path, &formats)?(self, path)
    }

    fn save_csv(&self, path: &Path) -> Result<()> {
        let names: Vec<String> = self.columns.iter().map(|column| column.name.clone()).collect();
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(Cell::exact).collect()).collect();
        csv::write(path, Some(&names), &rows, b',')
    }

    /// The cells as people read them: numbers in their column's format, undefined ones blank.
    fn shown(&self) -> Result<Vec<Vec<String>>> {
        self.rows
            .iter()
            .map(|row| row.iter().zip(&self.columns).map(|(cell, column)| shown(cell, column)).collect())
            .collect()
    }

    /// Whether a column holds numbers, and so is aligned to the right.
    fn is_numeric(&self, place: usize) -> bool {
        let cells = || self.rows.iter().map(|row| &row[place]).filter(|cell| !matches!(cell, Cell::Empty));
        self.columns[place].format.is_some() || (cells().next().is_some() && cells().all(Cell::is_number))
    }

    fn place(&self, name: &str) -> Result<usize> {
        let names = || self.columns.iter().map(|column| column.name.as_str());
        names().position(|other| other == name).ok_or_else(|| {
            let all = names().collect::<Vec<_>>().join(", ");
            Error::new(format!("the table has no column `{name}`")).hint(match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`? The columns are {all}"),
                None => format!("the columns are {all}"),
            })
        })
    }
}

fn shown(cell: &Cell, column: &Column) -> Result<String> {
    match (cell, column.format.as_deref()) {
        _ if cell.is_blank() => Ok(String::new()),
        (Cell::Integer(value), Some(format)) => format::format(Item::Integer(*value), format),
        (Cell::Float(value), Some(format)) => format::format(Item::Float(*value), format),
        _ => Ok(cell.exact()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, header: &str, format: Option<&str>) -> Column {
        Column { name: name.into(), header: header.into(), format: format.map(str::to_owned) }
    }

    pub(super) fn example() -> Table {
        let columns = vec![
            column("set", "layers", None),
            column("effect_rr", "effect & rank", Some("+.2")),
            column("n", "n", None),
        ];
        let mut table = Table::new("Sets_of 100%".into(), columns).unwrap();
        for (set, effect, n) in [
            ("(0, 1)", Cell::Float(0.123456), Cell::Integer(20)),
            ("[a_b] \\ <c>", Cell::Float(-1.5e-7), Cell::Integer(3)),
            ("none", Cell::Float(f64::NAN), Cell::Empty),
        ] {
            let row = vec![("n", n), ("set", Cell::Text(set.into())), ("effect_rr", effect)];
            table.push(row.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect()).unwrap();
        }
        table
    }

    fn failure<T>(result: Result<T>) -> String {
        let error = result.err().unwrap();
        format!("{error} ({})", error.hint_text().unwrap_or_default())
    }

    #[test]
    fn rows_must_fit_their_columns() {
        let mut table = example();
        let row = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Cell::Integer(1))).collect();
        let said = failure(table.push(row(&["set", "effect_rr", "m"])));
        assert_eq!(said, "the table has no column `m` (did you mean `n`? The columns are set, effect_rr, n)");
        assert!(failure(table.push(row(&["set", "n"]))).contains("no cell for the column `effect_rr`"));
        assert_eq!(table.rows().len(), 3, "a refused row leaves nothing");
        assert!(failure(Table::new(String::new(), Vec::new())).contains("at least one column"));
        let twice = vec![column("a", "a", None), column("a", "b", None)];
        assert!(failure(Table::new(String::new(), twice)).contains("`a` twice"));
        let wrong = failure(Table::new(String::new(), vec![column("a", "a", Some("3x"))]));
        assert!(wrong.contains("column `a`: `3x` is not a number format"), "{wrong}");
        let other = Table::new(String::new(), vec![column("a", "a", None)]).unwrap();
        assert!(failure(table.append(&other)).contains("set, effect_rr, n and a"));
        table.append(&example()).unwrap();
        assert_eq!(table.rows().len(), 6);
    }

    #[test]
    fn rows_are_sorted_with_blanks_last() {
        let places = |table: &Table| table.column("n").unwrap().into_iter().cloned().collect::<Vec<_>>();
        let (three, twenty) = (Cell::Integer(3), Cell::Integer(20));
        let rising = example().sorted_by("n", false).unwrap();
        assert_eq!(places(&rising), [three.clone(), twenty.clone(), Cell::Empty]);
        let falling = example().sorted_by("n", true).unwrap();
        assert_eq!(places(&falling), [twenty, three, Cell::Empty]);
        let effects = example().sorted_by("effect_rr", false).unwrap();
        assert_eq!(effects.rows()[0][1], Cell::Float(-1.5e-7));
        assert!(effects.rows()[2][1].is_blank());
    }

    #[test]
    fn csv_has_names_and_all_digits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/t.csv");
        example().save(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "set,effect_rr,n\n\"(0, 1)\",0.123456,20\n[a_b] \\ <c>,-1.5e-7,3\nnone,NaN,\n");
        assert!(failure(example().save(&folder.path().join("t.xlsx"))).contains(".csv, .tex or .html"));
    }
}
