//! Tensors that a fixture holds as checksums (`make_hook_name_fixtures.py`).

use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// The fixture's checksum, and the sum of the sizes, of a tensor.
fn checksum(value: &Tensor) -> (f64, f64) {
    let flat = value.to_device(Device::Cpu).to_kind(Kind::Double).reshape([-1]);
    let flat = flat.masked_fill(&flat.isinf(), 0.0);
    let weights = Tensor::arange_start(1, flat.size()[0] + 1, (Kind::Double, flat.device())).sin();
    let sum = |tensor: Tensor| tensor.sum(Kind::Double).double_value(&[]);
    (sum(&flat * weights), sum(flat.abs()))
}

/// How a tensor differs from a fixture's checksum and sum of sizes, if it does.
pub fn difference(value: &Tensor, expected: &[Value]) -> Option<String> {
    let (found, size) = checksum(value);
    let expected: Vec<f64> = expected.iter().map(|number| number.as_f64().unwrap()).collect();
    let allowed = 1e-6 * expected[1] + 1e-5;
    let is_near = (found - expected[0]).abs() <= allowed && (size - expected[1]).abs() <= allowed;
    (!is_near).then(|| format!("{found} of {size}, not {} of {}", expected[0], expected[1]))
}

/// Compares a tensor with a fixture's checksum and sum of sizes.
pub fn assert_checksum(what: &str, value: &Tensor, expected: &[Value]) {
    assert_eq!(difference(value, expected), None, "{what}");
}
