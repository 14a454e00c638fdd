//! Notices when a hook's function writes into the activation it was given. Tensors are values, so that changes its own
//! copy: a function that then returns nothing has done nothing, and its author should hear of it.

use std::cell::RefCell;

use crate::tensor::Tensor;

thread_local! {
    /// The activations given to the functions that are running, and whether they were written into. Runs may be nested.
    static WATCHED: RefCell<Vec<(Tensor, bool)>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work`, which is given `tensor`. Says whether it wrote into it.
pub fn watch<T>(tensor: &Tensor, work: impl FnOnce() -> T) -> (T, bool) {
    WATCHED.with_borrow_mut(|watched| watched.push((tensor.clone(), false)));
    let outcome = work();
    let written = WATCHED.with_borrow_mut(Vec::pop).is_some_and(|(_, written)| written);
    (outcome, written)
}

/// To be called before an element of `tensor` is set.
pub fn note_change(tensor: &Tensor) {
    WATCHED.with_borrow_mut(|watched| {
        for (given, written) in watched.iter_mut() {
            *written |= given.is_same(tensor);
        }
    });
}
