//! Panels of figures, and the texts beside points.

use lancet::plot::{ColorDepth, Figure, Screen};

use crate::plot::script::error;
use crate::plot::{attribute, png, svg};
use crate::support::engine;
use crate::support::svg::assert_well_formed;

fn figure(script: &str) -> Figure {
    engine().eval::<Figure>(script).unwrap_or_else(|error| panic!("{script}: {error}"))
}

/// The panels of an SVG.
fn panels(svg: &str) -> Vec<&str> {
    svg.split("class=\"panel\"").skip(1).collect()
}

/// The colours of the cells of a panel.
fn colors(panel: &str) -> Vec<&str> {
    let cells = panel.split("<g class=\"cells\">").nth(1).unwrap().split("</g>").next().unwrap();
    cells.split("fill=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn heatmaps_share_their_colors() {
    let draw = |options: &str| {
        svg(&figure(&format!("facets([heatmap([[0, 1]]), heatmap([[1, 4]]), heatmap([[2, 2]])], #{{ {options} }})")))
    };
    let shared = draw("title: \"All\", columns: 2");
    assert_well_formed(&shared);
    let cells: Vec<Vec<&str>> = panels(&shared).into_iter().map(colors).collect();
    assert_eq!(cells[0][1], cells[1][0], "1 has the same colour in both");
    assert_ne!(cells[0][1], cells[1][1]);
    assert_eq!(shared.matches("class=\"colorbar\"").count(), 1);
    assert!(shared.contains(">All<"));
    let separate = draw("share: false");
    let cells: Vec<Vec<&str>> = panels(&separate).into_iter().map(colors).collect();
    assert_eq!(cells[0], cells[1], "each has its own range");
    assert_eq!(separate.matches("class=\"colorbar\"").count(), 3);
}

#[test]
fn panels_do_not_overlap() {
    let figure = figure("facets((0..5).map(|i| heatmap(ones([3, 4 + i]), #{ title: `panel ${i}` })), #{ columns: 2 })");
    let svg = svg(&figure);
    let places: Vec<(f64, f64)> = svg
        .split("transform=\"translate(")
        .skip(1)
        .map(|rest| {
            let (x, y) = rest.split(')').next().unwrap().split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        })
        .collect();
    assert_eq!(places.len(), 5);
    assert!(places[1].0 > places[0].0 + 100.0 && places[1].1 == places[0].1);
    assert!(places[2].1 > places[0].1 + 100.0 && places[4].1 > places[2].1 + 100.0);
    assert!(attribute(&svg, "width") > places[1].0 + 100.0 && attribute(&svg, "height") > places[4].1 + 100.0);
    assert!(png(&figure).0 > 400);
}

/// The texts of an SVG's ticks and titles.
fn texts(panel: &str) -> Vec<&str> {
    panel.split("<text").skip(1).filter_map(|rest| rest.split_once('>')?.1.split('<').next()).collect()
}

#[test]
fn charts_share_their_axes() {
    let scripts = [
        "line_plot([0, 1], [1, 2]), line_plot([0, 3], [1, 90])",
        "scatter_plot([0, 1], [1, 2]), scatter_plot([0, 3], [1, 90])",
        "bar_plot([\"a\"], [1]), bar_plot([\"a\"], [90])",
        "line_plot([0, 1], [1, 2], #{ scale: \"log\" }), line_plot([0, 3], [1, 900], #{ scale: \"log\" })",
        "histogram([1, 2, 3]), histogram([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 90])",
    ];
    for script in scripts {
        let shared = figure(&format!("facets([{script}])"));
        let drawing = svg(&shared);
        let shown: Vec<Vec<&str>> = panels(&drawing).into_iter().map(texts).collect();
        assert!(shown[0].len() > 3 && shown[0] == shown[1], "{script}: {shown:?}");
        let separate = svg(&figure(&format!("facets([{script}], #{{ share: false }})")));
        let shown: Vec<Vec<&str>> = panels(&separate).into_iter().map(texts).collect();
        assert_ne!(shown[0], shown[1], "{script}");
        let text = shared.text(Screen { columns: 100, depth: ColorDepth::None }).unwrap();
        assert!(text.lines().all(|line| console::measure_text_width(line) <= 100), "{text}");
    }
}

#[test]
fn a_terminal_shows_panels_side_by_side() {
    let script = "facets((0..3).map(|i| heatmap([[i, 1], [2, 3]], #{ title: `head ${i}` })), #{ title: \"Layer 0\" })";
    insta::assert_snapshot!(figure(script).text(Screen { columns: 80, depth: ColorDepth::None }).unwrap());
    let narrow = figure(script).text(Screen { columns: 40, depth: ColorDepth::None }).unwrap();
    assert!(narrow.lines().all(|line| console::measure_text_width(line) <= 40), "{narrow}");
}

#[test]
fn wrong_panels_are_refused() {
    let scripts = [
        "facets([])",
        "facets([3])",
        "facets([heatmap([[1]]), line_plot([0], [1])])",
        "facets([bar_plot([\"a\"], [1]), line_plot([0], [1])])",
        "facets([facets([heatmap([[1]])])])",
        "facets([token_view([\"a\"], [1])])",
        "facets([heatmap([[1]])], #{ columns: 0 })",
        "facets([heatmap([[1]])], #{ columns: -1 })",
        "facets([heatmap([[1]])], #{ shares: true })",
        "facets([line_plot([0], [1]), line_plot([0], [1], #{ scale: \"log\" })])",
        "scatter_plot([1, 2], [1, 2], #{ labels: [\"a\"] })",
    ];
    insta::assert_snapshot!(scripts.map(error).join("\n"));
}

/// The dots and the names of a scatter plot, as (left, top, right, bottom); a name's width is that of narrow letters.
fn boxes(svg: &str) -> (Vec<[f64; 4]>, Vec<[f64; 4]>) {
    let dots = svg.split("<circle").skip(1).map(|dot| {
        let (x, y) = (attribute(dot, "cx"), attribute(dot, "cy"));
        [x - 3.5, y - 3.5, x + 3.5, y + 3.5]
    });
    let names = svg.split("<g class=\"names\">").nth(1).unwrap().split("</g>").next().unwrap();
    let names = names.split("<text").skip(1).map(|name| {
        let (x, y) = (attribute(name, "x"), attribute(name, "y"));
        let count = name.split_once('>').unwrap().1.split('<').next().unwrap().chars().count();
        let half = count as f64 * 5.5 / 2.0;
        [x - half, y - 7.5, x + half, y]
    });
    (dots.collect(), names.collect())
}

#[test]
fn names_cover_neither_each_other_nor_a_point() {
    for count in [5, 60, 400] {
        let script = format!(
            "let n = {count}; scatter_plot((0..n).map(|i| (i * 37 % 101) * 1.0), (0..n).map(|i| (i * 53 % 89) * 1.0),
                #{{ labels: (0..n).map(|i| `name ${{i}}`) }})"
        );
        let svg = svg(&figure(&script));
        assert_well_formed(&svg);
        let (dots, names) = boxes(&svg);
        assert_eq!(dots.len(), count);
        assert_eq!(svg.matches("<title>name ").count(), count, "the mouse shows every name");
        let apart = |one: &[f64; 4], other: &[f64; 4]| {
            one[2] <= other[0] || other[2] <= one[0] || one[3] <= other[1] || other[3] <= one[1]
        };
        for (place, name) in names.iter().enumerate() {
            assert!(names[..place].iter().chain(&dots).all(|other| apart(name, other)), "{count}: {name:?}");
        }
        assert!(names.len() >= count.min(30), "{count}: only {} names", names.len());
        let left_out = count - names.len();
        assert_eq!(svg.contains(&format!("{left_out} labels left out")), left_out > 1, "{count}: {left_out}");
        let text = figure(&script).text(Screen { columns: 80, depth: ColorDepth::None }).unwrap();
        assert!(text.contains("name 0") && text.contains("left out") == (count > 5), "{text}");
    }
}

#[test]
fn a_name_is_no_markup() {
    let svg = svg(&figure("scatter_plot([1, 2, ()], [1, 2, 3], #{ labels: [\"<b>&$x$\", \"\", \"gone\"] })"));
    assert_well_formed(&svg);
    assert!(svg.contains("&lt;b&gt;&amp;$x$") && !svg.contains("<b>") && !svg.contains("gone"), "{svg}");
    assert_eq!(boxes(&svg).1.len(), 1, "an empty label is none");
}
