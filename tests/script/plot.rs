//! Figures: their text in the terminal, their SVG and PNG files, and their errors.

use std::io::Cursor;
use std::path::Path;

use crate::support::svg::assert_well_formed;
use lancet::error::{Error, Result};
use lancet::plot::{Chart, ColorDepth, ColorMap, Figure, Heatmap, HeatmapOptions, Labels, Screen, Series};

const PLAIN: Screen = Screen { columns: 80, depth: ColorDepth::None };
const NAN: f64 = f64::NAN;

/// Values of both signs above the diagonal, blanks below it.
fn triangle(side: usize) -> Vec<Vec<f64>> {
    let value = |row: usize, column: usize| {
        let (start, end) = (row as f64 / side as f64, column as f64 / side as f64);
        if column < row { NAN } else { (6.0 * start).sin() * (4.0 * end).cos() * 0.8 + 0.1 * end }
    };
    (0..side).map(|row| (0..side).map(|column| value(row, column)).collect()).collect()
}

fn labels() -> Labels {
    Labels { title: "Effect of repeating blocks".into(), x: "end block".into(), y: "start block".into() }
}

fn small() -> Result<Heatmap> {
    let values = vec![vec![0.4, -0.2, 0.0], vec![NAN, 0.1, 0.35], vec![NAN, NAN, -0.4]];
    let options = HeatmapOptions {
        labels: labels(),
        marks: vec![(0, 0)],
        color_label: "score change".into(),
        ..HeatmapOptions::default()
    };
    Heatmap::new(values, options)
}

/// The bytes of the figure as saved under a name.
fn saved(figure: &Figure, name: &str) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().map_err(|error| Error::new(error.to_string()))?;
    let path = folder.path().join("new folder").join(name);
    figure.save(&path)?;
    std::fs::read(&path).map_err(|error| Error::io(&path, &error))
}

pub fn svg(figure: &Figure) -> String {
    String::from_utf8(saved(figure, "figure.svg").unwrap()).unwrap()
}

/// Width, height and RGB pixels.
pub fn png(figure: &Figure) -> (usize, usize, Vec<[u8; 3]>) {
    let bytes = saved(figure, "figure.png").unwrap();
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
    let mut buffer = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut buffer).unwrap();
    let samples = info.color_type.samples();
    let pixels = buffer[..info.buffer_size()].chunks(samples).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    (info.width as usize, info.height as usize, pixels)
}

/// The text between a group's start and end in an SVG.
fn group<'a>(svg: &'a str, class: &str) -> &'a str {
    let start = svg.find(&format!("<g class=\"{class}\">")).unwrap();
    svg[start..].split("</g>").next().unwrap()
}

/// An attribute of an SVG element as a number.
pub fn attribute(element: &str, name: &str) -> f64 {
    let value = element.split(&format!(" {name}=\"")).nth(1).unwrap();
    value.split('"').next().unwrap().parse().unwrap()
}

fn message(result: Result<Heatmap>) -> String {
    let error = result.expect_err("it is refused");
    format!("{error}\n{}", error.hint_text().unwrap_or_default())
}

#[test]
fn plain_heatmap() {
    insta::assert_snapshot!(Figure::from(small().unwrap()).text(PLAIN).unwrap());
}

#[test]
fn plain_heatmap_with_names_and_numbers() {
    let options = HeatmapOptions {
        labels: labels(),
        x_ticks: Some(vec!["first".into(), "middle".into(), "last".into()]),
        y_ticks: Some(vec!["early".into(), "late".into()]),
        annotate: true,
        marks: vec![(0, 2), (1, 1)],
        ..HeatmapOptions::default()
    };
    let heatmap = Heatmap::new(vec![vec![1.0, 2.5, 3.0], vec![NAN, 4.25, 0.0]], options).unwrap();
    insta::assert_snapshot!(Figure::from(heatmap).text(PLAIN).unwrap());
}

#[test]
fn a_large_heatmap_fits_the_screen() {
    for side in [16, 30, 70, 200] {
        let options = HeatmapOptions { labels: labels(), ..HeatmapOptions::default() };
        let figure = Figure::from(Heatmap::new(triangle(side), options).unwrap());
        for depth in [ColorDepth::None, ColorDepth::Indexed, ColorDepth::True] {
            let text = figure.text(Screen { columns: 80, depth }).unwrap();
            for line in text.lines() {
                assert!(console::measure_text_width(line) <= 80, "{side}: {line}");
            }
            assert_eq!(text.contains('\u{1b}'), depth != ColorDepth::None);
            assert_eq!(text.contains("is the mean of 3 × 3 cells"), side == 200);
        }
    }
}

#[test]
fn a_colour_terminal_shows_the_cells_colours() {
    let heatmap = small().unwrap();
    let (red, green, blue) = heatmap.scale().rgb(0.35);
    let text = Figure::from(heatmap).text(Screen { columns: 80, depth: ColorDepth::True }).unwrap();
    assert!(text.contains(&format!("\u{1b}[48;2;{red};{green};{blue}m")), "{text}");
    // Too many columns for two characters each: half blocks.
    let wide = Heatmap::new(triangle(60), HeatmapOptions::default()).unwrap();
    let text = Figure::from(wide).text(Screen { columns: 80, depth: ColorDepth::Indexed }).unwrap();
    assert!(text.contains('▀') && text.contains("\u{1b}[38;5;"));
}

#[test]
fn svg_holds_labels_ticks_and_a_cell_per_number() {
    let svg = svg(&Figure::from(small().unwrap()));
    assert_well_formed(&svg);
    for text in ["Effect of repeating blocks", "end block", "start block", "score change", ">0<", ">1<", ">2<"] {
        assert!(svg.contains(text), "{text} is missing");
    }
    assert_eq!(group(&svg, "cells").matches("<rect").count(), 6);
    assert!(group(&svg, "marks").contains("<rect"));
}

#[test]
fn svg_escapes_labels() {
    let labels = Labels { title: "a < b & \"c\" \u{1b}[0m costs $1 or $2".into(), ..Labels::default() };
    let options = HeatmapOptions { labels, x_ticks: Some(vec!["<x>".into()]), ..HeatmapOptions::default() };
    let svg = svg(&Figure::from(Heatmap::new(vec![vec![1.0]], options).unwrap()));
    assert_well_formed(&svg);
    assert!(svg.contains("a &lt; b &amp; &quot;c&quot;") && svg.contains("$1 or $2") && svg.contains("&lt;x&gt;"));
    assert!(!svg.contains('\u{1b}'));
}

#[test]
fn png_shows_cells_where_the_svg_has_them() {
    let figure = Figure::from(small().unwrap());
    let svg = svg(&figure);
    let (width, height, pixels) = png(&figure);
    let scale = width as f64 / attribute(&svg, "width");
    assert_eq!(scale, 2.0);
    assert_eq!(height as f64, attribute(&svg, "height") * scale);
    let cells: Vec<&str> = group(&svg, "cells").split("<rect").skip(1).collect();
    let side = attribute(cells[0], "width");
    let at = |x: f64, y: f64| pixels[(y * scale) as usize * width + (x * scale) as usize];
    let color = |cell: &str| at(attribute(cell, "x") + side / 2.0, attribute(cell, "y") + side / 2.0);
    // Row by row without the blanks: the largest value first, the smallest last.
    let (greatest, least) = (color(cells[0]), color(cells[5]));
    assert!(greatest[0] > greatest[2] && least[2] > least[0], "{greatest:?} {least:?}");
    // The first cell of row 1 is blank: it lies left of that row's first number.
    let blank = at(attribute(cells[3], "x") - side / 2.0, attribute(cells[3], "y") + side / 2.0);
    assert_eq!(blank, [255, 255, 255]);
    // Row 0 is above row 1.
    assert!(attribute(cells[0], "y") < attribute(cells[3], "y"));
}

#[test]
fn pdf_is_one_page_of_the_size_of_the_svg() {
    let heatmap = Figure::from(small().unwrap());
    for figure in charts().into_iter().map(Figure::from).chain([heatmap]) {
        let svg = svg(&figure);
        let bytes = saved(&figure, "figure.PDF").unwrap();
        assert!(bytes.starts_with(b"%PDF-"));
        let pdf = hayro_syntax::Pdf::new(bytes).expect("a whole file");
        let [page] = &pdf.pages()[..] else { panic!("{} pages", pdf.pages().len()) };
        // An inch is 72 points in a PDF and 96 pixels in an SVG.
        let (width, height) = page.render_dimensions();
        assert!((f64::from(width) / 72.0 - attribute(&svg, "width") / 96.0).abs() < 1e-3, "{width}");
        assert!((f64::from(height) / 72.0 - attribute(&svg, "height") / 96.0).abs() < 1e-3, "{height}");
        assert!(!page.resources().fonts.is_empty(), "text is text");
    }
}

#[test]
fn extreme_shapes_are_drawn() {
    let ticks = |count: usize| Some((0..count).map(|index| format!("a rather long name {index}")).collect());
    for (rows, columns) in [(1, 1), (1, 300), (300, 1), (40, 7), (200, 300)] {
        for names in [false, true] {
            let options = HeatmapOptions {
                labels: labels(),
                x_ticks: names.then(|| ticks(columns)).flatten(),
                y_ticks: names.then(|| ticks(rows)).flatten(),
                annotate: rows * columns < 100,
                ..HeatmapOptions::default()
            };
            let figure = Figure::from(Heatmap::new(vec![vec![2.0; columns]; rows], options).unwrap());
            assert_well_formed(&svg(&figure));
            assert!(png(&figure).0 > 100);
            for width in [1, 20, 80] {
                figure.text(Screen { columns: width, depth: ColorDepth::None }).unwrap();
                figure.text(Screen { columns: width, depth: ColorDepth::True }).unwrap();
            }
        }
    }
}

#[test]
fn wrong_heatmaps_are_refused() {
    let new = |values: Vec<Vec<f64>>| Heatmap::new(values, HeatmapOptions::default());
    let with = |options: HeatmapOptions| Heatmap::new(vec![vec![1.0, NAN]], options);
    let messages = [
        message(new(vec![])),
        message(new(vec![vec![]])),
        message(new(vec![vec![1.0, 2.0], vec![1.0]])),
        message(new(vec![vec![NAN]])),
        message(new(vec![vec![0.0, f64::INFINITY]])),
        message(new(vec![vec![0.0; 2000]])),
        message(with(HeatmapOptions { marks: vec![(1, 0)], ..HeatmapOptions::default() })),
        message(with(HeatmapOptions { marks: vec![(0, 1)], ..HeatmapOptions::default() })),
        message(with(HeatmapOptions { range: Some((1.0, 1.0)), ..HeatmapOptions::default() })),
        message(with(HeatmapOptions { range: Some((NAN, 1.0)), ..HeatmapOptions::default() })),
        message(with(HeatmapOptions { x_ticks: Some(vec!["a".into()]), ..HeatmapOptions::default() })),
    ];
    insta::assert_snapshot!(messages.join("\n\n"));
    assert_eq!(ColorMap::parse("jet").unwrap_err().hint_text(), Some("one of viridis, diverging, reds"));
}

#[test]
fn only_known_extensions_are_saved() {
    let figure = Figure::from(small().unwrap());
    for name in ["figure.jpg", "figure", "figure.svg.bak"] {
        let error = figure.save(Path::new(name)).unwrap_err();
        assert_eq!(error.hint_text(), Some("end the name in .svg, .pdf, .png or .html"), "{name}");
        assert!(!Path::new(name).exists());
    }
}

fn charts() -> Vec<Chart> {
    let x: Vec<f64> = (0..24).map(f64::from).collect();
    let curve = |name: &str, shift: f64| Series {
        name: name.into(),
        values: x.iter().map(|x| (x / 4.0 + shift).sin() * 0.4 + 0.5).collect(),
    };
    let mut broken = curve("with <gap>", 1.0);
    broken.values[3] = NAN;
    let names = || ["mathematics", "emotions", "names & places"].map(String::from).to_vec();
    let bars = |name: &str, by: f64| Series { name: name.into(), values: vec![by, 2.0 * by, -0.5 * by] };
    let groups: Vec<String> = (0..24).map(|index| if index % 2 == 0 { "even" } else { "odd" }.to_owned()).collect();
    let label = |title: &str| Labels { title: title.into(), x: "layer".into(), y: "probability".into() };
    vec![
        Chart::lines(x.clone(), vec![curve("smooth", 0.0), broken], &label("Lines")).unwrap(),
        Chart::bars(names(), vec![bars("base", 0.3), bars("edited", 0.4)], &label("Bars")).unwrap(),
        Chart::points(&x, &curve("", 2.0).values, Some(&groups), None, &label("Points")).unwrap(),
        Chart::histogram(&curve("", 0.0).values, Some(6), &label("Counts")).unwrap(),
    ]
}

#[test]
fn charts_are_drawn_everywhere() {
    for chart in charts() {
        let kind = chart.kind();
        let title = chart.labels().title.clone();
        let figure = Figure::from(chart);
        let svg = svg(&figure);
        assert_well_formed(&svg);
        for text in [&title, "layer", "probability"] {
            assert!(svg.contains(text), "{kind}: {text} is missing");
        }
        let (width, height, pixels) = png(&figure);
        assert!(width >= 800 && height >= 600, "{kind}: {width} × {height}");
        assert!(pixels.contains(&[0x00, 0x72, 0xb2]), "{kind} shows its first color");
        let text = figure.text(PLAIN).unwrap();
        assert!(text.contains(&title) && !text.contains('\u{1b}'), "{text}");
        assert!(text.lines().all(|line| console::measure_text_width(line) <= 80));
        assert!(figure.text(Screen { columns: 30, depth: ColorDepth::True }).unwrap().contains('\u{1b}'));
    }
}

#[test]
fn series_differ_without_colours() {
    let up = Series { name: "up".into(), values: vec![0.0, 1.0, 2.0] };
    let down = Series { name: "down".into(), values: vec![2.0, 1.0, 0.0] };
    let label = Labels { title: "Two lines".into(), ..Labels::default() };
    let lines = Chart::lines(vec![0.0, 1.0, 2.0], vec![up.clone(), down.clone()], &label).unwrap();
    let bars = Chart::bars(["a", "b", "c"].map(String::from).to_vec(), vec![up, down], &label).unwrap();
    let text = |chart: Chart| Figure::from(chart).text(Screen { columns: 50, depth: ColorDepth::None }).unwrap();
    insta::assert_snapshot!([text(lines), text(bars)].concat());
}

#[test]
fn charts_survive_degenerate_values() {
    let none = Labels::default();
    let one = |values: Vec<f64>| vec![Series { name: String::new(), values }];
    let mut charts = Vec::new();
    for value in [0.0, -3.0, 1e-300, 1e299, -1e299, 1e16] {
        charts.push(Chart::lines(vec![value], one(vec![value]), &none).unwrap());
        charts.push(Chart::lines(vec![value, value], one(vec![value, -value]), &none).unwrap());
        charts.push(Chart::bars(vec![String::new()], one(vec![value]), &none).unwrap());
        charts.push(Chart::points(&[value, NAN], &[value, 0.0], None, None, &none).unwrap());
        charts.push(Chart::histogram(&[value], None, &none).unwrap());
        charts.push(Chart::histogram(&[value, value * 2.0], Some(1000), &none).unwrap());
    }
    for chart in charts {
        let description = format!("{chart:?}");
        let figure = Figure::from(chart);
        figure.text(PLAIN).unwrap_or_else(|error| panic!("{description:.200}: {error}"));
        assert_well_formed(&svg(&figure));
    }
}

#[test]
fn histograms_count_every_value() {
    let chart = Chart::histogram(&[0.0, 0.1, 0.1, 1.0, NAN], Some(2), &Labels::default()).unwrap();
    assert_eq!(chart.size(), "2 bins from 0 to 1");
    assert!(format!("{chart:?}").contains("counts: [3.0, 1.0]"));
}

#[test]
fn wrong_charts_are_refused() {
    let none = Labels::default();
    let one = |values: Vec<f64>| vec![Series { name: "s".into(), values }];
    let errors = [
        Chart::lines(vec![0.0], one(vec![0.0, 1.0]), &none),
        Chart::lines(vec![], one(vec![]), &none),
        Chart::lines(vec![0.0], vec![], &none),
        Chart::lines(vec![0.0], one(vec![f64::INFINITY]), &none),
        Chart::bars(vec![], one(vec![]), &none),
        Chart::bars(vec!["a".into()], one(vec![NAN]), &none),
        Chart::points(&[0.0], &[], None, None, &none),
        Chart::points(&[0.0], &[0.0], Some(&[]), None, &none),
        Chart::points(&[NAN], &[0.0], None, None, &none),
        Chart::histogram(&[], None, &none),
        Chart::histogram(&[1.0], Some(0), &none),
    ];
    let messages: Vec<String> = errors.into_iter().map(|result| result.err().unwrap().to_string()).collect();
    insta::assert_snapshot!(messages.join("\n"));
}

/// Figures in scripts.
pub mod script {
    use rhai::{Dynamic, Scope};

    use crate::support::engine;

    fn text(script: &str) -> String {
        engine().eval::<String>(script).unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    pub fn error(script: &str) -> String {
        match *engine().eval::<Dynamic>(script).err().unwrap_or_else(|| panic!("{script} succeeds")) {
            rhai::EvalAltResult::ErrorRuntime(value, _) => {
                let map = value.cast::<rhai::Map>();
                let hint = map.get("hint").map_or_else(String::new, |hint| format!(" ({hint})"));
                format!("{}{hint}", map["error"])
            }
            other => other.to_string(),
        }
    }

    #[test]
    fn figures_describe_themselves() {
        let scripts = [
            "heatmap([[1, 2.5], [(), 4]]).to_string()",
            "heatmap([[1, -1]], #{title: \"Grid\", mark: [0, 1], range: [-2, 2], annotate: true}).to_string()",
            "heatmap([[1, 2]], #{mark: [[0, 1], [0, 0]], x_ticks: [\"a\", 7], color_map: \"viridis\"}).to_string()",
            "line_plot([1, 2], #{a: [1, 2], b: [2.5, 1]}, #{y_label: \"y\"}).to_string()",
            "bar_plot([\"a\", 2], [1, 2]).to_string()",
            "scatter_plot([1, 2], [1, 2], #{groups: [1, 2]}).to_string()",
            "histogram([1, 2, 3, 9], #{bins: 4}).to_string()",
        ];
        insta::assert_snapshot!(scripts.map(text).join("\n"));
    }

    #[test]
    fn tensors_are_drawn() {
        let tensor = tch::Tensor::f_from_slice(&[1.0f32, 2.0, f32::NAN, 4.0, -5.0, 6.0]).unwrap();
        let tensor =
            lancet::tensor::Tensor::new(tensor.f_reshape([2, 3]).unwrap().f_to_kind(tch::Kind::BFloat16).unwrap());
        let mut scope = Scope::new();
        scope.push("t", tensor);
        let text = |script: &str| engine().eval_with_scope::<String>(&mut scope.clone(), script).unwrap();
        assert_eq!(text("heatmap(t).to_string()"), "Figure(heatmap, 2 × 3, 5 values from -5 to 6)");
        assert_eq!(text("histogram(t).to_string()"), "Figure(histogram, 3 bins from -5 to 6)");
        let shape = engine().eval_with_scope::<Dynamic>(&mut scope.clone(), "line_plot(t, t)").unwrap_err();
        assert!(shape.to_string().contains("one dimension"), "{shape}");
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let scripts = [
            "heatmap(3)",
            "heatmap([1, 2])",
            "heatmap([[1, \"a\"]])",
            "heatmap([[1]], #{tittle: \"x\"})",
            "heatmap([[1]], #{title: 3})",
            "heatmap([[1]], #{range: [1]})",
            "heatmap([[1]], #{mark: [0]})",
            "heatmap([[1]], #{mark: [0, -1]})",
            "heatmap([[1]], #{mark: [[0, 0], 3]})",
            "heatmap([[1]], #{color_map: \"jet\"})",
            "heatmap([[1]], #{x_ticks: [true]})",
            "line_plot([1], #{a: 3})",
            "histogram([1], #{bins: -1})",
            "heatmap([[1]]).save(\"figure.gif\")",
            "progress(-1)",
        ];
        insta::assert_snapshot!(scripts.map(error).join("\n"));
    }

    #[test]
    fn lines_have_error_bars_names_marks_and_a_logarithmic_axis() {
        let draw = |options: &str| {
            let script =
                format!("line_plot([0, 1, 2], #{{ a: [1, 100, 0], b: [2.0, 3.0, 4.0] }}, #{{ {options} }}).svg()");
            text(&script)
        };
        let plain = draw("");
        let bars = draw("errors: #{ b: [0.5, 0.5, 0.5] }");
        assert!(bars.matches("<line").count() > plain.matches("<line").count() + 3, "bars and their caps");
        let named = draw("x_ticks: [\"one\", \"two\", \"three\"], mark: [1], scale: \"log\"");
        assert!(["one", "two", "three"].iter().all(|name| named.contains(name)) && named.contains("#3b5bdb"));
        let failed = |options: &str| {
            let script = format!("line_plot([0, 1], #{{ a: [0, -1] }}, #{{ {options} }})");
            engine().eval::<Dynamic>(&script).unwrap_err().to_string()
        };
        assert!(failed("errors: #{ b: [1, 1] }").contains("no such series"));
        assert!(failed("mark: [2]").contains("point 2 cannot be marked"));
        assert!(failed("x_ticks: [\"one\"]").contains("1 names do not match 2 points"));
        assert!(failed("scale: \"log\"").contains("no point to draw"));
        assert!(failed("scale: \"cubic\"").contains("`cubic`"));
    }

    #[test]
    fn figures_are_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/figure.png");
        let mut scope = Scope::new();
        scope.push("path", path.to_string_lossy().into_owned());
        engine().run_with_scope(&mut scope, "heatmap([[1, 2]]).save(path);").unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
        // The folder contains nothing else.
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn progress_counts() {
        let script = "let p = progress(10, \"steps\"); p.tick(); p.tick(4); p.message(\"half\"); p.to_string()";
        assert_eq!(text(script), "Progress(`steps`, 5 of 10)");
    }
}
