//! Builds GGUF files byte by byte.

use lancet::gguf::Gguf;

/// A GGUF file to build: metadata first, then tensor descriptions.
pub struct Writer {
    pub version: u32,
    pub metadata: Vec<Vec<u8>>,
    pub tensors: Vec<Vec<u8>>,
    pub data: Vec<u8>,
}

impl Writer {
    pub fn new(architecture: &str) -> Self {
        let writer = Self { version: 3, metadata: vec![], tensors: vec![], data: vec![] };
        writer.string("general.architecture", architecture)
    }

    pub fn entry(mut self, key: &str, code: u32, value: &[u8]) -> Self {
        self.metadata.push([&text(key)[..], &code.to_le_bytes(), value].concat());
        self
    }

    pub fn string(self, key: &str, value: &str) -> Self {
        self.entry(key, 8, &text(value))
    }

    pub fn integer(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    pub fn float(self, key: &str, value: f32) -> Self {
        self.entry(key, 6, &value.to_le_bytes())
    }

    /// A tensor whose dimensions are given as in the file: the contiguous one first.
    pub fn tensor(mut self, name: &str, dimensions: &[u64], code: u32, offset: u64) -> Self {
        let dimensions: Vec<u8> = dimensions.iter().flat_map(|size| size.to_le_bytes()).collect();
        let count = (dimensions.len() as u32 / 8).to_le_bytes();
        self.tensors.push([&text(name)[..], &count, &dimensions, &code.to_le_bytes(), &offset.to_le_bytes()].concat());
        self
    }

    pub fn data(mut self, bytes: usize) -> Self {
        self.data = vec![0; bytes];
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let counts = [self.tensors.len() as u64, self.metadata.len() as u64].map(u64::to_le_bytes).concat();
        let mut bytes = [b"GGUF", &self.version.to_le_bytes()[..], &counts].concat();
        bytes.extend(self.metadata.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }

    pub fn open(&self) -> lancet::error::Result<Gguf> {
        open(&self.bytes())
    }
}

pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// Opens a file of these bytes.
pub fn open(bytes: &[u8]) -> lancet::error::Result<Gguf> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    Gguf::open(file.path())
}
