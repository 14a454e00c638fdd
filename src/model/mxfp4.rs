//! Weights in MXFP4, as gpt-oss' checkpoints store those of experts: 32 numbers of 4 bits share a power of two. Format: OCP
//! Microscaling Formats 1.0; layout as in transformers' integrations/mxfp4.py.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::interrupt;
use crate::tensor::raw::{constant, wide};

/// The numbers of 4 bits: a sign, two bits of exponent, one of mantissa.
const NUMBERS: [f64; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Bytes that share a power of two.
const BLOCK: i64 = 16;

/// The endings of a weight's two stored tensors: its numbers, and their powers of two.
pub const PARTS: [&str; 2] = ["_blocks", "_scales"];

/// The weights [expert, in, out] of `blocks`, [expert, out, group, byte], and `scales`, [expert, out, group].
///
/// # Errors
/// Tensors of other types or shapes; Ctrl-C.
pub fn dequantise(blocks: &Tensor, scales: &Tensor, kind: Kind, device: Device) -> Result<Tensor> {
    let (shape, scale_shape) = (blocks.size(), scales.size());
    let &[experts, outputs, groups, BLOCK] = &shape[..] else {
        return Err(Error::new(format!(
            "numbers of MXFP4 have the shape {shape:?}, not [expert, out, group, {BLOCK}]"
        )));
    };
    if scale_shape != [experts, outputs, groups] || blocks.kind() != Kind::Uint8 || scales.kind() != Kind::Uint8 {
        return Err(Error::new(format!(
            "numbers of MXFP4 {shape:?} and their powers of two {scale_shape:?} do not fit"
        )));
    }
    let numbers = Tensor::f_from_slice(&NUMBERS)?.f_to_kind(wide(kind))?;
    let mut powers: Vec<f64> = (0..255).map(|power| 2.0_f64.powi(power - 127)).collect();
    powers.push(f64::NAN);
    let powers = Tensor::f_from_slice(&powers)?.f_to_kind(wide(kind))?;
    let look_up = |table: &Tensor, index: &Tensor| -> Result<Tensor> {
        let found = table.f_index_select(0, &index.f_flatten(0, -1)?.f_to_kind(Kind::Int64)?)?;
        Ok(found.f_view(index.size().as_slice())?)
    };
    let out = Tensor::f_empty([experts, 2 * BLOCK * groups, outputs], (kind, device))?;
    for expert in 0..experts {
        interrupt::check()?;
        let bytes = blocks.f_select(0, expert)?;
        let low = look_up(&numbers, &bytes.f_bitwise_and_tensor(&constant(15_u8)?)?)?;
        let high = look_up(&numbers, &bytes.f_bitwise_right_shift(&constant(4_u8)?)?)?;
        let powers = look_up(&powers, &scales.f_select(0, expert)?)?.f_view([outputs, groups, 1, 1])?;
        let weight = Tensor::f_stack(&[low, high], -1)?.f_mul(&powers)?.f_view([outputs, 2 * BLOCK * groups])?;
        out.f_select(0, expert)?.f_copy_(&weight.f_transpose(0, 1)?)?;
    }
    Ok(out)
}
