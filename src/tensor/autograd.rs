//! libtorch's automatic differentiation, which is off until something asks for gradients.

use std::borrow::Borrow;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tch::{TchError, Tensor};

use super::is_float;
use crate::error::{Error, Result};

thread_local! {
    /// Whether this thread records where no scope says otherwise: once a script asked for gradients of its own
    static RECORDS: Cell<bool> = const { Cell::new(false) };
    /// What the innermost open scope says
    static SCOPE: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Makes libtorch record operations in this thread, or not.
fn set(recording: bool) {
    if recording {
        // A guard restores the mode that it found.
        drop(tch::with_grad(tch::no_grad_guard));
    } else {
        std::mem::forget(tch::no_grad_guard());
    }
}

/// Records no operations in this thread from now on.
pub fn turn_off() {
    RECORDS.set(false);
    set(false);
}

/// Records operations in this thread from now on; in an open scope, from its end on.
pub fn turn_on() {
    RECORDS.set(true);
    if SCOPE.get().is_none() {
        set(true);
    }
}

/// Does `work` while operations on tensors that require gradients are recorded.
pub fn recorded<T>(work: impl FnOnce() -> T) -> T {
    scoped(true, work)
}

/// Does `work` while nothing is recorded.
pub fn unrecorded<T>(work: impl FnOnce() -> T) -> T {
    scoped(false, work)
}

fn scoped<T>(recording: bool, work: impl FnOnce() -> T) -> T {
    let outer = SCOPE.replace(Some(recording));
    set(recording);
    let result = catch_unwind(AssertUnwindSafe(work));
    SCOPE.set(outer);
    set(outer.unwrap_or_else(|| RECORDS.get()));
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// The same values as a tensor of their own that gradients can be computed for.
///
/// # Errors
/// Numbers that are not floats.
pub fn watched(value: &Tensor) -> Result<Tensor> {
    if !is_float(value.kind()) {
        return Err(Error::new("only floating-point numbers have gradients").hint("convert with `.to(\"f32\")`"));
    }
    match value.requires_grad() {
        true => Ok(value.f_alias()?),
        false => Ok(value.f_detach()?.f_set_requires_grad(true)?),
    }
}

/// The gradients of a number with respect to tensors that it was computed from; None for those that it does not depend
/// on.
///
/// # Errors
/// Several numbers; one that was not computed from tensors that require gradients; too little memory.
pub fn gradients(of: &Tensor, inputs: &[impl Borrow<Tensor>]) -> Result<Vec<Option<Tensor>>> {
    check(of)?;
    let found = Tensor::f_run_backward(&[of], inputs, false, false).map_err(used_up)?;
    Ok(found.into_iter().map(|gradient| gradient.defined().then_some(gradient)).collect())
}

/// What libtorch says of a record that another call went through, without an argument that only PyTorch has.
fn used_up(error: TchError) -> Error {
    match error {
        TchError::Torch(text) if text.contains("backward through the graph a second time") => {
            Error::new("gradients were already computed through some of these operations, and their record is gone")
                .hint("compute the number again from the tensors, or add the numbers up and go back once")
        }
        other => other.into(),
    }
}

/// Fails unless `of` is one number that gradients lead back from.
///
/// # Errors
/// Several numbers; one that was not computed from tensors that require gradients.
pub fn check(of: &Tensor) -> Result<()> {
    if of.numel() != 1 {
        return Err(Error::new(format!("gradients are those of one number, not of a tensor of shape {:?}", of.size()))
            .hint("add its elements up with `.sum()`"));
    }
    if !of.requires_grad() {
        return Err(Error::new("the number does not depend on any tensor that requires gradients"));
    }
    Ok(())
}

impl super::Tensor {
    /// Whether gradients of both, which hold the same elements, are those of the same tensors.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn has_record_of(&self, other: &Self) -> Result<bool> {
        let (a, b) = (self.tch(), other.tch());
        Ok(match (a.requires_grad(), b.requires_grad()) {
            (true, true) => a.data_ptr() == b.data_ptr() && a.f_is_leaf()? == b.f_is_leaf()?,
            (a, b) => a == b,
        })
    }

    /// The same values as a tensor that gradients are computed for, or as a constant. Turns recording on. A tensor that was
    /// computed from others keeps its record.
    ///
    /// # Errors
    /// Numbers that are not floats.
    pub fn require_grad(&self, wanted: bool) -> Result<Self> {
        if !wanted {
            return self.detach();
        }
        turn_on();
        if self.tch().requires_grad() {
            return Ok(self.clone());
        }
        watched(&self.tch().f_detach()?).map(Self::new)
    }

    /// The same values as a constant.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn detach(&self) -> Result<Self> {
        Ok(Self::new(self.tch().f_detach()?))
    }

    /// The gradient that [`Self::backward`] left.
    ///
    /// # Errors
    /// A tensor that was computed from others, which keeps none.
    pub fn gradient(&self) -> Result<Option<Self>> {
        if self.tch().requires_grad() && !self.tch().f_is_leaf()? {
            return Err(Error::new("this tensor was computed from others, so `backward` leaves no gradient in it")
                .hint(
                    "`grad(number, [tensor])` computes it; a tensor whose items were set is another one than before",
                ));
        }
        let gradient = self.tch().f_grad()?;
        Ok(gradient.defined().then(|| Self::new(gradient)))
    }

    /// Adds the gradients of the tensor's only number to those of the tensors that it was computed from.
    ///
    /// # Errors
    /// Several numbers; one that was not computed from tensors that require gradients.
    pub fn backward(&self) -> Result<()> {
        check(self.tch())?;
        self.tch().f_backward().map_err(used_up)
    }
}
