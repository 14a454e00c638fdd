//! Texts in the cells of heatmaps.

use lancet::plot::{ColorDepth, Figure, Heatmap, HeatmapOptions, Screen};

use crate::plot::script::error;
use crate::plot::{attribute, png};
use crate::support::engine;
use crate::support::svg::assert_well_formed;

/// Three layers by four positions of a logit lens.
const LENS: &str = r#"
    let texts = [[" the", " Paris", "an unreasonably long token of a tokenizer", "\n"],
                 [" a", "</script>", "<b>&", "$x$"],
                 ["", "é", "日本語", "WWWWWWWWWWWWWWWWWWWWWWWW"]];
    heatmap([[0.2, 0.9, 0.5, 0.1], [0.4, 0.7, 0.0, 1.0], [0.3, 0.6, 0.0 / 0.0, 0.8]], #{
        cells: texts, x_ticks: ["The", " capital", " of", " France"], color_label: "probability", mark: [0, 1],
    })
"#;

fn svg(script: &str) -> String {
    let text = engine().eval::<String>(&format!("({{ {script} }}).svg()"));
    text.unwrap_or_else(|error| panic!("{script}: {error}"))
}

fn text(script: &str, columns: usize, depth: ColorDepth) -> String {
    engine().eval::<Figure>(script).unwrap().text(Screen { columns, depth }).unwrap()
}

/// The text of a text element.
fn words(cell: &str) -> Option<&str> {
    cell.split_once("<text")?.1.split_once('>')?.1.split('<').next()
}

/// The groups of cells: the note, the box and the text of each.
fn cells(svg: &str) -> Vec<&str> {
    let group = &svg[svg.find("<g class=\"cells\">").unwrap()..];
    group.split("<g class=\"tt\">").skip(1).map(|cell| cell.split("</g>").next().unwrap()).collect()
}

#[test]
fn every_text_lies_within_its_cell() {
    let figure = engine().eval::<Figure>(LENS).unwrap();
    let svg = svg(LENS);
    assert_well_formed(&svg);
    let (row_length, _, pixels) = png(&figure);
    let cells = cells(&svg);
    assert_eq!(cells.len(), 11, "one for each value, none for the blank");
    for cell in cells {
        let (_, after) = cell.split_once("<rect").unwrap();
        let [left, top, width, height] = ["x", "y", "width", "height"].map(|name| attribute(after, name));
        let mut inked = 0;
        let at = |x: f64, y: f64| pixels[(y * 2.0) as usize * row_length + (x * 2.0) as usize];
        // The marked cell has a line around it, two pixels wide.
        let paper = at(left + 2.5, top + 2.5);
        for y in (6..(height * 2.0) as usize - 6).map(|step| top + step as f64 / 2.0) {
            assert_eq!([at(left + 2.5, y), at(left + width - 3.0, y)], [paper; 2], "{cell}");
            let row = (6..(width * 2.0) as usize - 6).map(|step| left + step as f64 / 2.0);
            inked += row.filter(|x| at(*x, y) != paper).count();
        }
        assert!(inked > 20 || words(cell).is_none(), "{cell}");
    }
}

#[test]
fn a_long_text_is_cut_and_noted_in_full() {
    let svg = svg(LENS);
    let cell = cells(&svg)[2];
    assert!(cell.contains("an unreasonably long token of a tokenizer"), "{cell}");
    let drawn = words(cell).unwrap();
    let kept = drawn.strip_suffix('…').expect("an ellipsis");
    assert!(kept.len() > 3 && "an unreasonably long token".starts_with(kept), "{drawn}");
    assert!(svg.contains("&lt;/script&gt;") && svg.contains("&lt;b&gt;&amp;") && !svg.contains("<b>"));
    assert!(svg.contains('↵'), "a line break is visible");
}

/// The contrast ratio of WCAG 2, which asks for 4.5.
fn contrast(one: &str, other: &str) -> f64 {
    let channel = |color: &str, place: usize| {
        let share = f64::from(u8::from_str_radix(&color[place..place + 2], 16).unwrap()) / 255.0;
        if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    };
    let light = |color: &str| 0.2126 * channel(color, 1) + 0.7152 * channel(color, 3) + 0.0722 * channel(color, 5);
    let (one, other) = (light(one), light(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn texts_contrast_with_their_cells() {
    for map in ["viridis", "diverging", "reds"] {
        let svg = svg(&format!("heatmap([(0..64).map(|i| i / 63.0)], #{{ cells: \".2\", color_map: \"{map}\" }})"));
        for cell in cells(&svg) {
            let color = |element: &str| {
                let (_, rest) = cell.split_once(element).unwrap();
                let (_, fill) = rest.split_once("fill=\"").unwrap();
                fill.split('"').next().unwrap()
            };
            let ratio = contrast(color("<rect"), color("<text"));
            assert!(ratio > 4.5, "{map}: {ratio} in {cell}");
        }
    }
}

#[test]
fn a_format_writes_the_numbers() {
    let svg = svg("heatmap([[0.256, -1.5, 0.0 / 0.0]], #{ cells: \"+.2\" })");
    let drawn: Vec<&str> = cells(&svg).into_iter().filter_map(words).collect();
    assert_eq!(drawn, ["+0.26", "-1.50"]);
}

#[test]
fn a_terminal_shows_a_table() {
    insta::assert_snapshot!(text(LENS, 80, ColorDepth::None));
    let wide = "heatmap([(0..30).to_array()], #{ cells: [(0..30).map(|i| ` token ${i}`)], title: \"Many\" })";
    for columns in [20, 33, 80, 200] {
        for depth in [ColorDepth::None, ColorDepth::True] {
            for script in [LENS, wide] {
                let text = text(script, columns, depth);
                let mut lines = text.lines().filter(|line| !line.starts_with("marked: "));
                assert!(lines.all(|line| console::measure_text_width(line) <= columns), "{columns}: {text}");
            }
        }
    }
    let narrow = text(wide, 80, ColorDepth::None);
    assert!((0..30).all(|token| narrow.contains(&format!("token {token}"))), "blocks hold all columns: {narrow}");
}

#[test]
fn wrong_cells_are_refused() {
    let error = |options: &str| error(&format!("heatmap([[1, 2]], #{{ {options} }})"));
    let errors = [
        error("cells: [[\"a\"]]"),
        error("cells: [[\"a\", \"b\"], [\"c\", \"d\"]]"),
        error("cells: [\"a\", \"b\"]"),
        error("cells: [[\"a\", true]]"),
        error("cells: 3"),
        error("cells: \".x\""),
        error("cells: \".2\", annotate: true"),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn files_of_all_formats_hold_the_texts() {
    let folder = tempfile::tempdir().unwrap();
    let figure = engine().eval::<Figure>(LENS).unwrap();
    let read = |name: &str| {
        figure.save(&folder.path().join(name)).unwrap();
        std::fs::read(folder.path().join(name)).unwrap()
    };
    assert!(read("lens.png").starts_with(b"\x89PNG") && read("lens.pdf").starts_with(b"%PDF"));
    let page = String::from_utf8(read("lens.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("Paris") && !page.contains("{{"), "{page}");
    assert!(!page.contains("</script>") && !page.contains("http://www.example") && !page.contains("<b>"));
}

#[test]
fn braces_in_a_title_stay() {
    let options = HeatmapOptions::default();
    let mut options = HeatmapOptions { cells: Some(vec![vec!["{{title}}".into()]]), ..options };
    options.labels.title = "{{body}} & {{title}}".into();
    let figure = Figure::from(Heatmap::new(vec![vec![1.0]], options).unwrap());
    let folder = tempfile::tempdir().unwrap();
    figure.save(&folder.path().join("a.html")).unwrap();
    let page = std::fs::read_to_string(folder.path().join("a.html")).unwrap();
    assert!(page.contains("<title>{{body}} &amp; {{title}}</title>"), "{page}");
    assert_eq!(page.matches("<svg").count(), 1);
}
