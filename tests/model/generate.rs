//! Generation with a cache of keys and values against whole runs, and against transformers' continuations of SmolLM2.

use crate::support::{
    TINY, assert_contains, capture_all, changing, eval, failure, fixture, generator, load, logits, logits_with,
    max_difference, run_script, script_failure, session, some_tokens, tiny, tiny_path,
};
use lancet::model::decoder::Logits;
use lancet::model::generate::Generation;
use lancet::model::hook;
use lancet::model::intervention::{At, Change, Intervention};
use lancet::model::key_value::KeyValueCache;
use lancet::model::language_model::LanguageModel;
use lancet::model::run::{Action, Hooks};
use lancet::text::chat::{self, Message};
use serde_json::Value;
use tch::{Kind, Tensor};

fn greedy(max_tokens: i64) -> Generation {
    Generation { max_tokens, ..Generation::default() }
}

fn generate(model: &LanguageModel, tokens: &Tensor, options: &Generation) -> Vec<Vec<i64>> {
    generate_with(model, tokens, options, Hooks::none())
}

fn generate_with(model: &LanguageModel, tokens: &Tensor, options: &Generation, mut hooks: Hooks) -> Vec<Vec<i64>> {
    let _guard = tch::no_grad_guard();
    let rows = model.decoder.generate(tokens, options, &mut hooks).expect("the generation succeeds");
    hooks.finish().expect("every hook ran");
    rows
}

/// Greedy generation, with a whole run for each token and the hooks from `hooks`.
fn by_whole_runs<'a>(
    model: &LanguageModel,
    tokens: &Tensor,
    count: i64,
    hooks: impl Fn() -> Hooks<'a>,
) -> Vec<Vec<i64>> {
    let mut text = tokens.shallow_clone();
    for _ in 0..count {
        let next = logits_with(model, &text, hooks()).select(1, -1).argmax(-1, false);
        text = Tensor::cat(&[text, next.unsqueeze(1).to_device(tch::Device::Cpu)], 1);
    }
    let new = text.narrow(1, tokens.size()[1], count);
    (0..new.size()[0]).map(|row| new.get(row).try_into().unwrap()).collect()
}

/// Prompts shorter than the sliding windows, texts longer; the generation reaches the long rope's other factors.
#[test]
fn greedy_generation_equals_whole_runs_in_every_family() {
    for name in TINY {
        let model = tiny(name);
        for (batch, length) in [(2, 3), (1, 1)] {
            let tokens = some_tokens(&model, batch, length);
            let expected = by_whole_runs(&model, &tokens, 9, Hooks::none);
            assert_eq!(generate(&model, &tokens, &greedy(9)), expected, "{name} {batch} x {length}");
        }
    }
}

/// Cached passes of several lengths give the logits of one whole pass.
#[test]
fn cached_passes_give_the_logits_of_a_whole_pass() {
    // The long rope turns keys differently once the text is long, so its cache cannot be continued.
    for name in TINY.iter().filter(|name| **name != "phi3_longrope") {
        let model = tiny(name);
        let tokens = some_tokens(&model, 2, 11);
        let whole = logits(&model, &tokens);
        let mut cache = KeyValueCache::new(&model.decoder);
        let mut start = 0;
        for length in [3, 1, 2, 1, 4] {
            let part = tokens.narrow(1, start, length);
            let ours = model.decoder.forward_cached(&part, Logits::All, &mut Hooks::none(), &mut cache).unwrap();
            let difference = max_difference(&ours, &whole.narrow(1, start, length));
            assert!(difference <= 5e-5, "{name} from {start}: {difference:e}");
            start += length;
        }
    }
}

#[test]
fn the_last_positions_logits_are_those_of_all_positions() {
    for name in ["olmo2", "gemma2", "gpt2"] {
        let model = tiny(name);
        let tokens = some_tokens(&model, 2, 5);
        let last = model.decoder.forward(&tokens, Logits::Last, &mut Hooks::none()).unwrap();
        assert!(max_difference(&last, &logits(&model, &tokens).narrow(1, -1, 1)) <= 1e-5);
    }
}

/// Loads the real model once for all comparisons with transformers.
#[test]
fn smollm2_continues_speaks_and_reads_as_in_transformers() {
    let read =
        |name: &str| -> Value { serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap() };
    let expected = read("smollm2/expected.json");
    let model = load("smollm2", Kind::Float);
    let ids_of = |value: &Value| -> Vec<i64> { serde_json::from_value(value.clone()).unwrap() };
    for (name, prompt) in expected["prompts"].as_object().unwrap() {
        let ids = model.encode(prompt["text"].as_str().unwrap(), false).unwrap();
        assert_eq!(ids, ids_of(&prompt["ids"]), "{name}");
        let tokens = model.decoder.tokens(&[ids]).unwrap();
        let new = generate(&model, &tokens, &greedy(expected["new_tokens"].as_i64().unwrap()));
        assert_eq!(new, [ids_of(&prompt["greedy_ids"])], "{name}");
        assert_eq!(model.tokenizer().unwrap().decode(&new[0]).unwrap(), prompt["greedy_text"].as_str().unwrap());
    }
    for (name, chat) in expected["chat"].as_object().unwrap() {
        let messages = chat["messages"].as_array().unwrap().iter();
        let messages: Vec<Message> = messages.map(|message| message.as_object().unwrap().clone()).collect();
        let options = chat::Options { add_generation_prompt: true, ..chat::Options::default() };
        let template = model.tokenizer().unwrap().chat_template().unwrap();
        let rendered = chat::render(template, &messages, &options).unwrap();
        assert_eq!(rendered, chat["rendered"].as_str().unwrap(), "{name}");
        assert_eq!(model.encode(&rendered, false).unwrap(), ids_of(&chat["ids"]), "{name}");
    }
    let tokenizer = read("tokenizer/expected.json");
    let cases = [&tokenizer["cases"], &tokenizer["lossy"]].into_iter().flat_map(|cases| cases.as_array().unwrap());
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let ids = model.encode(text, false).unwrap();
        assert_eq!(ids, ids_of(&case["ids"]), "{text:?}");
        let decoded = case["decoded"].as_str().unwrap_or(text);
        assert_eq!(model.tokenizer().unwrap().decode(&ids).unwrap(), decoded);
    }
}

/// Steering at all positions acts on generated ones too, as in a whole run with the same change.
#[test]
fn steering_acts_at_every_step() {
    for name in ["olmo2", "gemma3", "gpt2", "phi3_longrope"] {
        let model = tiny(name);
        let config = model.config();
        let tokens = some_tokens(&model, 2, 4);
        let vector = Tensor::arange(config.d_model, (Kind::Float, tch::Device::Cpu)).sin() * 8.0;
        let steer = || {
            let mut hooks = Hooks::none();
            let (point, change) = (hook::parse("resid_post.1", config).unwrap(), Change::Add(vector.shallow_clone()));
            hooks.intervene(config, Intervention { point, positions: At::All, rows: None, head: None, change });
            hooks
        };
        let steered = generate_with(&model, &tokens, &greedy(8), steer());
        assert_eq!(steered, by_whole_runs(&model, &tokens, 8, steer), "{name}");
        assert_ne!(steered, generate(&model, &tokens, &greedy(8)), "{name}: the steering has an effect");
        // The same by a function, which gets only the new positions.
        let points = || vec![hook::parse("resid_post.1", config).unwrap()];
        let by_function = generate_with(
            &model,
            &tokens,
            &greedy(8),
            changing(&model, points(), |value| value + vector.to_device(value.device())),
        );
        assert_eq!(by_function, steered, "{name}");
    }
}

/// A patch at a position of the prompt, counted from either end, is applied once and stays in keys and values.
#[test]
fn a_patch_in_the_prompt_acts_once() {
    for name in ["olmo2", "mistral", "gpt_neox", "phi3_longrope"] {
        let model = tiny(name);
        let config = model.config();
        let tokens = some_tokens(&model, 2, 4);
        let vector = Tensor::arange(config.d_model, (Kind::Float, tch::Device::Cpu)).cos() * 3.0;
        let patch = |position: i64| {
            let mut hooks = Hooks::none();
            let (point, change) = (hook::parse("resid_post.0", config).unwrap(), Change::Patch(vector.shallow_clone()));
            let positions = At::One(position);
            hooks.intervene(config, Intervention { point, positions, rows: None, head: None, change });
            hooks
        };
        // In a whole run the prompt's position 2 is always position 2.
        let expected = by_whole_runs(&model, &tokens, 7, || patch(2));
        assert_eq!(generate_with(&model, &tokens, &greedy(7), patch(2)), expected, "{name}");
        assert_eq!(
            generate_with(&model, &tokens, &greedy(7), patch(-2)),
            expected,
            "{name}: counted from the prompt's end"
        );
        assert_ne!(generate(&model, &tokens, &greedy(7)), expected, "{name}: the patch has an effect");
    }
}

#[test]
fn functions_see_the_new_positions_of_each_step() {
    let model = tiny("qwen2");
    let tokens = some_tokens(&model, 2, 4);
    let lengths = std::cell::RefCell::new(Vec::new());
    let mut hooks = Hooks::none();
    let points = vec![hook::parse("mlp_out.0", model.config()).unwrap()];
    let note = |_: &hook::HookPoint, value: &Tensor| {
        lengths.borrow_mut().push(value.size()[1]);
        Ok(None)
    };
    hooks.add(model.config(), points, "mlp_out.0", Action::Call(Box::new(note)));
    let _ = generate_with(&model, &tokens, &greedy(4), hooks);
    assert_eq!(lengths.into_inner(), [4, 1, 1, 1]);
}

/// The process shares libtorch's generator, so one test does all sampling.
#[test]
fn drawing_follows_the_seed_and_the_limits() {
    let _turn = generator();
    let model = tiny("llama2");
    let tokens = some_tokens(&model, 2, 4);
    let sampled = |seed: i64, change: &dyn Fn(&mut Generation)| {
        let mut options = Generation { max_tokens: 12, temperature: 1.0, seed: Some(seed), ..Generation::default() };
        change(&mut options);
        generate(&model, &tokens, &options)
    };
    let plain = |_: &mut Generation| ();
    assert_eq!(sampled(1, &plain), sampled(1, &plain));
    assert_ne!(sampled(1, &plain), sampled(2, &plain));
    let best = generate(&model, &tokens, &greedy(12));
    assert_ne!(sampled(1, &plain), best);
    assert_eq!(sampled(1, &|options| options.top_k = Some(1)), best);
    assert_eq!(sampled(2, &|options| options.top_p = Some(1e-9)), best);
    assert_eq!(sampled(3, &|options| options.temperature = 1e-6), best);
    // Limits that exclude no token change nothing.
    assert_eq!(sampled(4, &|options| options.top_k = Some(1 << 40)), sampled(4, &plain));
    assert_eq!(sampled(4, &|options| options.top_p = Some(1.0)), sampled(4, &plain));
    // Many sampled first tokens come from the best three, each with about its probability.
    let prompt = some_tokens(&model, 1, 4).expand([4000, 4], false);
    let options =
        Generation { max_tokens: 1, temperature: 2.0, top_k: Some(3), seed: Some(5), ..Generation::default() };
    let drawn: Vec<i64> = generate(&model, &prompt, &options).into_iter().flatten().collect();
    let (top, ids) = logits(&model, &some_tokens(&model, 1, 4)).select(1, -1).select(0, 0).topk(3, -1, true, true);
    let shares = Vec::<f64>::try_from((top / 2.0).softmax(-1, Kind::Double)).unwrap();
    for (id, share) in Vec::<i64>::try_from(ids).unwrap().into_iter().zip(shares) {
        let found = drawn.iter().filter(|drawn| **drawn == id).count() as f64 / drawn.len() as f64;
        // A little over four standard deviations.
        assert!((found - share).abs() < 0.035, "id {id}: {found} instead of {share}");
    }
    assert_eq!(drawn.len(), 4000);
    // A seed leaves the session's numbers alone, also those that a hook draws; random weights have one too.
    let mut session = session();
    run_script(
        &mut session,
        &format!(
            "let path = {:?};
            let model = load_model(path, #{{ device: \"cpu\" }});
            manual_seed(1);
            let numbers = [rand(2), rand(2)].map(|t| t.to_array());
            let sampled = #{{ max_tokens: 3, temperature: 1.0, seed: 7, stop_ids: [] }};
            for step in [
                || rand(2, #{{ seed: 7 }}), || randn_like(zeros(3), #{{ seed: 7 }}), || randint(0, 9, 2, #{{ seed: 7 }}),
                || model.generate([1, 2], sampled),
                || load_model(path, #{{ device: \"cpu\", init: \"random\", seed: 7 }}),
                || stats::permutation_test([1, 2, 3], [4, 5, 7], #{{ seed: 7, n_resamples: 9 }}),
                || stats::bootstrap_ci([1, 2, 4], #{{ seed: 7, n_resamples: 100 }}),
            ] {{
                manual_seed(1);
                step.call();
                let first = rand(2).to_array();
                step.call();
                assert_eq([first, rand(2).to_array()], numbers);
            }}
            let plain = model.generate([1, 2], sampled);
            let drawing = [[\"resid_post.0\", |x| {{ rand(3); x }}]];
            assert_eq(model.generate([1, 2], sampled + #{{ hooks: drawing }}), plain);
            manual_seed(7);
            sampled.remove(\"seed\");
            assert_eq(model.generate([1, 2], sampled), plain);",
            tiny_path("llama2")
        ),
    );
}

#[test]
fn stop_ids_end_each_row_by_itself() {
    let model = tiny("olmo2_mha");
    let tokens = some_tokens(&model, 2, 4);
    let free = generate(&model, &tokens, &greedy(10));
    let stop = free[0][3];
    let first = |row: &[i64]| row.iter().position(|id| *id == stop).unwrap_or(row.len());
    let options = Generation { stop_ids: vec![stop], ..greedy(10) };
    let stopped = generate(&model, &tokens, &options);
    for (row, free) in stopped.iter().zip(&free) {
        assert_eq!(row, &free[..first(free)]);
    }
    assert!(stopped[0].len() <= 3 && stopped[0].len() < free[0].len());
    // The first token ends the generation.
    let options = Generation { stop_ids: free.iter().map(|row| row[0]).collect(), ..greedy(10) };
    assert_eq!(generate(&model, &tokens, &options), vec![Vec::<i64>::new(); 2]);
}

#[test]
fn options_out_of_range_are_refused() {
    let model = tiny("gpt2");
    let tokens = some_tokens(&model, 1, 4);
    let cases: Vec<(Generation, &str)> = vec![
        (greedy(0), "max_tokens"),
        (greedy(-1), "max_tokens"),
        (Generation { temperature: -0.1, ..greedy(2) }, "temperature"),
        (Generation { temperature: f64::NAN, ..greedy(2) }, "temperature"),
        (Generation { top_k: Some(0), ..greedy(2) }, "top_k"),
        (Generation { top_p: Some(0.0), ..greedy(2) }, "top_p"),
        (Generation { top_p: Some(1.01), ..greedy(2) }, "top_p"),
        (Generation { top_p: Some(f64::NAN), ..greedy(2) }, "top_p"),
        (Generation { top_k: Some(5), ..greedy(2) }, "temperature"),
    ];
    for (options, name) in cases {
        let message = failure(model.decoder.generate(&tokens, &options, &mut Hooks::none()));
        assert_contains(&message, &[&format!("`{name}`")]);
    }
    // With 32 learned positions, 28 more tokens fit; the last one predicts one more.
    assert_eq!(generate(&model, &tokens, &greedy(29))[0].len(), 29);
    assert_eq!(generate(&model, &tokens, &greedy(40))[0].len(), 29, "it stops where the positions end");
    let long = some_tokens(&model, 1, 33);
    let message = failure(model.decoder.generate(&long, &greedy(1), &mut Hooks::none()));
    assert_contains(&message, &["33 tokens", "32 learned positions"]);
}

/// The activations of a run with a cache are those of the last step, but of a whole run those of all positions.
#[test]
fn whole_runs_keep_all_positions() {
    let model = tiny("olmo2");
    let tokens = some_tokens(&model, 1, 6);
    let (_, cache) = capture_all(&model, &tokens);
    assert_eq!(cache.named("resid_post.0", model.config()).unwrap().size(), [1, 6, 32]);
}

#[test]
fn scripts_generate_ids_from_ids() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device });
        let one = model.generate([5, 6, 7], #{ max_tokens: 4, stop_ids: [] });
        assert_eq(one.len(), 4);
        let two = model.generate([[5, 6, 7], [7, 6, 5]], #{ max_tokens: 4, stop_ids: [] });
        assert_eq(two.len(), 2);
        assert_eq(two[0], one);
        assert_eq(model.generate(tensor([5, 6, 7]), #{ max_tokens: 4, stop_ids: [] }), one);
        assert_eq(model.generate([[5, 6, 7]], #{ max_tokens: 4, stop_ids: [] }), [one]);
        let steered = model.generate([5, 6, 7], #{ max_tokens: 4, stop_ids: [], hooks: [zero("blocks.*.hook_mlp_out")] });
        assert(steered != one);
        // A position can be named, as in a run with hooks.
        let at = |position, names| model.generate([5, 6, 7],
            #{ max_tokens: 4, stop_ids: [], hooks: [scale("resid_post.0", position, -3.0)], positions: names });
        assert_eq(at.call("verb", #{ verb: 1 }), at.call(1, #{}));
    "#,
    );
    let stopped =
        "model.generate([5, 6, 7], #{ max_tokens: 4, stop_ids: [one[3]] }) == one.extract(0, one.index_of(one[3]))";
    assert!(eval(&mut session, stopped).as_bool().unwrap());
    for (script, parts) in [
        ("model.generate([5], #{ max_token: 3 })", &["no option `max_token`", "did you mean `max_tokens`"][..]),
        ("model.generate([5], #{ max_tokens: 0 })", &["`max_tokens` is out of range", "at least 1"]),
        ("model.generate([5], #{ max_tokens: 2.0 })", &["`max_tokens` of `generate` must be an integer, not float"]),
        ("model.generate([5], #{ temperature: \"hot\" })", &["must be a number, not string"]),
        ("model.generate([5], #{ stop_ids: [1.5] })", &["`stop_ids`", "an integer, not float"]),
        ("model.generate([], #{ max_tokens: 2 })", &["empty"]),
        ("model.generate([5, 97])", &["token id 97 at position 1", "0 to 96"]),
        ("model.generate(\"text\")", &["has no tokenizer", "tokenizer.json"]),
    ] {
        assert_contains(&script_failure(&mut session, script), parts);
    }
}
