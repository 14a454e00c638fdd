//! The checked data of attention patterns: the tokens, and the weights of each head on them.

pub mod html;

use crate::error::{Error, Result};
use crate::plot::color::ColorMap;
use crate::plot::facets::{FacetOptions, Facets};
use crate::plot::heatmap::{Heatmap, HeatmapOptions};
use crate::plot::label::{LARGEST, Labels, clean, visible};

/// The most weights, those of all heads together.
const MOST_WEIGHTS: usize = 4_000_000;

/// The options of attention patterns.
#[derive(Debug, Clone, Default)]
pub struct AttentionOptions {
    /// Above the figure.
    pub title: String,
    /// The place of the head that is enlarged first, and shown in the terminal.
    pub head: usize,
}

/// The pattern of one head: a row of weights for each query.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its name, such as `L0H3`.
    pub name: String,
    /// As many rows and columns as there are tokens. What is above the diagonal is not read.
    pub rows: Vec<Vec<f64>>,
}

/// Checked attention patterns.
#[derive(Debug)]
pub struct AttentionView {
    title: String,
    tokens: Vec<String>,
    heads: Vec<Head>,
    first: usize,
    /// The greatest magnitude, in the full colour.
    top: f64,
    /// All heads, for files of one drawing.
    drawing: Facets,
    /// The head that is enlarged first.
    enlarged: Heatmap,
}

impl AttentionView {
    /// The patterns of `heads` on `tokens`. A NaN stands for no weight.
    ///
    /// # Errors
    /// No token or head, another number of rows or columns than of tokens, infinities on or below the diagonal, a head
    /// without weights, more than 4 million weights, a first head that is not there.
    pub fn new(tokens: &[String], mut heads: Vec<Head>, options: &AttentionOptions) -> Result<Self> {
        let (count, side) = (heads.len(), tokens.len());
        if count == 0 || side == 0 {
            return Err(Error::new("there are no heads or no tokens to show"));
        }
        if options.head >= count {
            return Err(Error::new(format!("head {} is not there", options.head))
                .hint(format!("there are {count} patterns, counted from 0")));
        }
        let weights = count * (side * (side + 1) / 2);
        if weights > MOST_WEIGHTS {
            return Err(Error::new(format!("{weights} weights are too many to show"))
                .hint(format!("choose heads or shorten the prompt: at most {MOST_WEIGHTS} weights in all")));
        }
        for head in &mut heads {
            head.name = clean(&head.name);
            check(head, side)?;
        }
        let values =
            || heads.iter().flat_map(|head| head.rows.iter().flatten().copied()).filter(|value| !value.is_nan());
        let greatest = values().map(f64::abs).fold(0.0, f64::max);
        let top = if greatest > 0.0 { greatest } else { 1.0 };
        let has_negative = values().any(|value| value < 0.0);
        let heatmap = |head: &Head, tokens: Option<Vec<String>>, title: String| {
            let axis = |name: &str| if tokens.is_some() { name.to_owned() } else { String::new() };
            let labels = Labels { title, x: axis("key"), y: axis("query") };
            Heatmap::new(
                head.rows.clone(),
                HeatmapOptions {
                    labels,
                    x_ticks: tokens.clone(),
                    y_ticks: tokens.clone(),
                    color_map: Some(if has_negative { ColorMap::Diverging } else { ColorMap::Reds }),
                    range: Some((if has_negative { -top } else { 0.0 }, top)),
                    ..HeatmapOptions::default()
                },
            )
        };
        let tokens: Vec<String> = tokens.iter().map(|token| visible(token)).collect();
        let title = clean(&options.title);
        let first = &heads[options.head];
        let enlarged = [title.as_str(), first.name.as_str()].into_iter().filter(|text| !text.is_empty());
        let enlarged = heatmap(first, Some(tokens.clone()), enlarged.collect::<Vec<_>>().join(", "))?;
        // The tokens are legible beside one head only.
        let names = if count == 1 { Some(tokens.clone()) } else { None };
        let panels = heads.iter().map(|head| heatmap(head, names.clone(), head.name.clone())).collect::<Result<_>>()?;
        let columns = (count as f64).sqrt().ceil().clamp(1.0, 12.0) as usize;
        let facets = FacetOptions { title: title.clone(), columns: Some(columns), are_separate: false };
        let drawing = Facets::heatmaps(panels, &facets)?;
        Ok(Self { title, tokens, first: options.head, top, drawing, enlarged, heads })
    }

    /// The title; empty for none.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Its size in words.
    pub fn size(&self) -> String {
        format!("{} heads, {} tokens", self.heads.len(), self.tokens.len())
    }

    /// All heads as panels.
    pub fn drawing(&self) -> &Facets {
        &self.drawing
    }

    /// The head that is enlarged first.
    pub fn enlarged(&self) -> &Heatmap {
        &self.enlarged
    }
}

/// Checks the shape and blanks what is above the diagonal.
fn check(head: &mut Head, side: usize) -> Result<()> {
    let name = &head.name;
    if head.rows.len() != side || head.rows.iter().any(|row| row.len() != side) {
        let columns = head.rows.first().map_or(0, Vec::len);
        return Err(Error::new(format!(
            "the pattern {name} has {} queries and {columns} keys, but there are {side} tokens",
            head.rows.len()
        ))
        .hint("give the tokens of the run that the pattern is from, with the one put before the text, if any"));
    }
    for (query, row) in head.rows.iter_mut().enumerate() {
        row.iter_mut().skip(query + 1).for_each(|weight| *weight = f64::NAN);
        if let Some(key) = row.iter().position(|weight| weight.abs() > LARGEST) {
            return Err(Error::new(format!("the pattern {name} is infinite at query {query}, key {key}")));
        }
    }
    if head.rows.iter().flatten().all(|weight| weight.is_nan()) {
        return Err(Error::new(format!("the pattern {name} has no weight that is a number")));
    }
    Ok(())
}
