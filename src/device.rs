//! The devices that scripts can name.

use tch::Device;

use crate::error::{Error, Result};

/// The device that a script names: `cpu`, `cuda` or `cuda:1`.
///
/// # Errors
/// An unknown name, or a GPU that isn't there.
pub fn parse_device(name: &str) -> Result<Device> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => 0,
        _ => name
            .strip_prefix("cuda:")
            .and_then(|index| index.parse::<usize>().ok())
            .ok_or_else(|| Error::new(format!("unknown device `{name}`")).hint("one of cpu, cuda, cuda:0"))?,
    };
    let count = tch::Cuda::device_count();
    if (index as i64) < count {
        return Ok(Device::Cuda(index));
    }
    Err(Error::new(format!("there is no device `{name}`: {count} GPUs were found")).hint("use `cpu`"))
}
