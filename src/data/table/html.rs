//! Tables for web pages.

use super::Table;
use crate::error::Result;

impl Table {
    /// The table as an HTML fragment, a `<table>` with its title as caption; cells of numbers have the class `number`.
    ///
    /// # Errors
    /// A number that its column's format cannot lay out.
    pub fn html(&self) -> Result<String> {
        let class = |place| if self.is_numeric(place) { " class=\"number\"" } else { "" };
        let mut html = String::from("<table>\n");
        if !self.title.is_empty() {
            html += &format!("<caption>{}</caption>\n", escape(&self.title));
        }
        html += "<thead><tr>";
        for (place, column) in self.columns.iter().enumerate() {
            html += &format!("<th scope=\"col\"{}>{}</th>", class(place), escape(&column.header));
        }
        html += "</tr></thead>\n<tbody>\n";
        for row in self.shown()? {
            html += "<tr>";
            for (place, cell) in row.iter().enumerate() {
                html += &format!("<td{}>{}</td>", class(place), escape(cell));
            }
            html += "</tr>\n";
        }
        Ok(html + "</tbody>\n</table>\n")
    }
}

/// A text with every character that HTML reads as markup written out.
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;

    #[test]
    fn headers_and_cells_are_escaped() {
        let html = example().html().unwrap();
        let parts = [
            "<caption>Sets_of 100%</caption>",
            "<th scope=\"col\">layers</th><th scope=\"col\" class=\"number\">effect &amp; rank</th>",
            "<tr><td>[a_b] \\ &lt;c&gt;</td><td class=\"number\">-0.00</td><td class=\"number\">3</td></tr>",
            "<td class=\"number\"></td>",
        ];
        for part in parts {
            assert!(html.contains(part), "{part} is not in {html}");
        }
    }
}
