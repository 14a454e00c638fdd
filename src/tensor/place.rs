//! Operands on one device: in an expression, a tensor on the CPU follows one on a GPU, and of several GPUs the last counts,
//! where a run of a model that is split over them ends.

use tch::Device;

use super::Tensor;
use crate::error::Result;

/// The operands on one device.
///
/// # Errors
/// Too little memory there.
pub fn together<const COUNT: usize>(operands: [&Tensor; COUNT]) -> Result<[Tensor; COUNT]> {
    let device = common_device(operands.iter().copied());
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
pub fn all_together(operands: &[Tensor]) -> Result<Vec<Tensor>> {
    let device = common_device(operands.iter());
    operands.iter().map(|operand| operand.to(None, Some(device))).collect()
}

fn common_device<'a>(operands: impl Iterator<Item = &'a Tensor>) -> Device {
    operands.map(Tensor::device).fold(Device::Cpu, |found, device| match (found, device) {
        (found, Device::Cpu) => found,
        (Device::Cuda(one), Device::Cuda(other)) => Device::Cuda(one.max(other)),
        (_, device) => device,
    })
}
