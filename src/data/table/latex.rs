//! Tables for LaTeX, to be read by `\input` in a document that loads the package booktabs.

use super::Table;
use crate::error::Result;

impl Table {
    /// The table as a `tabular` with the rules of booktabs; its title is a comment in the first line.
    ///
    /// Texts that are not Latin script need LuaLaTeX or XeLaTeX.
    ///
    /// # Errors
    /// A number that its column's format cannot lay out.
    pub fn latex(&self) -> Result<String> {
        let numeric: Vec<bool> = (0..self.columns.len()).map(|place| self.is_numeric(place)).collect();
        let alignment: String = numeric.iter().map(|numeric| if *numeric { 'r' } else { 'l' }).collect();
        let headers: Vec<String> = self.columns.iter().map(|column| escape(&column.header)).collect();
        let mut text = if self.title.is_empty() { String::new() } else { format!("% {}\n", one_line(&self.title)) };
        text += &format!("% needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{{alignment}}}\n\\toprule\n");
        text += &line(&headers);
        text += "\\midrule\n";
        for row in self.shown()? {
            let cell = |(cell, numeric): (&String, &bool)| if *numeric { number(cell) } else { escape(cell) };
            text += &line(&row.iter().zip(&numeric).map(cell).collect::<Vec<_>>());
        }
        Ok(text + "\\bottomrule\n\\end{tabular}\n")
    }
}

fn line(cells: &[String]) -> String {
    cells.join(" & ") + " \\\\\n"
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text with every character that LaTeX reads as a command written out.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in one_line(text).chars() {
        match character {
            '\\' => escaped += "\\textbackslash{}",
            '~' => escaped += "\\textasciitilde{}",
            '^' => escaped += "\\textasciicircum{}",
            '<' => escaped += "\\textless{}",
            '>' => escaped += "\\textgreater{}",
            '|' => escaped += "\\textbar{}",
            '"' => escaped += "''",
            // `\\` takes a bracket or a star at the start of the next row for its argument.
            '[' | ']' | '*' => escaped += &format!("{{{character}}}"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', character]),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// A number in math mode, so that it has a true minus sign and a raised exponent; any other text escaped.
fn number(text: &str) -> String {
    match text.trim() {
        "inf" => return "$\\infty$".into(),
        "-inf" => return "$-\\infty$".into(),
        _ => {}
    }
    if text.parse::<f64>().is_err() {
        return escape(text);
    }
    let (mantissa, exponent) = match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()),
        None => (text, None),
    };
    match exponent {
        Some(exponent) => format!("${mantissa} \\times 10^{{{exponent}}}$"),
        None if text.starts_with(['+', '-']) => format!("${text}$"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::number;

    #[test]
    fn what_latex_reads_as_commands_is_escaped() {
        let expected = "\
% Sets_of 100%
% needs \\usepackage{booktabs}
\\begin{tabular}{lrr}
\\toprule
layers & effect \\& rank & n \\\\
\\midrule
(0, 1) & $+0.12$ & 20 \\\\
{[}a\\_b{]} \\textbackslash{} \\textless{}c\\textgreater{} & $-0.00$ & 3 \\\\
none &  &  \\\\
\\bottomrule
\\end{tabular}
";
        assert_eq!(example().latex().unwrap(), expected);
    }

    #[test]
    fn numbers_are_set_as_numbers() {
        for (text, latex) in [
            ("12", "12"),
            ("-0.5", "$-0.5$"),
            ("6.6e-05", "$6.6 \\times 10^{-5}$"),
            ("1e-412", "$1 \\times 10^{-412}$"),
            ("-inf", "$-\\infty$"),
            ("85%", "85\\%"),
            ("[+0.1, +0.2]", "{[}+0.1, +0.2{]}"),
            ("", ""),
        ] {
            assert_eq!(number(text), latex);
        }
    }
}
