//! The tests of models on simulated GPUs, which are as strict about devices as real ones and can run out of memory.

use std::process::Command;

use lancet::device::free_memory;
use lancet::model::generate::Generation;
use lancet::model::hook::Site;
use lancet::model::language_model::{LanguageModel, LoadOptions};
use lancet::model::room;
use lancet::model::run::Hooks;
use lancet::model::size::Counts;
use tch::{Device, Kind};

use crate::support::checkpoint::Checkpoint;
use crate::support::simulated_gpu::with_simulated_gpus;
use crate::support::{
    TINY, assert_contains, capture_all, generator, max_difference, run_script, script_failure, session, some_tokens,
    tiny, tiny_path,
};

const PLENTY: u64 = 8 << 30;

/// Whether this process is one that [`passes`] started.
fn is_simulated() -> bool {
    std::env::var_os("SIMULATED_CUDA_BYTES").is_some()
}

/// Runs tests of this file's program again, on a simulated GPU.
fn passes(device: &str, bytes: u64, arguments: &[&str]) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    with_simulated_gpus(&mut command, bytes);
    let output = command.env("LANCET_TEST_DEVICE", device).args(arguments).output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!text(&output.stdout).contains("running 0 tests"), "{arguments:?} name no test");
}

#[test]
fn every_test_of_models_passes() {
    if !is_simulated() {
        passes("cuda:0", PLENTY, &["--skip", "simulated_gpu"]);
    }
}

#[test]
fn patching_passes_on_the_second_of_two() {
    if !is_simulated() {
        passes("cuda:1", PLENTY, &["patching::"]);
    }
}

/// The tests in which weights and activations of several layers meet.
#[test]
fn tests_of_models_pass_where_they_are_split() {
    let meeting = [
        "attribute",
        "edges",
        "generate::",
        "gradient",
        "head_score",
        "hook::",
        "intervention",
        "linear",
        "live_paths",
        "padding",
        "partial",
        "patching",
        "residual",
        "sae::",
        "standard_library",
        "training",
        "weights",
    ];
    if !is_simulated() {
        passes("split", PLENTY, &[["--skip", "simulated_gpu"].as_slice(), &meeting].concat());
    }
}

#[test]
fn a_split_model_gives_the_bits_of_one_device_at_every_hook() {
    if !is_simulated() {
        let name = "simulated_gpu::a_split_model_gives_the_bits_of_one_device_at_every_hook";
        return passes("split", PLENTY, &["--exact", name]);
    }
    let _guard = tch::no_grad_guard();
    for name in TINY {
        let split = tiny(name);
        let options = LoadOptions { device: "cuda:0".into(), ..LoadOptions::default() };
        let whole = LanguageModel::load(&tiny_path(name).display().to_string(), &options).unwrap();
        let placement = split.decoder.placement();
        assert_eq!(placement.devices(), [Device::Cuda(0), Device::Cuda(1)], "{name}");
        assert!(placement.layers.is_sorted_by_key(|device| *device == Device::Cuda(1)), "{name}: {placement}");
        assert_eq!(placement.output == Device::Cuda(0), split.config().tied, "{name}");
        assert_eq!(split.fingerprint().unwrap(), whole.fingerprint().unwrap(), "{name}");
        for length in [9, 1] {
            let tokens = some_tokens(&whole, 2, length);
            let ((logits, cache), (one_logits, one_cache)) =
                (capture_all(&split, &tokens), capture_all(&whole, &tokens));
            assert_eq!((logits.device(), max_difference(&logits, &one_logits)), (placement.output, 0.0), "{name}");
            for (point, value) in cache.iter() {
                let place = match point.site {
                    Site::Embed | Site::PosEmbed => placement.input,
                    site if site.in_block() => placement.layers[point.layer as usize],
                    _ => placement.output,
                };
                assert_eq!(value.device(), place, "{name} {}", point.name());
                assert_eq!(max_difference(value, one_cache.at(*point).unwrap()), 0.0, "{name} {}", point.name());
            }
        }
        if split.config().causal {
            let tokens = some_tokens(&whole, 2, 5);
            let options = Generation { max_tokens: 6, ..Generation::default() };
            let ids = |model: &LanguageModel| model.decoder.generate(&tokens, &options, &mut Hooks::none()).unwrap();
            assert_eq!(ids(&split), ids(&whole), "{name}");
        }
    }
}

/// What crosses from one GPU to the other: vectors, patches, gradients, weights, an SAE's own device.
#[test]
fn tensors_of_two_gpus_meet_in_hooks_and_expressions() {
    if !is_simulated() {
        let name = "simulated_gpu::tensors_of_two_gpus_meet_in_hooks_and_expressions";
        return passes("split", PLENTY, &["--exact", name]);
    }
    let mut session = session();
    session.set_variable("path", tiny_path("gpt_neox").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let split = load_model(path, #{ device_map: "split", dtype: "f64" });
        let whole = load_model(path, #{ device: "cuda:0", dtype: "f64" });
        assert_eq(split.cfg.device, "cuda:0");
        let devices = split.cfg.layer_devices;
        devices.dedup();
        assert_eq(devices, ["cuda:0", "cuda:1"]);
        assert(`${split}`.contains("cuda:0 (layer") && `${split}`.contains("cuda:1 (layer"));
        let last = split.cfg.n_layers - 1;
        let clean = [3, 1, 4, 1, 5];
        let other = [2, 7, 1, 8, 2];
        let same = |compute| {
            let results = [split, whole].map(compute);
            assert(equal(results[0].to("cuda:0"), results[1].to("cuda:0")), `${results}`);
        };
        // A vector of the first layer goes into the last, by an intervention and by a function.
        same.call(|model| model.run_with_hooks(clean, [patch(`resid_post.${last}`, "all",
            model.run_with_cache(other).cache["resid_post", 0])]));
        same.call(|model| {
            let early = model.run_with_cache(other).cache["resid_post", 0];
            model.run_with_hooks(clean, [[`blocks.${last}.hook_resid_post`, |value, hook| value + early * 0.5]])
        });
        same.call(|model| {
            let cache = model.run_with_cache(clean).cache;
            cache["resid_post", last] - cache["resid_post", 0]
        });
        same.call(|model| model.run_with_cache(clean).cache.stack("resid_post"));
        same.call(|model| model.W_U.T.matmul(model.W_E[3]));
        same.call(|model| model.run_with_cache(clean).cache.logit_attrs(
            model.run_with_cache(clean).cache.decompose_resid(), 5));
        same.call(|model| model.with_weights(#{ "blocks.0.mlp.W_out": model.blocks[last].mlp.W_out }).forward(clean));
        same.call(|model| model.linearize(clean).predict([patch("resid_post.0", -1,
            model.run_with_cache(other).cache["resid_post", last][0, -1])]).actual);
        "#,
    );
}

/// What is taken on each device is, to the byte, what was said before.
#[test]
fn loading_takes_the_bytes_that_were_estimated() {
    if !is_simulated() {
        let name = "simulated_gpu::loading_takes_the_bytes_that_were_estimated";
        return passes("split", PLENTY, &["--exact", name]);
    }
    for name in TINY.iter().filter(|name| !["opt", "phi3", "phi3_longrope"].contains(name)) {
        let free = || [0, 1].map(|gpu| free_memory(Device::Cuda(gpu)).unwrap());
        let before = free();
        let model = tiny(name);
        let taken = room::weights(&Counts::new(model.config()), &model.decoder.placement(), Kind::Float);
        for ((device, bytes), (before, after)) in taken.into_iter().zip(before.into_iter().zip(free())) {
            assert_eq!((before - after) as f64, bytes, "{name} {device:?}");
        }
    }
}

#[test]
fn a_model_that_fits_no_gpu_alone_is_refused_with_what_would_fit() {
    if !is_simulated() {
        let name = "simulated_gpu::a_model_that_fits_no_gpu_alone_is_refused_with_what_would_fit";
        return passes("cuda:0", 3 << 20, &["--exact", name]);
    }
    let turn = generator();
    let checkpoint = Checkpoint::of("llama3").with("num_hidden_layers", 96.into());
    checkpoint.write();
    let mut session = session();
    session.set_variable("path", checkpoint.path().display().to_string().into());
    let found = script_failure(&mut session, r#"load_model(path, #{ init: "random" })"#);
    assert_contains(
        &found,
        &[
            "does not fit into the memory of cuda:0",
            "`dtype: \"bf16\"`",
            "`device_map: \"split\"`",
            "`device: \"cpu\"`",
        ],
    );
    run_script(
        &mut session,
        r#"
        let taken = estimate(path, #{}).weights;
        assert(taken > 3 * 1048576 && taken < 5 * 1048576, `${taken}`);
        assert(!estimate(path, #{ device: "cuda:1" }).fits);
        for options in [#{ dtype: "bf16" }, #{ device_map: "split" }, #{ device: "cpu" }] {
            assert(estimate(path, options).fits, `${options}`);
            load_model(path, options + #{ init: "random" }).forward([1, 2, 3]);
        }
        "#,
    );
    drop(turn);
}

#[test]
fn work_that_does_not_fit_is_done_in_halves() {
    if !is_simulated() {
        return passes("cuda:0", 6 << 20, &["--exact", "simulated_gpu::work_that_does_not_fit_is_done_in_halves"]);
    }
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    let script = r#"
        let models = ["cuda:0", "cpu"].map(|device| load_model(path, #{ device: device, dtype: "f64" }));
        let prompts = ((arange(64).unsqueeze(1) * 7 + arange(64) * 5) % 97).to_array();
        try {
            models[0].forward(prompts);
            throw "it fits";
        } catch (error) {
            assert(`${error}`.contains("out of memory"), `${error}`);
        }

        let swept = models.map(|model| model.sweep(#{
            target: prompts.extract(0, 2), over: arange(40).to_array(), answer: [9, 10], batch: 80,
            hooks: |item| [add("blocks.1.hook_resid_post", -1, item.to_float() * 0.1)],
        }));
        assert(allclose(swept[0].logit, swept[1].logit, #{ rtol: 0.0, atol: 1e-12 }));
        assert_eq(swept[0].rank, swept[1].rank);

        let grids = models.map(|model| model.patch_grid(#{
            source: prompts[0], target: prompts.extract(1, 8), answer: arange(8).to_array(), sizes: [1, 2],
            tokens_at_once: 100000, store: false, quiet: true,
        }));
        assert(allclose(grids[0].logit, grids[1].logit, #{ rtol: 0.0, atol: 1e-12 }));
        assert_eq(grids[0].rank, grids[1].rank);
    "#;
    run_script(&mut session, script);
}
