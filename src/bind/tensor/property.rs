//! What a tensor tells about itself, and its conversions.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, Map};

use super::convert::{dtype_or_device, from_number, only_place};
use super::to_nested;
use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::catalog::topic::Topic;
use crate::device::device_name;
use crate::tensor::{Tensor, kind_name};

/// Registers properties and conversions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Tensors, exported_manifest!(property_functions));
}

#[export_module(manifest)]
mod property_functions {
    /// The lengths of the dimensions, as an array.
    #[rhai_fn(get = "shape", pure)]
    pub fn shape(t: &mut Tensor) -> Array {
        t.shape().into_iter().map(Dynamic::from).collect()
    }

    /// The element type: f32, f64, f16, bf16, i64, i32, i16, i8, u8 or bool.
    #[rhai_fn(get = "dtype", pure)]
    pub fn dtype(t: &mut Tensor) -> String {
        kind_name(t.kind()).to_owned()
    }

    /// The device of the elements: cpu or cuda:0.
    #[rhai_fn(get = "device", pure)]
    pub fn device(t: &mut Tensor) -> String {
        device_name(t.device())
    }

    /// The number of dimensions.
    #[rhai_fn(get = "ndim", pure)]
    pub fn ndim(t: &mut Tensor) -> i64 {
        t.ndim() as i64
    }

    /// The matrix with rows and columns swapped; needs two dimensions.
    #[rhai_fn(get = "T", pure, return_raw)]
    pub fn transposed(t: &mut Tensor) -> ScriptResult<Tensor> {
        Ok(t.transposed()?)
    }

    /// The number of elements.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(zeros([2, 3]).numel(), 6);
    /// ```
    pub fn numel(t: Tensor) -> i64 {
        t.numel() as i64
    }

    /// The size of the elements in bytes.
    pub fn nbytes(t: Tensor) -> i64 {
        t.nbytes() as i64
    }

    /// The length of the first dimension.
    #[rhai_fn(return_raw)]
    pub fn len(t: Tensor) -> ScriptResult<i64> {
        Ok(t.size_of(0)?)
    }

    /// The tensor with another dtype or on another device, named by a string.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([1, 2]).to("f64").dtype, "f64");
    /// ```
    #[rhai_fn(name = "to", return_raw)]
    pub fn to_named(t: Tensor, name: &str) -> ScriptResult<Tensor> {
        Ok(dtype_or_device(name).and_then(|place| t.to(place.kind, place.device))?)
    }

    /// The tensor with another dtype or on another device, with the options `dtype` and `device`.
    #[rhai_fn(name = "to", return_raw)]
    pub fn to_with(t: Tensor, place: Map) -> ScriptResult<Tensor> {
        Ok(only_place("to", place).and_then(|place| t.to(place.kind, place.device))?)
    }

    /// The only element of a tensor, as an integer, float or bool by its dtype.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([1.5, 2.5]).sum().item(), 4.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn item(t: Tensor) -> ScriptResult<Dynamic> {
        Ok(t.item().map(from_number)?)
    }

    /// The elements as nested arrays.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(eye(2).to_array(), [[1.0, 0.0], [0.0, 1.0]]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn to_array(t: Tensor) -> ScriptResult<Dynamic> {
        Ok(to_nested(&t)?)
    }

    /// The tensor itself: a tensor never changes, so a copy is not needed (`t[0] = 1.0` makes a new one for `t`).
    #[rhai_fn(name = "clone")]
    pub fn same(t: Tensor) -> Tensor {
        t
    }
}
