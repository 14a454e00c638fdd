//! Scores of nodes: against exact effects where the two must agree, computations by hand from caches and gradients, single
//! runs, and what scripts are refused.

use crate::support::checkpoint::Checkpoint;
use crate::support::{
    TINY, assert_contains, eval, eval_tensor, max_difference, run_script, script_failure, session, tiny_path,
};
use lancet::attribution::agreement::agreement;
use lancet::session::Session;
use tch::{Kind, Tensor};

/// Grouped queries, norms after sublayers and around them, parallel blocks, learned positions, experts.
const MODELS: [&str; 7] = ["llama3", "olmo2", "gemma2", "gpt_neox", "gpt2", "mixtral", "cohere"];

const METHODS: [&str; 6] = [
    "method: \"atp\"",
    "method: \"ig\", steps: 2",
    "method: \"ig\", steps: 2, path: \"activations\"",
    "method: \"atp*\"",
    "method: \"relp\"",
    "method: \"frozen\"",
];

fn load(session: &mut Session, folder: &str) {
    session.set_variable("folder", folder.into());
    run_script(
        session,
        "let model = load_model(folder, #{ dtype: \"f64\", device: device });
         let clean = [3, 14, 15, 9, 26]; let corrupted = [3, 41, 15, 9, 26];",
    );
}

fn with_model(name: &str) -> Session {
    let mut session = session();
    load(&mut session, &tiny_path(name).display().to_string());
    session
}

/// Every kind of node that the model has, as an array in a script.
fn kinds(session: &mut Session) -> String {
    let has = |session: &mut Session, what: &str| eval(session, what).as_bool().unwrap();
    let mut kinds = vec!["embed", "resid_pre", "resid_post", "attn_out", "head", "q", "k", "v"];
    if !has(session, "model.cfg.attn_only") {
        kinds.extend(["resid_mid", "mlp_out"]);
        if has(session, "model.cfg.num_experts == ()") {
            kinds.push("neuron");
        }
    }
    format!("{kinds:?}")
}

fn largest(values: &Tensor) -> f64 {
    values.nan_to_num(0.0, 0.0, 0.0).abs().max().double_value(&[])
}

/// Of two tokens that are nearly the same, the metric is as good as linear in every node.
#[test]
fn estimates_of_small_differences_are_exact_in_every_family() {
    for name in TINY {
        let mut checkpoint = Checkpoint::of(name);
        let key = ["embed_tokens.weight", "wte.weight", "embed_in.weight", "embed.W_E", "embed.weight"];
        let name_of = |tensors: &std::collections::BTreeMap<String, Tensor>| {
            tensors.keys().find(|tensor| key.iter().any(|end| tensor.ends_with(end))).cloned()
        };
        let name_of_embedding = name_of(&checkpoint.tensors).unwrap_or_else(|| panic!("{name}: no embedding"));
        let embedding = checkpoint.tensors[&name_of_embedding].to_kind(Kind::Double);
        let step = Tensor::arange(embedding.size()[1], (Kind::Double, tch::Device::Cpu)).sin() * 1e-4;
        embedding.get(41).copy_(&(embedding.get(14) + step));
        // Stored in float32, whose rounding of the difference does not matter here.
        checkpoint.tensors.insert(name_of_embedding, embedding.to_kind(Kind::Float));
        checkpoint.write();
        let mut session = session();
        load(&mut session, &checkpoint.path().display().to_string());
        let kinds = kinds(&mut session);
        run_script(
            &mut session,
            &format!(
                "let all = #{{ clean: clean, corrupted: corrupted, answer: 5, nodes: {kinds} }};
                 let exact = model.attribute(all).exact();"
            ),
        );
        let exact = eval_tensor(&mut session, "exact");
        assert!(largest(&exact) > 1e-7, "{name}: the token changes nothing");
        for method in &METHODS[..3] {
            let script = format!(
                "model.attribute(#{{ clean: clean, corrupted: corrupted, answer: 5, nodes: {kinds}, {method} }}).scores"
            );
            let scores = eval_tensor(&mut session, &script);
            let difference = max_difference(&scores, &exact);
            assert!(difference < 2e-3 * largest(&exact), "{name} {method}: {difference:e} of {:e}", largest(&exact));
        }
    }
}

#[test]
fn every_method_runs_on_every_family_and_gives_nothing_for_the_same_prompt() {
    for name in TINY {
        let mut session = with_model(name);
        let kinds = kinds(&mut session);
        let without_softmax = kinds.replace("\"q\", \"k\", ", "");
        for method in METHODS {
            let nodes = if method.contains("relp") || method.contains("frozen") { &without_softmax } else { &kinds };
            let scores = eval_tensor(
                &mut session,
                &format!(
                    "model.attribute(#{{ clean: clean, corrupted: clean, answer: 5, nodes: {nodes}, {method} }}).scores"
                ),
            );
            assert!(largest(&scores) < 1e-13, "{name} {method}");
            let scores = eval_tensor(
                &mut session,
                &format!(
                    "model.attribute(#{{ clean: clean, corrupted: corrupted, answer: 5, nodes: {nodes}, {method} }}).scores"
                ),
            );
            assert!(largest(&scores) > 1e-3, "{name} {method}");
            assert_eq!(scores.isnan().any().int64_value(&[]), 0, "{name} {method}");
            // Before the prompts differ, so do no activations.
            assert!(largest(&scores.select(2, 0)) < 1e-13, "{name} {method}");
        }
    }
}

#[test]
fn attribution_patching_is_difference_times_gradient() {
    for name in MODELS {
        let mut session = with_model(name);
        run_script(
            &mut session,
            "let metric = |logits| logits[0, -1].log_softmax(-1)[5];
             let hooks = #{ head: \"z\", mlp_out: \"mlp_out\", attn_out: \"attn_out\", q: \"hook_q\", k: \"hook_k\", v: \"hook_v\",
                            resid_pre: \"resid_pre\", resid_post: \"resid_post\" };
             for rule in [[\"atp\", \"exact\"], [\"relp\", \"relp\"], [\"frozen\", \"frozen\"]] {
                 for kind in hooks.keys() {
                     if rule[0] != \"atp\" && kind in [\"q\", \"k\"] { continue; }
                     let found = model.attribute(#{ clean: clean, corrupted: corrupted, answer: 5, nodes: [kind], method: rule[0] });
                     let parts = [];
                     for layer in 0..model.cfg.n_layers {
                         let name = model.hook_name(hooks[kind], layer);
                         let run = model.value_and_grad(clean, metric, name, #{ backward: rule[1] });
                         let other = model.run_with_cache(corrupted, name).cache[name];
                         let product = ((other - run.cache[name]) * run.grad[name]).sum(-1);
                         parts.push(if product.shape.len() == 3 { product.transpose(1, 2) } else { product.unsqueeze(1) });
                     }
                     assert(allclose(found.scores, cat(parts, 1), #{ rtol: 0.0, atol: 1e-12 }), `${kind} ${rule[0]}`);
                 }
             }",
        );
    }
}

#[test]
fn samples_have_the_scores_that_they_have_alone() {
    for name in ["olmo2", "gpt_neox", "mixtral"] {
        let mut session = with_model(name);
        run_script(
            &mut session,
            "let cleans = [clean, [7, 8, 9], [1, 2, 3, 4, 5], [60, 61, 62]];
             let others = [corrupted, [7, 30, 9], [1, 2, 33, 4, 5], [60, 61, 31]];
             let answers = [5, 6, 7, 8];",
        );
        for method in METHODS {
            let together = eval_tensor(
                &mut session,
                &format!("model.attribute(#{{ clean: cleans, corrupted: others, answer: answers, {method} }}).scores"),
            );
            for sample in 0..4 {
                let alone = eval_tensor(
                    &mut session,
                    &format!(
                        "model.attribute(#{{ clean: cleans[{sample}], corrupted: others[{sample}], answer: answers[{sample}], \
                         {method} }}).scores"
                    ),
                );
                let width = alone.size()[2];
                let own = together.get(sample).narrow(1, 5 - width, width).unsqueeze(0);
                let difference = max_difference(&own, &alone);
                assert!(difference < 1e-10, "{name} {method} {sample}: {difference:e}");
                let rest = together.get(sample).narrow(1, 0, 5 - width);
                assert_eq!(rest.isnan().sum(Kind::Int64).int64_value(&[]), rest.numel() as i64, "{name} {method}");
            }
        }
    }
}

#[test]
fn exact_effects_are_those_of_single_patched_runs() {
    for name in MODELS {
        let mut session = with_model(name);
        let kinds = kinds(&mut session).replace(", \"neuron\"", "");
        run_script(
            &mut session,
            &format!(
                "let measure = |logits| logits[0, -1].log_softmax(-1)[5].item();
                 let found = model.attribute(#{{ clean: clean, corrupted: corrupted, answer: 5, nodes: {kinds}, direction: \"denoise\" }});
                 let exact = found.exact();
                 let base = measure.call(model.forward(corrupted));
                 let donor = model.run_with_cache(clean).cache;
                 let own = model.run_with_cache(corrupted).cache;
                 let rows = found.table.rows();
                 assert_eq(rows.len(), found.scores.numel());
                 for row in rows {{
                     let value = donor[row.hook][0, row.position];
                     if row.head != () {{ value = value[row.head]; }}
                     let options = if row.head == () {{ #{{}} }} else {{ #{{ head: row.head }} }};
                     let logits = model.run_with_hooks(corrupted, [patch(row.hook, row.position, value, options)]);
                     let wanted = measure.call(logits) - base;
                     let place = found.nodes.index_of(row.node);
                     assert(abs(exact[0, place, row.position].item() - wanted) < 1e-10, row.node);
                 }}"
            ),
        );
        // Patched grids give the effects of instruction vectors.
        run_script(
            &mut session,
            "for pair in [[\"resid_post\", \"resid_post\"], [\"head\", \"z\"], [\"k\", \"k\"]] {
                 let request = #{ source: [21, 8, 33], target: [clean, [50, 2, 9]], position: [1, -1] };
                 let found = model.attribute(request + #{ answer: [5, 6], nodes: [pair[0]] });
                 let grid = model.patch_grid(request + #{ answer: [5, 6], site: pair[1], sizes: [1], store: false, quiet: true });
                 let wanted = grid.effect(\"log_probability\").transpose(0, 1).unsqueeze(-1);
                 assert(allclose(found.exact(), wanted, #{ rtol: 0.0, atol: 1e-10 }), pair[0]);
             }",
        );
    }
}

#[test]
fn integrated_gradients_sum_to_what_the_whole_path_changes() {
    // Where experts change on the way, the metric jumps, and gradients do not see it.
    for name in MODELS.into_iter().filter(|name| *name != "mixtral") {
        let mut session = with_model(name);
        run_script(
            &mut session,
            "let all = #{ clean: clean, corrupted: corrupted, answer: 5, method: \"ig\" };
             let measure = |logits| logits[0, -1].log_softmax(-1)[5].item();
             let base = measure.call(model.forward(clean));
             // The inputs' path ends in the corrupted run.
             let sum = model.attribute(all + #{ nodes: [\"embed\"], steps: 100 }).scores.sum().item();
             let change = measure.call(model.forward(corrupted)) - base;
             assert(abs(sum - change) < 2e-3 * (1.0 + abs(change)), `${sum} ${change}`);
             // A hook's ends in its corrupted activations.
             for kind in [[\"head\", \"z\"], [\"mlp_out\", \"mlp_out\"], [\"k\", \"hook_k\"]] {
                 let found = model.attribute(all + #{ nodes: [kind[0]], path: \"activations\", steps: 50 });
                 let sums = found.scores.reshape([model.cfg.n_layers, -1]).sum(-1);
                 for layer in 0..model.cfg.n_layers {
                     let hook = model.hook_name(kind[1], layer);
                     let value = model.run_with_cache(corrupted, hook).cache[hook];
                     let change = measure.call(model.run_with_hooks(clean, [[hook, |x| value]])) - base;
                     assert(abs(sums[layer].item() - change) < 2e-3 * (1.0 + abs(change)), `${hook} ${sums[layer]} ${change}`);
                 }
             }
             // Of one position, it is the effect.
             let vectors = #{ source: [21, 8, 33], target: clean, position: 1, answer: 5, nodes: [\"resid_post\", \"mlp_out\"] };
             let found = model.attribute(vectors + #{ method: \"ig\", steps: 100 });
             assert_eq(found.method, \"ig over activations in 100 steps\");
             assert(allclose(found.scores, found.exact(), #{ rtol: 0.0, atol: 2e-3 }));
             assert(!allclose(model.attribute(vectors).scores, found.exact(), #{ rtol: 0.0, atol: 2e-2 }));",
        );
    }
}

/// AtP* from its parts: patterns with one query or key replaced, gradients that miss a layer.
#[test]
fn scores_of_atp_star_are_computed_by_hand() {
    for name in ["llama3", "olmo2", "gemma2", "gpt_oss"] {
        let mut session = with_model(name);
        run_script(
            &mut session,
            "let layers = model.cfg.n_layers;
             let metric = |logits| logits[0, -1].log_softmax(-1)[5];
             let dropped = [];
             for layer in 0..layers {
                 let hooks = [[`blocks.${layer}.hook_attn_out`, |x| x.detach()], [`blocks.${layer}.hook_mlp_out`, |x| x.detach()]];
                 dropped.push(model.grad(clean, metric, [\"pattern\", \"z\", \"resid_pre\"], #{ hooks: hooks }));
             }
             let own = model.run_with_cache(clean).cache;
             let other = model.run_with_cache(corrupted).cache;
             let found = model.attribute(#{
                 clean: clean, corrupted: corrupted, answer: 5, nodes: [\"k\", \"resid_pre\", \"head\", \"q\"], method: \"atp*\",
             });
             assert_eq(found.method, \"atp*\");
             ",
        );
        run_script(
            &mut session,
            "for row in found.table.rows() {
                 let pattern = `blocks.${row.layer}.attn.hook_pattern`;
                 let is_softmax = row.hook.ends_with(\"hook_q\") || row.hook.ends_with(\"hook_k\");
                 let sum = 0.0;
                 let change = ();
                 if is_softmax {
                     let value = other[row.hook][0, row.position, row.head];
                     let hooks = [patch(row.hook, row.position, value, #{ head: row.head })];
                     change = model.run_with_cache(clean, pattern, #{ hooks: hooks }).cache[pattern] - own[pattern];
                 }
                 for missed in 0..layers {
                     let grad = dropped[missed];
                     let score = if is_softmax {
                         (change * grad[pattern]).sum()
                     } else if row.head != () && missed == row.layer {
                         tensor(0.0)
                     } else if row.head != () {
                         ((other[row.hook] - own[row.hook]) * grad[row.hook])[0, row.position, row.head].sum()
                     } else {
                         ((other[row.hook] - own[row.hook]) * grad[row.hook])[0, row.position].sum()
                     };
                     sum += abs(score.item());
                 }
                 let passes = if row.head == () { layers } else { layers - 1 };
                 assert(abs(row.score - sum / passes) < 1e-10, `${row.node} ${row.position} ${row.score} ${sum / passes}`);
             }",
        );
    }
}

#[test]
fn verified_places_and_tables_are_what_they_say() {
    let mut session = with_model("llama3");
    run_script(
        &mut session,
        "let all = #{ clean: [clean, [7, 8, 9]], corrupted: [corrupted, [7, 30, 9]], answer: [5, 6] };
         let found = model.attribute(all + #{ verify: 12, seed: 3 });
         let exact = found.exact();
         assert_eq(found.nodes.len(), 3 * 4 + 3);
         assert_eq(found.nodes[5], \"a1.h1\"); assert_eq(found.nodes[14], \"m2\");
         let table = found.verified;
         assert_eq(table.len, 24);
         let rows = table.rows();
         assert_eq(rows.filter(|row| row.drawn).len(), 12);
         for row in rows {
             let column = if row.sample == 0 { row.position } else { row.position + 2 };
             let node = found.nodes.index_of(row.node);
             assert_eq(found.scores[row.sample, node, column].item(), row.estimated);
             assert(abs(exact[row.sample, node, column].item() - row.exact) < 1e-12);
         }
         // No score that was not verified is larger than those that were for their size.
         let smallest = rows.filter(|row| !row.drawn).map(|row| abs(row.estimated)).reduce(|a, b| if b < a { b } else { a }, 1e9);
         let larger = 0;
         for row in rows { if abs(row.estimated) >= smallest { larger += 1; } }
         assert_eq(larger, (found.scores.nan_to_num().abs() >= smallest).sum().item());
         let x = table.column(\"estimated\");
         let y = table.column(\"exact\");",
    );
    run_script(
        &mut session,
        "assert(abs(found.pearson - stats::pearsonr(x, y).r) < 1e-12);
         assert(abs(found.spearman - stats::spearmanr(x, y).r) < 1e-12);
         assert_eq(found.misses.len, table.column(\"miss\").filter(|miss| miss).len());
         assert_eq(model.attribute(all + #{ verify: 12, seed: 3 }).verified.column(\"exact\"), y);
         assert(model.attribute(all + #{ verify: 12, seed: 4 }).verified.column(\"node\") != table.column(\"node\"));
         // The table holds means over samples, the largest first; lengths differ, so positions count from the end.
         let means = found.table.rows();
         assert_eq(means.len(), 15 * 5);
         assert_eq(found.top(3).column(\"node\"), means.map(|row| row.node).extract(0, 3));
         let both = means.filter(|row| row.position == -1 && row.node == \"m2\")[0];
         assert(abs(both.score - found.scores[:, 14, 4].mean().item()) < 1e-12);
         assert_eq(means.filter(|row| row.position == -5).len(), 15);
         let same = found.agreement();
         let again = model.attribute(all + #{ method: \"frozen\" }).agreement(exact);
         assert(same.pearson <= 1.0 && same.top10 <= 1.0 && same.misses.len >= 0);
         assert(again.pearson != same.pearson);",
    );
}

#[test]
fn agreement_counts_misses_and_the_largest() {
    let exact: Vec<f64> = (0..20).map(f64::from).collect();
    let perfect = agreement(&exact, &exact, false).unwrap();
    assert_eq!((perfect.pearson, perfect.spearman, perfect.found), (1.0, 1.0, 1.0));
    assert!(perfect.misses.is_empty());
    // The two largest tenths are 19 and 18; the first is ranked low.
    let mut estimates = exact.clone();
    estimates[19] = 0.5;
    let found = agreement(&estimates, &exact, false).unwrap();
    assert_eq!(found.misses, [19]);
    assert_eq!(found.found, 0.9);
    // Sizes are compared with sizes.
    let signed: Vec<f64> = exact.iter().map(|effect| if effect % 2.0 == 0.0 { *effect } else { -effect }).collect();
    assert_eq!(agreement(&exact, &signed, true).unwrap().pearson, 1.0);
    assert!(agreement(&exact, &signed, false).unwrap().pearson < 0.5);
    assert!(agreement(&exact, &[1.0; 20], false).unwrap().pearson.is_nan());
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let mut session = with_model("llama3");
    run_script(&mut session, "let pair = #{ clean: clean, corrupted: corrupted, answer: 5 };");
    let cases = [
        ("model.attribute(#{ answer: 5 })", ["needs the runs to compare", "corrupted"]),
        ("model.attribute(#{ clean: clean, answer: 5 })", ["`clean` and `corrupted`, or `source`", ""]),
        ("model.attribute(#{ clean: clean, corrupted: [1, 2], answer: 5 })", ["5 and 2 tokens", "as many tokens"]),
        (
            "model.attribute(#{ clean: [clean, clean], corrupted: [corrupted], answer: 5 })",
            ["2 clean and 1 corrupted", ""],
        ),
        ("model.attribute(#{ clean: clean, corrupted: [3, 4, 15, 9, 99], answer: 5 })", ["99", "0 to 96"]),
        ("model.attribute(pair + #{ position: 1 })", ["`position` goes with `source`", "every position"]),
        (
            "model.attribute(#{ source: [1], target: clean, answer: 5, direction: \"noise\" })",
            ["`direction` goes with", ""],
        ),
        (
            "model.attribute(#{ source: [1], target: clean, answer: 5, position: 7 })",
            ["position 7 is out of range", "5 tokens"],
        ),
        (
            "model.attribute(#{ source: [[1], [2]], target: [clean], answer: 5 })",
            ["1 targets and 2 sources", "one for all"],
        ),
        ("model.attribute(#{ clean: clean, corrupted: corrupted })", ["`log_probability` needs `answer`", ""]),
        ("model.attribute(pair + #{ metric: \"rr\" })", ["`rr` counts tokens", ""]),
        ("model.attribute(pair + #{ metric: |logits| logits[:, 5] })", ["`answer`", "function of the logits"]),
        ("model.attribute(pair + #{ nodes: [\"heads\"] })", ["cannot be `heads`", "head"]),
        ("model.attribute(pair + #{ nodes: [] })", ["no nodes", ""]),
        ("model.attribute(pair + #{ nodes: [\"q\", \"q\"] })", ["`q` are named twice", ""]),
        ("model.attribute(pair + #{ method: \"eap\" })", ["cannot be `eap`", "atp"]),
        ("model.attribute(pair + #{ steps: 4 })", ["go with `method: \"ig\"`", "atp"]),
        ("model.attribute(pair + #{ method: \"ig\", steps: 0 })", ["0 steps", ""]),
        (
            "model.attribute(pair + #{ method: \"relp\", nodes: [\"head\", \"q\"] })",
            ["patterns are held constant", "atp*"],
        ),
        (
            "model.attribute(#{ source: [1], target: clean, answer: 5, method: \"ig\", path: \"inputs\" })",
            ["path through the inputs", "activations"],
        ),
        ("model.attribute(pair + #{ seed: 1 })", ["`seed`", "`verify`"]),
        ("model.attribute(pair + #{ verify: 1 })", ["1 places", ""]),
        ("model.attribute(pair).verified", ["were not verified", "verify: 20"]),
        ("model.attribute(pair).agreement(tensor([1.0]))", ["[1, 15, 5]", "[1]"]),
        (
            "model.attribute(#{ clean: clean, corrupted: corrupted, metric: |logits| logits[:, 5].detach() })",
            ["does not depend", "hook_z"],
        ),
    ];
    for (script, parts) in cases {
        assert_contains(&script_failure(&mut session, script), &parts);
    }
    let mut experts = with_model("mixtral");
    let script = "model.attribute(#{ clean: clean, corrupted: corrupted, answer: 5, nodes: [\"neuron\"] })";
    assert_contains(&script_failure(&mut experts, script), &["experts", "mlp_out"]);
    let mut without_mlps = with_model("toy_attn_only");
    let nodes =
        eval(&mut without_mlps, "model.attribute(#{ clean: clean, corrupted: corrupted, answer: 5 }).nodes.len()");
    assert_eq!(
        nodes.as_int().unwrap(),
        eval(&mut without_mlps, "model.cfg.n_layers * model.cfg.n_heads").as_int().unwrap()
    );
    let script = "model.attribute(#{ clean: clean, corrupted: corrupted, answer: 5, nodes: [\"mlp_out\"] })";
    assert_contains(&script_failure(&mut without_mlps, script), &["hook_mlp_out"]);
}
