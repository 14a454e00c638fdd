//! The storage types of GGUF tensors and their expansion to 32-bit floats. Each block is computed with the same float32
//! operations in the same order as gguf-py's `gguf.quants.dequantize`, so the values agree to the bit.

use std::fmt;

use half::f16;
use tch::Kind;

/// Values of a super-block of the K types.
const SUPER_BLOCK: usize = 256;
/// Tensors with fewer values are expanded on the calling thread.
const WORTH_THREADS: usize = 1 << 20;
const MOST_THREADS: usize = 8;

/// A tensor's storage type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorType {
    /// An element type of PyTorch.
    Plain(Kind),
    /// Blocks of values with a common scale.
    Quantized(Quantization),
    /// A type of this number in ggml that cannot be read.
    Other(u32),
}

/// The block formats that can be expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "ggml's names")]
#[expect(missing_docs, reason = "ggml's names")]
pub enum Quantization {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// Number, name and type of everything that can be read.
const READABLE: [(u32, &str, TensorType); 16] = [
    (0, "F32", TensorType::Plain(Kind::Float)),
    (1, "F16", TensorType::Plain(Kind::Half)),
    (2, "Q4_0", TensorType::Quantized(Quantization::Q4_0)),
    (3, "Q4_1", TensorType::Quantized(Quantization::Q4_1)),
    (6, "Q5_0", TensorType::Quantized(Quantization::Q5_0)),
    (7, "Q5_1", TensorType::Quantized(Quantization::Q5_1)),
    (8, "Q8_0", TensorType::Quantized(Quantization::Q8_0)),
    (12, "Q4_K", TensorType::Quantized(Quantization::Q4_K)),
    (13, "Q5_K", TensorType::Quantized(Quantization::Q5_K)),
    (14, "Q6_K", TensorType::Quantized(Quantization::Q6_K)),
    (24, "I8", TensorType::Plain(Kind::Int8)),
    (25, "I16", TensorType::Plain(Kind::Int16)),
    (26, "I32", TensorType::Plain(Kind::Int)),
    (27, "I64", TensorType::Plain(Kind::Int64)),
    (28, "F64", TensorType::Plain(Kind::Double)),
    (30, "BF16", TensorType::Plain(Kind::BFloat16)),
];

/// Names of ggml's other types, for messages.
const UNREADABLE: [(u32, &str); 17] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

impl TensorType {
    /// The type of a number in a file.
    pub(super) fn from_code(code: u32) -> Self {
        let readable = READABLE.iter().find(|(number, ..)| *number == code);
        readable.map_or(Self::Other(code), |(_, _, kind)| *kind)
    }

    /// Values and bytes of one block; `None` for a type that cannot be read.
    pub(super) fn block(self) -> Option<(usize, usize)> {
        match self {
            Self::Plain(kind) => Some((1, kind.elt_size_in_bytes())),
            Self::Quantized(format) => Some(format.block()),
            Self::Other(_) => None,
        }
    }

    /// The names of the types that can be read, for messages.
    pub(super) fn readable() -> String {
        READABLE.map(|(_, name, _)| name).join(", ")
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let readable = READABLE.iter().find(|(.., kind)| kind == self).map(|(_, name, _)| *name);
        let other = |code| UNREADABLE.iter().find(|(number, _)| *number == code).map(|(_, name)| *name);
        match (self, readable) {
            (_, Some(name)) => formatter.write_str(name),
            (Self::Other(code), None) => match other(*code) {
                Some(name) => formatter.write_str(name),
                None => write!(formatter, "number {code}"),
            },
            (_, None) => write!(formatter, "{self:?}"),
        }
    }
}

impl Quantization {
    /// Values and bytes of one block.
    pub(super) fn block(self) -> (usize, usize) {
        match self {
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4_K => (SUPER_BLOCK, 144),
            Self::Q5_K => (SUPER_BLOCK, 176),
            Self::Q6_K => (SUPER_BLOCK, 210),
        }
    }

    /// Expands whole blocks into `values`; large tensors are shared out among threads.
    pub(super) fn expand(self, bytes: &[u8], values: &mut [f32]) {
        let (block_values, block_bytes) = self.block();
        assert_eq!(bytes.len() / block_bytes, values.len() / block_values, "as many blocks of bytes as of values");
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        if values.len() < WORTH_THREADS || threads == 1 {
            return self.expand_part(bytes, values);
        }
        let blocks = (values.len() / block_values).div_ceil(threads);
        std::thread::scope(|scope| {
            for (bytes, values) in bytes.chunks(blocks * block_bytes).zip(values.chunks_mut(blocks * block_values)) {
                scope.spawn(move || self.expand_part(bytes, values));
            }
        });
    }

    fn expand_part(self, bytes: &[u8], values: &mut [f32]) {
        match self {
            Self::Q4_0 => blocks(bytes, values, q4_0),
            Self::Q4_1 => blocks(bytes, values, q4_1),
            Self::Q5_0 => blocks(bytes, values, q5_0),
            Self::Q5_1 => blocks(bytes, values, q5_1),
            Self::Q8_0 => blocks(bytes, values, q8_0),
            Self::Q4_K => blocks(bytes, values, q4_k),
            Self::Q5_K => blocks(bytes, values, q5_k),
            Self::Q6_K => blocks(bytes, values, q6_k),
        }
    }
}

fn blocks<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    values: &mut [f32],
    expand: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    for (block, values) in bytes.as_chunks().0.iter().zip(values.as_chunks_mut().0) {
        expand(block, values);
    }
}

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

fn q4_0(block: &[u8; 18], values: &mut [f32; 32]) {
    let [low, high, packed @ ..] = block;
    let scale = half(*low, *high);
    for (value, quantum) in values.iter_mut().zip(nibbles(packed)) {
        *value = scale * (i16::from(quantum) - 8) as f32;
    }
}

fn q4_1(block: &[u8; 20], values: &mut [f32; 32]) {
    let [low, high, minimum_low, minimum_high, packed @ ..] = block;
    let (scale, minimum) = (half(*low, *high), half(*minimum_low, *minimum_high));
    for (value, quantum) in values.iter_mut().zip(nibbles(packed)) {
        *value = scale * f32::from(quantum) + minimum;
    }
}

fn q5_0(block: &[u8; 22], values: &mut [f32; 32]) {
    let [low, high, b0, b1, b2, b3, packed @ ..] = block;
    let scale = half(*low, *high);
    for ((value, quantum), fifth) in values.iter_mut().zip(nibbles(packed)).zip(fifth_bits([*b0, *b1, *b2, *b3])) {
        *value = scale * (i16::from(quantum | fifth) - 16) as f32;
    }
}

fn q5_1(block: &[u8; 24], values: &mut [f32; 32]) {
    let [low, high, minimum_low, minimum_high, b0, b1, b2, b3, packed @ ..] = block;
    let (scale, minimum) = (half(*low, *high), half(*minimum_low, *minimum_high));
    for ((value, quantum), fifth) in values.iter_mut().zip(nibbles(packed)).zip(fifth_bits([*b0, *b1, *b2, *b3])) {
        *value = scale * f32::from(quantum | fifth) + minimum;
    }
}

fn q8_0(block: &[u8; 34], values: &mut [f32; 32]) {
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

fn q4_k(block: &[u8; 144], values: &mut [f32; SUPER_BLOCK]) {
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

fn q5_k(block: &[u8; 176], values: &mut [f32; SUPER_BLOCK]) {
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

fn q6_k(block: &[u8; 210], values: &mut [f32; SUPER_BLOCK]) {
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
