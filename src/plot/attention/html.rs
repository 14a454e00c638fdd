//! Attention patterns as HTML: the weights as data, and a script that draws them.

use serde_json::{Value, json};

use super::AttentionView;
use crate::data::table::escape_html;
use crate::plot::page;

const STYLE: &str = include_str!("attention.css");
const SCRIPT: &str = include_str!("attention.js");
/// A weight is written as a number of steps, of which the greatest has this many.
const STEPS: f64 = 10_000.0;

/// An HTML fragment, which needs nothing but itself.
pub fn html(view: &AttentionView) -> String {
    // In a script element, only `<` could end the data.
    let data = data(view).to_string().replace('<', "\\u003c");
    let title = escape_html(&view.title);
    let heading = if title.is_empty() { String::new() } else { format!("<h2>{title}</h2>\n") };
    format!(
        "<div class=\"attention-view\">\n<style>\n{STYLE}</style>\n{heading}<div class=\"heads\"></div>\n\
         <div class=\"body\">\n<div><h3 class=\"name\"></h3><canvas class=\"large\"></canvas></div>\n\
         <div class=\"lines\"><output class=\"number\"></output>\n\
         <h3>Attends to</h3><p class=\"to\"></p>\n<h3>Is attended to by</h3><p class=\"from\"></p></div>\n</div>\n\
         <noscript>This view needs JavaScript.</noscript>\n\
         <script type=\"application/json\">{data}</script>\n{}</div>",
        page::script(SCRIPT)
    )
}

fn data(view: &AttentionView) -> Value {
    let step =
        |weight: &f64| if weight.is_nan() { Value::Null } else { json!((weight / view.top * STEPS).round() as i64) };
    let heads = view.heads.iter().map(|head| {
        let lower = head.rows.iter().enumerate().flat_map(|(query, row)| row.iter().take(query + 1));
        json!({ "name": head.name, "weights": lower.map(step).collect::<Vec<_>>() })
    });
    json!({
        "tokens": view.tokens,
        "heads": heads.collect::<Vec<_>>(),
        "first": view.first,
        "top": view.top,
        "steps": STEPS,
    })
}
