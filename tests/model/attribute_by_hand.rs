//! Scores of nodes against computations by hand, from caches and gradients.

use super::attribute::{MODELS, with_model};
use crate::support::{eval, fixture, run_script, session};

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
            "for row in found.table().rows() {
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

/// Where the compiled programs ignore a layer, heads there have no gradient; those of other layers keep theirs.
#[test]
fn layers_without_a_gradient_have_scores_of_zero() {
    let (mut dead, mut star) = (0, 0.0);
    for program in ["balance", "pattern", "reverse", "sort"] {
        let mut session = session();
        session.set_variable("folder", fixture(&format!("tracr/{program}")).display().to_string().into());
        run_script(
            &mut session,
            "let model = load_model(folder, #{ dtype: \"f64\" });
             let clean = [0, 1, 2]; let corrupted = [0, 2, 2]; let dead = 0;
             let all = #{ clean: clean, corrupted: corrupted, metric: |logits| logits[.., 0] };
             for kind in [[\"head\", \"z\"], [\"neuron\", \"mlp_post\"]] {
                 let found = model.attribute(all + #{ nodes: [kind[0]], method: \"ig\", path: \"activations\", steps: 1 });
                 let parts = [];
                 for layer in 0..model.cfg.n_layers {
                     let hook = model.hook_name(kind[1], layer);
                     let own = model.run_with_cache(clean, hook).cache[hook];
                     let other = model.run_with_cache(corrupted, hook).cache[hook];
                     let half = (own + other) * 0.5;
                     let gradient = own * 0.0;
                     try {
                         gradient = model.grad(clean, |logits| logits[0, -1, 0], hook, #{ hooks: [[hook, |x| half]] })[hook];
                     } catch (error) {
                         assert(error.error.contains(\"does not depend\"), error.error);
                         dead += 1;
                     }
                     let product = (other - own) * gradient;
                     if kind[0] == \"head\" { product = product.sum(-1); }
                     parts.push(product.transpose(1, 2));
                 }
                 assert(allclose(found.scores, cat(parts, 1), #{ rtol: 0.0, atol: 1e-12 }), kind[0]);
             }
             let star = model.attribute(all + #{ nodes: [\"head\"], method: \"atp*\" }).scores.abs().max().item();",
        );
        dead += eval(&mut session, "dead").as_int().unwrap();
        star += eval(&mut session, "star").as_float().unwrap();
    }
    assert!(dead > 0, "every layer has a gradient");
    assert!(star > 1e-3, "{star}");
}

#[test]
fn a_sample_without_a_gradient_leaves_the_others_their_scores() {
    let mut session = with_model("llama3");
    run_script(
        &mut session,
        "let all = #{ clean: [clean, [7, 8, 9]], corrupted: [corrupted, [7, 30, 9]] };
         let values = all.clean.map(|prompt| model.forward(prompt)[0, -1, 5].item());
         let middle = (values[0] + values[1]) / 2.0;
         let live = if values[0] > values[1] { 0 } else { 1 };
         let found = model.attribute(all + #{ metric: |logits| (logits[.., 5] - middle).relu() }).scores;
         let plain = model.attribute(all + #{ metric: |logits| logits[.., 5] }).scores;
         assert(allclose(found[live].nan_to_num(), plain[live].nan_to_num(), #{ rtol: 0.0, atol: 1e-12 }));
         assert_eq(found[1 - live].nan_to_num().abs().max().item(), 0.0);
         assert(plain[1 - live].nan_to_num().abs().max().item() > 1e-6);",
    );
}
