//! Programs compiled by Tracr (`make_tracr_fixtures.py`): what they compute, in Tracr's own numbers and words, and their known
//! edges.

use lancet::model::hook::{self, HookPoint, Site};
use lancet::model::language_model::LanguageModel;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::support::{capture_all, eval_tensor, fixture, load, max_difference, run_script, session};

const PROGRAMS: [&str; 6] = ["balance", "histogram", "length", "pattern", "reverse", "sort"];

fn path(program: &str) -> String {
    fixture(&format!("tracr/{program}")).display().to_string()
}

fn json(program: &str, file: &str) -> Value {
    let text = std::fs::read_to_string(fixture(&format!("tracr/{program}/{file}"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn rows(value: &Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    Tensor::from_slice2(&rows).unsqueeze(0)
}

fn ids(text: &Value) -> Tensor {
    let ids: Vec<i64> = serde_json::from_value(text["ids"].clone()).unwrap();
    Tensor::from_slice(&ids).unsqueeze(0)
}

/// The activations in the order in which Tracr lists them: of attention, MLP, attention, ..
fn alternating(attention: Site, mlp: Site, layers: i64) -> Vec<HookPoint> {
    (0..layers).flat_map(|layer| [attention, mlp].map(|site| HookPoint { site, layer })).collect()
}

#[test]
fn logits_and_every_layer_are_those_of_tracr() {
    let mut directions = Vec::new();
    for program in PROGRAMS {
        for (kind, allowed) in [(Kind::Float, 1e-6), (Kind::Double, 1e-12)] {
            let model = load(&path(program), kind);
            let layers = model.config().n_layers;
            for text in json(program, "expected.json").as_array().unwrap() {
                let (logits, cache) = capture_all(&model, &ids(text));
                let near = |what: &str, ours: &Tensor, wanted: &Value| {
                    let difference = max_difference(ours, &rows(wanted));
                    assert!(difference <= allowed, "{program} {kind:?} {what}: {difference:e}");
                };
                near("logits", &logits, &text["logits"]);
                let at = |point: &HookPoint| cache.get(*point).unwrap();
                near("embeddings", at(&HookPoint { site: Site::ResidPre, layer: 0 }), &text["embeddings"]);
                for (list, attention, mlp) in [
                    ("residuals", Site::ResidMid, Site::ResidPost),
                    ("layer_outputs", Site::AttentionOut, Site::MlpOut),
                ] {
                    let points = alternating(attention, mlp, layers);
                    let wanted = text[list].as_array().unwrap();
                    assert_eq!(points.len(), wanted.len());
                    for (point, wanted) in points.iter().zip(wanted) {
                        near(&point.name(), at(point), wanted);
                    }
                }
            }
            directions.push(model.config().causal);
        }
    }
    assert!(directions.contains(&true) && directions.contains(&false));
}

/// The program's output in its own words; the first position holds the token that begins a text.
fn decoded(model: &LanguageModel, outputs: &Value, tokens: &Tensor) -> Vec<Value> {
    let logits = capture_all(model, tokens).0.select(0, 0).narrow(0, 1, tokens.size()[1] - 1);
    match outputs.as_array() {
        Some(words) => {
            let best = Vec::<i64>::try_from(logits.argmax(-1, false)).unwrap();
            best.into_iter().map(|output| words[output as usize].clone()).collect()
        }
        None => Vec::<f64>::try_from(logits.select(1, 0)).unwrap().into_iter().map(Value::from).collect(),
    }
}

#[test]
fn programs_give_what_they_give_in_tracr() {
    for program in PROGRAMS {
        let model = load(&path(program), Kind::Float);
        let outputs = &json(program, "program.json")["outputs"];
        for text in json(program, "expected.json").as_array().unwrap() {
            let tokens = text["tokens"].as_str().unwrap();
            let encoded = model.encode(tokens, false).unwrap();
            assert_eq!(Tensor::from_slice(&encoded).unsqueeze(0), ids(text), "{program} {tokens}");
            assert_eq!(model.encode(tokens.strip_prefix("BOS ").unwrap(), true).unwrap(), encoded);
            assert_eq!(model.decode(&encoded).unwrap(), tokens);
            assert!(model.encode("BOS z", false).is_err(), "{program}: the program has no such symbol");
            let (ours, wanted) = (decoded(&model, outputs, &ids(text)), text["decoded"].as_array().unwrap());
            assert_eq!(ours.len(), wanted.len());
            for (ours, wanted) in ours.iter().zip(wanted) {
                match (outputs.is_null(), ours.as_f64(), wanted.as_f64()) {
                    (true, Some(ours), Some(wanted)) => assert!((ours - wanted).abs() < 1e-5, "{program} {tokens}"),
                    _ => assert_eq!(ours, wanted, "{program} {tokens}"),
                }
            }
        }
    }
}

/// The edges of a program, by the names of its parts.
fn edges(program: &str, file: &str) -> Vec<(String, String)> {
    let names: Vec<String> = serde_json::from_value(json(program, file)).unwrap();
    names.iter().map(|name| name.split_once("->").map(|(from, to)| (from.to_owned(), to.to_owned())).unwrap()).collect()
}

/// What a part adds to the residual stream, from the activations of a run.
fn added(model: &LanguageModel, part: &str, tokens: &Tensor) -> Tensor {
    let (_, cache) = capture_all(model, tokens);
    let at = |site, layer| cache.get(HookPoint { site, layer }).unwrap().shallow_clone();
    let number = |text: &str| text.parse::<i64>().unwrap();
    match (part.strip_prefix('a').and_then(|rest| rest.split_once(".h")), part.strip_prefix('m')) {
        (Some((layer, head)), _) => at(Site::HeadResult, number(layer)).select(2, number(head)),
        (_, Some(layer)) => at(Site::MlpOut, number(layer)),
        _ => at(Site::ResidPre, 0),
    }
}

/// The weights with which a place reads the residual stream, [read, d_model].
fn reader(model: &LanguageModel, place: &str) -> Tensor {
    let decoder = &model.decoder;
    let number = |text: &str| text.parse::<i64>().unwrap();
    if place == "logits" {
        return decoder.unembedding.weight.shallow_clone();
    }
    if let Some(layer) = place.strip_prefix('m') {
        return decoder.blocks[number(layer) as usize].mlp.as_ref().unwrap().up.weight.shallow_clone();
    }
    let (layer, rest) = place[1..].split_once(".h").unwrap();
    let (head, kind) = rest.trim_end_matches('>').split_once('<').unwrap();
    let attention = &decoder.blocks[number(layer) as usize].attention;
    let linear = match kind {
        "q" => &attention.query,
        "k" => &attention.key,
        _ => &attention.value,
    };
    let size = decoder.config.d_head;
    linear.weight.narrow(0, number(head) * size, size)
}

/// Each known edge exists in the loaded model, by its own activations and weights; every other pair of parts is unconnected on
/// the texts of the fixture.
#[test]
fn the_known_edges_are_those_along_which_something_is_read() {
    for program in PROGRAMS {
        let model = load(&path(program), Kind::Double);
        let (known, varying) = (edges(program, "edges.json"), edges(program, "varying_edges.json"));
        assert!(!varying.is_empty() && varying.iter().all(|edge| known.contains(edge)), "{program}");
        assert!(known.iter().any(|(_, to)| to == "logits"), "{program}");
        let config = model.config();
        let heads = |layer| (0..config.n_heads).map(move |head| format!("a{layer}.h{head}"));
        let mut parts = vec!["input".to_owned()];
        for layer in 0..config.n_layers {
            let mut places: Vec<String> =
                heads(layer).flat_map(|head| ["q", "k", "v"].map(|kind| format!("{head}<{kind}>"))).collect();
            check_places(program, &model, &parts, &places, &known);
            parts.extend(heads(layer));
            places = vec![format!("m{layer}")];
            check_places(program, &model, &parts, &places, &known);
            parts.extend(places);
        }
        check_places(program, &model, &parts, &["logits".to_owned()], &known);
    }
}

fn check_places(program: &str, model: &LanguageModel, parts: &[String], places: &[String], known: &[(String, String)]) {
    let _guard = tch::no_grad_guard();
    for (part, place) in parts.iter().flat_map(|part| places.iter().map(move |place| (part, place))) {
        let is_read = json(program, "expected.json").as_array().unwrap().iter().any(|text| {
            let written = added(model, part, &ids(text)).abs().amax([0, 1].as_slice(), false);
            let read = reader(model, place).abs().amax([0].as_slice(), false);
            written.minimum(&read.to_device(written.device())).max().double_value(&[]) > 1e-6
        });
        let is_known = known.contains(&(part.clone(), place.clone()));
        // The fixture's few texts show no edge that is not known.
        assert!(is_known || !is_read, "{program}: {part}->{place} is read, but not known");
        assert!(is_read || !is_known, "{program}: {part}->{place} is known, but not read");
    }
}

/// A program's hooks are those of any model; without norms there are none of their scales.
#[test]
fn hooks_have_their_names_and_change_the_run() {
    let model = load(&path("histogram"), Kind::Float);
    let names: Vec<String> = hook::points(model.config()).iter().map(HookPoint::name).collect();
    assert!(!names.iter().any(|name| name.ends_with("hook_scale") || name.ends_with("hook_normalized")));
    for name in ["blocks.0.attn.hook_pattern", "blocks.0.ln1.hook_in", "blocks.0.mlp.hook_post", "ln_final.hook_out"] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
    let mut session = session();
    session.set_variable("path", path("histogram").into());
    // Without its head the program cannot count.
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device });
        assert_eq(model.forward("BOS a b a a")[0].argmax(-1).to_array().extract(1), [1, 1, 2, 3]);
        let cut = model.run_with_hooks("BOS a b a a", [zero("blocks.0.attn.hook_z")]);
        assert(cut[0].argmax(-1).to_array().extract(1) != [1, 1, 2, 3]);
        "#,
    );
}

/// In a bidirectional program a patch of the last token changes the first one's logits: attention sees ahead.
#[test]
fn a_later_token_changes_earlier_outputs() {
    let mut session = session();
    session.set_variable("path", path("reverse").into());
    let first = eval_tensor(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device });
        let of = |text| model.forward(text)[0, 1].argmax().item();
        tensor([of.call("BOS a b c"), of.call("BOS a b a")])
        "#,
    );
    assert_eq!(Vec::<i64>::try_from(first).unwrap(), [2, 0]);
}
