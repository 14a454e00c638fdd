//! Elements as Rust values: makes tensors from them and reads them back.

use std::fmt::{self, Display, Formatter};

use tch::{Device, Kind};

use super::raw::constant;
use super::{Tensor, is_float, kind_name, named, refusal};
use crate::error::{Error, Result};
use crate::limits;

/// One number of a script.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// True or false.
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// A floating-point number.
    Float(f64),
}

impl Number {
    /// The element type that a tensor of such numbers has by default.
    pub fn default_kind(self) -> Kind {
        match self {
            Self::Bool(_) => Kind::Bool,
            Self::Integer(_) => Kind::Int64,
            Self::Float(_) => Kind::Float,
        }
    }

    /// Whether an element of `kind` can hold the number: whole and within its range unless it holds floats.
    pub fn fits(self, kind: Kind) -> bool {
        let (low, high) = match kind {
            Kind::Bool => (0.0, 1.0),
            Kind::Uint8 => (0.0, f64::from(u8::MAX)),
            Kind::Int8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
            Kind::Int16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
            Kind::Int => (f64::from(i32::MIN), f64::from(i32::MAX)),
            Kind::Int64 => (i64::MIN as f64, i64::MAX as f64),
            _ => return true,
        };
        let value = match self {
            Self::Bool(_) => return true,
            Self::Integer(value) => value as f64,
            Self::Float(value) => value,
        };
        value.fract() == 0.0 && (low..=high).contains(&value)
    }

    /// The number as a tensor without dimensions, on the CPU.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn to_tensor(self, kind: Kind) -> Result<Tensor> {
        let tensor = match self {
            Self::Bool(value) => constant(value),
            Self::Integer(value) => constant(value),
            Self::Float(value) => constant(value),
        }?;
        Ok(tensor.f_to_kind(kind)?.into())
    }

    /// The number as a tensor without dimensions to compute with beside `other`. `other` keeps its element type, except
    /// integers beside a float and bools beside a number.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn beside(self, other: &Tensor) -> Result<Tensor> {
        // Without dimensions of its own, the number does not widen a tensor that has some; otherwise it must be no
        // wider.
        let wide = other.ndim() > 0;
        self.to_tensor(match (self, other.kind()) {
            (Self::Bool(_), _) => Kind::Bool,
            (Self::Float(_), kind) if is_float(kind) => {
                if wide {
                    Kind::Double
                } else {
                    kind
                }
            }
            (Self::Float(_), _) => Kind::Float,
            (Self::Integer(_), kind) if wide || is_float(kind) || kind == Kind::Bool => Kind::Int64,
            (Self::Integer(_), kind) => kind,
        })
    }
}

impl Display for Number {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(formatter, "{value}"),
            Self::Integer(value) => write!(formatter, "{value}"),
            Self::Float(value) => write!(formatter, "{value:?}"),
        }
    }
}

/// The elements of a tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    /// Of a bool tensor.
    Bools(Vec<bool>),
    /// Of an integer tensor.
    Integers(Vec<i64>),
    /// Of a floating-point tensor.
    Floats(Vec<f64>),
}

impl Elements {
    /// Their number.
    pub fn len(&self) -> usize {
        match self {
            Self::Bools(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Floats(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at `position`, if there is one.
    pub fn get(&self, position: usize) -> Option<Number> {
        match self {
            Self::Bools(values) => values.get(position).copied().map(Number::Bool),
            Self::Integers(values) => values.get(position).copied().map(Number::Integer),
            Self::Floats(values) => values.get(position).copied().map(Number::Float),
        }
    }
}

impl Tensor {
    /// A tensor of `elements`. Without `kind`, bools stay bools, integers become i64 and floats f32.
    ///
    /// # Errors
    /// Elements that don't fill `shape`.
    pub fn from_elements(elements: &Elements, shape: &[i64], kind: Option<Kind>, device: Device) -> Result<Self> {
        let (flat, default) = match elements {
            Elements::Bools(values) => (tch::Tensor::f_from_slice(values), Kind::Bool),
            Elements::Integers(values) => (tch::Tensor::f_from_slice(values), Kind::Int64),
            Elements::Floats(values) => (tch::Tensor::f_from_slice(values), Kind::Float),
        };
        let tensor = Self::new(flat?);
        named("tensor", &[&tensor], tensor.tch().f_reshape(shape))?.to(Some(kind.unwrap_or(default)), Some(device))
    }

    /// The elements in row-major order, copied to main memory.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn elements(&self) -> Result<Elements> {
        fn copy<T: tch::kind::Element + Clone>(tensor: &Tensor, zero: T) -> Result<Vec<T>> {
            limits::reserve(tensor.numel().saturating_mul(size_of::<T>()))?;
            let converted = tensor.tch().f_to_kind(T::KIND)?;
            let mut values = vec![zero; tensor.numel()];
            converted.f_copy_data(&mut values, tensor.numel()).map_err(|error| refusal("copy", &[tensor], error))?;
            Ok(values)
        }
        Ok(match self.kind() {
            Kind::Bool => Elements::Bools(copy(self, false)?),
            kind if is_float(kind) => Elements::Floats(copy(self, 0.0)?),
            _ => Elements::Integers(copy(self, 0)?),
        })
    }

    /// The only element.
    ///
    /// # Errors
    /// A tensor with more or fewer than one.
    pub fn item(&self) -> Result<Number> {
        if self.numel() != 1 {
            return Err(Error::new(format!("`item` needs a tensor of one element, not {}", self.describe()))
                .hint("pick an element with `t[i]`, or take all with `to_array`"));
        }
        self.elements()?.get(0).ok_or_else(|| Error::new("the tensor has no elements"))
    }

    /// The tensor with another element type, on another device, or both; shares the storage where nothing changes.
    ///
    /// # Errors
    /// A device without the memory.
    pub fn to(&self, kind: Option<Kind>, device: Option<Device>) -> Result<Self> {
        let moved = match device {
            Some(device) if device != self.device() => named("to", &[self], self.tch().f_to_device(device))?,
            _ => self.clone(),
        };
        match kind {
            Some(kind) if kind != moved.kind() => named("to", &[self], moved.tch().f_to_kind(kind)),
            _ => Ok(moved),
        }
    }

    /// The tensor itself if it holds floats, otherwise its numbers as f32.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn as_float(&self) -> Result<Self> {
        if self.is_float() { Ok(self.clone()) } else { self.to(Some(Kind::Float), None) }
    }

    /// The bytes of the elements in row-major order, little-endian.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.nbytes()];
        self.tch().f_copy_data_u8(&mut bytes, self.numel()).map_err(|error| refusal("copy", &[self], error))?;
        Ok(bytes)
    }

    /// A tensor from the bytes of its elements in row-major order, little-endian.
    ///
    /// # Errors
    /// Too few or too many bytes for the shape.
    pub fn from_bytes(bytes: &[u8], shape: &[i64], kind: Kind) -> Result<Self> {
        let wanted = shape
            .iter()
            .try_fold(kind.elt_size_in_bytes(), |size, &length| size.checked_mul(usize::try_from(length).ok()?));
        if wanted != Some(bytes.len()) {
            return Err(Error::new(format!(
                "{} bytes do not make a tensor of shape {shape:?} and dtype {}",
                bytes.len(),
                kind_name(kind)
            )));
        }
        Ok(tch::Tensor::f_from_data_size(bytes, shape, kind)?.into())
    }
}
