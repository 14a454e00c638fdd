//! Gradients of a script's own computations.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FnPtr, NativeCallContext};

use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::tensor::{Tensor, autograd};

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Tensors, exported_manifest!(autograd_functions));
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
        let tensor = |input: &Dynamic| -> Result<tch::Tensor> {
            let input = input.clone().try_cast::<Tensor>();
            let tensor = input.ok_or_else(|| Error::new("gradients are those with respect to tensors"))?;
            if !tensor.tch().requires_grad() {
                return Err(
                    Error::new("a tensor does not require gradients").hint("set `x.requires_grad = true` first")
                );
            }
            Ok(tensor.share())
        };
        let inputs = inputs.iter().map(tensor).collect::<Result<Vec<_>>>()?;
        let found = autograd::gradients(value.tch(), &inputs)?;
        let one = |(place, gradient): (usize, Option<tch::Tensor>)| match gradient {
            Some(gradient) => Ok(Dynamic::from(Tensor::new(gradient))),
            None => Err(Error::new(format!("the number does not depend on tensor {place} of the array")).into()),
        };
        found.into_iter().enumerate().map(one).collect()
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
