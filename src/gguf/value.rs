//! One metadata value of a GGUF file.

/// A metadata value; integers of every width are one case, and so are floats.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An integer of any width and sign.
    Integer(i64),
    /// A 32-bit or 64-bit float.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A text.
    String(String),
    /// An array of integers.
    Integers(Vec<i64>),
    /// An array of floats.
    Floats(Vec<f64>),
    /// An array of truth values.
    Booleans(Vec<bool>),
    /// An array of texts.
    Strings(Vec<String>),
    /// An array of arrays.
    Arrays(Vec<Value>),
}

impl Value {
    /// The name of the value's type, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "true or false",
            Self::String(_) => "a string",
            Self::Integers(_) => "an array of integers",
            Self::Floats(_) => "an array of floats",
            Self::Booleans(_) => "an array of truth values",
            Self::Strings(_) => "an array of strings",
            Self::Arrays(_) => "an array of arrays",
        }
    }
}
