//! Hooks: identities between activations, the effect of each hook point, the order and the errors of hooks, and names.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::support::{
    TINY, assert_contains, capture_all, changing, failure, logits, logits_with, max_difference, replace, run_script,
    script_failure, session, some_tokens, tiny, tiny_path,
};
use lancet::model::cache::ActivationCache;
use lancet::model::config::Config;
use lancet::model::decoder::Logits;
use lancet::model::generate::Generation;
use lancet::model::hook::{self, HookPoint};
use lancet::model::language_model::LanguageModel;
use lancet::model::run::{Action, Hooks};
use tch::{Kind, Tensor};

/// Longer than the sliding windows.
const LENGTH: i64 = 7;

fn models() -> impl Iterator<Item = (&'static str, LanguageModel, Tensor)> {
    TINY.iter().map(|name| {
        let model = tiny(name);
        let tokens = some_tokens(&model, 2, LENGTH);
        (*name, model, tokens)
    })
}

fn named<'a>(cache: &'a ActivationCache, name: &str, config: &Config) -> &'a Tensor {
    cache.named(name, config).unwrap()
}

#[test]
fn identities_hold_in_every_family() {
    for (name, model, tokens) in models() {
        let config = model.config();
        let (_, cache) = capture_all(&model, &tokens);
        let get = |name: &str| named(&cache, name, config);
        let same = |what: &str, left: &Tensor, right: &Tensor| {
            assert_eq!(max_difference(left, right), 0.0, "{name}: {what}");
        };
        let embedded = match hook::parse("hook_pos_embed", config) {
            Ok(_) => get("hook_embed") + get("hook_pos_embed"),
            Err(_) => get("hook_embed").shallow_clone(),
        };
        same("the stream begins with the embedding", get("blocks.0.hook_resid_pre"), &embedded);
        for layer in 0..config.n_layers {
            let at = |site: &str| get(&format!("blocks.{layer}.{site}"));
            let middle = at("hook_resid_pre") + at("hook_attn_out");
            if config.attention_only {
                same("post", at("hook_resid_post"), &middle);
            } else {
                same("middle", at("hook_resid_mid"), &middle);
                same("post", at("hook_resid_post"), &(at("hook_resid_mid") + at("hook_mlp_out")));
            }
            if layer > 0 {
                same("next", at("hook_resid_pre"), get(&format!("blocks.{}.hook_resid_post", layer - 1)));
            }
            let pattern = at("attn.hook_pattern");
            let sums = pattern.sum_dim_intlist([-1].as_slice(), false, Kind::Float);
            if config.attention_sinks {
                assert!(sums.max().double_value(&[]) < 1.0, "{name}: the rest goes to the sink");
            } else {
                assert!(max_difference(&sums, &sums.ones_like()) <= 1e-6, "{name}: pattern rows sum to 1");
            }
            same("no look ahead", &pattern.triu(1), &pattern.zeros_like());
            if let Some(window) = config.layers[layer as usize].window {
                same("window", &pattern.tril(-window), &pattern.zeros_like());
                assert!(window < LENGTH && pattern.tril(1 - window).abs().max().double_value(&[]) > 0.0);
            }
        }
    }
}

#[test]
fn a_run_patched_with_its_own_activations_does_not_change() {
    for (name, model, tokens) in models() {
        let (clean, cache) = capture_all(&model, &tokens);
        for point in hook::points(model.config()) {
            let own = cache.get(point).unwrap();
            let patched = logits_with(&model, &tokens, changing(&model, vec![point], |_| own.copy()));
            assert_eq!(max_difference(&patched, &clean), 0.0, "{name} {}", point.name());
        }
    }
}

/// Shifting all scores of a query by the same amount changes nothing, so each point is changed unevenly.
#[test]
fn every_hook_point_can_be_changed_and_the_logits_show_it() {
    for (name, model, tokens) in models() {
        let clean = logits(&model, &tokens);
        for point in hook::points(model.config()) {
            let uneven = |value: &Tensor| {
                let ramp = Tensor::arange(value.numel() as i64, (Kind::Float, value.device())).view_as(value);
                value * (ramp.remainder(3.0) * 0.5 + 0.5)
            };
            let changed = logits_with(&model, &tokens, changing(&model, vec![point], uneven));
            let effect = max_difference(&changed, &clean);
            assert!(effect > 1e-4 && effect.is_finite(), "{name} {}: effect {effect:e}", point.name());
        }
    }
}

#[test]
fn every_hook_point_fires_once_in_the_order_of_the_list() {
    for (name, model, tokens) in models() {
        let fired = RefCell::new(Vec::new());
        let points = hook::points(model.config());
        let mut hooks = Hooks::none();
        let note = |point: &HookPoint, _: &Tensor| {
            fired.borrow_mut().push(*point);
            Ok(None)
        };
        hooks.add(model.config(), points.clone(), "all", Action::Call(Box::new(note)));
        assert_eq!(max_difference(&logits_with(&model, &tokens, hooks), &logits(&model, &tokens)), 0.0);
        assert_eq!(fired.into_inner(), points, "{name}");
    }
}

#[test]
fn hooks_at_one_point_act_in_the_order_given() {
    let model = tiny("olmo2");
    let tokens = some_tokens(&model, 1, 4);
    let config = model.config();
    let point = hook::parse("blocks.1.hook_mlp_out", config).unwrap();
    let run = |first_adds: bool| {
        let mut hooks = Hooks::none();
        let add = Action::Call(replace(|value| value + 1.0));
        let double = Action::Call(replace(|value| value * 2.0));
        let (first, second) = if first_adds { (add, double) } else { (double, add) };
        hooks.add(config, vec![point], "before", Action::Capture);
        hooks.add(config, vec![point], "first", first);
        hooks.add(config, vec![point], "second", second);
        logits_with(&model, &tokens, hooks)
    };
    let both = |change: fn(&Tensor) -> Tensor| logits_with(&model, &tokens, changing(&model, vec![point], change));
    assert_eq!(run(true), both(|value| (value + 1.0) * 2.0));
    assert_eq!(run(false), both(|value| value * 2.0 + 1.0));
    assert_ne!(run(true), run(false));
}

#[test]
fn a_capture_sees_what_the_hooks_before_it_left() {
    let model = tiny("llama3");
    let tokens = some_tokens(&model, 1, 4);
    let config = model.config();
    let point = hook::parse("blocks.1.hook_resid_post", config).unwrap();
    let captured = |capture_last: bool| {
        let mut hooks = Hooks::none();
        let entries = [Action::Call(replace(|value| value * 0.0)), Action::Capture];
        if capture_last {
            entries.into_iter().for_each(|action| hooks.add(config, vec![point], "x", action));
        } else {
            entries.into_iter().rev().for_each(|action| hooks.add(config, vec![point], "x", action));
        }
        let _ = model.decoder.forward(&tokens, Logits::Last, &mut hooks).unwrap();
        hooks.finish().unwrap().get(point).unwrap().abs().max().double_value(&[])
    };
    assert_eq!(captured(true), 0.0);
    assert!(captured(false) > 0.1);
}

/// A callback that changes its argument, or an earlier capture, in place must not change the weights.
#[test]
fn runs_leave_the_weights_as_they_were() {
    let model = tiny("gpt2");
    let tokens = some_tokens(&model, 1, 4);
    let before: Vec<Tensor> = model.decoder.weights().iter().map(|weight| weight.copy()).collect();
    let clean = logits(&model, &tokens);
    let points = hook::points(model.config());
    let _ = logits_with(&model, &tokens, changing(&model, points, |value| value * 2.0));
    for (weight, before) in model.decoder.weights().iter().zip(&before) {
        assert!(weight.equal(before));
    }
    assert_eq!(logits(&model, &tokens), clean);
}

#[test]
fn a_replacement_of_another_shape_is_refused() {
    let model = tiny("qwen2");
    let tokens = some_tokens(&model, 2, 5);
    let point = hook::parse("blocks.1.attn.hook_z", model.config()).unwrap();
    for wrong in [vec![2, 5, 32], vec![2, 5, 4, 4], vec![], vec![1, 5, 4, 8]] {
        let shape = wrong.clone();
        let mut hooks =
            changing(&model, vec![point], move |value| Tensor::zeros(&shape, (value.kind(), value.device())));
        let message = failure(model.decoder.forward(&tokens, Logits::All, &mut hooks));
        assert_contains(&message, &["blocks.1.attn.hook_z", &format!("{wrong:?}"), "[2, 5, 4, 8]", "same shape"]);
    }
}

/// A float64 replacement in a float32 model is converted; it is no error and leaves other dtypes unchanged.
#[test]
fn a_replacement_of_another_dtype_is_converted() {
    let model = tiny("mistral");
    let tokens = some_tokens(&model, 1, 4);
    let points = hook::points(model.config());
    let changed = logits_with(&model, &tokens, changing(&model, points, |value| value.to_kind(Kind::Double)));
    assert_eq!(changed.kind(), Kind::Float);
    assert_eq!(changed, logits(&model, &tokens));
}

#[test]
fn an_error_of_a_callback_ends_the_run() {
    let model = tiny("olmo2");
    let tokens = some_tokens(&model, 1, 4);
    let points = hook::matching("blocks.*.hook_mlp_out", model.config()).unwrap();
    let calls = RefCell::new(0);
    let mut hooks = Hooks::none();
    let refuse = |_: &HookPoint, _: &Tensor| {
        *calls.borrow_mut() += 1;
        Err(lancet::error::Error::new("no"))
    };
    hooks.add(model.config(), points, "mlp", Action::Call(Box::new(refuse)));
    assert_contains(&failure(model.decoder.forward(&tokens, Logits::All, &mut hooks)), &["no"]);
    drop(hooks);
    assert_eq!(calls.into_inner(), 1);
}

#[test]
fn a_hook_that_never_runs_is_an_error() {
    use lancet::model::intervention::{At, Change, Intervention};
    let model = tiny("olmo2");
    let config = model.config();
    // A position beyond this generation.
    let point = hook::parse("blocks.1.hook_resid_post", config).unwrap();
    let never = |position| {
        let mut hooks = Hooks::none();
        let positions = At::One(position);
        hooks.intervene(config, Intervention { point, positions, rows: None, head: None, change: Change::Zero });
        hooks
    };
    let options = Generation { max_tokens: 2, ..Generation::default() };
    let tokens = some_tokens(&model, 1, 4);
    let mut hooks = never(6);
    assert_contains(&failure(model.decoder.generate(&tokens, &options, &mut hooks)), &["position 6", "4"]);
    assert!(never(0).finish().is_err(), "nothing was run");
    let mut hooks = never(0);
    model.decoder.generate(&tokens, &options, &mut hooks).unwrap();
    assert!(hooks.finish().is_ok());
    let message = failure(never(0).finish());
    assert_contains(&message, &["`blocks.1.hook_resid_post` never ran"]);
}

#[test]
fn aliases_mean_the_points_they_should() {
    let expected: &[(&str, &[(&str, &str)])] = &[
        (
            "llama3",
            &[
                ("resid_post.1", "blocks.1.hook_resid_post"),
                ("hook_resid_pre.0", "blocks.0.hook_resid_pre"),
                ("z.2", "blocks.2.attn.hook_z"),
                ("attn.hook_z.2", "blocks.2.attn.hook_z"),
                ("attn.z.2", "blocks.2.attn.hook_z"),
                ("pattern.0", "blocks.0.attn.hook_pattern"),
                ("attn_scores.0", "blocks.0.attn.hook_attn_scores"),
                ("q.1", "blocks.1.attn.hook_q"),
                ("rot_k.1", "blocks.1.attn.hook_rot_k"),
                ("mlp_out.1", "blocks.1.hook_mlp_out"),
                ("attn_out.1", "blocks.1.hook_attn_out"),
                ("mlp.hook_post.1", "blocks.1.mlp.hook_post"),
                ("mlp.hook_out.1", "blocks.1.mlp.hook_out"),
                ("attn.hook_out.1", "blocks.1.attn.hook_out"),
                ("ln2.hook_scale.1", "blocks.1.ln2.hook_scale"),
                ("pre_linear.1", "blocks.1.mlp.hook_pre_linear"),
                ("model.layers.1.output", "blocks.1.hook_resid_post"),
                ("model.layers.1.input", "blocks.1.hook_resid_pre"),
                ("model.layers.1.self_attn.output", "blocks.1.attn.hook_out"),
                ("model.layers.1.mlp.output", "blocks.1.mlp.hook_out"),
                ("model.layers.1.mlp.down_proj.input", "blocks.1.mlp.hook_post"),
                ("model.layers.1.self_attn.o_proj.input", "blocks.1.attn.hook_z"),
                ("model.embed_tokens.output", "hook_embed"),
                ("model.norm.output", "ln_final.hook_out"),
                ("layers_output[1]", "blocks.1.hook_resid_post"),
                ("layers_input[0]", "blocks.0.hook_resid_pre"),
                ("attentions_output[2]", "blocks.2.attn.hook_out"),
                ("mlps_output[1]", "blocks.1.mlp.hook_out"),
            ],
        ),
        (
            "gpt2",
            &[
                ("transformer.h.1.mlp.output", "blocks.1.mlp.hook_out"),
                ("transformer.h.1.attn.output", "blocks.1.attn.hook_out"),
                ("transformer.h.0.output", "blocks.0.hook_resid_post"),
                ("transformer.wpe.output", "hook_pos_embed"),
                ("transformer.ln_f.output", "ln_final.hook_out"),
            ],
        ),
        (
            "gpt_neox",
            &[
                ("gpt_neox.layers.2.attention.output", "blocks.2.attn.hook_out"),
                ("gpt_neox.layers.2.output", "blocks.2.hook_resid_post"),
                ("gpt_neox.embed_in.output", "hook_embed"),
            ],
        ),
    ];
    for (name, pairs) in expected {
        let model = tiny(name);
        for (alias, full) in *pairs {
            let point = hook::parse(alias, model.config()).unwrap_or_else(|error| panic!("{name} {alias}: {error}"));
            assert_eq!(point.name(), *full, "{name} {alias}");
        }
        for point in hook::points(model.config()) {
            assert_eq!(hook::parse(&point.name(), model.config()).unwrap(), point);
        }
    }
}

/// In a post-norm block the attention module's output is the raw one, before the norm that follows it.
#[test]
fn module_paths_in_a_post_norm_block_are_the_raw_outputs() {
    let model = tiny("olmo2");
    let (_, cache) = capture_all(&model, &some_tokens(&model, 1, 4));
    let raw = named(&cache, "model.layers.1.mlp.output", model.config());
    assert!(max_difference(raw, named(&cache, "mlp_out.1", model.config())) > 0.1);
}

#[test]
fn patterns_match_by_layer_and_kind() {
    let model = tiny("olmo2");
    let names = |pattern: &str| -> Vec<String> {
        hook::matching(pattern, model.config()).unwrap().iter().map(HookPoint::name).collect()
    };
    let layers = |site: &str| (0..4).map(|l| format!("blocks.{l}.{site}")).collect::<Vec<_>>();
    assert_eq!(names("blocks.*.hook_resid_post"), layers("hook_resid_post"));
    assert_eq!(names("*.hook_pattern"), layers("attn.hook_pattern"));
    assert_eq!(names("blocks.?.hook_mlp_out"), layers("hook_mlp_out"));
    assert_eq!(names("blocks.{1,3}.hook_mlp_out"), ["blocks.1.hook_mlp_out", "blocks.3.hook_mlp_out"]);
    assert_eq!(names("*"), hook::points(model.config()).iter().map(HookPoint::name).collect::<Vec<_>>());
    assert_eq!(names("z.1"), ["blocks.1.attn.hook_z"]);
    assert_contains(&failure(hook::matching("blocks.*.hook_nothing", model.config())), &["blocks.*.hook_nothing"]);
    assert_contains(&failure(hook::matching("blocks.{1.hook_z", model.config())), &["`blocks.{1.hook_z`"]);
}

#[test]
fn names_that_mean_nothing_are_refused_with_what_would() {
    let llama = tiny("llama3");
    let gpt2 = tiny("gpt2");
    let cases: Vec<(&LanguageModel, &str, &[&str])> = vec![
        (&llama, "blocks.1.hook_resid_pots", &["did you mean `blocks.1.hook_resid_post`"]),
        (&llama, "blocks.1.hook_zz", &["`blocks.1.hook_zz`", "hook_names"]),
        (&llama, "", &["no hook is named ``"]),
        (&llama, "blocks.3.hook_resid_post", &["there is no layer 3", "0 to 2"]),
        (&llama, "resid_post.99", &["there is no layer 99", "0 to 2"]),
        (&llama, "resid_post.-4", &["there is no layer -4", "0 to 2"]),
        (&llama, "layers_output[3]", &["there is no layer 3"]),
        (&llama, "model.layers.7.output", &["there is no layer 7"]),
        (&llama, "blocks.99999999999999999999.hook_resid_post", &["99999999999999999999"]),
        (&llama, "model.layers.1.mlp.act_fn.output", &["model.layers.1.mlp.act_fn.output"]),
        (&llama, "hook_pos_embed", &["`hook_pos_embed` does not exist in a llama model"]),
        (&llama, "blocks.0.ln1_post.hook_scale", &["does not exist in a llama model"]),
        (&gpt2, "blocks.0.attn.hook_rot_q", &["does not exist in a gpt2 model"]),
        (&gpt2, "pre_linear.0", &["does not exist in a gpt2 model"]),
    ];
    for (model, name, parts) in cases {
        let message = failure(hook::parse(name, model.config()));
        assert_contains(&message, parts);
        assert_contains(&message, &[name]);
    }
}

#[test]
fn scripts_hook_by_closure() {
    let mut session = session();
    session.set_variable("path", tiny_path("gemma2").display().to_string().into());
    run_script(
        &mut session,
        r#"let model = load_model(path, #{ device: device }); let ids = [[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]];"#,
    );
    let scripts = [
        // Doubling by a closure, by a closure with the name, by an intervention.
        r#"assert((model.run_with_hooks(ids, [["mlp_out.1", |x| x * 2.0]])
            - model.run_with_hooks(ids, [scale("mlp_out.1", "all", 2.0)])).abs().max().item() == 0.0);"#,
        r#"let seen = []; model.run_with_hooks(ids, [["blocks.*.attn.hook_z", |x, name| { seen.push(name); }]]);
            assert_eq(seen, names_of(0..4));"#,
        r#"assert_eq(model.run_with_hooks(ids, [["mlp_out.1", |x| ()]]), model.forward(ids));"#,
        // The cache contains the values after the hooks.
        r#"let run = model.run_with_cache(ids, ["mlp_out.1"], #{ hooks: [zero("mlp_out.1")] });
            assert(run.cache["mlp_out.1"].abs().max().item() == 0.0);"#,
    ];
    run_script(
        &mut session,
        "fn names_of(layers) { let all = []; for l in layers { all.push(`blocks.${l}.attn.hook_z`); } all }",
    );
    for script in scripts {
        run_script(&mut session, script);
    }
    let failures: HashMap<&str, &[&str]> = HashMap::from([
        (r#"model.run_with_hooks(ids, [["mlp_out.1", |x| 1.0]])"#, &["mlp_out", "a tensor", "not float"][..]),
        (r#"model.run_with_hooks(ids, [["mlp_out.1", |x| x.sum(0)]])"#, &["[6, 32]", "[2, 6, 32]"]),
        (r#"model.run_with_hooks(ids, [["mlp_out.1", |x, y, z| x]])"#, &["wrong number of arguments", "|value, name|"]),
        (r#"model.run_with_hooks(ids, [["mlp_out.1", |x| { throw "stop here" }]])"#, &["stop here"]),
        (r#"model.run_with_hooks(ids, ["mlp_out.1"])"#, &["a hook must be", "not string"]),
        (r#"model.run_with_hooks(ids, [["mlp_ou.1", |x| x]])"#, &["mlp_ou.1"]),
        (r#"model.run_with_cache(ids, ["mlp_out.1"]).cache["mlp_out.2"]"#, &["`blocks.2.hook_mlp_out` was not cached"]),
        (r#"model.run_with_cache(ids, ["mlp_out.1"], #{ hook: [] })"#, &["no option `hook`", "did you mean `hooks`"]),
        (r#"model.forward(ids, #{ logits: "first" })"#, &["`logits`", "`first`", "last"]),
    ]);
    for (script, parts) in failures {
        assert_contains(&script_failure(&mut session, script), parts);
    }
}

/// A function that changes its own copy and returns nothing would do nothing.
#[test]
fn a_change_that_is_not_returned_is_an_error() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(&mut session, "let model = load_model(path, #{ device: device }); let tokens = [1, 2, 3];");
    for function in ["|x| { x[[0, -1], ...] = 0.0; }", "|x| { x[0][1] = 0.0; }", "|x| { let y = x; y[0] = 0.0; }"] {
        let code = format!("model.run_with_hooks(tokens, [[\"blocks.0.hook_resid_post\", {function}]])");
        let failure = script_failure(&mut session, &code);
        assert!(failure.contains("changes its activation but does not return it"), "{function}: {failure}");
    }
    // A function that only reads, or changes another tensor, needs no return value.
    for function in ["|x| { let n = x.norm(); }", "|x| { let y = x * 1.0; y[0] = 0.0; }"] {
        let code = format!("model.run_with_hooks(tokens, [[\"blocks.0.hook_resid_post\", {function}]]);");
        run_script(&mut session, &code);
    }
}

/// A hook may use the model that runs it, and a cache may be read in a loop over its own keys.
#[test]
fn functions_may_mention_what_calls_them() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    let script = r#"
        let model = load_model(path, #{ device: device });
        let seen = [];
        model.run_with_hooks([1, 2, 3], [["resid_post.0", |x| { seen.push(model.logit_lens(x).shape); }]]);
        assert_eq(seen, [[1, 3, model.cfg.d_vocab]]);
        let cache = model.run_with_cache([1, 2, 3], "blocks.*.hook_resid_post").cache;
        assert_eq(cache.keys().map(|name| cache[name].shape[1]), cache.keys().map(|_name| 3));
    "#;
    run_script(&mut session, script);
}

/// The weights that a script reads are those that turn one activation into the next.
#[test]
fn the_weights_of_scripts_give_the_activations() {
    for name in ["llama3", "gpt_neox"] {
        let mut session = session();
        session.set_variable("path", tiny_path(name).display().to_string().into());
        let script = r#"
            let model = load_model(path, #{ device: device, dtype: "f64" });
            let run = model.run_with_cache([3, 1, 4, 1, 5]);
            let cache = run.cache;
            let near = |left, right| assert((left - right).abs().max().item() < 1e-10);
            let normed = |x, scale, norm| {
                if model.cfg.normalization_type == "LN" { x = x - x.mean(-1, #{ keepdim: true }); }
                x = x / scale * norm.w;
                if "b" in norm { x = x + norm.b; }
                x
            };
            let block = model.blocks[1];
            let x = normed.call(cache["resid_pre.1"], cache["blocks.1.ln1.hook_scale"], block.ln1);
            let mixed = zeros_like(x);
            for head in 0..model.cfg.n_heads {
                let query = x.matmul(block.attn.W_Q[head]);
                if "b_Q" in block.attn { query = query + block.attn.b_Q[head]; }
                near.call(query, cache["blocks.1.attn.hook_q"].select(2, head));
                mixed = mixed + cache["blocks.1.attn.hook_z"].select(2, head).matmul(block.attn.W_O[head]);
            }
            if "b_O" in block.attn { mixed = mixed + block.attn.b_O; }
            near.call(mixed, cache["blocks.1.hook_attn_out"]);
            for head in 0..model.cfg.n_key_value_heads {
                let value = x.matmul(block.attn.W_V[head]);
                if "b_V" in block.attn { value = value + block.attn.b_V[head]; }
                near.call(value, cache["blocks.1.attn.hook_v"].select(2, head));
            }
            let out = cache["blocks.1.mlp.hook_post"].matmul(block.mlp.W_out);
            if "b_out" in block.mlp { out = out + block.mlp.b_out; }
            near.call(out, cache["blocks.1.hook_mlp_out"]);
            let last = cache[`resid_post.${model.cfg.n_layers - 1}`];
            let read = normed.call(last, cache["ln_final.hook_scale"], model.ln_final);
            near.call(read, model.ln_final(last));
            near.call(read.matmul(model.W_U), run.logits);
        "#;
        run_script(&mut session, script);
    }
}

#[test]
fn an_activation_cannot_become_true_or_false() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(&mut session, "let model = load_model(path, #{ device: device });");
    for function in ["|x| x > 0.0", "|x| x.to(\"i64\")"] {
        let code = format!("model.run_with_hooks([1, 2], [[\"resid_post.0\", {function}]])");
        let failure = script_failure(&mut session, &code);
        assert!(failure.contains("holds floating-point numbers"), "{function}: {failure}");
    }
}
