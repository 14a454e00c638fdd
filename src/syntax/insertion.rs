//! Text put into a script before it is compiled.

/// Text put into another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insertion {
    /// Where, in bytes of the original.
    pub at: usize,
    /// What.
    pub text: String,
}

/// `source` with all `insertions`, which are in order.
pub fn inserted(source: &str, insertions: &[Insertion]) -> String {
    let mut text = String::with_capacity(source.len());
    let mut from = 0;
    for Insertion { at, text: added } in insertions {
        text.push_str(source.get(from..*at).unwrap_or_default());
        text.push_str(added);
        from = *at;
    }
    text + source.get(from..).unwrap_or_default()
}
