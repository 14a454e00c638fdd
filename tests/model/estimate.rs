//! Tests of estimates: the numbers of weights, what fits, and what is refused before anything is read.

use std::process::Command;

use lancet::device;
use lancet::model::size::Counts;
use lancet::session::Session;
use tch::Tensor;

use crate::support::checkpoint::Checkpoint;
use crate::support::{TINY, assert_contains, eval, run_script, script_failure, session, tiny, tiny_path};

fn numbers<'a>(weights: impl IntoIterator<Item = &'a Tensor>) -> f64 {
    weights.into_iter().map(|weight| weight.numel() as f64).sum()
}

#[test]
fn the_numbers_of_weights_are_known_from_the_config() {
    for name in TINY {
        let model = tiny(name);
        let (decoder, counts) = (&model.decoder, Counts::new(model.config()));
        assert_eq!(counts.total(), numbers(decoder.weights()), "{name}");
        assert_eq!(
            counts.input,
            numbers([&decoder.embedding].into_iter().chain(&decoder.position_embedding)),
            "{name}"
        );
        for (layer, count) in (0..).zip(&counts.layers) {
            let own = decoder.block_parameters(layer).unwrap();
            assert_eq!(*count, numbers(own.iter().map(|(_, weight)| weight)), "{name}, layer {layer}");
        }
    }
}

/// The numbers are those that the models' own pages state.
#[test]
fn real_models_have_the_sizes_that_they_are_known_by() {
    run_script(
        &mut session(),
        r#"
        assert_eq(estimate("smollm2", #{}).parameters, 134515008);
        assert_eq(estimate("smollm2", #{}).parameters, load_model("smollm2").cfg.n_params);
        for named in [["olmo2-1b", 1.48], ["olmo2-7b", 7.30]] {
            let billions = estimate(named[0], #{ limit: 1e12 }).parameters / 1e9;
            assert((billions - named[1]).abs() < 0.01, `${named[0]}: ${billions}`);
        }
        "#,
    );
}

#[test]
fn a_machine_can_be_planned_for() {
    run_script(
        &mut session(),
        r#"
        fn at(options) { estimate("olmo2-7b", options) }
        fn refused(options) {
            let message = ();
            try { at(options); } catch (error) { message = `${error.error}; ${error.hint}`; }
            assert(message != (), "it fits");
            message
        }
        fn grid(samples) {
            at(#{ gpus: 1, limit: 1e15, length: 50, sizes: [1, 2], samples: samples }).devices[0].grid
        }
        fn run(tokens) { at(#{ gpus: 1, limit: 1e15, length: 10, new_tokens: tokens }).devices[0].run }
        // In f32 it takes 29 GB.
        let limit = 16e9;
        for part in ["takes 27", "on cuda:0", "14.90 GiB are the limit", "`dtype: \"bf16\"`", "`device_map: \"split\"`"] {
            let text = refused(#{ gpus: 2, limit: limit });
            assert(text.contains(part), `${part}: ${text}`);
        }
        let split = at(#{ gpus: 2, limit: limit, device_map: "split" });
        assert(split.fits && split.devices.len() == 2);
        assert_eq(split.devices[0].layers + split.devices[1].layers, range(0, 32).to_array());
        assert_eq(split.devices[0].weights + split.devices[1].weights, split.weights);
        assert((split.devices[0].weights / split.devices[1].weights - 1.0).abs() < 0.1);
        assert_eq(split.weights, 4.0 * split.parameters);
        let half = at(#{ gpus: 1, limit: limit, dtype: "bf16" });
        assert(half.fits && half.weights == 2.0 * half.parameters);

        // Eight prompts do not fit, and one does.
        let work = #{ gpus: 1, limit: 24e9, dtype: "bf16", length: 500, cache: true };
        let text = refused(work + #{ batch: 8 });
        assert(text.contains("with at most 1 prompts at once"), text);
        assert(at(work + #{ batch: 1 }).fits);
        assert(refused(work + #{ batch: 1, length: 200000 }).contains("no dtype"));
        // Twice the samples take twice the memory.
        assert((grid(2000) / grid(1000) - 2.0).abs() < 0.2);
        // Beside generating, keys and values of all tokens are kept: 2 x 32 layers x 4096 numbers.
        assert_eq(run(1010) - run(10), 2.0 * 32.0 * 4096.0 * 1000.0 * 4.0);
        "#,
    );
}

#[test]
fn what_cannot_be_planned_is_refused() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    for (script, parts) in [
        ("estimate(path, #{ length: 0 })", &["`length` is 0", "at least 1"][..]),
        ("estimate(path, #{ sizes: [1] })", &["`sizes`", "`length`"]),
        ("estimate(path, #{ gpus: 2 })", &["`gpus`", "`limit`"]),
        ("estimate(path, #{ limit: 0 })", &["`limit` is 0"]),
        ("estimate(path, #{ lenght: 5 })", &["no option `lenght`", "`length`"]),
        ("estimate(path, #{ limit: 1 })", &["the limit", "no dtype"]),
        ("estimate(\"olmo2-7b\", #{ length: 5, sizes: [9], site: \"z\" })", &["sets of these sizes"]),
        ("estimate(\"no/such-model.gguf\", #{})", &["no/such-model.gguf"]),
        ("load_model(path, #{ device_map: \"auto\" })", &["`auto`", "split", "device_map"]),
        ("load_model(path, #{ device_map: \"split\", device: \"cpu\" })", &["names one device", "leave `device` out"]),
        ("load_model(path, #{ device_map: \"split\", device: \"cuda:1\" })", &["names one device"]),
    ] {
        assert_contains(&script_failure(&mut session, script), parts);
    }
    if !device::cuda_available() {
        let found = script_failure(&mut session, "load_model(path, #{ device_map: \"split\" })");
        assert_contains(&found, &["`device_map: \"split\"`", "there is no CUDA"]);
    }
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_read() {
    let checkpoint = Checkpoint::of("llama3")
        .with("num_hidden_layers", 500.into())
        .with("hidden_size", (1 << 14).into())
        .with("intermediate_size", (1 << 24).into());
    checkpoint.write();
    let mut session = session();
    session.set_variable("path", checkpoint.path().display().to_string().into());
    for options in ["#{ device: device }", "#{ device: device, init: \"random\" }"] {
        let found = script_failure(&mut session, &format!("load_model(path, {options})"));
        assert_contains(&found, &["does not fit into the memory", "its weights in f32 take", "are free", "no device"]);
    }
    run_script(&mut session, "assert(!estimate(path, #{ device: device }).fits);");
}

/// The most memory that the process has held since it was last asked, in bytes.
fn most() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the system's own report");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the most");
    std::fs::write("/proc/self/clear_refs", "5").expect("begins anew");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("kB") * 1024.0
}

/// What the system and the session take beside tensors.
const BESIDE: f64 = 48e6;

/// In a process of its own, in which nothing else takes memory.
#[test]
fn the_memory_that_is_taken_is_what_was_estimated() {
    let name = "estimate::the_memory_that_is_taken_is_what_was_estimated";
    if std::env::var_os("LANCET_MEASURED").is_none() {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let output = command.args(["--exact", name, "--nocapture"]).env("LANCET_MEASURED", "1").output().expect("runs");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        print!("{text}");
        assert!(output.status.success(), "{text}");
        return;
    }
    let checkpoint = Checkpoint::of("llama3")
        .with("hidden_size", 256.into())
        .with("intermediate_size", 1024.into())
        .with("num_hidden_layers", 8.into())
        .with("vocab_size", 16384.into());
    checkpoint.write();
    let mut session = session();
    session.set_variable("path", checkpoint.path().display().to_string().into());
    run_script(&mut session, "let work = #{ device: \"cpu\", init: \"random\", length: 120, batch: 16 };");
    let estimated = |session: &mut Session, field: &str, options: &str| {
        let script = format!("estimate(path, work + {options}).devices[0].{field}.to_float()");
        eval(session, &script).as_float().expect("a number")
    };
    // Code of libtorch that is used for the first time takes memory too.
    session.set_variable("small", tiny_path("llama3").display().to_string().into());
    let warm = "let small_model = load_model(small, #{ device: \"cpu\", init: \"random\" });
        small_model.patch_grid(#{ source: [1, 2, 3], target: [4, 5, 6], answer: 5, store: false, quiet: true });
        small_model.run_with_cache([[1, 2, 3]]).cache.len()";
    run_script(&mut session, warm);
    run_script(&mut session, "let prompts = ((arange(16).unsqueeze(1) * 7 + arange(120) * 5) % 97).to_array(); 0");
    let weights = estimated(&mut session, "weights", "#{}");
    // What comes later takes more: what was given back may stay with the process.
    let stages = [
        ("loading", 0.0, "let model = load_model(path, #{ device: \"cpu\", init: \"random\" });"),
        (
            "a grid",
            estimated(&mut session, "grid", "#{ sizes: [1, 2], samples: 4 }"),
            "model.patch_grid(#{ source: [1, 2, 3], target: prompts.extract(0, 4), answer: [5, 5, 5, 5], sizes: [1, 2],
                 store: false, quiet: true }).logit.shape",
        ),
        ("a run", estimated(&mut session, "run", "#{}"), "model.forward(prompts)"),
        (
            "a cache",
            estimated(&mut session, "total", "#{ cache: true }") - weights,
            "model.run_with_cache(prompts).cache.len()",
        ),
    ];
    let _warm = most();
    let before = most();
    for (what, estimate, script) in stages {
        let _result = eval(&mut session, script);
        let (taken, estimate) = (most() - before, weights + estimate);
        eprintln!("{what}: {:.1} MB of {:.1} MB estimated", taken / 1e6, estimate / 1e6);
        assert!((0.5 * estimate..=1.4 * estimate + BESIDE).contains(&taken), "{what}: {taken:e} of {estimate:e}");
    }
}
