//! Coloured tokens as HTML: readable without the script, which adds the choice of rows and the value under the mouse.

use super::{Row, Token, TokenView};
use crate::data::table::escape_html;
use crate::plot::color::{ColorScale, Rgb, is_light};
use crate::plot::label::{short, visible};
use crate::plot::page::script;

const STYLE: &str = include_str!("tokens.css");
const SCRIPT: &str = include_str!("tokens.js");
/// The colours between which the legend's bar is blended.
const STOPS: u32 = 12;

/// An HTML fragment, which needs nothing but itself.
pub fn html(view: &TokenView) -> String {
    let mut html = format!("<div class=\"token-view\">\n<style>\n{STYLE}</style>\n");
    if !view.title.is_empty() {
        html += &format!("<h2>{}</h2>\n", escape_html(&view.title));
    }
    html += &format!("<div class=\"head\">{}{}<output></output></div>\n", choice(&view.rows), legend(view));
    for row in &view.rows {
        html += "<section>";
        if !row.name.is_empty() {
            html += &format!("<h3>{}</h3>", escape_html(&row.name));
        }
        let tokens = row.tokens.iter().enumerate().map(|(place, one)| token(place, one, &view.scale));
        html += &format!("<p>{}</p></section>\n", tokens.collect::<String>());
    }
    html + script(SCRIPT).as_str() + "</div>"
}

fn token(place: usize, token: &Token, scale: &ColorScale) -> String {
    let text = escape_html(&visible(&token.text));
    let break_after = if token.text.contains('\n') { "<br>" } else { "" };
    if token.value.is_nan() {
        return format!(
            "<span data-place=\"{place}\" data-value=\"no value\" title=\"no value\">{text}</span>{break_after}"
        );
    }
    let (paper, number) = (scale.rgb(token.value), escape_html(&token.number));
    let ink = if is_light(paper) { "#000" } else { "#fff" };
    let style = format!("background:{};color:{ink}", css(paper));
    format!(
        "<span data-place=\"{place}\" data-value=\"{number}\" title=\"{number}\" style=\"{style}\">{text}</span>{break_after}"
    )
}

/// A choice of the rows, if there are several.
fn choice(rows: &[Row]) -> String {
    if rows.len() < 2 {
        return String::new();
    }
    let name = |place: usize, row: &Row| if row.name.is_empty() { place.to_string() } else { escape_html(&row.name) };
    let options =
        rows.iter().enumerate().map(|(place, row)| format!("<option value=\"{place}\">{}</option>", name(place, row)));
    let options: String = options.collect();
    format!("<label>Show <select><option value=\"all\">all</option>{options}</select></label>")
}

fn legend(view: &TokenView) -> String {
    let scale = &view.scale;
    let stop = |step| css(scale.rgb(scale.value(f64::from(step) / f64::from(STOPS))));
    let stops: Vec<String> = (0..=STOPS).map(stop).collect();
    let label =
        if view.color_label.is_empty() { String::new() } else { format!("{}: ", escape_html(&view.color_label)) };
    let (low, high, stops) = (short(scale.min()), short(scale.max()), stops.join(","));
    format!(
        "<span class=\"legend\">{label}{low}<span class=\"bar\" style=\"background:linear-gradient(to right,{stops})\"></span>{high}</span>"
    )
}

fn css((red, green, blue): Rgb) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}
