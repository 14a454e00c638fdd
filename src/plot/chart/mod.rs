//! The checked data of lines, bars, points and histograms.

mod extent;
mod names;
pub mod scene;
pub mod text;

pub use extent::Extent;

use crate::error::{Error, Result};
use crate::plot::label::{LARGEST, Labels, clean, clip, short};

/// The longest name of a bar, in characters.
const NAME_COLUMNS: usize = 24;
const MOST_SERIES: usize = 100;

/// A named row of numbers.
#[derive(Debug, Clone)]
pub struct Series {
    /// Shown in the legend; empty for none.
    pub name: String,
    /// One value per position.
    pub values: Vec<f64>,
}

/// The style of lines.
#[derive(Debug, Clone, Default)]
pub struct LineStyle {
    /// Half the length of each point's error bar, by the name of its series; NaN draws none.
    pub errors: Vec<Series>,
    /// Texts below the points, which then stand at equal distances; numbers if empty.
    pub names: Vec<String>,
    /// The places of the points with a vertical line through them.
    pub marks: Vec<usize>,
    /// Whether the vertical axis is logarithmic. Values not above 0 are left out.
    pub is_logarithmic: bool,
}

/// A point with a text beside it, which may be empty.
#[derive(Debug, Clone)]
struct Point {
    x: f64,
    y: f64,
    text: String,
}

/// Points of one colour.
#[derive(Debug, Clone)]
struct Group {
    /// Shown in the legend; empty for none.
    name: String,
    points: Vec<Point>,
}

#[derive(Debug, Clone)]
enum Content {
    Lines { x: Vec<f64>, series: Vec<Series>, style: LineStyle },
    Bars { names: Vec<String>, series: Vec<Series> },
    Points { groups: Vec<Group> },
    Histogram { edges: Vec<f64>, counts: Vec<f64> },
}

/// A checked figure with two numeric or named axes.
#[derive(Debug, Clone)]
pub struct Chart {
    labels: Labels,
    content: Content,
}

impl Chart {
    /// Lines through the points (`x`, each series). A NaN leaves its point out.
    ///
    /// # Errors
    /// No series, one of another length than `x`, infinities, no point at all.
    pub fn lines(x: Vec<f64>, series: Vec<Series>, labels: &Labels) -> Result<Self> {
        let series = checked(series, x.len())?;
        check_finite("x", &x)?;
        check_drawn(&x, &series)?;
        Ok(Self { labels: labels.cleaned(), content: Content::Lines { x, series, style: LineStyle::default() } })
    }

    /// Lines in another style; leaves other charts unchanged.
    ///
    /// # Errors
    /// Errors of an unknown series, marks and names that do not fit the points, no point above 0 on a logarithmic axis.
    pub fn with_style(mut self, style: LineStyle) -> Result<Self> {
        if let Content::Lines { x, series, style: own } = &mut self.content {
            *own = style.checked(series, x.len())?;
            if !own.names.is_empty() {
                *x = (1..=x.len()).map(|place| place as f64).collect();
            }
            if own.is_logarithmic {
                let values = series.iter_mut().flat_map(|series| &mut series.values);
                values.filter(|value| **value <= 0.0).for_each(|value| *value = f64::NAN);
                check_drawn(x, series).map_err(|error| error.hint("a logarithmic axis shows only values above 0"))?;
            }
        }
        Ok(self)
    }

    /// Bars from zero, one per name and series.
    ///
    /// # Errors
    /// No names, a series of another length, values that are not finite.
    pub fn bars(names: Vec<String>, series: Vec<Series>, labels: &Labels) -> Result<Self> {
        let series = checked(series, names.len())?;
        if names.is_empty() || series.iter().flat_map(|series| &series.values).any(|value| value.is_nan()) {
            return Err(Error::new("every bar needs a name and a value that is a number"));
        }
        let names = names.iter().map(|name| clip(&clean(name), NAME_COLUMNS)).collect();
        Ok(Self { labels: labels.cleaned(), content: Content::Bars { names, series } })
    }

    /// Points (`x`, `y`), coloured by the group each is in if `groups` are given, with `texts` beside them if those are.
    /// A NaN leaves its point out.
    ///
    /// # Errors
    /// Different lengths, infinities, no point at all, more than 100 groups.
    pub fn points(
        x: &[f64],
        y: &[f64],
        groups: Option<&[String]>,
        texts: Option<&[String]>,
        labels: &Labels,
    ) -> Result<Self> {
        let counts = [Some(y.len()), groups.map(<[String]>::len), texts.map(<[String]>::len)];
        let wrong = counts.into_iter().flatten().find(|count| *count != x.len());
        if let Some(count) = wrong {
            return Err(Error::new(format!("{count} entries do not match {} x values", x.len())));
        }
        check_finite("x", x)?;
        check_finite("y", y)?;
        let mut found: Vec<Group> = Vec::new();
        let text = |texts: Option<&[String]>, index: usize| {
            texts.and_then(|texts| texts.get(index)).map(|text| clean(text)).unwrap_or_default()
        };
        for (index, (x, y)) in x.iter().copied().zip(y.iter().copied()).enumerate() {
            if x.is_nan() || y.is_nan() {
                continue;
            }
            let point = Point { x, y, text: text(texts, index) };
            let name = text(groups, index);
            let full = found.len() == MOST_SERIES;
            match found.iter_mut().find(|group| group.name == name) {
                Some(group) => group.points.push(point),
                None if full => {
                    return Err(Error::new(format!("more than {MOST_SERIES} groups cannot be distinguished")));
                }
                None => found.push(Group { name, points: vec![point] }),
            }
        }
        if found.is_empty() {
            return Err(Error::new("there is no point to draw"));
        }
        Ok(Self { labels: labels.cleaned(), content: Content::Points { groups: found } })
    }

    /// The number of `values` in each of `bins` equal intervals; by default their number grows with the square root of
    /// the number of values, up to 50. NaN is not counted.
    ///
    /// # Errors
    /// No values, infinities, no bins or more than 1000.
    pub fn histogram(values: &[f64], bins: Option<usize>, labels: &Labels) -> Result<Self> {
        check_finite("the values", values)?;
        let numbers: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if numbers.is_empty() {
            return Err(Error::new("there is no value to count"));
        }
        let bins = bins.unwrap_or_else(|| ((numbers.len() as f64).sqrt().ceil() as usize).clamp(1, 50));
        if bins == 0 || bins > 1000 {
            return Err(Error::new(format!("a histogram cannot have {bins} bins")).hint("use 1 to 1000"));
        }
        let margin = if least < greatest { 0.0 } else { least.abs().max(1.0) * 0.5 };
        let (low, high) = (least - margin, greatest + margin);
        let edges = (0..=bins).map(|edge| low + (high - low) * (edge as f64 / bins as f64)).collect();
        let mut counts = vec![0.0; bins];
        for value in numbers {
            // The last interval includes its upper end.
            let bin = (((value - low) / (high - low) * bins as f64) as usize).min(bins - 1);
            if let Some(count) = counts.get_mut(bin) {
                *count += 1.0;
            }
        }
        let mut labels = labels.cleaned();
        if labels.y.is_empty() {
            labels.y = "count".to_owned();
        }
        Ok(Self { labels, content: Content::Histogram { edges, counts } })
    }

    /// The kind of chart, as scripts name it.
    pub fn kind(&self) -> &'static str {
        match self.content {
            Content::Lines { .. } => "line_plot",
            Content::Bars { .. } => "bar_plot",
            Content::Points { .. } => "scatter_plot",
            Content::Histogram { .. } => "histogram",
        }
    }

    /// Whether its vertical axis is logarithmic.
    pub fn is_logarithmic(&self) -> bool {
        matches!(&self.content, Content::Lines { style, .. } if style.is_logarithmic)
    }

    /// The names along the horizontal axis; none if it has numbers.
    pub fn bar_names(&self) -> &[String] {
        match &self.content {
            Content::Bars { names, .. } => names,
            Content::Lines { style, .. } => &style.names,
            _ => &[],
        }
    }

    /// Title and axis labels.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Its size in words.
    pub fn size(&self) -> String {
        match &self.content {
            Content::Lines { x, series, .. } => format!("{} series of {} points", series.len(), x.len()),
            Content::Bars { names, series } => format!("{} series of {} bars", series.len(), names.len()),
            Content::Points { groups } => {
                format!("{} points", groups.iter().map(|group| group.points.len()).sum::<usize>())
            }
            Content::Histogram { edges, counts } => {
                let ends = [edges.first(), edges.last()].map(|end| end.copied().map_or_else(String::new, short));
                format!("{} bins from {} to {}", counts.len(), ends[0], ends[1])
            }
        }
    }

    /// The names that the colours stand for, if there are any.
    pub fn names(&self) -> Vec<&str> {
        match &self.content {
            Content::Lines { series, .. } | Content::Bars { series, .. } => {
                series.iter().map(|one| one.name.as_str()).filter(|name| !name.is_empty()).collect()
            }
            Content::Points { groups } => {
                groups.iter().map(|group| group.name.as_str()).filter(|name| !name.is_empty()).collect()
            }
            Content::Histogram { .. } => Vec::new(),
        }
    }
}

impl LineStyle {
    fn checked(mut self, series: &[Series], count: usize) -> Result<Self> {
        if !self.errors.is_empty() {
            self.errors = checked(self.errors, count)?;
        }
        if let Some(unknown) = self.errors.iter().find(|error| series.iter().all(|series| series.name != error.name)) {
            return Err(Error::new(format!("there are errors for `{}`, but no such series", unknown.name)));
        }
        if !self.names.is_empty() && self.names.len() != count {
            return Err(Error::new(format!("{} names do not match {count} points", self.names.len())));
        }
        if let Some(mark) = self.marks.iter().find(|mark| **mark >= count) {
            return Err(Error::new(format!("point {mark} cannot be marked")).hint(format!("there are {count} points")));
        }
        self.names.iter_mut().for_each(|name| *name = clip(&clean(name), NAME_COLUMNS));
        Ok(self)
    }
}

fn checked(mut series: Vec<Series>, count: usize) -> Result<Vec<Series>> {
    if series.is_empty() || series.len() > MOST_SERIES {
        return Err(Error::new(format!("{} series cannot be drawn", series.len())).hint("give 1 to 100"));
    }
    for one in &mut series {
        one.name = clip(&clean(&one.name), 32);
        let what = if one.name.is_empty() { "the values".to_owned() } else { format!("series `{}`", one.name) };
        if one.values.len() != count {
            let message = format!("{what}: {} entries do not match {count} positions", one.values.len());
            return Err(Error::new(message));
        }
        check_finite(&what, &one.values)?;
    }
    Ok(series)
}

fn check_drawn(x: &[f64], series: &[Series]) -> Result<()> {
    let drawn = |series: &Series| x.iter().zip(&series.values).any(|(x, y)| !x.is_nan() && !y.is_nan());
    if series.iter().any(drawn) { Ok(()) } else { Err(Error::new("there is no point to draw")) }
}

/// Accepts NaN, which stands for a missing value.
fn check_finite(what: &str, values: &[f64]) -> Result<()> {
    match values.iter().position(|value| value.abs() > LARGEST) {
        Some(index) => Err(Error::new(format!("{what}: entry {index} is infinite or too large to draw"))),
        None => Ok(()),
    }
}
