//! Tables in a terminal.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Width};
use console::measure_text_width;

use super::Table;
use crate::error::Result;

impl Table {
    /// The table as text, its lines at most `width` columns wide where possible; without a width nothing is wrapped.
    ///
    /// # Errors
    /// A number that its column's format cannot lay out.
    pub fn text(&self, width: Option<usize>) -> Result<String> {
        let rows = self.shown()?;
        let alignment = |place| if self.is_numeric(place) { CellAlignment::Right } else { CellAlignment::Left };
        let cell = |(place, text): (usize, &String)| Cell::new(text).set_alignment(alignment(place));
        let mut drawn = comfy_table::Table::new();
        drawn.load_style(NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
        let headers: Vec<String> = self.columns.iter().map(|column| column.header.clone()).collect();
        drawn.set_header(headers.iter().enumerate().map(cell));
        for row in &rows {
            drawn.add_row(row.iter().enumerate().map(cell));
        }
        if let Some(width) = width {
            drawn.set_content_arrangement(ContentArrangement::Dynamic);
            drawn.set_width(u16::try_from(width).unwrap_or(u16::MAX));
            // Headers and texts wrap, numbers never do.
            let widest = |place: usize| rows.iter().map(|row| measure_text_width(&row[place])).max().unwrap_or(0);
            for place in (0..self.columns.len()).filter(|place| self.is_numeric(*place)) {
                let least = u16::try_from(widest(place) + 2).unwrap_or(u16::MAX);
                if let Some(column) = drawn.column_mut(place) {
                    column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
                }
            }
        }
        let body: Vec<String> = drawn.lines().map(|line| line.trim_end().to_owned()).collect();
        let title = if self.title.is_empty() { String::new() } else { format!("{}\n", self.title) };
        Ok(format!("{title}{}", body.join("\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;

    #[test]
    fn numbers_stand_at_the_right_and_are_not_wrapped() {
        let expected = "\
Sets_of 100%
 layers        effect & rank    n
──────────────────────────────────
 (0, 1)                +0.12   20
 [a_b] \\ <c>           -0.00    3
 none";
        assert_eq!(example().text(None).unwrap(), expected);
        let narrow = example().text(Some(24)).unwrap();
        assert!(narrow.contains("+0.12") && narrow.contains("-0.00"), "{narrow}");
        assert!(narrow.lines().all(|line| line.chars().count() <= 24), "{narrow}");
    }
}
