//! `table` and its object: results under named columns.

use std::path::Path;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};

use super::convert::expected;
use super::error::ScriptResult;
use super::handle::Handle;
use super::module;
use super::option::Options;
use super::tensor::convert::number;
use crate::catalog::topic::Topic;
use crate::data::table::{Cell, Column, Table, escape_html};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::tensor::element::Number;

/// Makes the functions of this file known to `engine`.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Tables, exported_manifest!(functions));
}

impl Handle for Table {
    const NAME: &'static str = "table";

    fn describe(&self) -> String {
        let names: Vec<&str> = self.columns().iter().map(|column| column.name.as_str()).collect();
        format!("table of {} rows: {}", self.rows().len(), names.join(", "))
    }

    /// As wide as the terminal; where there is none, as wide as the table is.
    fn show(&self) -> String {
        let width = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        self.text(width).unwrap_or_else(|_| self.describe())
    }
}

/// What a script puts into a cell.
pub fn cell(place: impl Fn() -> String, value: &Dynamic) -> Result<Cell> {
    if let Ok(text) = value.clone().into_string() {
        return Ok(Cell::Text(text));
    }
    let single = match value.read_lock::<Tensor>() {
        Some(tensor) if tensor.numel() == 1 => Some(tensor.item()?),
        _ => number(value),
    };
    match single {
        Some(Number::Bool(value)) => Ok(Cell::Bool(value)),
        Some(Number::Integer(value)) => Ok(Cell::Integer(value)),
        Some(Number::Float(value)) => Ok(Cell::Float(value)),
        None if value.is_unit() => Ok(Cell::Empty),
        None if value.is_char() => Ok(Cell::Text(value.to_string())),
        None => Err(expected(&place(), "a string, number, bool or ()", value)),
    }
}

fn value(cell: &Cell) -> Dynamic {
    match cell {
        Cell::Empty => Dynamic::UNIT,
        Cell::Bool(value) => (*value).into(),
        Cell::Integer(value) => (*value).into(),
        Cell::Float(value) => (*value).into(),
        Cell::Text(text) => text.clone().into(),
    }
}

fn columns(names: &Array, options: &mut Options) -> Result<(String, Vec<Column>)> {
    let title = options.string("title")?.unwrap_or_default();
    let mut headers = texts("headers", options.map("headers")?.unwrap_or_default())?;
    let mut formats = texts("formats", options.map("formats")?.unwrap_or_default())?;
    let mut columns = Vec::new();
    for name in names {
        let name = name.clone().into_string().map_err(|_| expected("each column of `table`", "a string", name))?;
        let (header, format) = (take(&mut headers, &name), take(&mut formats, &name));
        columns.push(Column { header: header.unwrap_or_else(|| name.clone()), format, name });
    }
    for (option, left) in [("headers", headers), ("formats", formats)] {
        if let Some((name, _)) = left.first() {
            return Err(Error::new(format!("option `{option}` of `table` has `{name}`, which is not a column")));
        }
    }
    Ok((title, columns))
}

fn take(texts: &mut Vec<(String, String)>, name: &str) -> Option<String> {
    let place = texts.iter().position(|(other, _)| other == name)?;
    Some(texts.remove(place).1)
}

fn texts(option: &str, map: Map) -> Result<Vec<(String, String)>> {
    map.into_iter()
        .map(|(name, text)| match text.clone().into_string() {
            Ok(text) => Ok((name.to_string(), text)),
            Err(_) => Err(expected(&format!("`{name}` in option `{option}` of `table`"), "a string", &text)),
        })
        .collect()
}

#[export_module(manifest)]
mod functions {
    /// A table without rows whose columns have the given names.
    ///
    /// Rows are added with `row`. Printing the table shows it as wide as the terminal. `save` writes it as CSV, LaTeX
    /// or HTML. A table is a value: `let other = t;` makes another one, and a function changes its own copy.
    ///
    /// Options:
    /// - `title`: a text above the table
    /// - `headers`: a map from the name of a column to what people read above it; the name itself by default
    /// - `formats`: a map from the name of a column to the format of its numbers, as `fmt` takes it. Without one, a
    ///   number is shown with all its digits. CSV files always have all digits
    ///
    /// # Example
    /// ```rhai
    /// let t = table(["layer", "effect"], #{
    ///     title: "Effects",
    ///     headers: #{ effect: "mean effect" },
    ///     formats: #{ effect: "+.2" },
    /// });
    /// t.row(#{ layer: 0, effect: 0.125 });
    /// t.row(#{ layer: 1, effect: () });
    /// assert_eq(t.len, 2);
    /// assert("mean effect" in `${t}` && "+0.12" in `${t}`);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn table(names: Array, options: Map) -> ScriptResult<Table> {
        let (title, columns) = Options::read("table", options, |options| columns(&names, options))?;
        Ok(Table::new(title, columns)?)
    }

    /// Adds a row: a map with a value for every column.
    ///
    /// A value is a string, a number, a bool, a tensor of one element, or `()` where there is nothing. NaN stands for
    /// an undefined number, which is shown as a blank.
    ///
    /// # Errors
    /// A name that no column has, or a column without a value; the message names it.
    ///
    /// # Example
    /// ```rhai
    /// let t = table(["layer", "rank"]);
    /// t.row(#{ layer: 3, rank: 17 });
    /// let said = "";
    /// try { t.row(#{ layer: 4, rnk: 2 }); } catch (error) { said = error.error; }
    /// assert_eq(said, "the table has no column `rnk`");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn row(table: &mut Table, cells: Map) -> ScriptResult<()> {
        let convert = |(name, value): (&rhai::Identifier, &Dynamic)| {
            Ok((name.to_string(), cell(|| format!("column `{name}` of the row"), value)?))
        };
        let cells = cells.iter().map(convert).collect::<Result<_>>()?;
        Ok(table.push(cells)?)
    }

    /// Adds the rows of a table with the same columns.
    ///
    /// # Example
    /// ```rhai
    /// let all = table(["layer"]);
    /// let one = table(["layer"]);
    /// one.row(#{ layer: 7 });
    /// all.append(one);
    /// all.append(one);
    /// assert_eq(all.column("layer"), [7, 7]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn append(table: &mut Table, other: Table) -> ScriptResult<()> {
        Ok(table.append(&other)?)
    }

    /// The rows as an array of maps by column.
    ///
    /// # Example
    /// ```rhai
    /// let t = table(["layer", "rank"]);
    /// t.row(#{ layer: 3, rank: 17 });
    /// assert_eq(t.rows()[0].rank, 17);
    /// ```
    #[rhai_fn(pure)]
    pub fn rows(table: &mut Table) -> Array {
        let names = table.columns().iter().map(|column| column.name.as_str());
        let row = |cells: &Vec<Cell>| -> Map { names.clone().map(Into::into).zip(cells.iter().map(value)).collect() };
        table.rows().iter().map(|cells| row(cells).into()).collect()
    }

    /// The values of one column, an array.
    ///
    /// # Example
    /// ```rhai
    /// let t = table(["layer", "rank"]);
    /// t.row(#{ layer: 3, rank: 17 });
    /// t.row(#{ layer: 4, rank: 2 });
    /// assert_eq(t.column("rank"), [17, 2]);
    /// ```
    #[rhai_fn(pure, return_raw)]
    pub fn column(table: &mut Table, name: &str) -> ScriptResult<Array> {
        Ok(table.column(name)?.into_iter().map(value).collect())
    }

    /// The names of the columns.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(table(["layer", "rank"]).columns, ["layer", "rank"]);
    /// ```
    #[rhai_fn(get = "columns", pure)]
    pub fn names(table: &mut Table) -> Array {
        table.columns().iter().map(|column| column.name.clone().into()).collect()
    }

    /// The number of rows.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(table(["layer"]).len, 0);
    /// ```
    #[rhai_fn(name = "len", get = "len", pure)]
    pub fn len(table: &mut Table) -> i64 {
        table.rows().len() as i64
    }

    /// The table with its rows in the order of one column; blank cells stay last. Numbers come before texts.
    ///
    /// The table itself stays as it is. Option: `descending`, `false` by default.
    ///
    /// # Example
    /// ```rhai
    /// let t = table(["layer", "effect"]);
    /// t.row(#{ layer: 0, effect: 0.1 });
    /// t.row(#{ layer: 1, effect: 0.7 });
    /// assert_eq(t.sort_by("effect", #{ descending: true }).column("layer"), [1, 0]);
    /// ```
    #[rhai_fn(pure, return_raw)]
    pub fn sort_by(table: &mut Table, name: &str, options: Map) -> ScriptResult<Table> {
        let descending = Options::read("sort_by", options, |options| options.boolean("descending"))?;
        Ok(table.sorted_by(name, descending.unwrap_or(false))?)
    }

    /// Writes the table to a file whose name ends in `.csv`, `.tex` or `.html`. Folders are created, an existing file
    /// is replaced.
    ///
    /// CSV has the names of the columns and all digits. LaTeX (a `tabular` for documents that load the package
    /// booktabs) and HTML (a fragment) have the headers, and numbers in the columns' formats.
    ///
    /// # Example
    /// ```rhai
    /// let t = table(["p_value"], #{ headers: #{ p_value: "p < 5%" }, formats: #{ p_value: ".1e" } });
    /// t.row(#{ p_value: 0.000123 });
    /// t.save("tests.csv");
    /// t.save("tests.tex");
    /// assert_eq(read_text("tests.csv"), "p_value\n0.000123\n");
    /// assert("p \\textless{} 5\\%" in read_text("tests.tex"));
    /// ```
    #[rhai_fn(pure, return_raw)]
    pub fn save(table: &mut Table, path: &str) -> ScriptResult<()> {
        Ok(table.save(Path::new(path))?)
    }

    /// The table as an HTML fragment, to put into a page.
    ///
    /// # Example
    /// ```rhai
    /// let t = table(["layer"], #{ headers: #{ layer: "layers i & j" } });
    /// assert("layers i &amp; j" in t.html());
    /// ```
    #[rhai_fn(pure, return_raw)]
    pub fn html(table: &mut Table) -> ScriptResult<String> {
        Ok(table.html()?)
    }

    /// The table as LaTeX text, as `save` writes it.
    ///
    /// # Example
    /// ```rhai
    /// assert("\\begin{tabular}{l}" in table(["layer"]).latex());
    /// ```
    #[rhai_fn(pure, return_raw)]
    pub fn latex(table: &mut Table) -> ScriptResult<String> {
        Ok(table.latex()?)
    }

    /// A text with the characters that HTML reads as markup written out.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(escape_html("a < b & c"), "a &lt; b &amp; c");
    /// ```
    #[rhai_fn(name = "escape_html")]
    pub fn escape(text: &str) -> String {
        escape_html(text)
    }
}
