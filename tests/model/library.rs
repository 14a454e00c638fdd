//! The standard library's patching, heads and circuits: TransformerLens's numbers (`make_library_fixtures.py`), and the
//! laws that they follow.

use crate::support::checksum::assert_checksum;
use crate::support::{assert_contains, eval_tensor, fixture, run_script, script_failure, session, tiny_path};
use lancet::session::Session;
use serde_json::Value;

/// What a fixture's call is here.
fn script(call: &str) -> String {
    let words: Vec<&str> = call.split(' ').collect();
    match words[..] {
        [name, measure, ref options @ ..] if name.ends_with("_head") => {
            let options: Vec<String> = options.iter().map(|option| format!("{option}: true")).collect();
            format!("heads::detect_head(model, repeated, \"{name}\", \"{measure}\", #{{ {} }})", options.join(", "))
        }
        ["composition", mode] => format!("circuits::composition_scores(model, \"{mode}\", [0, 1, 2])"),
        ["induction"] => "heads::induction_scores(model, [repeated], 4)".into(),
        ["copying"] => "heads::copying_scores(model)".into(),
        _ => format!("patching::get_act_patch_{call}(model, corrupted, cache, metric).nan_to_num()"),
    }
}

/// `model`, the fixture's prompts, and what patching takes.
fn prepared(name: &str, reference: &Value) -> Session {
    let mut session = session();
    session.set_variable("path", tiny_path(name).display().to_string().into());
    let prompts =
        ["clean", "corrupted", "repeated"].map(|name| format!("let {name} = {};", reference[name])).concat();
    run_script(
        &mut session,
        &format!(
            "{prompts} let model = load_model(path, #{{ device: device }}); \
             let metric = |logits| (logits[:, 5] - logits[:, 7]).mean(); let cache = model.run_with_cache(clean).cache;"
        ),
    );
    session
}

fn reference() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("library.json")).unwrap()).unwrap()
}

#[test]
fn every_function_gives_the_numbers_of_transformer_lens() {
    let reference = reference();
    for (name, expected) in reference["models"].as_object().unwrap() {
        let mut session = prepared(name, &reference);
        let expected = expected.as_object().unwrap();
        assert!(expected.len() >= 41, "{name}");
        for (call, expected) in expected {
            let what = format!("{name} {call}");
            let value = eval_tensor(&mut session, &script(call));
            let shape: Vec<i64> = serde_json::from_value(expected[0].clone()).unwrap();
            assert_eq!(value.size(), shape, "{what}");
            assert_checksum(&what, &value, &expected.as_array().unwrap()[1..3]);
        }
    }
}

/// The scripts of tests/model/library contain their own assertions.
#[test]
fn laws_hold() {
    let reference = reference();
    for (name, script) in LAWS {
        let mut session = prepared("qwen2", &reference);
        println!("{name}");
        run_script(&mut session, script);
    }
}
