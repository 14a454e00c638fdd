//! Training in scripts: optimisers against torch.optim, and vectors, matrices and weights trained through models
//! (`make_optimiser_fixtures.py`).

use std::process::Command;

use serde_json::Value;

use crate::support::{TINY, assert_contains, eval, fixture, run_script, script_failure, session, tiny_path};
use lancet::session::Session;

/// Numbers without a pattern, in a shape, as the fixture's script makes them; and the fixture's checksum.
const NUMBERS: &str = "
    let numbers = |shape| (arange(shape.reduce(|a, b| a * b, 1)).to(\"f64\") * 12.9898).sin().reshape(shape);
    let checksum = |t| (t.flatten() * (arange(t.numel()).to(\"f64\") + 1.0).sin()).sum().item();
    let f64s = |values| tensor(values, #{ dtype: \"f64\" });
    let close = |a, b| allclose(a, b, #{ rtol: 0.0, atol: 1e-10 });";

fn reference() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("optimiser.json")).unwrap()).unwrap()
}

fn prepared() -> Session {
    let mut session = session();
    session.set_variable("file", fixture("optimiser.json").display().to_string().into());
    run_script(&mut session, &format!("let reference = read_json(file); {NUMBERS}"));
    session
}

fn with_model(name: &str) -> Session {
    let mut session = prepared();
    session.set_variable("folder", tiny_path(name).display().to_string().into());
    session.set_variable("name", name.into());
    run_script(&mut session, "let model = load_model(folder, #{ dtype: \"f64\", device: device });");
    session
}

#[test]
fn twenty_steps_are_those_of_torch() {
    let reference = reference();
    let calls = reference["steps"].as_object().unwrap();
    assert!(calls.len() >= 9);
    for call in calls.keys() {
        let (function, options) = call.split_once(", ").unwrap();
        let mut session = prepared();
        session.set_variable("options", call.as_str().into());
        run_script(
            &mut session,
            &format!(
                "let expected = reference.steps[options];
                 let x = numbers.call([5, 3]) * 2.0;
                 let start = #{{ W: numbers.call([3, 4]), b: numbers.call([4]) * 0.5 }};
                 let by_name = optim::{function}(start, {options});
                 let by_place = optim::{function}([start.W, start.b], {options});
                 let by_gradients = optim::{function}(start, {options});
                 let loss = |W, b| ((x.matmul(W) + b).tanh() - 0.3).square().sum();
                 let losses = (0..20).map(|step| {{
                     by_place.step(|p| loss.call(p[0], p[1]));
                     let watched = by_gradients.params;
                     watched.W.requires_grad = true;
                     watched.b.requires_grad = true;
                     by_gradients.step(grad(loss.call(watched.W, watched.b), watched));
                     by_name.step(|p| loss.call(p.W, p.b))
                 }});
                 assert(close.call(f64s.call(losses), f64s.call(expected.losses)), options);
                 assert(close.call(by_name.params.W, f64s.call(expected.W)), options);
                 assert(close.call(by_name.params.b, f64s.call(expected.b)), options);
                 assert_eq(by_place.params, [by_name.params.W, by_name.params.b]);
                 assert_eq(by_gradients.params, by_name.params);
                 assert_eq(by_name.steps, 20);
                 assert(!by_name.params.W.requires_grad);"
            ),
        );
    }
}

#[test]
fn vectors_and_matrices_are_trained_through_models_as_by_pytorch() {
    let reference = reference();
    for name in reference["training"].as_object().unwrap().keys() {
        run_script(
            &mut with_model(name),
            "let expected = reference.training[name];
             let loss_of = |model, hooks| {
                 let logits = model.run_with_hooks(reference.tokens, hooks);
                 logits[0, -1].log_softmax(-1)[reference.answer] * -1.0
             };
             let train = |params, loss, expected| {
                 let opt = optim::adam(params, #{ lr: 0.05 });
                 let losses = (0..5).map(|step| opt.step(loss));
                 assert(close.call(f64s.call(losses), f64s.call(expected.losses)), name);
                 let sums = opt.params.map(|param| checksum.call(param));
                 assert(allclose(f64s.call(sums), f64s.call(expected.sums), #{ rtol: 0.0, atol: 1e-8 }), name);
                 losses
             };
             let vector = zeros([model.cfg.d_model]).to(\"f64\");
             let steer = |x, v| { x[:, 2] = x[:, 2] + v; x };
             train.call([vector], |p| loss_of.call(model, [[\"resid_post.1\", |x| steer.call(x, p[0])]]), expected.vector);
             train.call([vector], |p| loss_of.call(model, [add(\"resid_post.1\", 2, p[0])]), expected.vector);

             let W_out = model.blocks[1].mlp.W_out;
             let matrices = [numbers.call([W_out.shape[0], 2]) * 0.1, zeros([2, W_out.shape[1]]).to(\"f64\")];
             let losses = train.call(matrices, |p| {
                 loss_of.call(model.with_weights(#{ \"blocks.1.mlp.W_out\": W_out + p[0].matmul(p[1]) }), [])
             }, expected.lora);
             assert(losses[4] < losses[0]);",
        );
    }
}

#[test]
fn weights_have_the_gradients_of_finite_differences_in_every_family() {
    for name in TINY {
        let count = eval(
            &mut with_model(name),
            "let tokens = [[3, 14, 15, 9, 26, 5], [1, 2, 3, 4, 5, 6]].map(|row| row.map(|id| id % model.cfg.d_vocab));
             let loss = |weights| {
                 let log_probs = model.with_weights(weights).forward(tokens).log_softmax(-1);
                 (log_probs * arange(log_probs.numel()).to(\"f64\").sin().reshape(log_probs.shape)).sum()
             };
             let weights = model.state_dict();
             let watched = model.state_dict();
             for name in weights.keys() { watched[name].requires_grad = true; }
             let gradients = grad(loss.call(watched), watched);
             for name in weights.keys() {
                 let direction = numbers.call(weights[name].shape);
                 direction /= direction.norm();
                 let at = |step| {
                     let moved = weights;
                     moved[name] += direction * step;
                     loss.call(moved).item()
                 };
                 let wanted = (at.call(1e-5) - at.call(-1e-5)) / 2e-5;
                 let found = (gradients[name] * direction).sum().item();
                 assert((found - wanted).abs() < 1e-7 * (1.0 + wanted.abs()), `${name}: ${found} ${wanted}`);
             }
             weights.len()",
        );
        assert!(count.as_int().unwrap() > 20, "{name}");
    }
}

#[test]
fn a_run_records_only_what_depends_on_the_parameters() {
    run_script(
        &mut with_model("llama3"),
        "let opt = optim::sgd([zeros([model.cfg.d_model]).to(\"f64\")], #{ lr: 0.1 });
         let seen = [];
         opt.step(|p| {
             let run = model.run_with_cache([1, 2, 3], \"resid_post\", #{ hooks: [add(\"resid_post.1\", -1, p[0])] });
             seen = (0..3).map(|layer| run.cache[\"resid_post\", layer].requires_grad);
             run.logits[0, -1, 5]
         });
         assert_eq(seen, [false, true, true]);
         assert(!model.run_with_hooks([1, 2, 3], [add(\"resid_post.1\", -1, opt.params[0])]).requires_grad);",
    );
}

#[test]
fn the_exponential_of_a_matrix_has_gradients() {
    run_script(
        &mut prepared(),
        "let a = numbers.call([4, 4]);
         let rotation = (a - a.T).matrix_exp();
         assert(close.call(rotation.matmul(rotation.T), eye(4).to(\"f64\")));
         // The sum of a series of powers.
         let power = eye(4).to(\"f64\");
         let sum = power;
         for k in 1..60 { power = power.matmul(a) / k; sum += power; }
         assert(close.call(a.matrix_exp(), sum));
         // The derivative of its trace is itself, transposed.
         let x = a;
         x.requires_grad = true;
         assert(close.call(grad(x.matrix_exp().trace(), [x])[0], sum.T));",
    );
    assert_contains(&script_failure(&mut session(), "ones([2, 3]).matrix_exp()"), &["matrix_exp", "[2, 3]"]);
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let mut session = with_model("llama3");
    run_script(&mut session, "let x = tensor([1.0, 2.0]); let opt = optim::adam(#{ x: x, y: x }, #{});");
    let cases = [
        ("optim::adam(#{}, #{})", ["an array or a map of tensors", "[vector]"]),
        ("optim::adam(x, #{})", ["an array or a map of tensors", "#{ W: W"]),
        ("optim::adam([1.0], #{})", ["parameter 0 is not a tensor", "f64"]),
        ("optim::adam([tensor([1, 2])], #{})", ["floating-point", "to(\"f32\")"]),
        ("optim::adam([x], #{ rate: 0.1 })", ["no option \"rate\"", "weight_decay"]),
        ("optim::adam([x], #{ lr: \"high\" })", ["the learning rate is high", "|step|"]),
        ("optim::adam([x], #{ lr: -0.1 })", ["the learning rate is -0.1", "|step|"]),
        ("optim::sgd([x], #{ momentum: -1.0 })", ["\"momentum\"", "-1"]),
        ("optim::adam([x], #{ betas: [0.9, 1.0] })", ["\"betas\"", "two numbers"]),
        ("optim::adam([x], #{ betas: 0.9 })", ["\"betas\"", "two numbers"]),
        ("optim::adam([x], #{ lr: |step| () }).step(|p| p[0].sum())", ["the learning rate is", "after 0 steps"]),
        ("opt.step(|p| p.x.sum().item())", ["not f64", "leave out `.item()`"]),
        ("opt.step(|p| p.x)", ["one number", "sum()"]),
        ("opt.step(|p| p.x.sum())", ["does not depend on `y`", ""]),
        ("opt.step(|p| x.sum())", ["does not depend on any tensor", ""]),
        ("opt.step(|p| (p.x + p.y).sum() / 0.0)", ["the loss is inf after 0 steps", "smaller `lr`"]),
        ("opt.step(|p| (p.x + p.y - p.x - p.y).square().sum().sqrt())", ["gradient of parameter x", "not finite"]),
        ("opt.step(#{ x: x })", ["in the same form", "opt.step(|p| loss)"]),
        ("opt.step(#{ x: x, y: tensor([1.0]) })", ["in the same form", "opt.step(|p| loss)"]),
        ("opt.step(3)", ["a function of the parameters", "opt.step(|p| loss)"]),
    ];
    for (script, parts) in cases {
        assert_contains(&script_failure(&mut session, script), &parts);
    }
    run_script(&mut session, "assert_eq(opt.params.x, x); assert_eq(opt.steps, 0);");
}

#[test]
fn steps_keep_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("steps.rhai");
    let text = format!(
        "let model = load_model({:?}, #{{ device: \"cpu\" }});
         let opt = optim::adam(#{{ vector: zeros([model.cfg.d_model]) }}, #{{}});
         for step in 0..2000 {{
             opt.step(|p| model.run_with_hooks([1, 2, 3], [[\"resid_post.1\", |x| x + p.vector]])[0, -1, 5]);
             if step == 700 || step == 1999 {{ print(read_text(\"/proc/self/statm\").split(\" \")[1]); }}
         }}",
        tiny_path("llama3").display().to_string()
    );
    std::fs::write(&script, text).unwrap();
    let mut lancet = Command::new(env!("CARGO_BIN_EXE_lancet"));
    let output = lancet
        .args(["--allow", "read=/proc", "--allow", &format!("read={}", tiny_path("llama3").display())])
        .arg("run")
        .arg(&script)
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let pages: Vec<i64> = printed.lines().map(|line| line.parse().unwrap()).collect();
    // A run's activations alone are above 2 pages.
    assert!(pages[1] - pages[0] < 1000, "{pages:?}");
}
