//! One block of each quantised format of GGUF, expanded to 32-bit floats by the same float32 operations in the same order
//! as gguf-py's `gguf.quants.dequantize`, so that the values agree to the bit.

use half::f16;

/// Values of a super-block of the K types.
pub(super) const SUPER_BLOCK: usize = 256;

fn half(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

/// Low halves of the bytes first, then the high halves.
fn nibbles(packed: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|i| if i < 16 { packed[i] & 0x0F } else { packed[i - 16] >> 4 })
}

/// 0 or 16: the fifth bit of each of 32 values.
fn fifth_bits(packed: [u8; 4]) -> [u8; 32] {
    let bits = u32::from_le_bytes(packed);
    std::array::from_fn(|i| (((bits >> i) & 1) << 4) as u8)
}

pub(super) fn q4_0(block: &[u8; 18], values: &mut [f32; 32]) {
    let [low, high, packed @ ..] = block;
    let scale = half(*low, *high);
    for (value, quantum) in values.iter_mut().zip(nibbles(packed)) {
        *value = scale * (i16::from(quantum) - 8) as f32;
    }
}

pub(super) fn q4_1(block: &[u8; 20], values: &mut [f32; 32]) {
    let [low, high, minimum_low, minimum_high, packed @ ..] = block;
    let (scale, minimum) = (half(*low, *high), half(*minimum_low, *minimum_high));
    for (value, quantum) in values.iter_mut().zip(nibbles(packed)) {
        *value = scale * f32::from(quantum) + minimum;
    }
}

pub(super) fn q5_0(block: &[u8; 22], values: &mut [f32; 32]) {
    let [low, high, b0, b1, b2, b3, packed @ ..] = block;
    let scale = half(*low, *high);
    for ((value, quantum), fifth) in values.iter_mut().zip(nibbles(packed)).zip(fifth_bits([*b0, *b1, *b2, *b3])) {
        *value = scale * (i16::from(quantum | fifth) - 16) as f32;
    }
}

pub(super) fn q5_1(block: &[u8; 24], values: &mut [f32; 32]) {
    let [low, high, minimum_low, minimum_high, b0, b1, b2, b3, packed @ ..] = block;
    let (scale, minimum) = (half(*low, *high), half(*minimum_low, *minimum_high));
    for ((value, quantum), fifth) in values.iter_mut().zip(nibbles(packed)).zip(fifth_bits([*b0, *b1, *b2, *b3])) {
        *value = scale * f32::from(quantum | fifth) + minimum;
    }
}

pub(super) fn q8_0(block: &[u8; 34], values: &mut [f32; 32]) {
    let [low, high, quanta @ ..] = block;
    let scale = half(*low, *high);
    for (value, quantum) in values.iter_mut().zip(quanta) {
        *value = f32::from(*quantum as i8) * scale;
    }
}

/// The eight 6-bit scales and eight 6-bit minima that Q4_K and Q5_K pack into twelve bytes.
fn scales_and_minima(packed: &[u8]) -> [(f32, f32); 8] {
    std::array::from_fn(|i| {
        let (scale, minimum) = if i < 4 {
            (packed[i] & 0x3F, packed[i + 4] & 0x3F)
        } else {
            let (both, scale_top, minimum_top) = (packed[i + 4], packed[i - 4], packed[i]);
            ((both & 0x0F) | ((scale_top >> 2) & 0x30), (both >> 4) | ((minimum_top >> 2) & 0x30))
        };
        (f32::from(scale), f32::from(minimum))
    })
}

pub(super) fn q2_k(block: &[u8; 84], values: &mut [f32; SUPER_BLOCK]) {
    let (scales, packed) = (&block[..16], &block[16..80]);
    let (scale, minimum) = (half(block[80], block[81]), half(block[82], block[83]));
    for (i, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (scale, minimum) = (scale * f32::from(scales[i] & 0x0F), minimum * f32::from(scales[i] >> 4));
        for (value, byte) in values.iter_mut().zip(two_bits(packed, i)) {
            *value = scale * f32::from(byte) - minimum;
        }
    }
}

pub(super) fn q3_k(block: &[u8; 110], values: &mut [f32; SUPER_BLOCK]) {
    let (top_bits, packed, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let scale = half(block[108], block[109]);
    for (i, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = scales[i % 8] >> (i / 8 * 4) & 0x0F;
        let high = (scales[8 + i % 4] >> (i / 4 * 2)) & 3;
        let scale = scale * f32::from((low | (high << 4)) as i8 - 32);
        let top_bits = top_bits[i % 2 * 16..].iter().map(|byte| byte >> (i / 2) & 1);
        for ((value, low), top) in values.iter_mut().zip(two_bits(packed, i)).zip(top_bits) {
            // The offset is there where the bit is not.
            *value = scale * f32::from(low as i8 - ((top ^ 1) << 2) as i8);
        }
    }
}

/// The `part`-th 16 of 256 two-bit numbers: within each half of 128, 32 bytes hold four numbers each, 32 apart.
fn two_bits(packed: &[u8], part: usize) -> impl Iterator<Item = u8> {
    let shift = part % 8 / 2 * 2;
    packed[part / 8 * 32 + part % 2 * 16..].iter().map(move |byte| (byte >> shift) & 3)
}

pub(super) fn q4_k(block: &[u8; 144], values: &mut [f32; SUPER_BLOCK]) {
    let [low, high, minimum_low, minimum_high, rest @ ..] = block;
    let (scale, minimum) = (half(*low, *high), half(*minimum_low, *minimum_high));
    let (scales, packed) = (&rest[..12], &rest[12..]);
    let parts = scales_and_minima(scales);
    for (i, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, minimum) = (scale * parts[i].0, minimum * parts[i].1);
        for (value, byte) in values.iter_mut().zip(&packed[i / 2 * 32..]) {
            *value = scale * f32::from((byte >> (i % 2 * 4)) & 0x0F) - minimum;
        }
    }
}

pub(super) fn q5_k(block: &[u8; 176], values: &mut [f32; SUPER_BLOCK]) {
    let [low, high, minimum_low, minimum_high, rest @ ..] = block;
    let (scale, minimum) = (half(*low, *high), half(*minimum_low, *minimum_high));
    let (scales, fifth_bits, packed) = (&rest[..12], &rest[12..44], &rest[44..]);
    let parts = scales_and_minima(scales);
    for (i, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, minimum) = (scale * parts[i].0, minimum * parts[i].1);
        for ((value, byte), fifth) in values.iter_mut().zip(&packed[i / 2 * 32..]).zip(fifth_bits) {
            let quantum = ((byte >> (i % 2 * 4)) & 0x0F) | (((fifth >> i) & 1) << 4);
            *value = scale * f32::from(quantum) - minimum;
        }
    }
}

pub(super) fn q6_k(block: &[u8; 210], values: &mut [f32; SUPER_BLOCK]) {
    let (low_bits, high_bits, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half(block[208], block[209]);
    for (i, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        // Within each half of 128 values: 64 bytes of low bits, read as low then high nibbles, and 32 bytes of top
        // bits.
        let (part, quarter) = (i / 4, i % 4);
        let low_bits = &low_bits[part * 64 + quarter % 2 * 32..];
        let high_bits = &high_bits[part * 32..];
        for (j, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = scale * f32::from(scales[i * 2 + j] as i8);
            for ((value, low), high) in values.iter_mut().zip(&low_bits[j * 16..]).zip(&high_bits[j * 16..]) {
                let quantum = ((low >> (quarter / 2 * 4)) & 0x0F) | (((high >> (quarter * 2)) & 3) << 4);
                *value = scale * (i16::from(quantum) - 32) as f32;
            }
        }
    }
}

/// The sixteen levels of the IQ4 types.
const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn level(quantum: u8) -> f32 {
    f32::from(LEVELS[usize::from(quantum)])
}

pub(super) fn iq4_nl(block: &[u8; 18], values: &mut [f32; 32]) {
    let [low, high, packed @ ..] = block;
    let scale = half(*low, *high);
    for (value, quantum) in values.iter_mut().zip(nibbles(packed)) {
        *value = scale * level(quantum);
    }
}

pub(super) fn iq4_xs(block: &[u8; 136], values: &mut [f32; SUPER_BLOCK]) {
    let scale = half(block[0], block[1]);
    let high_bits = u16::from_le_bytes([block[2], block[3]]);
    let (low_bits, packed) = (&block[4..8], block[8..].as_chunks::<16>().0);
    for (i, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let low = (low_bits[i / 2] >> (i % 2 * 4)) & 0x0F;
        let high = (high_bits >> (2 * i) & 3) as u8;
        let scale = scale * f32::from((low | (high << 4)) as i8 - 32);
        for (value, quantum) in values.iter_mut().zip(nibbles(&packed[i])) {
            *value = scale * level(quantum);
        }
    }
}
