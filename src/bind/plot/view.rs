//! The functions that make views of tokens, and panels of figures.

use rhai::plugin::*;
use rhai::{Array, Map};

use super::read::{index, range, texts, vector};
use crate::bind::convert::{expected, type_name};
use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::plot::{AttentionOptions, AttentionView, FacetOptions, Figure, Head, TokenOptions, TokenView};
use crate::tensor::Tensor;
use crate::tensor::raw::numbers;

/// Makes the functions of this file known to `engine`.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Plots, exported_manifest!(functions));
}

#[export_module(manifest)]
mod functions {
    /// Attention patterns of all heads: saved as `.html`, a page with every head small and one enlarged, where the mouse
    /// (or the arrow keys) on a token shows what it attends to and what attends to it. `show` draws one head, the other
    /// files all heads side by side. On one scale of colours; only what is on and below the diagonal is read.
    ///
    /// - `tokens`: an array of strings, such as `model.to_str_tokens(text)`
    /// - `patterns`: a tensor [head, query, key], [layer, head, query, key] or [query, key]. A first dimension of 1, as
    ///   the batch of a cache, is no layer
    ///
    /// Options:
    /// - `title`: a text
    /// - `labels`: one name for each pattern; by default such as `H3` or, with layers, `L0H3`
    /// - `head`: the place of the pattern that is enlarged first, 0 by default
    ///
    /// # Example
    /// ```rhai
    /// let figure = attention_view(["The", " cat", " sat"], softmax(randn([2, 3, 3]), -1), #{ title: "Layer 0" });
    /// figure.show();
    /// figure.save("attention.html");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn attention_view(tokens: Array, patterns: Dynamic, options: Map) -> ScriptResult<Figure> {
        let make = || {
            let (options, names) = Options::read("attention_view", options, |options| {
                let head = options.integer("head")?.map(|head| index("option `head`", head)).transpose()?;
                let title = options.string("title")?.unwrap_or_default();
                Ok((AttentionOptions { title, head: head.unwrap_or(0) }, names(options)?))
            })?;
            let tokens = texts("`tokens` of `attention_view`", &tokens)?;
            AttentionView::new(&tokens, heads(&patterns, names)?, &options)
        };
        Ok(make().map(Figure::from)?)
    }

    /// Tokens coloured by a value each, such as the loss of each token or the activations of a neuron or latent: saved
    /// as `.html`, a page where the mouse (or the arrow keys) on a token shows its value; in the terminal and in other
    /// files coloured text. White is zero; negative values are blue, positive ones red. NaN leaves a token uncoloured.
    ///
    /// - `tokens`: an array of strings, such as `model.to_str_tokens(text)`; or one array for each row of values
    /// - `values`: a tensor [position] or [row, position], or an array of numbers or of such rows. Each row is a feature
    ///   or a prompt; the page has a choice of them
    ///
    /// Options:
    /// - `title`, `color_label`: texts
    /// - `labels`: one name for each row
    /// - `range`: `[min, max]`, the values at the ends of the colours
    /// - `format`: how the numbers are written, such as `".2"`
    ///
    /// # Example
    /// ```rhai
    /// token_view(["The", " cat", " sat"], [0.1, 2.5, 0.7], #{ color_label: "loss" }).show();
    /// let tokens = ["The", " cat", " sat"];
    /// let figure = token_view(tokens, randn([2, 3]), #{ labels: ["latent 12", "latent 40"], format: "+.2" });
    /// figure.save("latents.html");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn token_view(tokens: Array, values: Dynamic, options: Map) -> ScriptResult<Figure> {
        let make = || {
            let options = Options::read("token_view", options, |options| {
                Ok(TokenOptions {
                    title: options.string("title")?.unwrap_or_default(),
                    color_label: options.string("color_label")?.unwrap_or_default(),
                    names: names(options)?,
                    range: options.array("range")?.map(|ends| range("token_view", &ends)).transpose()?,
                    format: options.string("format")?,
                })
            })?;
            TokenView::new(paired(&tokens, rows(&values)?)?, &options)
        };
        Ok(make().map(Figure::from)?)
    }

    /// Figures of one kind as panels of one figure: heatmaps on one scale of colours, or charts whose axes have the same
    /// ends.
    ///
    /// Options: `columns`, the number of panels in a row (by default up to 4); `share`: `false` leaves each panel a scale
    /// of its own; `title`.
    ///
    /// # Example
    /// ```rhai
    /// let patterns = softmax(randn([4, 5, 5]), -1);
    /// let panels = (0..4).map(|head| heatmap(patterns[head], #{ title: `head ${head}` }));
    /// facets(panels, #{ columns: 2, title: "Layer 0" }).show();
    /// ```
    #[rhai_fn(return_raw)]
    pub fn facets(figures: Array, options: Map) -> ScriptResult<Figure> {
        let make = || {
            let options = Options::read("facets", options, |options| {
                Ok(FacetOptions {
                    title: options.string("title")?.unwrap_or_default(),
                    columns: options.integer("columns")?.map(|count| index("option `columns`", count)).transpose()?,
                    are_separate: !options.boolean("share")?.unwrap_or(true),
                })
            })?;
            let figure = |item: &Dynamic| {
                let figure = item.read_lock::<Figure>().map(|figure| figure.clone());
                figure.ok_or_else(|| expected("each item of `figures`", "a figure", item))
            };
            Figure::facets(&figures.iter().map(figure).collect::<Result<Vec<_>>>()?, &options)
        };
        Ok(make()?)
    }
}

fn names(options: &mut Options) -> Result<Option<Vec<String>>> {
    options.array("labels")?.map(|names| texts("option `labels`", &names)).transpose()
}

/// The pattern of each head, with its name.
fn heads(patterns: &Dynamic, names: Option<Vec<String>>) -> Result<Vec<Head>> {
    let tensor = patterns.read_lock::<Tensor>();
    let patterns = tensor.ok_or_else(|| expected("`patterns` of `attention_view`", "a tensor", patterns))?;
    let shape = patterns.shape();
    let size = |dimension: i64| usize::try_from(dimension).unwrap_or(0);
    let (layers, heads, queries, keys) = match *shape.as_slice() {
        [layers, heads, queries, keys] => (size(layers), size(heads), size(queries), size(keys)),
        [heads, queries, keys] => (1, size(heads), size(queries), size(keys)),
        [queries, keys] => (1, 1, size(queries), size(keys)),
        _ => {
            let wanted = "[head, query, key], [layer, head, query, key] or [query, key]";
            return Err(Error::new(format!("`patterns` must have the shape {wanted}, not {shape:?}")));
        }
    };
    let count = layers * heads;
    if let Some(names) = names.as_ref().filter(|names| names.len() != count) {
        return Err(Error::new(format!("labels has {} entries, there are {count} patterns", names.len())));
    }
    let name = |place: usize| match (&names, layers) {
        (Some(names), _) => names[place].clone(),
        (None, 1) => format!("H{place}"),
        (None, _) => format!("L{}H{}", place / heads, place % heads),
    };
    let weights = numbers(patterns.tch())?;
    let row = |row: &[f64]| row.to_vec();
    let rows: Vec<Vec<f64>> = weights.chunks(keys.max(1)).map(row).collect();
    Ok(rows
        .chunks(queries.max(1))
        .enumerate()
        .map(|(place, rows)| Head { name: name(place), rows: rows.to_vec() })
        .collect())
}

/// The rows of a tensor of one or two dimensions, of an array of numbers, or of an array of rows.
fn rows(values: &Dynamic) -> Result<Vec<Vec<f64>>> {
    let what = "`values` of `token_view`";
    if let Some(tensor) = values.read_lock::<Tensor>() {
        let shape = tensor.shape();
        return match shape.as_slice() {
            [_] => Ok(vec![numbers(tensor.tch())?]),
            &[count, width] => {
                let all = numbers(tensor.tch())?;
                let width = usize::try_from(width).unwrap_or(0);
                let row = |row: usize| all[row * width..(row + 1) * width].to_vec();
                Ok((0..usize::try_from(count).unwrap_or(0)).map(row).collect())
            }
            _ => Err(Error::new(format!("{what} must have the shape [position] or [row, position], not {shape:?}"))),
        };
    }
    let array = values.as_array_ref().map_err(|_| expected(what, "a tensor or an array of numbers", values))?;
    if array.first().is_some_and(|first| matches!(type_name(first), "array" | "tensor")) {
        array.iter().enumerate().map(|(place, row)| vector(&format!("row {place} of {what}"), row)).collect()
    } else {
        Ok(vec![vector(what, values)?])
    }
}

/// Each row of values with its tokens.
fn paired(tokens: &Array, values: Vec<Vec<f64>>) -> Result<Vec<(Vec<String>, Vec<f64>)>> {
    let what = "`tokens` of `token_view`";
    if !tokens.first().is_some_and(Dynamic::is_array) {
        let shared = texts(what, tokens)?;
        return Ok(values.into_iter().map(|row| (shared.clone(), row)).collect());
    }
    if tokens.len() != values.len() {
        return Err(Error::new(format!(
            "there are {} arrays of tokens and {} rows of values",
            tokens.len(),
            values.len()
        )));
    }
    let row = |(place, row): (usize, &Dynamic)| {
        let what = format!("row {place} of {what}");
        texts(&what, &*row.as_array_ref().map_err(|_| expected(&what, "an array of strings", row))?)
    };
    let tokens: Vec<Vec<String>> = tokens.iter().enumerate().map(row).collect::<Result<_>>()?;
    Ok(tokens.into_iter().zip(values).collect())
}
