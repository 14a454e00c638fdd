//! Activation patching against transformers (see `fixtures/make_patching_fixtures.py`), by the library and by the
//! standard library's `patching` module, and identities that hold for any weights.

use crate::support::{
    Expected, eval, eval_tensor, fixture, logits, logits_with, max_difference, run_script, session, tiny, tiny_path,
};
use lancet::model::config::Config;
use lancet::model::decoder::Logits;
use lancet::model::hook::{self, HookPoint};
use lancet::model::intervention::{At, Change, Intervention};
use lancet::model::language_model::LanguageModel;
use lancet::model::run::{Action, Hooks};
use tch::Tensor;

const MODELS: &[&str] = &["olmo2", "llama3", "gpt2", "gpt_neox", "gemma2"];
const POSITIONS: &[(&str, i64)] = &[("pos0", 0), ("poslast", -1)];

/// One model with its reference.
struct Case {
    name: &'static str,
    model: LanguageModel,
    expected: Expected,
    sets: Vec<Vec<i64>>,
    source: Tensor,
    target: Tensor,
    answer: i64,
}

fn cases() -> impl Iterator<Item = Case> {
    MODELS.iter().map(|name| {
        let expected = Expected::open(&fixture(&format!("patching/{name}.safetensors")));
        let pairs: Vec<Vec<i64>> = expected.get("sets").try_into().unwrap();
        let sets = pairs.into_iter().map(|mut pair| {
            pair.dedup();
            pair
        });
        Case {
            name,
            model: tiny(name),
            sets: sets.collect(),
            source: expected.get("source_ids").unsqueeze(0),
            target: expected.get("target_ids").unsqueeze(0),
            answer: expected.get("answer_id").int64_value(&[]),
            expected,
        }
    })
}

fn after_layer(layer: i64, config: &Config) -> HookPoint {
    hook::parse(&format!("blocks.{layer}.hook_resid_post"), config).unwrap()
}

/// The residual after every layer at the source's last position, [layer, d_model].
fn vectors(case: &Case) -> Tensor {
    let config = case.model.config();
    let mut hooks = Hooks::none();
    hooks.add(config, hook::matching("blocks.*.hook_resid_post", config).unwrap(), "residuals", Action::Capture);
    let _guard = tch::no_grad_guard();
    let _ = case.model.decoder.forward(&case.source, Logits::Last, &mut hooks).unwrap();
    let cache = hooks.finish().unwrap();
    let device = case.model.decoder.output_device();
    let row = |l| cache.get(after_layer(l, config)).unwrap().select(0, 0).select(0, -1).to_device(device);
    let rows: Vec<Tensor> = (0..config.n_layers).map(row).collect();
    Tensor::stack(&rows, 0)
}

/// All positions' logits of the target, [pos, d_vocab], with the layers of `set` patched at `position`.
fn patched(case: &Case, set: &[i64], position: i64, vectors: &Tensor) -> Tensor {
    let config = case.model.config();
    let mut hooks = Hooks::none();
    for layer in set {
        let (point, value) = (after_layer(*layer, config), vectors.select(0, *layer));
        let (positions, change) = (At::One(position), Change::Patch(value));
        hooks.intervene(config, Intervention { point, positions, rows: None, head: None, change });
    }
    logits_with(&case.model, &case.target, hooks).select(0, 0)
}

fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    let difference = max_difference(ours, theirs);
    assert!(difference <= tolerance, "{what}: largest difference {difference:e}, allowed {tolerance:e}");
}

#[test]
fn interventions_give_the_reference_grid() {
    for case in cases() {
        let vectors = vectors(&case);
        assert_close(case.name, &vectors, case.expected.get("source_resid_last"), 5e-5);
        let clean = logits(&case.model, &case.target).select(0, 0).select(0, -1);
        assert_close(case.name, &clean, case.expected.get("clean.logits"), 5e-5);
        for (key, position) in POSITIONS {
            let rows: Vec<Tensor> =
                case.sets.iter().map(|set| patched(&case, set, *position, &vectors).select(0, -1)).collect();
            let grid = Tensor::stack(&rows, 0);
            assert_close(&format!("{} {key}", case.name), &grid, case.expected.get(&format!("{key}.logits")), 5e-5);
            let answer = grid.narrow(1, case.answer, 1);
            let ranks = grid.gt_tensor(&answer).sum_dim_intlist([1].as_slice(), false, tch::Kind::Int64) + 1;
            let ranks = ranks.to_device(tch::Device::Cpu);
            assert_eq!(ranks, *case.expected.get(&format!("{key}.answer_rank")), "{} {key} ranks", case.name);
        }
    }
}

/// The same by the planner, through a script.
#[test]
fn the_planner_gives_the_reference_grid() {
    for case in cases() {
        let mut session = session();
        for (name, ids) in [("source", &case.source), ("target", &case.target)] {
            let ids: Vec<i64> = ids.reshape([-1]).try_into().unwrap();
            session.set_variable(name, ids.into_iter().map(rhai::Dynamic::from).collect::<rhai::Array>().into());
        }
        session.set_variable("path", tiny_path(case.name).display().to_string().into());
        session.set_variable("answer", case.answer.into());
        run_script(&mut session, r#"let model = load_model(path, #{ device: device });"#);
        for (key, position) in POSITIONS {
            session.set_variable("position", (*position).into());
            // 1: a block pass per state; 3: the last pass is smaller; 4096: all states at once.
            for tokens_at_once in [1, 3, 4096] {
                session.set_variable("tokens_at_once", rhai::Dynamic::from(tokens_at_once as i64));
                run_script(
                    &mut session,
                    "let grid = model.patch_grid(#{ source: source, target: target, answer: [answer], position: position, tokens_at_once: tokens_at_once,
                        store: false, quiet: true });",
                );
                let sets: rhai::Array = eval(&mut session, "grid.sets").cast();
                let sets: Vec<Vec<i64>> = sets.into_iter().map(|set| set.into_typed_array().unwrap()).collect();
                assert_eq!(sets, case.sets, "the sets come in the reference's order");
                let what = format!("{} {key}, {tokens_at_once} tokens at once", case.name);
                let logit = eval_tensor(&mut session, "grid.patched_logit.squeeze(1)");
                assert_close(&what, &logit, case.expected.get(&format!("{key}.answer_logit")), 5e-5);
                let rank = eval_tensor(&mut session, "grid.rank.squeeze(1)");
                assert_eq!(rank, *case.expected.get(&format!("{key}.answer_rank")), "{what}: ranks");
            }
        }
    }
}

#[test]
fn a_patch_after_the_last_layer_reaches_its_own_position_only() {
    for case in cases() {
        let vectors = vectors(&case);
        let clean = logits(&case.model, &case.target).select(0, 0);
        let last_layer = case.model.config().n_layers - 1;
        for position in [0, 2] {
            let logits = patched(&case, &[last_layer], position, &vectors);
            for other in (0..5).filter(|other| *other != position) {
                assert_close(case.name, &logits.select(0, other), &clean.select(0, other), 0.0);
            }
            assert!(max_difference(&logits.select(0, position), &clean.select(0, position)) > 1e-2, "{}", case.name);
        }
    }
}

#[test]
fn at_the_last_position_the_later_patch_decides() {
    for case in cases() {
        let vectors = vectors(&case);
        for set in case.sets.iter().filter(|set| set.len() == 2) {
            let both = patched(&case, set, -1, &vectors).select(0, -1);
            let later = patched(&case, &set[1..], -1, &vectors).select(0, -1);
            assert_close(case.name, &both, &later, 0.0);
        }
    }
}

#[test]
fn positions_before_the_patch_do_not_change_and_later_ones_do() {
    for case in cases() {
        let vectors = vectors(&case);
        let clean = logits(&case.model, &case.target).select(0, 0);
        let logits = patched(&case, &[0], 2, &vectors);
        assert_close(case.name, &logits.narrow(0, 0, 2), &clean.narrow(0, 0, 2), 0.0);
        for position in 2..5 {
            let difference = max_difference(&logits.select(0, position), &clean.select(0, position));
            assert!(difference > 1e-3, "{} position {position}: {difference:e}", case.name);
        }
    }
}

#[test]
fn patching_the_sources_last_vector_into_the_source_changes_nothing() {
    for mut case in cases() {
        let vectors = vectors(&case);
        case.target = case.source.shallow_clone();
        let clean = logits(&case.model, &case.source).select(0, 0);
        for set in &case.sets {
            assert_close(case.name, &patched(&case, set, -1, &vectors), &clean, 0.0);
        }
    }
}
