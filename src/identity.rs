//! The hash of named fields that identifies a cached result.

use std::fmt::Display;

use sha2::{Digest, Sha256};

/// Collects everything a result depends on as lines `name=value`, each written explicitly: a key changes only with its
/// version or a value, not with a Rust type's name or its `Debug` text.
#[derive(Debug, Clone)]
pub struct Identity(Sha256);

impl Identity {
    /// Starts with the kind of result and the version of its fields, such as `lancet cells 2`.
    pub fn new(version: &str) -> Self {
        let mut identity = Self(Sha256::new());
        identity.line(version);
        identity
    }

    /// Adds a field with one value.
    pub fn field(&mut self, name: &str, value: impl Display) {
        self.line(&format!("{name}={value}"));
    }

    /// Adds a field with several values, joined by commas.
    pub fn list(&mut self, name: &str, values: impl IntoIterator<Item: Display>) {
        let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
        self.field(name, values.join(","));
    }

    /// Adds a field that may be absent.
    pub fn optional(&mut self, name: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.field(name, value),
            None => self.field(name, "none"),
        }
    }

    fn line(&mut self, text: &str) {
        self.0.update(text);
        self.0.update("\n");
    }

    /// The SHA-256 of all lines, as 64 hexadecimal digits.
    pub fn hex(self) -> String {
        format!("{:x}", self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::Identity;

    /// The value is that of `printf 'version 1\na=1\nb=2,3\nc=none\n' | sha256sum`.
    #[test]
    fn fields_are_hashed_as_lines() {
        let mut identity = Identity::new("version 1");
        identity.field("a", 1);
        identity.list("b", [2, 3]);
        identity.optional("c", None::<i64>);
        assert_eq!(identity.hex(), "058dcaebb395cc01434c85ee005317438ba90d3188d6b7429786c550151596f4");
    }
}
