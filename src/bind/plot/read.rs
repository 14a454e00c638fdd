//! Reads the arguments and options of the functions that make figures.

use rhai::{Array, Dynamic};

use crate::bind::convert::{expected, number, type_name};
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::format::{Item, format};
use crate::plot::{ColorMap, HeatmapOptions, Labels, LineStyle, Series, short};
use crate::tensor::Tensor;
use crate::tensor::raw::numbers;

pub fn labels(options: &mut Options) -> Result<Labels> {
    let mut text = |key| options.string(key).map(Option::unwrap_or_default);
    Ok(Labels { title: text("title")?, x: text("x_label")?, y: text("y_label")? })
}

pub fn line_style(options: &mut Options) -> Result<LineStyle> {
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

pub fn heatmap_options(options: &mut Options) -> Result<HeatmapOptions> {
    let labels = labels(options)?;
    let mut ticks =
        |key| options.array(key)?.map(|names| texts(&format!("option `{key}` of `heatmap`"), &names)).transpose();
    Ok(HeatmapOptions {
        labels,
        x_ticks: ticks("x_ticks")?,
        y_ticks: ticks("y_ticks")?,
        color_map: options.string("color_map")?.map(|name| ColorMap::parse(&name)).transpose()?,
        range: options.array("range")?.map(|ends| range("heatmap", &ends)).transpose()?,
        marks: options.array("mark")?.map(|mark| marks(&mark)).transpose()?.unwrap_or_default(),
        annotate: options.boolean("annotate")?.unwrap_or(false),
        cells: None,
        color_label: options.string("color_label")?.unwrap_or_default(),
    })
}

/// The rows of texts that `cells` gives, or `values` in the format that it is.
pub fn cell_texts(cells: &Dynamic, values: &[Vec<f64>]) -> Result<Vec<Vec<String>>> {
    if let Ok(specification) = cells.as_immutable_string_ref() {
        let text = |value: &f64| format(Item::Float(*value), &specification);
        return values.iter().map(|row| row.iter().map(text).collect()).collect();
    }
    let wanted = "an array of rows of texts, or a format such as `\".2\"`";
    let rows = cells.as_array_ref().map_err(|_| expected("option `cells` of `heatmap`", wanted, cells))?;
    let row = |(place, row): (usize, &Dynamic)| {
        let what = format!("row {place} of option `cells`");
        texts(&what, &*row.as_array_ref().map_err(|_| expected(&what, "an array of texts", row))?)
    };
    rows.iter().enumerate().map(row).collect()
}

pub fn range(function: &str, ends: &Array) -> Result<(f64, f64)> {
    match ends.iter().map(number).collect::<Option<Vec<f64>>>().as_deref() {
        Some(&[min, max]) => Ok((min, max)),
        _ => Err(Error::new(format!("option `range` of `{function}` must be two numbers"))
            .hint("such as `range: [-1.0, 1.0]`")),
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

pub fn index(what: &str, value: i64) -> Result<usize> {
    usize::try_from(value).map_err(|_| Error::new(format!("{what} must not be negative, but is {value}")))
}

pub fn texts(what: &str, items: &Array) -> Result<Vec<String>> {
    let text = |item: &Dynamic| {
        let text = item.as_immutable_string_ref().ok().map(|text| text.to_string());
        let text = text.or_else(|| item.as_int().ok().map(|number| number.to_string()));
        text.or_else(|| item.as_float().ok().map(short))
            .ok_or_else(|| expected(&format!("each item of {what}"), "a string or a number", item))
    };
    items.iter().map(text).collect()
}

/// Named rows of numbers from a map, or a single nameless one.
pub fn series(what: &str, value: &Dynamic) -> Result<Vec<Series>> {
    match value.as_map_ref() {
        Ok(map) => map
            .iter()
            .map(|(name, values)| Ok(Series { name: name.to_string(), values: vector(&format!("`{name}`"), values)? }))
            .collect(),
        Err(_) => Ok(vec![Series { name: String::new(), values: vector(what, value)? }]),
    }
}

/// A one-dimensional tensor or an array of numbers, where `()` is NaN.
pub fn vector(what: &str, value: &Dynamic) -> Result<Vec<f64>> {
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
pub fn matrix(value: &Dynamic) -> Result<Vec<Vec<f64>>> {
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
