//! Samples of nodes' scores in batches, and sums over many runs.

use lancet::attribution::replacement::{batches, vectors};
use tch::{Kind, Tensor};

use crate::support::{eval_tensor, load, max_difference, run_script, session, tiny_path};

/// Tokens that run together.
const TOKENS: i64 = 2048;

#[test]
fn batches_hold_few_tokens_and_run_a_source_once() {
    let model = load(&tiny_path("llama3").display().to_string(), Kind::Double);
    let targets: Vec<Vec<i64>> = (0..400).map(|target| vec![1, 2 + target % 90, 3]).collect();
    let source = |first: i64| -> Vec<i64> { (0..60).map(|place| (first + place) % 97).collect() };
    for (sources, most) in [(vec![source(0)], 60), ((0..400).map(source).collect(), TOKENS)] {
        let samples = vectors(&sources, &targets, &[1]).unwrap();
        let found = batches(&model.decoder, &samples, |_| usize::MAX).unwrap();
        let numbers: Vec<usize> = found.iter().flat_map(|batch| batch.samples.clone()).collect();
        assert_eq!(numbers, (0..400).collect::<Vec<_>>());
        for batch in &found {
            let donor = batch.donors.numel() as i64;
            assert!(donor <= most && batch.run.numel() as i64 + donor <= TOKENS, "{donor}");
        }
        let few = batches(&model.decoder, &samples, |length| length).unwrap();
        assert!(few.iter().all(|batch| batch.samples.len() <= 3));
    }
}

#[test]
fn targets_of_few_sources_have_the_scores_that_they_have_alone() {
    let mut session = session();
    session.set_variable("folder", tiny_path("llama3").display().to_string().into());
    run_script(
        &mut session,
        "let model = load_model(folder, #{ dtype: \"f64\" });
         let sources = [[21, 8, 33], [4, 5, 6], [21, 8, 33]]; let targets = [[1, 2, 3], [4, 9, 6], [7, 8, 9]];
         let all = #{ position: 1, answer: 5 };
         let together = model.attribute(all + #{ source: sources, target: targets }).scores;",
    );
    let together = eval_tensor(&mut session, "together");
    for sample in 0..3 {
        let script =
            format!("model.attribute(all + #{{ source: sources[{sample}], target: targets[{sample}] }}).scores");
        let alone = eval_tensor(&mut session, &script);
        assert!(max_difference(&together.get(sample).unsqueeze(0), &alone) < 1e-12, "{sample}");
        assert!(alone.abs().max().double_value(&[]) > 1e-4);
    }
}

/// A bfloat16 sum of a thousand parts stops growing long before its end.
#[test]
fn means_over_many_runs_are_those_over_few_in_narrow_dtypes() {
    let mut session = session();
    session.set_variable("folder", tiny_path("llama3").display().to_string().into());
    run_script(&mut session, "let model = load_model(folder, #{ dtype: \"bf16\", device: \"cpu\" });");
    for path in ["inputs", "activations"] {
        let mut scores = |steps: i64| -> Tensor {
            let script = format!(
                "model.attribute(#{{ clean: [3, 14, 15], corrupted: [3, 41, 15], answer: 5, nodes: [\"mlp_out\"], \
                 method: \"ig\", path: \"{path}\", steps: {steps} }}).scores"
            );
            eval_tensor(&mut session, &script)
        };
        let (few, many) = (scores(30), scores(900));
        let size = few.abs().max().double_value(&[]);
        let difference = max_difference(&few, &many);
        assert!(difference < 0.05 * size, "{path}: {difference:e} of {size:e}");
    }
}
