//! The functions that make figures, and the figure's own.

use std::path::Path;

use rhai::plugin::*;
use rhai::{Array, Map};

use crate::bind::convert::{expected, number, type_name};
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::plot::{Chart, ColorMap, Figure, Heatmap, HeatmapOptions, Labels, LineStyle, Screen, Series, short};
use crate::tensor::Tensor;
use crate::tensor::raw::numbers;

/// Makes the functions of this file known to `engine`.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Plots, exported_manifest!(functions));
}

impl Handle for Figure {
    const NAME: &'static str = "figure";

    fn describe(&self) -> String {
        self.to_string()
    }
}

#[export_module(manifest)]
mod functions {
    /// A heatmap of `values`: a two-dimensional tensor, or an array of rows of numbers.
    ///
    /// Row 0 is at the top, column 0 at the left, in the terminal and in files alike. A NaN (in arrays also `()`)
    /// leaves its cell blank, such as the redundant half of a symmetric grid. At most 1024 rows and columns.
    ///
    /// Options:
    /// - `title`, `x_label`, `y_label`, `color_label`: texts
    /// - `x_ticks`, `y_ticks`: one string or number for each column and row; their indices by default. Those that would
    ///   overlap are left out
    /// - `color_map`: `"viridis"` or `"diverging"` (blue, white at zero, red). By default diverging if there are values
    ///   of both signs
    /// - `range`: `[min, max]`, the values at the ends of the colours. By default those of the values; with
    ///   `"diverging"`, symmetric around zero
    /// - `mark`: `[row, column]`, or an array of those: the cells to outline, such as the best one
    /// - `annotate`: `true` writes the number into each cell
    ///
    /// # Example
    /// ```rhai
    /// heatmap([[1, 2], [3, 4]]).show();
    /// let blank = 0.0 / 0.0;
    /// let figure = heatmap([[0.1, -0.4, 0.3], [blank, 0.2, 0.9]], #{
    ///     title: "Effect by start and end", x_label: "end", y_label: "start", mark: [1, 2],
    /// });
    /// figure.show();
    /// ```
    #[rhai_fn(return_raw)]
    pub fn heatmap(values: Dynamic, options: Map) -> ScriptResult<Figure> {
        let options = Options::read("heatmap", options, heatmap_options)?;
        let values = matrix(&values)?;
        Ok(Heatmap::new(values, options).map(Figure::from)?)
    }

    /// Lines through the points (`xs`, `ys`).
    ///
    /// `xs` is a one-dimensional tensor or an array of numbers. `ys` is the same, or a map from the name of each line
    /// to its values. A NaN leaves its point out.
    ///
    /// Options: `title`, `x_label`, `y_label`; `errors` (in the form of `ys`; of some lines only, if wanted): half the
    /// length of each point's error bar, such as a standard error; `scale`: `"log"` makes the vertical axis
    /// logarithmic, and leaves out what is not above 0 (`"linear"` by default); `x_ticks`: a string or number below
    /// each point, which then stand at equal distances; `mark`: an array of places of points (the first is 0) that get
    /// a vertical line.
    ///
    /// # Example
    /// ```rhai
    /// line_plot([0, 1, 2], [0.1, 0.4, 0.2]).show();
    /// let accuracy = #{ probe: [0.5, 0.7, 0.9], chance: [0.5, 0.5, 0.5] };
    /// line_plot([0, 1, 2], accuracy, #{title: "Accuracy by layer", x_label: "layer"}).show();
    /// let counts = #{ paths: [900, 40, 7] };
    /// line_plot([0, 1, 2], counts, #{ errors: #{ paths: [90, 8, 2] }, scale: "log", x_ticks: ["a", "b", "c"], mark: [1] }).show();
    /// ```
    #[rhai_fn(return_raw)]
    pub fn line_plot(xs: Dynamic, ys: Dynamic, options: Map) -> ScriptResult<Figure> {
        let make = || {
            let (labels, style) =
                Options::read("line_plot", options, |options| Ok((labels(options)?, line_style(options)?)))?;
            Chart::lines(vector("`xs` of `line_plot`", &xs)?, series("`ys` of `line_plot`", &ys)?, &labels)?
                .with_style(style)
        };
        Ok(make().map(Figure::from)?)
    }

    /// Bars of `values` over `names` (strings or numbers).
    ///
    /// `values` is a one-dimensional tensor or an array of numbers, or a map from the name of each colour of bars to
    /// its values.
    ///
    /// Options: `title`, `x_label`, `y_label`.
    ///
    /// # Example
    /// ```rhai
    /// bar_plot(["before", "after"], [0.4, 0.7]).show();
    /// let scores = #{ base: [0.4, 0.6], edited: [0.5, 0.9] };
    /// bar_plot(["maths", "emotion"], scores, #{y_label: "score"}).show();
    /// ```
    #[rhai_fn(return_raw)]
    pub fn bar_plot(names: Array, values: Dynamic, options: Map) -> ScriptResult<Figure> {
        let make = || {
            let labels = Options::read("bar_plot", options, labels)?;
            Chart::bars(texts("`names` of `bar_plot`", &names)?, series("`values` of `bar_plot`", &values)?, &labels)
        };
        Ok(make().map(Figure::from)?)
    }

    /// Points at (`xs`, `ys`), one-dimensional tensors or arrays of numbers. A NaN leaves its point out.
    ///
    /// Options: `title`, `x_label`, `y_label`; `groups`: an array with a string or number for each point, which gives
    /// it its colour.
    ///
    /// # Example
    /// ```rhai
    /// scatter_plot([0.1, 0.5, 0.9], [1, 3, 2]).show();
    /// scatter_plot([0.1, 0.5, 0.9], [1, 3, 2], #{groups: ["a", "b", "a"], title: "Components"}).show();
    /// ```
    #[rhai_fn(return_raw)]
    pub fn scatter_plot(xs: Dynamic, ys: Dynamic, options: Map) -> ScriptResult<Figure> {
        let make = || {
            let (labels, groups) = Options::read("scatter_plot", options, |options| {
                let groups = options.array("groups")?.map(|groups| texts("option `groups`", &groups)).transpose()?;
                Ok((labels(options)?, groups))
            })?;
            let (x, y) = (vector("`xs` of `scatter_plot`", &xs)?, vector("`ys` of `scatter_plot`", &ys)?);
            Chart::points(&x, &y, groups.as_deref(), &labels)
        };
        Ok(make().map(Figure::from)?)
    }

    /// How often the `values`, an array of numbers or a tensor of any shape, fall into equal intervals. NaN is not
    /// counted.
    ///
    /// Options: `bins`, the number of intervals (by default the square root of the number of values, at most 50);
    /// `title`, `x_label`, `y_label`.
    ///
    /// # Example
    /// ```rhai
    /// histogram([0.1, 0.2, 0.2, 0.7]).show();
    /// histogram([0.1, 0.2, 0.2, 0.7], #{bins: 3, x_label: "probability"}).show();
    /// ```
    #[rhai_fn(return_raw)]
    pub fn histogram(values: Dynamic, options: Map) -> ScriptResult<Figure> {
        let make = || {
            let (labels, bins) = Options::read("histogram", options, |options| {
                let bins = options.integer("bins")?.map(|bins| index("option `bins`", bins)).transpose()?;
                Ok((labels(options)?, bins))
            })?;
            let values = match values.read_lock::<Tensor>() {
                Some(tensor) => numbers(tensor.tch())?,
                None => vector("`values` of `histogram`", &values)?,
            };
            Chart::histogram(&values, bins, &labels)
        };
        Ok(make().map(Figure::from)?)
    }

    /// Prints the figure to the terminal, as wide as fits: in colour where there is colour, else in characters.
    ///
    /// # Example
    /// ```rhai
    /// heatmap([[0.5, -0.5]], #{title: "Signs"}).show();
    /// ```
    #[rhai_fn(name = "show", return_raw)]
    pub fn show(figure: &mut Figure) -> ScriptResult<()> {
        let text = figure.text(Screen::stdout())?;
        crate::output::text(&text);
        Ok(())
    }

    /// Writes the figure to a file, whose name ends in `.svg`, `.pdf` or `.png`. Folders are created, an existing file
    /// is replaced.
    #[rhai_fn(name = "save", return_raw)]
    pub fn save(figure: &mut Figure, path: &str) -> ScriptResult<()> {
        Ok(figure.save(Path::new(path))?)
    }

    /// The figure as SVG text, for a page.
    ///
    /// # Example
    /// ```rhai
    /// assert(heatmap([[0.5, -0.5]]).svg().contains("<svg"));
    /// ```
    #[rhai_fn(name = "svg", return_raw)]
    pub fn svg(figure: &mut Figure) -> ScriptResult<String> {
        let bytes = figure.render(crate::plot::Format::Svg)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn labels(options: &mut Options) -> Result<Labels> {
    let mut text = |key| options.string(key).map(Option::unwrap_or_default);
    Ok(Labels { title: text("title")?, x: text("x_label")?, y: text("y_label")? })
}

fn line_style(options: &mut Options) -> Result<LineStyle> {
    let is_logarithmic = options.choice("scale", &[("linear", false), ("log", true)])?.unwrap_or(false);
    let place = |item: &Dynamic| match item.as_int() {
        Ok(place) => index("a marked point", place),
        Err(_) => Err(expected("each item of option `mark`", "the place of a point, an integer", item)),
    };
    Ok(LineStyle {
        errors: options.any("errors").map(|errors| series("option `errors`", &errors)).transpose()?.unwrap_or_default(),
        names: options
            .array("x_ticks")?
            .map(|names| texts("option `x_ticks`", &names))
            .transpose()?
            .unwrap_or_default(),
        marks: options.array("mark")?.unwrap_or_default().iter().map(place).collect::<Result<_>>()?,
        is_logarithmic,
    })
}

fn heatmap_options(options: &mut Options) -> Result<HeatmapOptions> {
    let labels = labels(options)?;
    let mut ticks =
        |key| options.array(key)?.map(|names| texts(&format!("option `{key}` of `heatmap`"), &names)).transpose();
    Ok(HeatmapOptions {
        labels,
        x_ticks: ticks("x_ticks")?,
        y_ticks: ticks("y_ticks")?,
        color_map: options.string("color_map")?.map(|name| ColorMap::parse(&name)).transpose()?,
        range: options.array("range")?.map(|ends| range(&ends)).transpose()?,
        marks: options.array("mark")?.map(|mark| marks(&mark)).transpose()?.unwrap_or_default(),
        annotate: options.boolean("annotate")?.unwrap_or(false),
        color_label: options.string("color_label")?.unwrap_or_default(),
    })
}

fn range(ends: &Array) -> Result<(f64, f64)> {
    match ends.iter().map(number).collect::<Option<Vec<f64>>>().as_deref() {
        Some(&[min, max]) => Ok((min, max)),
        _ => Err(Error::new("option `range` of `heatmap` must be two numbers").hint("such as `range: [-1.0, 1.0]`")),
    }
}

/// One `[row, column]`, or an array of those.
fn marks(mark: &Array) -> Result<Vec<(usize, usize)>> {
    let pair = |pair: &Array| match pair.iter().map(|item| item.as_int().ok()).collect::<Option<Vec<i64>>>().as_deref()
    {
        Some(&[row, column]) => Ok((index("a marked row", row)?, index("a marked column", column)?)),
        _ => Err(Error::new("option `mark` of `heatmap` must be a row and a column, or an array of such pairs")
            .hint("such as `mark: [2, 5]` or `mark: [[2, 5], [3, 1]]`")),
    };
    if mark.iter().all(|item| item.is_array()) {
        mark.iter().map(|item| item.as_array_ref().map_or_else(|_| pair(mark), |inner| pair(&inner))).collect()
    } else {
        Ok(vec![pair(mark)?])
    }
}

fn index(what: &str, value: i64) -> Result<usize> {
    usize::try_from(value).map_err(|_| Error::new(format!("{what} must not be negative, but is {value}")))
}

fn texts(what: &str, items: &Array) -> Result<Vec<String>> {
    let text = |item: &Dynamic| {
        let text = item.as_immutable_string_ref().ok().map(|text| text.to_string());
        let text = text.or_else(|| item.as_int().ok().map(|number| number.to_string()));
        text.or_else(|| item.as_float().ok().map(short))
            .ok_or_else(|| expected(&format!("each item of {what}"), "a string or a number", item))
    };
    items.iter().map(text).collect()
}

/// Named rows of numbers from a map, or a single nameless one.
fn series(what: &str, value: &Dynamic) -> Result<Vec<Series>> {
    match value.as_map_ref() {
        Ok(map) => map
            .iter()
            .map(|(name, values)| Ok(Series { name: name.to_string(), values: vector(&format!("`{name}`"), values)? }))
            .collect(),
        Err(_) => Ok(vec![Series { name: String::new(), values: vector(what, value)? }]),
    }
}

/// A one-dimensional tensor or an array of numbers, where `()` is NaN.
fn vector(what: &str, value: &Dynamic) -> Result<Vec<f64>> {
    if let Some(tensor) = value.read_lock::<Tensor>() {
        let shape = tensor.shape();
        return match shape.len() {
            1 => numbers(tensor.tch()),
            _ => Err(Error::new(format!("{what} must have one dimension, not shape {shape:?}"))),
        };
    }
    let array = value.as_array_ref().map_err(|_| expected(what, "a tensor or an array of numbers", value))?;
    let entry = |item: &Dynamic| if item.is_unit() { Some(f64::NAN) } else { number(item) };
    let entry = |item| entry(item).ok_or_else(|| expected(&format!("each item of {what}"), "a number", item));
    array.iter().map(entry).collect()
}

/// The rows of a two-dimensional tensor or of an array of rows.
fn matrix(value: &Dynamic) -> Result<Vec<Vec<f64>>> {
    if let Some(tensor) = value.read_lock::<Tensor>() {
        let shape = tensor.shape();
        let &[_, columns] = shape.as_slice() else {
            return Err(Error::new(format!("a heatmap needs a tensor of two dimensions, not of shape {shape:?}"))
                .hint("select or average over the other dimensions first"));
        };
        let width = usize::try_from(columns).unwrap_or(0).max(1);
        return Ok(numbers(tensor.tch())?.chunks(width).map(<[f64]>::to_vec).collect());
    }
    let rows =
        value.as_array_ref().map_err(|_| expected("`values` of `heatmap`", "a tensor or an array of rows", value))?;
    let row = |(index, row): (usize, &Dynamic)| match type_name(row) {
        "array" | "tensor" => vector(&format!("row {index} of the heatmap"), row),
        _ => Err(expected(&format!("row {index} of the heatmap"), "an array of numbers", row)),
    };
    rows.iter().enumerate().map(row).collect()
}
