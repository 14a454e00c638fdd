//! Toys: every switch and what it refuses, attention that looks ahead, outputs that are not tokens.

use lancet::model::decoder::Logits;
use lancet::model::hook;
use lancet::model::language_model::LanguageModel;
use lancet::model::padding::Side;
use lancet::model::run::{Action, Hooks};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::support::checkpoint::Checkpoint;
use crate::support::{
    Expected, assert_contains, capture_all, eval, failure, fixture, load, max_difference, run_script, script_failure,
    session, tiny_path,
};

fn bidirectional(kind: Kind) -> LanguageModel {
    load(&tiny_path("toy_bidirectional").display().to_string(), kind)
}

/// The causal toy is compared with the other tiny models.
#[test]
fn a_bidirectional_toy_gives_what_it_gives_in_transformer_lens() {
    let expected = Expected::open(&fixture("models/toy_bidirectional/expected.safetensors"));
    for (kind, prefix, allowed) in [(Kind::Float, "", 5e-5), (Kind::Double, "f64.", 1e-10)] {
        let model = bidirectional(kind);
        let mut compared = 0;
        for run in ["short", "long"] {
            let (logits, cache) = capture_all(&model, expected.get(&format!("{run}.input_ids")));
            assert_eq!(logits.size()[2], 11);
            let difference = max_difference(&logits, expected.get(&format!("{run}.{prefix}logits")));
            assert!(difference <= allowed, "{run} {kind:?}: {difference:e}");
            for point in hook::points(model.config()) {
                let name = format!("{run}.{prefix}{}", point.name());
                if !expected.names().any(|known| known == name) {
                    continue;
                }
                let difference = max_difference(cache.get(point).unwrap(), expected.get(&name));
                assert!(difference <= allowed, "{name} {kind:?}: {difference:e}");
                compared += 1;
            }
        }
        assert!(compared >= 6, "{kind:?}: {compared}");
    }
}

#[test]
fn every_switch_must_be_there_and_known() {
    let switches =
        ["d_model", "outputs_are_tokens", "n_layers", "n_heads", "d_head", "d_mlp", "d_vocab", "d_vocab_out", "n_ctx"];
    for switch in switches.into_iter().chain([
        "act_fn",
        "attn_only",
        "normalization_type",
        "attention_dir",
        "positional_embedding_type",
        "unembed_bias",
        "eps",
    ]) {
        let toy = Checkpoint::of("toy_bidirectional").with(switch, Value::Null);
        toy.write();
        assert_contains(&failure(toy.load()), &["config.json", &format!("`{switch}`")]);
    }
    for (switch, value, parts) in [
        ("act_fn", json!("tanh"), ["`act_fn` = \"tanh\"", "relu"]),
        ("act_fn", json!("solu_ln"), ["`act_fn` = \"solu_ln\"", "LayerNorm"]),
        ("normalization_type", json!("RMSPre"), ["`normalization_type` = \"RMSPre\"", "null"]),
        ("attention_dir", json!("backward"), ["`attention_dir` = \"backward\"", "bidirectional"]),
        ("positional_embedding_type", json!("rotary"), ["`positional_embedding_type` = \"rotary\"", "standard"]),
        ("tie_word_embeddings", json!(true), ["`tie_word_embeddings` = true", "false"]),
        ("n_key_value_heads", json!(2), ["`n_key_value_heads` = 2", "not supported"]),
        ("unembed_bias", json!("no"), ["`unembed_bias`", "true or false"]),
        ("outputs_are_tokens", json!(true), ["`d_vocab_out` = 11", "97"]),
    ] {
        let toy = Checkpoint::of("toy_bidirectional").with(switch, value);
        toy.write();
        assert_contains(&failure(toy.load()), &parts);
    }
}

/// A weight that the switches say is there must be there, and no other.
#[test]
fn weights_are_those_of_the_switches() {
    let mut toy = Checkpoint::of("toy_bidirectional");
    let bias = toy.tensors.remove("unembed.bias").unwrap();
    toy.write();
    assert_contains(&failure(toy.load()), &["`unembed.b_U` is missing"]);
    let mut without = Checkpoint::of("toy_bidirectional").with("unembed_bias", json!(false));
    without.tensors.remove("unembed.bias");
    without.write();
    assert!(without.load().unwrap().decoder.unembedding.bias.is_none());
    without.tensors.insert("unembed.bias".into(), bias);
    without.write();
    assert_contains(&failure(without.load()), &["`unembed.bias`", "does not use"]);
    let mut narrow = Checkpoint::of("toy_bidirectional").with("d_vocab_out", json!(97));
    narrow.write();
    assert_contains(&failure(narrow.load()), &["`unembed.weight`", "[11, 32]", "[97, 32]"]);
    // A mask beside the weights must be that of the attention.
    narrow = Checkpoint::of("toy_bidirectional");
    let all = Tensor::ones([32, 32], (Kind::Bool, tch::Device::Cpu));
    narrow.tensors.insert("blocks.0.attn.mask".into(), all.shallow_clone());
    narrow.write();
    narrow.load().expect("a mask that hides nothing");
    narrow.tensors.insert("blocks.0.attn.mask".into(), all.tril(0));
    narrow.write();
    assert_contains(&failure(narrow.load()), &["`blocks.0.attn.mask`"]);
}

#[test]
fn attention_alone_needs_nothing_of_mlps() {
    let mut toy = Checkpoint::of("toy_plain").with("attn_only", json!(true)).with("act_fn", Value::Null);
    toy = toy.with("d_mlp", Value::Null);
    toy.tensors.retain(|name, _| !name.contains(".mlp."));
    toy.write();
    let model = toy.load().unwrap();
    assert!(model.decoder.blocks.iter().all(|block| block.mlp.is_none()));
}

const LENGTHS: [usize; 4] = [9, 4, 6, 1];

fn prompts() -> Vec<Vec<i64>> {
    LENGTHS
        .iter()
        .enumerate()
        .map(|(row, length)| (0..*length).map(|at| ((row * 31 + at * 37 + 11) % 97) as i64).collect())
        .collect()
}

/// Where attention looks ahead, filling after a prompt is hidden too.
#[test]
fn filled_up_prompts_give_what_they_give_alone() {
    let _guard = tch::no_grad_guard();
    let model = bidirectional(Kind::Double);
    for side in [Side::Left, Side::Right] {
        let batch = model.decoder.batch(&prompts(), Some(side)).unwrap();
        let all = model.decoder.forward_batch(&batch, Logits::All, &mut Hooks::none()).unwrap();
        let last = model.decoder.forward_batch(&batch, Logits::Last, &mut Hooks::none()).unwrap();
        for (row, prompt) in (0..).zip(prompts()) {
            let length = prompt.len() as i64;
            let alone = model.decoder.tokens(&[prompt]).unwrap();
            let wanted = model.decoder.forward(&alone, Logits::All, &mut Hooks::none()).unwrap();
            let start = if side == Side::Left { 9 - length } else { 0 };
            let own = all.narrow(0, row, 1).narrow(1, start, length);
            assert!(max_difference(&own, &wanted) < 1e-12, "{side:?} {row}");
            assert!(max_difference(&last.narrow(0, row, 1), &wanted.narrow(1, -1, 1)) < 1e-12, "{side:?} {row}");
        }
    }
}

/// Long enough for fused attention, with and without filling.
#[test]
fn fused_attention_looks_ahead_too() {
    let _guard = tch::no_grad_guard();
    let mut toy = Checkpoint::of("toy_bidirectional").with("n_ctx", json!(80));
    let positions = toy.tensors["pos_embed.weight"].repeat([3, 1]).narrow(0, 0, 80).contiguous();
    toy.tensors.insert("pos_embed.weight".into(), positions);
    toy.write();
    let model = toy.load().unwrap();
    let row = |length: i64| (0..length).map(|at| (at * 37 + 11) % 97).collect::<Vec<i64>>();
    let points = hook::matching("pattern", model.config()).unwrap();
    for (rows, side) in
        [(vec![row(80)], None), (vec![row(80), row(67)], Some(Side::Left)), (vec![row(80), row(67)], Some(Side::Right))]
    {
        let batch = model.decoder.batch(&rows, side).unwrap();
        let fused = model.decoder.forward_batch(&batch, Logits::All, &mut Hooks::none()).unwrap();
        let mut looking = Hooks::none();
        looking.add(model.config(), points.clone(), "pattern", Action::Call(Box::new(|_, _| Ok(None))));
        let wanted = model.decoder.forward_batch(&batch, Logits::All, &mut looking).unwrap();
        let difference = max_difference(&fused.nan_to_num(0.0, 0.0, 0.0), &wanted.nan_to_num(0.0, 0.0, 0.0));
        assert!(difference < 2e-5, "{side:?}: {difference:e}");
    }
}

fn with_model(name: &str) -> lancet::session::Session {
    let mut session = session();
    session.set_variable("path", fixture(name).display().to_string().into());
    run_script(&mut session, "let model = load_model(path, #{ device: device, dtype: \"f64\" });");
    session
}

/// The map's parts add up, and no token after the target is left out.
#[test]
fn linear_maps_of_a_bidirectional_model_are_complete() {
    for name in ["models/toy_bidirectional", "tracr/sort", "tracr/reverse"] {
        let mut session = with_model(name);
        run_script(
            &mut session,
            r#"
            let lin = model.linearize([0, 2, 4, 3]);
            for to in [0, 1, -1] { assert(lin.check(#{ to: to }).relative < 1e-10); }
            // What each token contributes, by the map between two nodes.
            let n = model.cfg.n_layers;
            let totals = lin.totals(#{ to: 1 });
            let embedded = model.run_with_cache([0, 2, 4, 3], ["resid_pre.0"]).cache["resid_pre", 0][0];
            for source in 0..4 {
                let logits = lin.apply(embedded[source], #{ from: [0, source], to: [n, 1] });
                let logits = model.logit_lens(logits.reshape([1, 1, -1]))[0, 0];
                // Without norms and biases the map's vector is read as it is.
                if model.cfg.normalization_type == () { assert((logits - totals[source]).abs().max().item() < 1e-10); }
            }
            let flow = lin.flow(#{ answer: 1, to: 0 });
            for layer in 0..=n {
                let later = flow.attention_bias[layer..].sum() + flow.mlp_bias[layer..].sum() + flow.final_bias;
                let sum = (flow.node[layer].sum() + later).item();
                assert((sum - flow.value).abs() < 1e-9 * (1.0 + flow.value.abs()));
            }
            "#,
        );
    }
    // Something does come from behind.
    let behind = eval(
        &mut with_model("tracr/reverse"),
        "model.linearize([0, 2, 4, 3]).totals(#{ to: 1 })[3].abs().max().item()",
    );
    assert!(behind.cast::<f64>() > 0.1);
}

#[test]
fn what_needs_a_causal_model_is_refused() {
    let mut session = with_model("models/toy_bidirectional");
    for script in [
        "model.prefix([1, 2, 3])",
        "model.generate([1, 2, 3])",
        "model.loss([1, 2, 3])",
        "model.log_probs([1, 2, 3])",
        "model.linearize([1, 2, 3]).paths(#{ answer: 1 })",
        "model.linearize([1, 2, 3]).predict_grid(#{ answer: 1, source: [4, 5] })",
        "model.patch_grid(#{ source: [4, 5], target: [[1, 2, 3]], answer: [1] })",
    ] {
        assert_contains(&script_failure(&mut session, script), &["causal", "bidirectional", "run whole texts"]);
    }
    assert_contains(
        &script_failure(&mut session, "import \"std/evals\" as evals; evals::test_prompt(model, [1], [2])"),
        &["next tokens"],
    );
    let pattern = r#"import "std/heads" as heads; heads::detect_head(model, [1, 2], "current_token_head", "mul", #{ exclude_current_token: true })"#;
    assert_contains(&script_failure(&mut session, pattern), &["bidirectional"]);
}

#[test]
fn outputs_that_are_not_tokens_are_not_named_as_tokens() {
    let mut session = with_model("tracr/histogram");
    run_script(
        &mut session,
        r#"
        assert_eq(model.cfg.d_vocab_out, 5);
        assert_eq(model.W_U.shape, [16, 5]);
        assert_eq(model.cfg.attention_dir, "causal");
        assert(model.cfg.normalization_type == ());
        "#,
    );
    for script in [
        r#"model.generate("BOS a b")"#,
        r#"model.loss("BOS a b")"#,
        r#"model.linearize("BOS a b").flow(#{ answer: "a" })"#,
        r#"model.patch_grid(#{ source: "BOS a", target: ["BOS a b"], answer: ["a"] })"#,
        r#"model.tokens_to_residual_directions("a")"#,
        r#"import "std/lens" as lens; lens::logit(model, "BOS a b")"#,
    ] {
        assert_contains(&script_failure(&mut session, script), &["outputs", "tokens"]);
    }
    for script in [
        r#"model.linearize("BOS a b").flow(#{ answer: 5 })"#,
        r#"model.patch_grid(#{ source: "BOS a", target: ["BOS a b"], answer: [5] })"#,
        "model.tokens_to_residual_directions([5])",
    ] {
        assert_contains(&script_failure(&mut session, script), &["5", "out of range", "0 to 4"]);
    }
    // Measured by the number of an output, a causal program has grids as any other model.
    run_script(
        &mut session,
        r#"
        let grid = model.patch_grid(#{ source: "BOS a a", target: ["BOS a b", "BOS b c"], answer: [2, 2], position: -1,
            sizes: [1], verify: 10, store: false });
        assert(grid.verified.max_logit_difference < 1e-10);
        "#,
    );
}

/// A saved toy is the same toy, in the same format.
#[test]
fn a_saved_toy_is_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["models/toy_bidirectional", "models/toy_plain", "tracr/balance"] {
        let mut session = with_model(name);
        session.set_variable("saved", folder.path().join(name).display().to_string().into());
        run_script(
            &mut session,
            r#"
            model.save(saved);
            let again = load_model(saved, #{ device: device, dtype: "f64" });
            assert_eq(again.hash, model.hash);
            assert(equal(again.forward([0, 1, 2]), model.forward([0, 1, 2])));
            "#,
        );
    }
}

/// Exact effects of edges share what comes before the first difference, which a bidirectional model has nowhere.
#[test]
fn exact_edges_of_a_bidirectional_model_are_those_of_plain_runs() {
    run_script(
        &mut with_model("models/toy_bidirectional"),
        r#"
        let clean = [3, 7, 9, 5];
        let corrupted = [3, 7, 9, 11];
        let edges = model.edges(#{ clean: clean, corrupted: corrupted, answer: 4, metric: "logit", method: "exact" });
        let score = |name| edges.scores[0, edges.names.index_of(name)].item();
        let written = |tokens| model.run_with_cache(tokens, ["blocks.0.hook_mlp_out"]).cache["mlp_out", 0];
        let difference = written.call(corrupted) - written.call(clean);
        let logit = |hooks| model.run_with_hooks(clean, hooks)[0, -1, 4].item();
        let head = |x, hook| { let y = x.clone(); y[:, :, 2] = y[:, :, 2] + difference; y };
        for edge in [
            ["m0->m1", "blocks.1.hook_mlp_in", |x, hook| x + difference],
            ["m0->a1.h2<q>", "blocks.1.hook_q_input", head],
            ["m0->a2.h2<k>", "blocks.2.hook_k_input", head],
            ["m0->a1.h2<v>", "blocks.1.hook_v_input", head],
        ] {
            let plain = logit.call([[edge[1], edge[2]]]) - logit.call([]);
            assert(plain.abs() > 1e-4 && (score.call(edge[0]) - plain).abs() < 1e-12);
        }
        "#,
    );
}

/// Gradients pass where a norm would stand as they are: an edge into the logits of a model without norms has its exact effect.
#[test]
fn attribution_of_a_toy_without_norms_is_exact_at_the_logits() {
    run_script(
        &mut with_model("models/toy_plain"),
        r#"
        let of = |method| model.edges(#{ clean: [3, 7, 9, 5], corrupted: [3, 7, 9, 11], answer: 4, metric: "logit",
            method: method });
        let exact = of.call("exact");
        let estimated = of.call("eap");
        let last = exact.names.filter(|name| name.ends_with("->logits"));
        assert_eq(last.len(), 16);
        for name in last {
            let at = exact.names.index_of(name);
            let effect = exact.scores[0, at].item();
            assert(effect.abs() > 1e-6 && (effect - estimated.scores[0, at].item()).abs() < 1e-10);
        }
        "#,
    );
}
