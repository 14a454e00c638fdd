//! The storage types of GGUF tensors and their expansion to 32-bit floats.

use std::fmt;

use tch::Kind;

use super::block::{SUPER_BLOCK, iq4_nl, iq4_xs, q2_k, q3_k, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0};

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
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
}

/// Number, name and type of everything that can be read.
const READABLE: [(u32, &str, TensorType); 20] = [
    (0, "F32", TensorType::Plain(Kind::Float)),
    (1, "F16", TensorType::Plain(Kind::Half)),
    (2, "Q4_0", TensorType::Quantized(Quantization::Q4_0)),
    (3, "Q4_1", TensorType::Quantized(Quantization::Q4_1)),
    (6, "Q5_0", TensorType::Quantized(Quantization::Q5_0)),
    (7, "Q5_1", TensorType::Quantized(Quantization::Q5_1)),
    (8, "Q8_0", TensorType::Quantized(Quantization::Q8_0)),
    (10, "Q2_K", TensorType::Quantized(Quantization::Q2_K)),
    (11, "Q3_K", TensorType::Quantized(Quantization::Q3_K)),
    (12, "Q4_K", TensorType::Quantized(Quantization::Q4_K)),
    (13, "Q5_K", TensorType::Quantized(Quantization::Q5_K)),
    (14, "Q6_K", TensorType::Quantized(Quantization::Q6_K)),
    (20, "IQ4_NL", TensorType::Quantized(Quantization::IQ4_NL)),
    (23, "IQ4_XS", TensorType::Quantized(Quantization::IQ4_XS)),
    (24, "I8", TensorType::Plain(Kind::Int8)),
    (25, "I16", TensorType::Plain(Kind::Int16)),
    (26, "I32", TensorType::Plain(Kind::Int)),
    (27, "I64", TensorType::Plain(Kind::Int64)),
    (28, "F64", TensorType::Plain(Kind::Double)),
    (30, "BF16", TensorType::Plain(Kind::BFloat16)),
];

/// Names of ggml's other types, for messages.
const UNREADABLE: [(u32, &str); 13] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
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
            Self::Q2_K => (SUPER_BLOCK, 84),
            Self::Q3_K => (SUPER_BLOCK, 110),
            Self::Q4_K => (SUPER_BLOCK, 144),
            Self::Q5_K => (SUPER_BLOCK, 176),
            Self::Q6_K => (SUPER_BLOCK, 210),
            Self::IQ4_NL => (32, 18),
            Self::IQ4_XS => (SUPER_BLOCK, 136),
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
            Self::Q2_K => blocks(bytes, values, q2_k),
            Self::Q3_K => blocks(bytes, values, q3_k),
            Self::Q4_K => blocks(bytes, values, q4_k),
            Self::Q5_K => blocks(bytes, values, q5_k),
            Self::Q6_K => blocks(bytes, values, q6_k),
            Self::IQ4_NL => blocks(bytes, values, iq4_nl),
            Self::IQ4_XS => blocks(bytes, values, iq4_xs),
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
