//! Draws charts with the plotting library.

use kuva::plot::annotations::ReferenceLine;
use kuva::plot::legend::LegendPosition;
use kuva::plot::{BarPlot, Histogram, LinePlot, ScatterPlot};
use kuva::render::layout::{AxisLabelOverlap, ComputedLayout, Layout};
use kuva::render::plots::Plot;
use kuva::render::render::{Scene, TextAnchor, render_multiple};
use kuva::render::render_utils::compute_tick_step;
use kuva::render::theme::Theme;

use super::{Chart, Content, Extent, Group, LineStyle, Point, Series, names};
use crate::plot::color::series_colors;
use crate::plot::label::{literal, pixels};
use crate::plot::shape::{Style, text};

/// The colour of a marked point's line.
const MARK: &str = "#3b5bdb";

/// The size of a chart on a page, and the ends of its axes if it shares them.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub width: f64,
    pub height: f64,
    pub extent: Option<Extent>,
}

impl Default for Frame {
    fn default() -> Self {
        Self { width: 560.0, height: 380.0, extent: None }
    }
}

/// How a chart is drawn.
pub struct Look<'a> {
    pub theme: Theme,
    pub has_legend: bool,
    pub bar_names: &'a [String],
    /// The width and height that a text beside a point takes.
    pub text_size: fn(&str) -> (f64, f64),
}

impl Chart {
    /// The drawing for a file.
    pub fn scene(&self, frame: Frame) -> Scene {
        let theme = Theme { grid_color: "#e6e6e6".to_owned(), legend_border: "none".to_owned(), ..Theme::light() };
        let text_size: fn(&str) -> (f64, f64) = |text| (pixels(text, names::SIZE), f64::from(names::SIZE) + 1.0);
        let look = Look { theme, has_legend: true, bar_names: self.bar_names(), text_size };
        let (mut scene, left_out) = self.draw(look, |layout| {
            let mut layout = layout.with_width(frame.width).with_height(frame.height);
            layout = layout.with_title_size(15).with_label_size(13).with_tick_size(11);
            let names = self.bar_names();
            let widest = names.iter().map(|name| pixels(name, 11) + 8.0).fold(0.0, f64::max);
            if widest * names.len() as f64 > frame.width - 120.0 {
                layout = layout.with_x_tick_rotate(-45.0).with_x_label_overlap(AxisLabelOverlap::Thin);
            }
            self.within(layout, frame.extent)
        });
        if left_out > 0 {
            let style = Style { size: names::SIZE, anchor: TextAnchor::End, ..Style::default() };
            let (x, y) = (scene.width - 6.0, scene.height - 5.0);
            text(&mut scene, &names::left_out_in_words(left_out), x, y, style);
        }
        scene
    }

    /// The drawing in a `look`, and how many of its points' texts found no place.
    pub fn draw(&self, look: Look<'_>, adjust: impl FnOnce(Layout) -> Layout) -> (Scene, usize) {
        let plots = self.plots(look.has_legend, look.bar_names);
        let mut layout = Layout::auto_from_plots(&plots);
        if let Content::Histogram { edges, .. } = &self.content
            && let [low, .., high] = edges.as_slice()
        {
            layout = layout.with_x_tick_step(compute_tick_step(*low, *high, 6));
        }
        if let Content::Points { groups } = &self.content {
            // Points on the edge would be cut in half.
            let points = || groups.iter().flat_map(|group| &group.points);
            if let Some((low, high)) = with_margin(points().map(|point| point.x)) {
                layout = layout.with_x_axis_min(low).with_x_axis_max(high);
            }
            if let Some((low, high)) = with_margin(points().map(|point| point.y)) {
                layout = layout.with_y_axis_min(low).with_y_axis_max(high);
            }
        }
        if let Content::Lines { x, series, style } = &self.content {
            layout = style.laid_out(layout, x, series, look.bar_names);
        }
        layout = adjust(layout).with_theme(look.theme).with_legend_position(LegendPosition::OutsideRightTop);
        layout = layout.with_legend_box(false);
        if !self.labels.title.is_empty() {
            layout = layout.with_title(literal(&self.labels.title)).with_title_wrap(60);
        }
        if !self.labels.x.is_empty() {
            layout = layout.with_x_label(literal(&self.labels.x));
        }
        if !self.labels.y.is_empty() {
            layout = layout.with_y_label(literal(&self.labels.y));
        }
        let computed = ComputedLayout::from_layout(&layout);
        let mut scene = render_multiple(plots, layout);
        let left_out = match &self.content {
            Content::Points { groups } => names::draw(&mut scene, groups, &computed, look.text_size),
            _ => 0,
        };
        (scene, left_out)
    }

    /// The layout whose axes have these ends, and a little room around them; the same layout if there are none.
    pub fn within(&self, layout: Layout, extent: Option<Extent>) -> Layout {
        let Some(extent) = extent else { return layout };
        let mut layout = layout;
        let reaches_zero = matches!(self.content, Content::Bars { .. } | Content::Histogram { .. });
        let (low, high) = extent.y;
        if self.is_logarithmic() {
            layout = layout.with_y_axis_min(low).with_y_axis_max(high);
        } else if let Some((below, above)) = with_margin([low, high].into_iter()) {
            layout =
                layout.with_y_axis_min(if reaches_zero && low == 0.0 { 0.0 } else { below }).with_y_axis_max(above);
        }
        if let Some((low, high)) = extent.x.and_then(|(low, high)| with_margin([low, high].into_iter())) {
            layout = layout.with_x_axis_min(low).with_x_axis_max(high);
            if matches!(self.content, Content::Histogram { .. }) {
                layout = layout.with_x_tick_step(compute_tick_step(low, high, 6));
            }
        }
        layout
    }

    fn plots(&self, legend: bool, bar_names: &[String]) -> Vec<Plot> {
        let legend = |name: &str| (legend && !name.is_empty()).then(|| literal(name));
        match &self.content {
            Content::Lines { x, series, style } => {
                let plot = |(series, color): (&Series, String)| {
                    let points = x.iter().copied().zip(series.values.iter().copied()).zip(style.arms(series));
                    let points = points.filter(|((x, y), _)| !x.is_nan() && !y.is_nan());
                    let (points, arms): (Vec<_>, Vec<_>) = points.unzip();
                    let plot = LinePlot::new().with_data(points).with_color(color).with_stroke_width(1.8);
                    let has_errors = style.errors.iter().any(|errors| errors.name == series.name);
                    let plot = if has_errors { plot.with_y_err_asymmetric(arms) } else { plot };
                    match legend(&series.name) {
                        Some(name) => plot.with_legend(name).into(),
                        None => plot.into(),
                    }
                };
                series.iter().zip(css_colors()).map(plot).collect()
            }
            Content::Bars { series, .. } => {
                let mut plot = BarPlot::new().with_width(0.75);
                for (index, name) in bar_names.iter().enumerate() {
                    let bars = series.iter().zip(css_colors());
                    let bars = bars.map(|(series, color)| (series.values.get(index).copied().unwrap_or(0.0), color));
                    plot = plot.with_group(literal(name), bars);
                }
                let legend: Vec<String> = series.iter().filter_map(|series| legend(&series.name)).collect();
                if !legend.is_empty() {
                    plot = plot.with_legend(legend.iter().map(String::as_str).collect());
                }
                vec![plot.into()]
            }
            Content::Points { groups } => {
                let crowded = groups.iter().map(|group| group.points.len()).sum::<usize>() > 200;
                let plot = |(Group { name, points }, color): (&Group, String)| {
                    let places = points.iter().map(|point| (point.x, point.y));
                    let plot = ScatterPlot::new().with_data(places).with_color(color).with_size(names::DOT);
                    let mut plot = plot.with_marker_opacity(if crowded { 0.5 } else { 0.9 });
                    if points.iter().any(|point| !point.text.is_empty()) {
                        plot = plot.with_tooltip_labels(points.iter().map(Point::note));
                    }
                    match legend(name) {
                        Some(name) => plot.with_legend(name).into(),
                        None => plot.into(),
                    }
                };
                groups.iter().zip(css_colors()).map(plot).collect()
            }
            Content::Histogram { edges, counts } => {
                let histogram = Histogram::from_bins(edges.clone(), counts.clone());
                css_colors().take(1).map(|color| histogram.clone().with_color(color).into()).collect()
            }
        }
    }
}

impl LineStyle {
    /// The error bar of each point of a series, below and above it. On a logarithmic axis it ends above 0.
    pub fn arms(&self, series: &Series) -> Vec<(f64, f64)> {
        let errors = self.errors.iter().find(|errors| errors.name == series.name);
        let arm = |(place, value): (usize, &f64)| {
            let error = errors.and_then(|errors| errors.values.get(place)).copied().unwrap_or(0.0);
            let error = if error.is_nan() { 0.0 } else { error.abs() };
            (if self.is_logarithmic { error.min(value * 0.9) } else { error }, error)
        };
        series.values.iter().enumerate().map(arm).collect()
    }

    fn laid_out(&self, layout: Layout, x: &[f64], series: &[Series], names: &[String]) -> Layout {
        let mut layout = layout;
        let ends = series.iter().flat_map(|series| series.values.iter().zip(self.arms(series)));
        let ends = ends
            .filter(|(value, _)| !value.is_nan())
            .flat_map(|(value, (below, above))| [value - below, value + above]);
        if !self.errors.is_empty()
            && !self.is_logarithmic
            && let Some((low, high)) = with_margin(ends)
        {
            layout = layout.with_y_axis_min(low).with_y_axis_max(high);
        }
        if !names.is_empty() {
            layout = layout.with_x_categories(names.iter().map(|name| literal(name)).collect());
            layout = layout.with_x_axis_min(0.5).with_x_axis_max(x.len() as f64 + 0.5);
        }
        if self.is_logarithmic {
            layout = layout.with_log_y();
        }
        for place in self.marks.iter().filter_map(|mark| x.get(*mark)) {
            layout = layout.with_reference_line(ReferenceLine::vertical(*place).with_color(MARK));
        }
        layout
    }
}

/// The least and greatest value, with a little room around them; none if they are equal.
fn with_margin(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let margin = (high - low) * 0.04;
    (margin > 0.0).then_some((low - margin, high + margin))
}

fn css_colors() -> impl Iterator<Item = String> {
    series_colors().map(|(red, green, blue)| format!("#{red:02x}{green:02x}{blue:02x}"))
}
