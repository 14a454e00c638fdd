//! The tensor that scripts see: shared, never changed in place. Only fallible libtorch calls are used, so a wrong shape
//! is an error and not an abort. Operations live in this folder, one file per kind; the script's names are bound in
//! `bind::tensor`.

pub mod arithmetic;
pub mod autograd;
pub mod create;
pub mod display;
pub mod element;
pub mod elementwise;
pub mod generator;
pub mod index;
pub mod linalg;
pub mod order;
pub mod pattern;
pub mod place;
pub mod probability;
pub mod raw;
pub mod reduce;
pub mod shape;

use std::rc::Rc;

use tch::{Device, Kind, TchError};

use crate::device::device_name;
use crate::error::{Error, Result};

/// A tensor with value semantics: cloning shares the storage, and every operation returns a new tensor.
#[derive(Debug, Clone)]
pub struct Tensor(Rc<tch::Tensor>);

impl Tensor {
    /// Wraps a libtorch tensor.
    pub fn new(tensor: tch::Tensor) -> Self {
        Self(Rc::new(tensor))
    }

    /// Whether both are the same value, not only equal ones.
    pub fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Whether both hold the same elements in the same shape and type; NaN counts as equal to NaN.
    pub fn holds_same_elements(&self, other: &Self) -> bool {
        let (a, b) = (&*self.0, &*other.0);
        let alike = a.size() == b.size() && a.kind() == b.kind() && a.device() == b.device();
        alike && ((a.data_ptr() == b.data_ptr() && a.stride() == b.stride()) || self.equals_elementwise(other))
    }

    fn equals_elementwise(&self, other: &Self) -> bool {
        let equal = || -> std::result::Result<bool, tch::TchError> {
            let both_nan = self.0.f_isnan()?.f_logical_and(&other.0.f_isnan()?)?;
            Ok(self.0.f_eq_tensor(&other.0)?.f_logical_or(&both_nan)?.f_all()?.f_int64_value(&[])? != 0)
        };
        matches!(equal(), Ok(true))
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

    /// Where the data is.
    pub fn device(&self) -> Device {
        self.0.device()
    }

    /// A libtorch tensor that shares the storage.
    pub fn share(&self) -> tch::Tensor {
        self.0.shallow_clone()
    }

    /// The number of dimensions.
    pub fn ndim(&self) -> usize {
        self.0.dim()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.0.numel()
    }

    /// The size of the elements in bytes.
    pub fn nbytes(&self) -> usize {
        self.numel() * self.kind().elt_size_in_bytes()
    }

    /// Whether the elements are floating-point numbers.
    pub fn is_float(&self) -> bool {
        is_float(self.kind())
    }

    /// Shape, element type and, off the CPU, device: `[2, 3] f32`.
    pub fn describe(&self) -> String {
        let place = match self.device() {
            Device::Cpu => String::new(),
            device => format!(" on {}", device_name(device)),
        };
        format!("{:?} {}{place}", self.shape(), kind_name(self.kind()))
    }

    /// The dimension `dim`, where -1 is the last, counted from the front.
    ///
    /// # Errors
    /// A dimension that the tensor doesn't have.
    pub fn resolve_dim(&self, dim: i64) -> Result<i64> {
        let count = self.ndim() as i64;
        let resolved = if dim < 0 { dim.saturating_add(count) } else { dim };
        if (0..count).contains(&resolved) {
            return Ok(resolved);
        }
        let error = Error::new(format!("a tensor of shape {:?} has no dimension {dim}", self.shape()));
        Err(match count {
            0 => error.hint("it holds a single number and has no dimensions"),
            1 => error.hint("the only dimension is 0"),
            _ => error.hint(format!("dimensions go from 0 to {}, or from -1 back to -{count}", count - 1)),
        })
    }

    /// The size of dimension `dim`, which may count from the end.
    ///
    /// # Errors
    /// A dimension that the tensor doesn't have.
    pub fn size_of(&self, dim: i64) -> Result<i64> {
        let dim = self.resolve_dim(dim)?;
        Ok(self.shape()[dim as usize])
    }
}

/// Wraps what a libtorch call returned; a refusal names the operation and its operands.
fn named(operation: &str, operands: &[&Tensor], result: std::result::Result<tch::Tensor, TchError>) -> Result<Tensor> {
    result.map(Tensor::new).map_err(|error| refusal(operation, operands, error))
}

/// libtorch's error with the operation and the shapes it concerns.
fn refusal(operation: &str, operands: &[&Tensor], error: TchError) -> Error {
    let operands: Vec<String> = operands.iter().map(|operand| operand.describe()).collect();
    Error::from(error).context(format!("`{operation}` of {}", operands.join(" and ")))
}

/// Whether elements of this type are floating-point numbers.
pub fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16)
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
            return Err(Error::new(format!("unknown dtype `{other}`"))
                .hint("one of f32, f64, f16, bf16, i64, i32, i16, i8, u8, bool"));
        }
    })
}
