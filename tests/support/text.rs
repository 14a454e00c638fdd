//! Error messages as one line, and checks of a text's parts.

/// An error and its hint, in one line.
pub fn failure<T>(result: lancet::error::Result<T>) -> String {
    let error = result.err().expect("an error");
    format!("{error} ({})", error.hint_text().unwrap_or_default())
}

/// `text` contains every part.
pub fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}
