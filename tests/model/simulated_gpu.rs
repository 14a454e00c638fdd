//! The tests of models on simulated GPUs, which are as strict about devices as real ones and can run out of memory.

use std::process::Command;

use crate::support::simulated_gpu::with_simulated_gpus;
use crate::support::{run_script, session, tiny_path};

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
