//! The one error type of everything below the script layer: what was wrong, and what would be correct.

use std::path::Path;

use indicatif::HumanBytes;

use crate::memory;

/// Result of every fallible operation in the domain modules.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, in words meant for the person at the prompt.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be carried out.
    #[error("{message}")]
    Invalid {
        /// What was wrong; no full stop, names and values in backticks.
        message: String,
        /// What would be right.
        hint: Option<String>,
    },
    /// Ctrl-C was pressed while native code ran.
    #[error("interrupted")]
    Interrupted,
    /// Results of other shards are missing, so this part of a script's work ends here.
    #[error("values of other shards are missing")]
    Deferred,
    /// A callback (a script's closure) failed; its owner holds the cause.
    #[error("a callback failed")]
    Callback,
}

impl Error {
    /// An error without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), hint: None }
    }

    /// The same error with what would be right; an earlier hint stays.
    pub fn hint(self, text: impl Into<String>) -> Self {
        match self {
            Self::Invalid { message, hint: None } => Self::Invalid { message, hint: Some(text.into()) },
            other => other,
        }
    }

    /// The same error with `what` put in front, such as the file or tensor it concerns.
    pub fn context(self, what: impl std::fmt::Display) -> Self {
        match self {
            Self::Invalid { message, hint } => Self::Invalid { message: format!("{what}: {message}"), hint },
            other => other,
        }
    }

    /// The same error with `***` in the place of a `secret`, wherever it stands.
    pub fn without(self, secret: &str) -> Self {
        match self {
            Self::Invalid { message, hint } if !secret.is_empty() => Self::Invalid {
                message: message.replace(secret, "***"),
                hint: hint.map(|hint| hint.replace(secret, "***")),
            },
            other => other,
        }
    }

    /// An operating-system error on `path`.
    pub fn io(path: &Path, error: &std::io::Error) -> Self {
        Self::new(format!("`{}`: {error}", path.display()))
    }

    /// Whether libtorch could not get the memory it asked for.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Invalid { message, .. } if out_of_memory(message))
    }

    /// The hint, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        match self {
            Self::Invalid { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }
}

impl From<tch::TchError> for Error {
    /// Keeps what libtorch says and drops its C++ backtrace.
    fn from(error: tch::TchError) -> Self {
        let text = match error {
            tch::TchError::Torch(text) => text,
            other => other.to_string(),
        };
        let said = match without_backtrace(&text) {
            "" => "libtorch failed without a message",
            said => said,
        };
        let error = match bytes_asked_for(said) {
            Some(bytes) => {
                // The next try counts with what is free by then.
                memory::bound();
                Self::new(format!("{NO_MEMORY} for {}", HumanBytes(bytes)))
            }
            None => Self::new(said),
        };
        if error.is_out_of_memory() {
            return error.hint("use a smaller batch, a shorter prompt or a smaller dtype");
        }
        error
    }
}

/// The first line of a message, without the C++ backtrace that libtorch appends. A panic writes the message with
/// `{:?}`, so an escaped line end counts as one.
pub fn without_backtrace(text: &str) -> &str {
    const BACKTRACE: &str = "Exception raised from ";
    let said = text.split_once(BACKTRACE).map_or(text, |(said, _)| said);
    said.lines().flat_map(|line| line.split("\\n")).map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}

const NO_MEMORY: &str = "not enough free memory";

fn out_of_memory(message: &str) -> bool {
    message.contains("out of memory") || message.contains(NO_MEMORY)
}

/// The bytes for which libtorch found no memory on the CPU.
fn bytes_asked_for(message: &str) -> Option<u64> {
    let (_, bytes) = message.split_once("can't allocate memory: you tried to allocate ")?;
    bytes.split(' ').next()?.parse().ok()
}

/// The error for an unknown word given for `name` (an option, a field); lists the `known` ones, with the nearest.
pub fn unknown(name: &str, given: &str, known: &[&str]) -> Error {
    let all = known.join(", ");
    Error::new(format!("`{name}` cannot be `{given}`")).hint(match nearest(given, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? It can be {all}"),
        None => format!("it can be {all}"),
    })
}

/// The entry of `candidates` nearest to `name`, if one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= 2.max(name.len().max(candidate.len()) / 3))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_backtrace_is_left() {
        let frames = "Exception raised from f at a.cpp:1 (most recent call first):\nframe #0: g + 0x1 (in libc10.so)";
        for (text, said) in [
            (format!("sizes do not match\n{frames}"), "sizes do not match"),
            (format!("sizes do not match {frames}"), "sizes do not match"),
            (format!("\nsizes do not match\nmore\n{frames}"), "sizes do not match"),
            (frames.to_owned(), "libtorch failed without a message"),
        ] {
            assert_eq!(Error::from(tch::TchError::Torch(text)).to_string(), said);
        }
        let panic = format!("{:?}", tch::TchError::Torch(format!("sizes do not match\n{frames}")));
        assert_eq!(without_backtrace(&panic), "Torch(\"sizes do not match");
    }
}
