//! NaN is no rank, no accuracy and no token: whatever would be made of it is refused, by the name of its cause.

use crate::support::{run_script, script_failure, session, tiny_path};

#[test]
fn logits_with_nan_are_measured_by_nothing() {
    let mut session = session();
    run_script(&mut session, &format!("let model = load_model({:?}, #{{ device: \"cpu\" }});", tiny_path("llama2")));
    // NaN everywhere, at the answer, and beside it, where the answer would otherwise have a rank.
    run_script(
        &mut session,
        "let nan = 0.0 / 0.0;
        let all = full([2, 5], nan);
        let answer = tensor([[1.0, 2.0, 3.0], [1.0, 2.0, nan]]);
        let spoil = |x| x * nan;",
    );
    for (code, parts) in [
        ("metric::answer_rank(all, [2, 2])", &["sample 0", "NaN"][..]),
        ("metric::answer_logit(all, [2, 2])", &["sample 0", "NaN"]),
        ("metric::accuracy(all, [0, 0])", &["sample 0", "NaN"]),
        ("metric::accuracy(answer, [2, 2])", &["sample 1", "NaN"]),
        ("metric::answer_rank(answer, [2, 1])", &["sample 1", "NaN"]),
        ("metric::answer_rank(answer, [2])", &["2 samples", "1 answers"]),
        ("metric::accuracy(zeros([0, 3]), [])", &["no samples"]),
        (
            "model.sweep(#{ target: [1, 2], answer: [7], over: [0, 1],
                hooks: |item| if item == 0 { [] } else { [[\"resid_post.0\", spoil]] } })",
            &["prompt 0", "not finite", "item 1"],
        ),
        (
            "model.patch_grid(#{ target: [[3, 4]], answer: [5], position: -1,
                vectors: model.digest([1, 2]).map(|vector| vector * nan) })",
            &["infinity or NaN at layer 0"],
        ),
        ("model.generate([1, 2], #{ max_tokens: 2, hooks: [[\"resid_post.0\", spoil]] })", &["prompt 0", "not finite"]),
        (
            "model.generate([1, 2], #{ max_tokens: 2, temperature: 1.0, hooks: [[\"resid_post.0\", spoil]] })",
            &["prompt 0", "not finite"],
        ),
        (
            "model.generate([1, 2], #{ max_tokens: 2, hooks: [[\"resid_post.0\", |x| x * (1.0 / 0.0)]] })",
            &["prompt 0", "not finite"],
        ),
        ("model.linearize([1, 2], #{ hooks: [[\"resid_post.0\", spoil]] })", &["before layer 1", "not finite"]),
    ] {
        let error = script_failure(&mut session, code);
        for part in parts {
            assert!(error.contains(part), "expected {part} of {code} in: {error}");
        }
    }
    // Tokens that are ruled out by minus infinity are none the highest.
    run_script(&mut session, "assert_eq(metric::answer_rank(tensor([[-1.0 / 0.0, 2.0, 3.0]]), [0]).to_array(), [3]);");
}
