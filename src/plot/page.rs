//! Web pages that hold one figure.

use crate::data::table::escape_html;

/// A page with `body`, an HTML fragment. Nothing is loaded from elsewhere.
pub fn page(title: &str, body: &str) -> String {
    let title = escape_html(if title.is_empty() { "Figure" } else { title });
    // The end tags of a page may be left out.
    include_str!("page.html").replace("{{title}}", &title) + body
}
