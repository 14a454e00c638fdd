//! The functions that make figures, and the figure's own.

mod read;
mod view;

use std::path::Path;

use rhai::plugin::*;
use rhai::{Array, Map};

use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::plot::{Chart, Figure, Heatmap, Screen};
use crate::tensor::Tensor;
use crate::tensor::raw::numbers;
use read::{cell_texts, heatmap_options, index, labels, line_style, matrix, series, texts, vector};

/// Makes the functions of this file known to `engine`.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Plots, exported_manifest!(functions));
    view::register(engine);
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
    /// - `color_map`: `"viridis"`, `"diverging"` (blue, white at zero, red) or `"reds"` (white to red). By default
    ///   diverging if there are values of both signs
    /// - `range`: `[min, max]`, the values at the ends of the colours. By default those of the values; with
    ///   `"diverging"`, symmetric around zero
    /// - `mark`: `[row, column]`, or an array of those: the cells to outline, such as the best one
    /// - `annotate`: `true` writes the number into each cell
    /// - `cells`: rows of texts, one for each cell, such as the tokens of a logit lens; or a format such as `".2"` for
    ///   the numbers. A text too long for its cell is cut; in SVG and HTML the mouse shows it whole
    ///
    /// # Example
    /// ```rhai
    /// heatmap([[1, 2], [3, 4]]).show();
    /// let blank = 0.0 / 0.0;
    /// let figure = heatmap([[0.1, -0.4, 0.3], [blank, 0.2, 0.9]], #{
    ///     title: "Effect by start and end", x_label: "end", y_label: "start", mark: [1, 2],
    /// });
    /// figure.show();
    /// heatmap([[0.2, 0.9], [0.4, 0.7]], #{ cells: [[" the", " Paris"], [" a", " France"]], color_label: "probability" }).show();
    /// heatmap([[0.25, -1.5]], #{ cells: "+.1" }).show();
    /// ```
    #[rhai_fn(return_raw)]
    pub fn heatmap(values: Dynamic, options: Map) -> ScriptResult<Figure> {
        let (mut options, cells) =
            Options::read("heatmap", options, |options| Ok((heatmap_options(options)?, options.any("cells"))))?;
        let values = matrix(&values)?;
        options.cells = cells.map(|cells| cell_texts(&cells, &values)).transpose()?;
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
    /// it its colour; `labels`: an array with a text for each point, drawn beside it. Those that would cover another or
    /// a point are left out, and a note counts them; in SVG and HTML the mouse shows them all.
    ///
    /// # Example
    /// ```rhai
    /// scatter_plot([0.1, 0.5, 0.9], [1, 3, 2]).show();
    /// scatter_plot([0.1, 0.5, 0.9], [1, 3, 2], #{groups: ["a", "b", "a"], title: "Components"}).show();
    /// scatter_plot([0.1, 0.5, 0.9], [1, 3, 2], #{labels: ["Monday", "Tuesday", "Wednesday"]}).show();
    /// ```
    #[rhai_fn(return_raw)]
    pub fn scatter_plot(xs: Dynamic, ys: Dynamic, options: Map) -> ScriptResult<Figure> {
        let make = || {
            let (labels, groups, names) = Options::read("scatter_plot", options, |options| {
                let groups = options.array("groups")?.map(|groups| texts("option `groups`", &groups)).transpose()?;
                let names = options.array("labels")?.map(|names| texts("option `labels`", &names)).transpose()?;
                Ok((labels(options)?, groups, names))
            })?;
            let (x, y) = (vector("`xs` of `scatter_plot`", &xs)?, vector("`ys` of `scatter_plot`", &ys)?);
            Chart::points(&x, &y, groups.as_deref(), names.as_deref(), &labels)
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

    /// Writes the figure to a file, whose name ends in `.svg`, `.pdf`, `.png` or `.html`. Folders are created, an
    /// existing file is replaced.
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

    /// The figure as HTML, for a part of a page: with what it shows under the mouse, and without anything to load.
    ///
    /// # Example
    /// ```rhai
    /// assert(heatmap([[0.5, -0.5]]).html().starts_with("<svg"));
    /// ```
    #[rhai_fn(name = "html", return_raw)]
    pub fn html(figure: &mut Figure) -> ScriptResult<String> {
        Ok(figure.html()?)
    }
}
