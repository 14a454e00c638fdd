//! Views of tokens: attention patterns and coloured tokens, as pages, drawings and text.

use lancet::plot::{ColorDepth, Figure, Screen};
use serde_json::Value;

use crate::plot::script::error;
use crate::plot::{png, svg};
use crate::support::svg::assert_well_formed;
use crate::support::{engine, session};

const TOKENS: &str = r#"["<s>", " </script>", " <b>bold", "\n", " cat", "&amp;"]"#;

fn figure(script: &str) -> Figure {
    engine().eval::<Figure>(script).unwrap_or_else(|error| panic!("{script}: {error}"))
}

fn attention(patterns: &str, options: &str) -> Figure {
    figure(&format!("attention_view({TOKENS}, {patterns}, #{{ {options} }})"))
}

/// The page that a figure is saved as.
fn page(figure: &Figure) -> String {
    let folder = tempfile::tempdir().unwrap();
    figure.save(&folder.path().join("page.html")).unwrap();
    std::fs::read_to_string(folder.path().join("page.html")).unwrap()
}

/// A text without the elements of this name, and how many there were.
fn without(text: &str, name: &str) -> (String, usize) {
    let (mut kept, mut rest, mut count) = (String::new(), text, 0);
    while let Some((before, after)) = rest.split_once(&format!("<{name}")) {
        kept += before;
        rest = after.split_once(&format!("</{name}>")).expect("it ends").1;
        count += 1;
    }
    (kept + rest, count)
}

/// A page is self-contained, and no text of its data is markup.
fn assert_safe(page: &str, scripts: usize) {
    let (markup, count) = without(page, "script");
    assert_eq!(count, scripts, "{markup}");
    let (markup, _) = without(&markup, "style");
    for forbidden in ["</script", "<b>", "src=", "href=", "http"] {
        assert!(!markup.contains(forbidden), "{forbidden} in {markup}");
    }
    assert!(!page.contains("@import") && !page.contains("url("), "nothing is loaded");
    let (_, body) = markup.split_once("<body>").unwrap();
    assert_well_formed(&body.replace("<br>", "<br/>"));
}

/// The data of an attention view's page.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\">").unwrap();
    serde_json::from_str(rest.split("</script>").next().unwrap()).unwrap()
}

#[test]
fn an_attention_page_holds_every_weight_below_the_diagonal() {
    let figure = attention("arange(72.0).reshape([2, 6, 6])", "title: \"A <b> title\", head: 1");
    let page = page(&figure);
    assert_safe(&page, 2);
    assert!(page.contains("<h2>A &lt;b&gt; title</h2>"));
    let data = data(&page);
    let tokens: Vec<&str> = data["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(tokens, ["<s>", " </script>", " <b>bold", "↵", " cat", "&amp;"]);
    assert_eq!((data["first"].as_i64(), data["top"].as_f64()), (Some(1), Some(71.0)));
    let steps = data["steps"].as_f64().unwrap();
    for (place, head) in data["heads"].as_array().unwrap().iter().enumerate() {
        assert_eq!(head["name"], format!("H{place}"));
        let weights = head["weights"].as_array().unwrap();
        assert_eq!(weights.len(), 21);
        for (query, key) in (0..6).flat_map(|query| (0..=query).map(move |key| (query, key))) {
            let weight = weights[query * (query + 1) / 2 + key].as_f64().unwrap() / steps * 71.0;
            assert!((weight - (36 * place + 6 * query + key) as f64).abs() < 71.0 / steps, "{place} {query} {key}");
        }
    }
}

#[test]
fn layers_name_their_heads() {
    let names = |patterns: &str, options: &str| -> Vec<String> {
        let data = data(&page(&attention(patterns, options)));
        data["heads"].as_array().unwrap().iter().map(|head| head["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("ones([2, 2, 6, 6])", ""), ["L0H0", "L0H1", "L1H0", "L1H1"]);
    assert_eq!(names("ones([1, 2, 6, 6])", ""), ["H0", "H1"]);
    assert_eq!(names("ones([6, 6])", ""), ["H0"]);
    assert_eq!(names("ones([2, 6, 6])", "labels: [\"</script>\", 7]"), ["</script>", "7"]);
}

#[test]
fn blanks_and_scores_are_shown() {
    // Scores are negative, and infinite above the diagonal; filling is NaN.
    let infinite = "let t = -ones([2, 6, 6]); t[.., 0, 1] = -1.0 / 0.0; t[0, 0, 0] = 0.0 / 0.0; ";
    let figure = figure(&format!("{infinite} attention_view({TOKENS}, t)"));
    let data = data(&page(&figure));
    assert!(data["heads"][0]["weights"][0].is_null());
    assert_eq!(data["heads"][1]["weights"][0].as_f64(), data["steps"].as_f64().map(|steps| -steps));
}

#[test]
fn attention_is_drawn_for_files_and_the_terminal() {
    let figure = attention("softmax(arange(108.0).reshape([3, 6, 6]), -1)", "head: 2, title: \"Heads\"");
    let svg = svg(&figure);
    assert_well_formed(&svg);
    assert_eq!(svg.matches("class=\"panel\"").count(), 3);
    assert_eq!(svg.matches("class=\"colorbar\"").count(), 1, "one scale");
    assert!(png(&figure).0 > 500);
    let text = figure.text(Screen { columns: 80, depth: ColorDepth::None }).unwrap();
    assert!(text.starts_with("Heads, H2\n") && text.contains("cat"), "{text}");
}

#[test]
fn wrong_attention_is_refused() {
    let error =
        |patterns: &str, options: &str| error(&format!("attention_view([\"a\", \"b\"], {patterns}, #{{ {options} }})"));
    let errors = [
        error("ones([2, 3, 3])", ""),
        error("ones([2, 2, 3])", ""),
        error("ones([2])", ""),
        error("ones([0, 2, 2])", ""),
        error("ones([2, 2, 2])", "head: 2"),
        error("ones([2, 2, 2])", "head: -1"),
        error("ones([2, 2, 2])", "labels: [\"a\"]"),
        error("ones([2, 2, 2]) / 0.0", ""),
        error("ones([2, 2, 2]) * (0.0 / 0.0)", ""),
        error("ones([2, 2, 2])", "heads: 1"),
        error("[[1]]", ""),
        crate::plot::script::error("attention_view([], ones([2, 2, 2]))"),
        crate::plot::script::error("attention_view((0..2000).map(|i| \"t\"), ones([2, 2000, 2000]))"),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn a_token_page_holds_every_token_and_value() {
    let figure = figure(&format!(
        "token_view({TOKENS}, [[0.5, -1, 2, 0, (), 4], [1, 2, 3, 4, 5, 6]], #{{
            labels: [\"latent <1>\", \"two\"], format: \"+.2\", title: \"Latents\", color_label: \"activation\" }})"
    ));
    let page = page(&figure);
    assert_safe(&page, 1);
    let rows: Vec<&str> = page.split("<section>").skip(1).collect();
    assert_eq!(rows.len(), 2);
    let values = |row: &str| -> Vec<String> {
        row.split("data-value=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    assert_eq!(values(rows[0]), ["+0.50", "-1.00", "+2.00", "+0.00", "no value", "+4.00"]);
    assert_eq!(values(rows[1]).last().unwrap(), "+6.00");
    assert!(
        rows[0].contains(">&lt;s&gt;<") && rows[0].contains("> &lt;/script&gt;<") && rows[0].contains(">&amp;amp;<")
    );
    assert!(rows[0].starts_with("<h3>latent &lt;1&gt;</h3>") && page.contains("<option value=\"1\">two</option>"));
    // Blue below zero, red above it, and the same distance on both sides.
    let background = |row: &str, place: usize| {
        let token = row.split("<span ").nth(place + 1).unwrap();
        let (_, color) = token.split_once("background:#").unwrap();
        u32::from_str_radix(&color[..6], 16).unwrap()
    };
    let (red, blue) = (|color: u32| color >> 16, |color: u32| color & 255);
    let (negative, positive) = (background(rows[0], 1), background(rows[0], 5));
    assert!(blue(negative) > red(negative) && red(positive) > blue(positive), "{negative:x} {positive:x}");
    assert!(page.contains("activation: -6<") && page.contains("</span>6</span>"), "symmetric");
}

#[test]
fn positive_values_start_at_white() {
    let page = page(&figure("token_view([\"a\", \"b\", \"c\"], [0.0, 1.0, 2.0])"));
    assert!(page.contains(">0<span class=\"bar\"") && page.contains("</span>2</span>"), "{page}");
    assert!(!page.contains("<select>"), "one row leaves no choice");
    let page = self::page(&figure("token_view([\"a\"], [3.0], #{ range: [2, 4] })"));
    assert!(page.contains(">2<span class=\"bar\"") && page.contains("</span>4</span>"), "{page}");
}

#[test]
fn tokens_are_drawn_for_files_and_the_terminal() {
    let script = "let words = (0..300).map(|i| ` word${i}`); let t = token_view(words, (0..300).map(|i| i - 150)); t";
    let long = figure(script);
    let svg = svg(&long);
    assert_well_formed(&svg);
    assert_eq!(svg.matches("<g class=\"tt\">").count(), 300);
    assert!(png(&long).1 > 500);
    for columns in [20, 80] {
        for depth in [ColorDepth::None, ColorDepth::True] {
            let text = long.text(Screen { columns, depth }).unwrap();
            assert!(text.lines().all(|line| console::measure_text_width(line) <= columns), "{text}");
            assert!(console::strip_ansi_codes(&text).contains("word299"), "{text}");
        }
    }
    let many = figure("token_view((0..30).map(|i| [\"a\", \"b\\nc\"]), (0..30).map(|i| [i, 2]))");
    let text = many.text(Screen { columns: 80, depth: ColorDepth::None }).unwrap();
    assert!(text.starts_with("a[0]b↵c[2]\n") && text.contains("and 10 rows more"), "{text}");
}

#[test]
fn wrong_tokens_are_refused() {
    let scripts = [
        "token_view([\"a\", \"b\"], [1])",
        "token_view([\"a\", \"b\"], [1, 2, 3, 4])",
        "token_view([], [])",
        "token_view([\"a\"], [])",
        "token_view([\"a\"], [()])",
        "token_view([\"a\"], [1.0 / 0.0])",
        "token_view([\"a\"], ones([1, 1, 1]))",
        "token_view([\"a\"], zeros([0, 1]))",
        "token_view([\"a\"], 3)",
        "token_view([[\"a\"], [\"b\"]], [[1]])",
        "token_view([[\"a\"], 3], [[1], [2]])",
        "token_view([\"a\"], [1], #{ labels: [\"x\", \"y\"] })",
        "token_view([\"a\"], [1], #{ range: [1, 1] })",
        "token_view([\"a\"], [1], #{ range: [1] })",
        "token_view([\"a\"], [1], #{ format: \".z\" })",
        "token_view([\"a\"], [1], #{ color: \"red\" })",
        "token_view((0..20001).map(|i| \"t\"), zeros([20001]))",
    ];
    insta::assert_snapshot!(scripts.map(error).join("\n"));
}

#[test]
fn views_describe_themselves() {
    let views = [
        attention("ones([2, 6, 6])", "title: \"Layer 0\"").to_string(),
        figure("token_view([\"a\", \"b\"], [[1, 2], [3, 4]])").to_string(),
    ];
    insta::assert_snapshot!(views.join("\n"));
}

/// A report holds its views, each with the script that it needs.
#[test]
fn a_report_holds_views() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "report::finish(#{{ out: out }}, \"Views\", [
            report::figure(\"heads\", attention_view({TOKENS}, ones([2, 6, 6])), \"Heads.\"),
            report::figure(\"losses\", token_view({TOKENS}, ones([6])), \"Losses.\"),
            report::figure(\"table\", heatmap([[1.5]], #{{ cells: \".1\" }}), \"A table.\"),
        ], #{{}});"
    );
    let mut session = session();
    let out = folder.path().join("out").to_string_lossy().into_owned();
    let written = session.eval("report", &format!("let out = {out:?};\n{script}"));
    assert!(written.is_ok(), "{written:?}");
    let page = std::fs::read_to_string(folder.path().join("out/report.html")).unwrap();
    assert_eq!(page.matches("class=\"attention-view\"").count(), 1);
    assert_eq!(page.matches("class=\"token-view\"").count(), 1);
    let (markup, scripts) = without(&page, "script");
    assert_eq!(scripts, 3);
    assert_eq!(markup.matches("<figure>").count(), 3);
    assert!(markup.contains("<svg") && !markup.contains("<?xml"), "drawings have no head of their own");
    for name in ["heads.svg", "losses.pdf", "table.png"] {
        assert!(folder.path().join("out").join(name).exists(), "{name}");
    }
}
