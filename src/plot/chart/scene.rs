//! Draws charts with the plotting library.

use kuva::plot::annotations::ReferenceLine;
use kuva::plot::legend::LegendPosition;
use kuva::plot::{BarPlot, Histogram, LinePlot, ScatterPlot};
use kuva::render::layout::{AxisLabelOverlap, Layout};
use kuva::render::plots::Plot;
use kuva::render::render::{Scene, render_multiple};
use kuva::render::render_utils::compute_tick_step;
use kuva::render::theme::Theme;

use super::{Chart, Content, Group, LineStyle, Series};
use crate::plot::color::series_colors;
use crate::plot::label::{literal, pixels};

/// The colour of a marked point's line.
const MARK: &str = "#3b5bdb";

impl Chart {
    /// The drawing for a file.
    pub fn scene(&self) -> Scene {
        let theme = Theme { grid_color: "#e6e6e6".to_owned(), legend_border: "none".to_owned(), ..Theme::light() };
        self.draw(theme, true, self.bar_names(), |layout| {
            let mut layout =
                layout.with_width(560.0).with_height(380.0).with_title_size(15).with_label_size(13).with_tick_size(11);
            let names = self.bar_names();
            let widest = names.iter().map(|name| pixels(name, 11) + 8.0).fold(0.0, f64::max);
            if widest * names.len() as f64 > 440.0 {
                layout = layout.with_x_tick_rotate(-45.0).with_x_label_overlap(AxisLabelOverlap::Thin);
            }
            layout
        })
    }

    /// The drawing in a `theme`, with or without the legend, the bars named by `bar_names`.
    pub fn draw(
        &self,
        theme: Theme,
        legend: bool,
        bar_names: &[String],
        adjust: impl FnOnce(Layout) -> Layout,
    ) -> Scene {
        let plots = self.plots(legend, bar_names);
        let mut layout = Layout::auto_from_plots(&plots);
        if let Content::Histogram { edges, .. } = &self.content
            && let [low, .., high] = edges.as_slice()
        {
            layout = layout.with_x_tick_step(compute_tick_step(*low, *high, 6));
        }
        if let Content::Points { groups } = &self.content {
            // Points on the edge would be cut in half.
            let points = || groups.iter().flat_map(|(_, points)| points);
            if let Some((low, high)) = with_margin(points().map(|(x, _)| *x)) {
                layout = layout.with_x_axis_min(low).with_x_axis_max(high);
            }
            if let Some((low, high)) = with_margin(points().map(|(_, y)| *y)) {
                layout = layout.with_y_axis_min(low).with_y_axis_max(high);
            }
        }
        if let Content::Lines { x, series, style } = &self.content {
            layout = style.laid_out(layout, x, series, bar_names);
        }
        layout = adjust(layout).with_theme(theme).with_legend_position(LegendPosition::OutsideRightTop);
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
        render_multiple(plots, layout)
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
                let crowded = groups.iter().map(|(_, points)| points.len()).sum::<usize>() > 200;
                let plot = |((name, points), color): (&Group, String)| {
                    let plot = ScatterPlot::new().with_data(points.iter().copied()).with_color(color).with_size(3.5);
                    let plot = plot.with_marker_opacity(if crowded { 0.5 } else { 0.9 });
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
    fn arms(&self, series: &Series) -> Vec<(f64, f64)> {
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
