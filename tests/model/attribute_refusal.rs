//! Scores of nodes: what scripts are refused.

use super::attribute::with_model;
use crate::support::{assert_contains, eval, run_script, script_failure};

#[test]
fn what_cannot_be_scored_is_refused() {
    let mut session = with_model("llama3");
    run_script(&mut session, "let pair = #{ clean: clean, corrupted: corrupted, answer: 5 };");
    let cases = [
        ("model.attribute(#{ answer: 5 })", ["needs the runs to compare", "corrupted"]),
        ("model.attribute(#{ clean: clean, answer: 5 })", ["`clean` and `corrupted`, or `source`", ""]),
        (
            "model.attribute(#{ clean: clean, corrupted: [1, 2], answer: 5 })",
            ["5 (clean) and 2 (corrupted) tokens", "as many tokens"],
        ),
        (
            "model.attribute(#{ clean: [clean, clean], corrupted: [corrupted], answer: 5 })",
            ["2 clean and 1 corrupted", ""],
        ),
        ("model.attribute(#{ clean: clean, corrupted: [3, 4, 15, 9, 99], answer: 5 })", ["99", "0 to 96"]),
        ("model.attribute(pair + #{ position: 1 })", ["`position` goes with `source`", "every position"]),
        (
            "model.attribute(#{ source: [1], target: clean, position: 1, answer: 5, direction: \"noise\" })",
            ["`direction` goes with", ""],
        ),
        (
            "model.attribute(#{ source: [1], target: clean, answer: 5, position: 7 })",
            ["position 7 is out of range", "5 tokens"],
        ),
        (
            "model.attribute(#{ source: [[1], [2]], target: [clean], position: 1, answer: 5 })",
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
            "model.attribute(#{ source: [1], target: clean, position: 1, answer: 5, method: \"ig\", path: \"inputs\" })",
            ["path through the inputs", "activations"],
        ),
        (
            "model.attribute(#{ source: [1, 2, 3], target: [4], position: 0, answer: 3, method: \"ig\", path: \"inputs\" })",
            ["path through the inputs", "activations"],
        ),
        ("model.attribute(#{ source: [1], target: clean, answer: 5 })", ["`position`", "source: .., target: .."]),
        (
            "model.attribute(#{ clean: [[1, 2], clean], corrupted: [[1, 3], clean], answer: 5 })",
            ["of sample 1 are the same", ""],
        ),
        ("model.attribute(#{ clean: [], corrupted: [], answer: 5 })", ["a prompt is empty", ""]),
        ("model.edges(#{ clean: [], corrupted: [], answer: 5 })", ["there are no prompts", ""]),
        ("model.attribute(pair + #{ method: \"ig\", steps: 4000000000000 })", ["4000000000000 steps", "10000"]),
        ("model.attribute(pair).top(-1)", ["-1", "top(10)"]),
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
