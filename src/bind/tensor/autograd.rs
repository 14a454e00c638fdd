//! Gradients of a script's own computations.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FnPtr, Map, NativeCallContext};

use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::tensor::{Tensor, autograd};

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Tensors, exported_manifest!(autograd_functions));
}

/// The gradients of `value` with respect to tensors that go by these names.
fn gradients_of<'a>(
    value: &Tensor,
    inputs: impl Iterator<Item = (String, &'a Dynamic)>,
) -> Result<impl Iterator<Item = Tensor>> {
    let (mut names, mut tensors) = (Vec::new(), Vec::new());
    for (name, input) in inputs {
        let Some(tensor) = input.read_lock::<Tensor>() else {
            return Err(expected(&name, "a tensor", input));
        };
        if !tensor.tch().requires_grad() {
            return Err(
                Error::new(format!("{name} does not require gradients")).hint("set `x.requires_grad = true` first")
            );
        }
        tensors.push(tensor.share());
        names.push(name);
    }
    let found = autograd::gradients(value.tch(), &tensors)?;
    let one = |(name, gradient): (String, Option<tch::Tensor>)| match gradient {
        Some(gradient) => Ok(Tensor::new(gradient)),
        None => Err(Error::new(format!("the number does not depend on {name}"))),
    };
    Ok(names.into_iter().zip(found).map(one).collect::<Result<Vec<_>>>()?.into_iter())
}

#[export_module(manifest)]
mod autograd_functions {
    /// Whether gradients are recorded for a tensor: it was set to require them, or was computed from one that was.
    #[rhai_fn(get = "requires_grad", pure)]
    pub fn requires_grad(t: &mut Tensor) -> bool {
        t.tch().requires_grad()
    }

    /// Makes a tensor one that gradients are computed for (true), or not (false). From the first one on, operations on
    /// such tensors are recorded; runs of models too, where a hook brings one in.
    ///
    /// # Example
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// x.requires_grad = true;
    /// (x * x).sum().backward();
    /// assert_eq(x.grad, tensor([2.0, 4.0]));
    /// ```
    #[rhai_fn(set = "requires_grad", return_raw)]
    pub fn set_requires_grad(t: &mut Tensor, wanted: bool) -> ScriptResult<()> {
        *t = t.require_grad(wanted)?;
        Ok(())
    }

    /// The gradient that `backward` left in a tensor, or () where it left none.
    #[rhai_fn(get = "grad", return_raw, pure)]
    pub fn gradient(t: &mut Tensor) -> ScriptResult<Dynamic> {
        Ok(t.gradient()?.map_or(Dynamic::UNIT, Dynamic::from))
    }

    /// Computes the gradients of a tensor of one number with respect to every tensor that requires them and that it was
    /// computed from; adds them to their `grad`.
    #[rhai_fn(return_raw)]
    pub fn backward(t: Tensor) -> ScriptResult<()> {
        Ok(t.backward()?)
    }

    /// The gradients of a tensor of one number with respect to those of an array; `grad` is left alone.
    ///
    /// # Example
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// x.requires_grad = true;
    /// assert_eq(grad((x * x).sum(), [x]), [tensor([2.0, 4.0])]);
    /// ```
    #[rhai_fn(name = "grad", return_raw)]
    pub fn gradients(value: Tensor, inputs: Array) -> ScriptResult<Array> {
        let named = inputs.iter().enumerate().map(|(place, input)| (format!("tensor {place} of the array"), input));
        Ok(gradients_of(&value, named)?.map(Dynamic::from).collect())
    }

    /// The gradients of a tensor of one number with respect to those of a map, by their names.
    ///
    /// # Example
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// x.requires_grad = true;
    /// assert_eq(grad((x * x).sum(), #{ x: x }).x, tensor([2.0, 4.0]));
    /// ```
    #[rhai_fn(name = "grad", return_raw)]
    pub fn gradients_by_name(value: Tensor, inputs: Map) -> ScriptResult<Map> {
        let found = gradients_of(&value, inputs.iter().map(|(name, input)| (format!("`{name}`"), input)))?;
        Ok(inputs.keys().cloned().zip(found.map(Dynamic::from)).collect())
    }

    /// The same values without the record of how they were computed: a constant for gradients.
    #[rhai_fn(return_raw)]
    pub fn detach(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.detach()?)
    }

    /// Calls a function without recording what it computes, and returns its value.
    ///
    /// # Example
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// x.requires_grad = true;
    /// assert(!no_grad(|| x * 2.0).requires_grad);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn no_grad(context: NativeCallContext, function: FnPtr) -> ScriptResult<Dynamic> {
        autograd::unrecorded(|| function.call_within_context(&context, ()))
    }
}
