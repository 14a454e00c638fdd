//! From script values to what tensor operations take.

use rhai::{Array, Dynamic, Map};
use tch::{Device, Kind};

use crate::bind::convert::{expected, integers};
use crate::bind::option::Options;
use crate::device::parse_device;
use crate::error::{Error, Result};
use crate::tensor::arithmetic::Operand;
use crate::tensor::element::{Elements, Number};
use crate::tensor::{Tensor, parse_kind};

/// An integer, float or bool.
pub fn number(value: &Dynamic) -> Option<Number> {
    None.or_else(|| value.as_int().ok().map(Number::Integer))
        .or_else(|| value.as_float().ok().map(Number::Float))
        .or_else(|| value.as_bool().ok().map(Number::Bool))
}

/// The script value of a number.
pub fn from_number(number: Number) -> Dynamic {
    match number {
        Number::Bool(value) => value.into(),
        Number::Integer(value) => value.into(),
        Number::Float(value) => value.into(),
    }
}

/// A tensor.
pub fn tensor(what: &str, value: &Dynamic) -> Result<Tensor> {
    value.clone().try_cast::<Tensor>().ok_or_else(|| expected(what, "a tensor", value))
}

/// An array of tensors.
pub fn tensors(what: &str, array: &Array) -> Result<Vec<Tensor>> {
    array.iter().map(|item| tensor(&format!("each item of {what}"), item)).collect()
}

/// A tensor or a number.
pub fn operand(what: &str, value: &Dynamic) -> Result<Operand> {
    number(value)
        .map(Operand::Number)
        .or_else(|| value.clone().try_cast::<Tensor>().map(Operand::Tensor))
        .ok_or_else(|| expected(what, "a tensor or a number", value))
}

/// A number as the bound of something; `()` stands for no bound.
pub fn bound(what: &str, value: &Dynamic) -> Result<Option<Number>> {
    match number(value) {
        None if value.is_unit() => Ok(None),
        Some(number) => Ok(Some(number)),
        None => Err(expected(what, "a number or ()", value)),
    }
}

/// A list of lengths or dimensions: an array of integers, or one integer.
pub fn lengths(what: &str, value: &Dynamic) -> Result<Vec<i64>> {
    match value.as_int() {
        Ok(length) => Ok(vec![length]),
        Err(_) => match value.read_lock::<Array>() {
            Some(array) => integers(what, &array),
            None => Err(expected(what, "an integer or an array of integers", value)),
        },
    }
}

/// Positions: an integer tensor, or an array of integers.
pub fn positions(what: &str, value: &Dynamic) -> Result<Tensor> {
    if let Some(tensor) = value.clone().try_cast::<Tensor>() {
        return Ok(tensor);
    }
    let list = match value.read_lock::<Array>() {
        Some(array) => integers(what, &array)?,
        None => return Err(expected(what, "an integer tensor or an array of integers", value)),
    };
    let shape = [list.len() as i64];
    Tensor::from_elements(&Elements::Integers(list), &shape, None, Device::Cpu)
}

/// The options `dtype` and `device`.
#[derive(Debug, Default, Clone, Copy)]
pub struct Place {
    /// The element type asked for.
    pub kind: Option<Kind>,
    /// The device asked for.
    pub device: Option<Device>,
}

/// Takes the options `dtype` and `device`.
pub fn place(options: &mut Options) -> Result<Place> {
    Ok(Place {
        kind: options.string("dtype")?.map(|name| parse_kind(&name)).transpose()?,
        device: options.string("device")?.map(|name| parse_device(&name)).transpose()?,
    })
}

/// The options of a function that takes only `dtype` and `device`.
pub fn only_place(function: &'static str, options: Map) -> Result<Place> {
    Options::read(function, options, place)
}

/// The dtype or the device that `name` names.
pub fn dtype_or_device(name: &str) -> Result<Place> {
    if let Ok(kind) = parse_kind(name) {
        return Ok(Place { kind: Some(kind), device: None });
    }
    match parse_device(name) {
        Ok(device) => Ok(Place { kind: None, device: Some(device) }),
        Err(error) if name.starts_with("cuda") => Err(error),
        Err(_) => Err(Error::new(format!("`{name}` is neither a dtype nor a device")).hint(
            "a dtype is one of f32, f64, f16, bf16, i64, i32, i16, i8, u8, bool; a device is cpu, cuda or cuda:0",
        )),
    }
}
