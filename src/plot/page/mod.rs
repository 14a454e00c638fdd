//! Web pages that hold one figure.

use crate::data::table::escape_html;

/// A script element that runs `body`; in it, `arrows` moves the focus by the arrow keys.
pub fn script(body: &str) -> String {
    format!("<script>\n(() => {{\n\"use strict\";\n{}{body}}})();\n</script>\n", include_str!("arrows.js"))
}

/// A page with `body`, an HTML fragment. Nothing is loaded from elsewhere.
pub fn page(title: &str, body: &str) -> String {
    let title = escape_html(if title.is_empty() { "Figure" } else { title });
    // The end tags of a page may be left out.
    include_str!("page.html").replace("{{title}}", &title) + body
}
