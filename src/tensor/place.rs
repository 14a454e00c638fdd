//! Operands on one device: in an expression, a tensor on the CPU follows one on a GPU.

use tch::Device;

use super::Tensor;
use crate::device::device_name;
use crate::error::{Error, Result};

/// The operands, those on the CPU moved to the GPU that another one is on.
///
/// # Errors
/// Operands on different GPUs, since neither place is more right than the other; no memory.
pub fn together<const COUNT: usize>(operation: &str, operands: [&Tensor; COUNT]) -> Result<[Tensor; COUNT]> {
    let device = common_device(operation, &operands)?;
    let mut placed = operands.map(Tensor::clone);
    for operand in &mut placed {
        *operand = operand.to(None, Some(device))?;
    }
    Ok(placed)
}

/// As [`together`], for operands of any number.
///
/// # Errors
/// As for [`together`].
pub fn all_together(operation: &str, operands: &[Tensor]) -> Result<Vec<Tensor>> {
    let device = common_device(operation, &operands.iter().collect::<Vec<_>>())?;
    operands.iter().map(|operand| operand.to(None, Some(device))).collect()
}

fn common_device(operation: &str, operands: &[&Tensor]) -> Result<Device> {
    let mut found = Device::Cpu;
    for operand in operands {
        match (found, operand.device()) {
            (_, Device::Cpu) => {}
            (Device::Cpu, device) => found = device,
            (one, other) if one == other => {}
            (one, other) => {
                let (one, other) = (device_name(one), device_name(other));
                return Err(Error::new(format!("`{operation}`: one tensor is on {one} and another on {other}"))
                    .hint(format!("move one of them, as in `t.to(\"{one}\")`")));
            }
        }
    }
    Ok(found)
}
