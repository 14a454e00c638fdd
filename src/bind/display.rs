//! How values are shown at the prompt.

use rhai::Dynamic;

/// The value as the prompt shows it.
pub fn display(value: &Dynamic) -> String {
    if value.is_string() { format!("{value:?}") } else { value.to_string() }
}
