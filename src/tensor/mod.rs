//! The tensor that scripts see: shared, never changed in place. Only fallible libtorch calls are used, so a wrong shape
//! is an error and not an abort. Operations live in this folder, one file per kind; the script's names are bound in
//! `bind::tensor`.

use std::rc::Rc;

use tch::{Device, Kind};

use crate::error::Result;

/// A tensor with value semantics: cloning shares the storage, and whatever would change it makes a new one.
#[derive(Debug, Clone)]
pub struct Tensor(Rc<tch::Tensor>);

impl Tensor {
    /// Wraps a libtorch tensor.
    pub fn new(tensor: tch::Tensor) -> Self {
        Self(Rc::new(tensor))
    }

    /// The libtorch tensor, to call fallible (`f_*`) operations on.
    pub fn tch(&self) -> &tch::Tensor {
        &self.0
    }

    /// The shape.
    pub fn shape(&self) -> Vec<i64> {
        self.0.size()
    }

    /// The element type.
    pub fn kind(&self) -> Kind {
        self.0.kind()
    }

    /// Where the data lies.
    pub fn device(&self) -> Device {
        self.0.device()
    }

    /// A libtorch tensor that shares the storage.
    pub fn share(&self) -> tch::Tensor {
        self.0.shallow_clone()
    }
}

impl From<tch::Tensor> for Tensor {
    fn from(tensor: tch::Tensor) -> Self {
        Self::new(tensor)
    }
}

/// The script's name of an element type (`f32`, `bf16`, `i64`, `bool`, ...).
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "f32",
        Kind::Double => "f64",
        Kind::Half => "f16",
        Kind::BFloat16 => "bf16",
        Kind::Int64 => "i64",
        Kind::Int => "i32",
        Kind::Int16 => "i16",
        Kind::Int8 => "i8",
        Kind::Uint8 => "u8",
        Kind::Bool => "bool",
        _ => "unsupported",
    }
}

/// The element type that a script names.
///
/// # Errors
/// An unknown name, with the known ones as a hint.
pub fn parse_kind(name: &str) -> Result<Kind> {
    Ok(match name {
        "f32" | "float32" | "float" => Kind::Float,
        "f64" | "float64" | "double" => Kind::Double,
        "f16" | "float16" | "half" => Kind::Half,
        "bf16" | "bfloat16" => Kind::BFloat16,
        "i64" | "int64" | "long" => Kind::Int64,
        "i32" | "int32" | "int" => Kind::Int,
        "i16" | "int16" => Kind::Int16,
        "i8" | "int8" => Kind::Int8,
        "u8" | "uint8" => Kind::Uint8,
        "bool" => Kind::Bool,
        other => {
            return Err(crate::error::Error::new(format!("unknown dtype `{other}`"))
                .hint("one of f32, f64, f16, bf16, i64, i32, i16, i8, u8, bool"));
        }
    })
}
