//! Patches of one cell in each row of a batch: many treatments of the same prompts side by side.

use tch::Tensor;

use crate::model::run::{Action, Callback};
use crate::tensor::raw::copy;

/// A cell that is replaced in one row.
#[derive(Debug)]
pub struct RowPatch {
    /// The row of the batch
    pub row: i64,
    /// The position
    pub position: i64,
    /// The head or neuron; None for all
    pub part: Option<i64>,
    /// Its new activation
    pub value: Tensor,
}

/// The action that makes the patches at a hook.
pub fn action(patches: Vec<RowPatch>) -> Action<'static> {
    let patch: Callback = Box::new(move |_, value| {
        let whole = copy(value)?;
        for RowPatch { row, position, part, value } in &patches {
            let mut cell = whole.f_select(0, *row)?.f_select(0, *position)?;
            if let Some(part) = part {
                cell = cell.f_select(0, *part)?;
            }
            cell.f_copy_(value)?;
        }
        Ok(Some(whole))
    });
    Action::Call(patch)
}
