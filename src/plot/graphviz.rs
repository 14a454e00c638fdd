//! Texts in Graphviz's language. <https://graphviz.org/doc/info/lang.html>

/// A number in quotes, since the language has no exponents.
pub fn number(value: f64) -> String {
    quoted(&value.to_string())
}

/// A quoted string: quotes escaped, and backslashes too, since labels have escapes of their own.
pub fn quoted(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("\"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(quoted(r#"a "b" \n"#), r#""a \"b\" \\n""#);
        assert_eq!(quoted("one\ntwo\\"), r#""one two\\""#);
    }
}
