//! Prompts of different lengths in one batch: each gives what it gives alone, in every family, at every hook.

use lancet::model::decoder::Logits;
use lancet::model::generate::Generation;
use lancet::model::hook;
use lancet::model::language_model::LanguageModel;
use lancet::model::padding::Side;
use lancet::model::run::{Action, Hooks};
use tch::{Kind, Tensor};

use crate::support::{
    TINY, assert_contains, eval, eval_tensor, load, max_difference, run_script, script_failure, session, tiny_path,
};

/// Longer than the sliding windows, as long as one, shorter, a single token.
const LENGTHS: [usize; 4] = [9, 4, 6, 1];

fn prompts(model: &LanguageModel) -> Vec<Vec<i64>> {
    let id = |row: usize, place: usize| ((row * 31 + place * 37 + 11) as i64) % model.config().d_vocab;
    LENGTHS.iter().enumerate().map(|(row, length)| (0..*length).map(|place| id(row, place)).collect()).collect()
}

/// The prompt's own part of a padded activation.
fn own(value: &Tensor, side: Side, dim: i64, length: i64) -> Tensor {
    let longest = value.size()[dim as usize];
    value.narrow(dim, if side == Side::Left { longest - length } else { 0 }, length)
}

#[test]
fn each_prompt_gives_what_it_gives_alone() {
    let _guard = tch::no_grad_guard();
    for name in TINY {
        for (kind, allowed) in [(Kind::Float, 1e-5), (Kind::Double, 1e-10)] {
            let model = load(&tiny_path(name).display().to_string(), kind);
            let prompts = prompts(&model);
            for side in [Side::Left, Side::Right] {
                let batch = model.decoder.batch(&prompts, Some(side)).unwrap();
                let mut hooks = Hooks::none();
                hooks.add(model.config(), hook::points(model.config()), "all", Action::Capture);
                let logits = model.decoder.forward_batch(&batch, Logits::All, &mut hooks).unwrap();
                let cache = hooks.finish().unwrap();
                let last = model.decoder.forward_batch(&batch, Logits::Last, &mut Hooks::none()).unwrap();
                let filled: i64 = logits.isnan().sum(Kind::Int64).int64_value(&[]);
                let filling: usize = LENGTHS.iter().map(|length| 9 - length).sum();
                assert_eq!(filled, filling as i64 * model.config().d_vocab, "{name} {side:?}");
                for (row, prompt) in prompts.iter().enumerate() {
                    let length = prompt.len() as i64;
                    let alone = model.decoder.tokens(std::slice::from_ref(prompt)).unwrap();
                    let mut hooks = Hooks::none();
                    hooks.add(model.config(), hook::points(model.config()), "all", Action::Capture);
                    let wanted = model.decoder.forward(&alone, Logits::All, &mut hooks).unwrap();
                    let wanted_cache = hooks.finish().unwrap();
                    let row = row as i64;
                    let difference = max_difference(&own(&logits.narrow(0, row, 1), side, 1, length), &wanted);
                    let scale = 1.0 + wanted.abs().max().double_value(&[]);
                    assert!(difference < allowed * scale, "{name} {kind:?} {side:?} {row}: {difference:e}");
                    let ends = max_difference(&last.narrow(0, row, 1), &wanted.narrow(1, -1, 1));
                    assert!(ends < allowed * scale, "{name} {kind:?} {side:?} {row}: last {ends:e}");
                    for (point, value) in wanted_cache.iter() {
                        let padded = cache.get(*point).unwrap().narrow(0, row, 1);
                        let dim = point.site.position_dim(value.dim());
                        let mut ours = own(&padded, side, dim, length);
                        if value.dim() == 4
                            && value.size()[3] == length
                            && dim == 2
                            && point.site.name().contains("attn.hook_")
                            && !point.site.name().contains("norm")
                        {
                            ours = own(&ours, side, 3, length);
                        }
                        let size = value.nan_to_num(0.0, 0.0, 0.0).abs().max().double_value(&[]);
                        let difference = max_difference(&ours, value);
                        assert!(
                            difference < allowed * (1.0 + size),
                            "{name} {kind:?} {side:?} {row} {}: {difference:e}",
                            point.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn each_prompt_is_continued_as_it_is_alone() {
    for name in TINY {
        let model = load(&tiny_path(name).display().to_string(), Kind::Double);
        let prompts = prompts(&model);
        let options = Generation { max_tokens: 8, ..Generation::default() };
        let batch = model.decoder.batch(&prompts, Some(Side::Left)).unwrap();
        let together = model.decoder.generate_after(None, &batch, &options, &mut Hooks::none()).unwrap();
        for (row, prompt) in prompts.iter().enumerate() {
            let alone = model.decoder.tokens(std::slice::from_ref(prompt)).unwrap();
            let wanted = model.decoder.generate(&alone, &options, &mut Hooks::none()).unwrap();
            assert_eq!(together[row], wanted[0], "{name} {row}");
        }
    }
}

#[test]
fn scripts_fill_up_prompts_and_count_the_positions_of_each() {
    for name in ["olmo2", "gpt2", "gemma3"] {
        let mut session = session();
        let path = tiny_path(name).display().to_string();
        run_script(
            &mut session,
            &format!(
                "let model = load_model({path:?}, #{{ device: device, dtype: \"f64\" }}); \
                      let prompts = [[3, 1, 4, 1, 5, 9, 2], [6, 5, 3], [5, 8, 9, 7]];"
            ),
        );
        for side in ["left", "right"] {
            run_script(
                &mut session,
                &format!(
                    r#"
                    let side = "{side}";
                    let own = |value, row| if side == "left" {{ value[row, -prompts[row].len():] }} else {{ value[row, :prompts[row].len()] }};
                    let near = |left, right| (left - right).abs().max().item() < 1e-9;
                    let vectors = randn([3, model.cfg.d_model], #{{ seed: 1, dtype: "f64" }});
                    let hooks = |row| [
                        zero("resid_post.0", -2),
                        patch("resid_mid.1", 1, vectors[row]),
                        scale("z.1", [0, -1], 2.0, #{{ head: 1 }}),
                    ];
                    let together = [
                        zero("resid_post.0", -2), patch("resid_mid.1", 1, vectors), scale("z.1", [0, -1], 2.0, #{{ head: 1 }})
                    ];
                    let logits = model.run_with_hooks(prompts, together, #{{ padding: side }});
                    let run = model.run_with_cache(prompts, "resid_post.-1", #{{ padding: side }});
                    let losses = model.loss(prompts, #{{ padding: side, per_token: true }});
                    let total = 0.0;
                    let count = 0;
                    for (prompt, row) in prompts {{
                        assert(near.call(own.call(logits, row), model.run_with_hooks(prompt, hooks.call(row))[0]));
                        let alone = model.run_with_cache(prompt, "resid_post.-1");
                        assert(near.call(own.call(run.cache["resid_post.-1"], row), alone.cache["resid_post.-1"][0]));
                        assert_eq(run.mask[row].sum().item(), prompt.len());
                        let loss = model.loss(prompt, #{{ per_token: true }})[0];
                        let found = losses[row][!losses[row].isnan()];
                        assert(near.call(found, loss));
                        total += loss.sum().item();
                        count += prompt.len() - 1;
                    }}
                    assert(abs(model.loss(prompts, #{{ padding: side }}).item() - total / count) < 1e-9);
                    // A sweep under the same hooks, and one that measures answers.
                    let layers = [0, 1, 2];
                    let swept = model.sweep(#{{ target: prompts, over: layers, padding: side, quiet: true, answer: [1, 2, 3],
                        hooks: |layer| [zero(`resid_post.${{layer}}`, -1)] }});
                    for (layer, place) in layers {{
                        for (prompt, row) in prompts {{
                            let alone = model.run_with_hooks(prompt, [zero(`resid_post.${{layer}}`, -1)])[0, -1, row + 1];
                            assert(near.call(swept.logit[place, row], alone));
                        }}
                    }}
                    let all = model.sweep(#{{ target: prompts, over: [1], padding: side, quiet: true, logits: "all",
                        hooks: |layer| [zero(`resid_post.${{layer}}`, 0)], metric: |logits| logits }})[0];
                    assert(near.call(own.call(all, 1), model.run_with_hooks(prompts[1], [zero("resid_post.1", 0)])[0]));
                    "#
                ),
            );
        }
        assert_eq!(
            eval(&mut session, "model.generate(prompts, #{ max_tokens: 5, stop_ids: [] })").to_string(),
            eval(&mut session, "prompts.map(|prompt| model.generate(prompt, #{ max_tokens: 5, stop_ids: [] }))")
                .to_string()
        );
        // An intervention at the last position of a prompt acts on each prompt's own.
        assert_eq!(
            eval(&mut session, "model.generate(prompts, #{ max_tokens: 5, stop_ids: [], hooks: [zero(\"resid_post.1\", -1)] })").to_string(),
            eval(&mut session, "prompts.map(|prompt| model.generate(prompt, #{ max_tokens: 5, stop_ids: [], hooks: [zero(\"resid_post.1\", -1)] }))").to_string()
        );
        let last = eval_tensor(&mut session, "model.forward(prompts, #{ padding: \"right\", logits: \"last\" })");
        assert_eq!(last.size()[..2], [3, 1]);
        let mut fails = |script: &str, parts: &[&str]| assert_contains(&script_failure(&mut session, script), parts);
        fails("model.forward(prompts)", &["prompt 1 has 3", "padding", "\"left\""]);
        fails("model.forward(prompts, #{ padding: \"both\" })", &["padding", "left", "right"]);
        fails(
            "model.run_with_hooks(prompts, [zero(\"resid_post.0\", 5)], #{ padding: \"left\" })",
            &["prompt 1", "position 5", "there are 3"],
        );
        fails("model.sweep(#{ target: prompts, over: [1], hooks: |l| [], answer: [1, 2, 3] })", &["different lengths"]);
        fails(
            "model.sweep(#{ target: prompts[0], over: [1], hooks: |l| [], answer: [1], batch: 0 })",
            &["batch", "at least 1"],
        );
        fails("model.generate(prompts, #{ prefix: model.prefix([1, 2]) })", &["cannot follow a prefix"]);
        fails("model.forward(prompts, #{ padding: \"left\", prefix: model.prefix([1, 2]) })", &["padding", "prefix"]);
    }
}
