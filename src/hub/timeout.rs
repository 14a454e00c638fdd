//! How long the hub may take, by the variables of its Python library.

use std::time::Duration;

use crate::cache;
use crate::error::{Error, Result};

/// How long the hub may take for each step: to be found, to be connected, to answer, and to send more.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Where the answer is a description.
    pub question: Duration,
    /// Where it is a file.
    pub content: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { question: Duration::from_secs(30), content: Duration::from_secs(30) }
    }
}

impl Timeouts {
    /// Reads `HF_HUB_ETAG_TIMEOUT` and `HF_HUB_DOWNLOAD_TIMEOUT`.
    ///
    /// # Errors
    /// A value that is not a whole number of seconds above 0.
    pub fn from_variables(lookup: &impl Fn(&str) -> Option<String>) -> Result<Self> {
        let seconds = |name: &str, usual: Duration| match cache::variable(lookup, name) {
            None => Ok(usual),
            Some(text) => match text.trim().parse() {
                Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
                _ => {
                    Err(Error::new(format!("`{name}` is `{text}`")).hint("give a whole number of seconds, such as 30"))
                }
            },
        };
        let usual = Self::default();
        Ok(Self {
            question: seconds("HF_HUB_ETAG_TIMEOUT", usual.question)?,
            content: seconds("HF_HUB_DOWNLOAD_TIMEOUT", usual.content)?,
        })
    }
}
