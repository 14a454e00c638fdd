//! The script module `stats`, one file per kind of function, and what scripts pass to it.

mod association;
mod cluster;
mod correction;
mod distribution;
mod hypothesis;
mod interaction;
mod multivariate;
mod power;
mod resample;

use std::collections::BTreeSet;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, Map};

use super::convert::expected;
use super::map::map;
use super::tensor::convert::number;
use crate::error::{Error, Result};
use crate::stat::probability::Probability;
use crate::tensor::Tensor;
use crate::tensor::element::{Elements, Number};

/// Registers the module `stats`.
pub fn register(engine: &mut Engine) {
    let mut module = Module::new();
    for part in [
        association::module(),
        cluster::module(),
        correction::module(),
        distribution::module(),
        hypothesis::module(),
        interaction::module(),
        multivariate::module(),
        power::module(),
        resample::module(),
    ] {
        module.combine(part);
    }
    engine.register_static_module("stats", module.into());
}

/// The map with the fields `p` and `log10_p` besides.
fn with_p(mut map: Map, p: Probability) -> Map {
    map.extend(map! { "p" => p.value(), "log10_p" => p.log10() });
    map
}

fn float(number: Number) -> f64 {
    match number {
        Number::Bool(value) => f64::from(u8::from(value)),
        Number::Integer(value) => value as f64,
        Number::Float(value) => value,
    }
}

/// A sample: an array of numbers (true and false count as 1 and 0), or a tensor of one dimension.
fn sample(what: &str, value: &Dynamic) -> Result<Vec<f64>> {
    if let Some(tensor) = value.read_lock::<Tensor>() {
        return match tensor.ndim() {
            1 => elements(&tensor),
            _ => Err(Error::new(format!("{what} must have one dimension, not shape {:?}", tensor.shape()))
                .hint("`flatten()` makes one dimension of several")),
        };
    }
    let array =
        value.as_array_ref().map_err(|_| expected(what, "an array of numbers or a tensor of one dimension", value))?;
    array
        .iter()
        .map(|item| number(item).map(float).ok_or_else(|| expected(&format!("each item of {what}"), "a number", item)))
        .collect()
}

/// Rows of numbers: a tensor of two dimensions, or an array of samples.
fn rows(what: &str, value: &Dynamic) -> Result<Vec<Vec<f64>>> {
    if let Some(tensor) = value.read_lock::<Tensor>() {
        return match *tensor.shape().as_slice() {
            [_, columns] => Ok(elements(&tensor)?.chunks(columns.max(1) as usize).map(<[f64]>::to_vec).collect()),
            _ => Err(Error::new(format!("{what} must have two dimensions, not shape {:?}", tensor.shape()))),
        };
    }
    let array =
        value.as_array_ref().map_err(|_| expected(what, "a tensor of two dimensions or an array of rows", value))?;
    array.iter().map(|row| sample(&format!("each row of {what}"), row)).collect()
}

fn elements(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(match tensor.elements()? {
        Elements::Bools(values) => values.into_iter().map(|value| f64::from(u8::from(value))).collect(),
        Elements::Integers(values) => values.into_iter().map(|value| value as f64).collect(),
        Elements::Floats(values) => values,
    })
}

/// A matrix: a tensor of two dimensions, or an array of rows.
fn matrix(what: &str, value: &Dynamic) -> Result<Tensor> {
    if let Some(tensor) = value.clone().try_cast::<Tensor>() {
        return Ok(tensor);
    }
    let rows = rows(what, value)?;
    let shape = [rows.len() as i64, rows.first().map_or(0, Vec::len) as i64];
    if rows.iter().any(|row| row.len() as i64 != shape[1]) {
        return Err(Error::new(format!("the rows of {what} must have one length")));
    }
    Tensor::from_elements(&Elements::Floats(rows.concat()), &shape, Some(tch::Kind::Double), tch::Device::Cpu)
}

/// A label of a class or a cluster.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone)]
enum Label {
    Integer(i64),
    Text(String),
}

fn label(what: &str, value: &Dynamic) -> Result<Label> {
    None.or_else(|| value.as_int().ok().map(Label::Integer))
        .or_else(|| value.as_bool().ok().map(|value| Label::Integer(i64::from(value))))
        .or_else(|| value.as_immutable_string_ref().ok().map(|text| Label::Text(text.to_string())))
        .ok_or_else(|| expected(what, "an integer or a string", value))
}

/// The labels in an array or in an integer tensor.
fn label_list(what: &str, value: &Dynamic) -> Result<Vec<Label>> {
    if let Some(tensor) = value.read_lock::<Tensor>() {
        return match (tensor.ndim(), tensor.elements()?) {
            (1, Elements::Integers(values)) => Ok(values.into_iter().map(Label::Integer).collect()),
            (1, Elements::Bools(values)) => Ok(values.into_iter().map(|value| Label::Integer(value.into())).collect()),
            _ => Err(Error::new(format!("{what} must be integers, not {}", tensor.describe()))),
        };
    }
    let wanted = "an array of integers or strings, or an integer tensor";
    let array = value.as_array_ref().map_err(|_| expected(what, wanted, value))?;
    array.iter().map(|item| label(&format!("each item of {what}"), item)).collect()
}

/// An item of a set.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    One(Label),
    Several(Vec<Label>),
}

/// A set: an array of labels or of arrays of labels, or an integer tensor.
fn items(what: &str, value: &Dynamic) -> Result<BTreeSet<Item>> {
    match value.as_array_ref() {
        Ok(array) => {
            let each = format!("each item of {what}");
            let item = |item: &Dynamic| match item.is_array() {
                true => label_list(&each, item).map(Item::Several),
                false => label(&each, item).map(Item::One),
            };
            array.iter().map(item).collect()
        }
        Err(_) => Ok(label_list(what, value)?.into_iter().map(Item::One).collect()),
    }
}

/// Labels as numbers from 0 in ascending order of the labels, and the distinct labels in that order.
fn labels(what: &str, value: &Dynamic) -> Result<(Vec<usize>, Array)> {
    let list = label_list(what, value)?;
    let mut distinct = list.clone();
    distinct.sort();
    distinct.dedup();
    let places = list.iter().filter_map(|label| distinct.binary_search(label).ok()).collect();
    let classes = distinct.into_iter().map(|label| match label {
        Label::Integer(value) => value.into(),
        Label::Text(text) => text.into(),
    });
    Ok((places, classes.collect()))
}

/// A whole number that is not negative.
fn count(what: &str, value: i64) -> Result<usize> {
    usize::try_from(value).map_err(|_| Error::new(format!("{what} must not be negative, but is {value}")))
}
