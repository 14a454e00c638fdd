//! Gradients of metrics with respect to activations: against PyTorch's autograd through transformers
//! (`make_gradient_fixtures.py`), finite differences, single runs, and what scripts are refused.

use crate::support::{TINY, fixture, load, max_difference, some_tokens, tiny_path};
use lancet::error::Result;
use lancet::model::backward::Backward;
use lancet::model::decoder::Logits;
use lancet::model::forward::Start;
use lancet::model::gradient::Gradients;
use lancet::model::hook::{self, HookPoint, Site};
use lancet::model::intervention::{At, Change, Intervention};
use lancet::model::language_model::LanguageModel;
use lancet::model::padding::Side;
use lancet::model::run::{Action, Callback, Hooks};
use serde_json::Value;
use tch::{Kind, Tensor};

fn double(name: &str) -> LanguageModel {
    load(&tiny_path(name).display().to_string(), Kind::Double)
}

fn named(points: &[HookPoint]) -> Vec<(String, Vec<HookPoint>)> {
    points.iter().map(|point| (point.name(), vec![*point])).collect()
}

/// The log-probability of a token at the last position, from the logits there.
fn log_probability(logits: &Tensor, answer: i64) -> Result<Tensor> {
    Ok(logits.f_select(1, -1)?.f_log_softmax(-1, None)?.f_select(-1, answer)?)
}

#[test]
fn every_family_has_the_gradients_of_transformers() {
    let text = std::fs::read_to_string(fixture("gradient.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let families = TINY.iter().filter(|name| !name.starts_with("toy"));
    for name in families {
        let (model, expected) = (double(name), &expected[name]);
        let ids: Vec<i64> = numbers(&expected["input_ids"]).into_iter().map(|id| id as i64).collect();
        let tokens = model.decoder.tokens(&[ids]).unwrap();
        let answer = expected["answer_id"].as_i64().unwrap();
        let wanted = expected["gradients"].as_object().unwrap();
        let points: Vec<HookPoint> = wanted.keys().map(|name| hook::parse(name, model.config()).unwrap()).collect();
        // The attention's output, the MLP's and the last layer's at least, in each layer.
        assert!(points.len() as i64 > 5 * model.config().n_layers, "{name}");
        let found =
            model.decoder.gradients(Start::Tokens(&tokens), Logits::Last, &named(&points), Hooks::none(), |all| {
                log_probability(all, answer)
            });
        let found = found.unwrap();
        let value = found.value.double_value(&[0]);
        assert!((value - expected["value"].as_f64().unwrap()).abs() < 1e-10, "{name}: {value}");
        for (hook, checksum) in wanted {
            let rows = found.gradients.named(hook, model.config()).unwrap().select(0, 0).flatten(1, -1);
            let weights = (Tensor::arange(rows.size()[1], (Kind::Double, rows.device())) + 1).sin();
            let sums = Tensor::from_slice(&numbers(&checksum["sums"])).to_device(rows.device());
            let largest = checksum["largest"].as_f64().unwrap();
            let difference = max_difference(&rows.matmul(&weights), &sums);
            let of_largest = (rows.abs().max().double_value(&[]) - largest).abs();
            assert!(difference.max(of_largest) < 1e-10 * largest, "{name} {hook}: {difference:e} of {largest:e}");
        }
    }
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// A metric of all logits, [batch, pos, d_vocab], that no axis of them is like another in.
fn mixed(logits: &Tensor) -> Result<Tensor> {
    let weights = Tensor::arange(logits.numel() as i64, (Kind::Double, logits.device())).sin();
    let flat = logits.f_log_softmax(-1, None)?.f_reshape([-1])?;
    Ok(flat.f_mul(&weights)?.f_sum(None)?)
}

/// Numbers in the shape of `like` without a pattern, from -1 to 1.
fn direction(like: &Tensor) -> Tensor {
    (Tensor::arange(like.numel() as i64, (Kind::Double, like.device())) * 12.9898).sin().view_(like.size())
}

/// The metric's derivative along `direction` at a point, by central differences.
fn derivative(
    model: &LanguageModel,
    tokens: &Tensor,
    point: HookPoint,
    add: &dyn Fn(&mut Hooks<'static>),
    direction: &Tensor,
) -> f64 {
    const STEP: f64 = 1e-6;
    let at = |step: f64| {
        let step = direction * step;
        let shifted: Callback = Box::new(move |_, value| Ok(Some(value + &step)));
        let mut hooks = Hooks::none();
        add(&mut hooks);
        hooks.add(model.config(), vec![point], "shifted", Action::Call(shifted));
        let logits = model.decoder.forward(tokens, Logits::All, &mut hooks).unwrap();
        mixed(&logits).unwrap().double_value(&[])
    };
    (at(STEP) - at(-STEP)) / (2.0 * STEP)
}

/// Compares gradients at every hook with central differences in one direction.
fn compare_with_differences(name: &str, model: &LanguageModel, tokens: &Tensor, add: &dyn Fn(&mut Hooks<'static>)) {
    let all = hook::points(model.config()).into_iter();
    // What single heads read replaces what all read together, so it has gradients of its own.
    let (heads, others): (Vec<_>, Vec<_>) = all.partition(|point| point.site.is_per_head());
    for points in [heads, others] {
        let mut hooks = Hooks::none();
        add(&mut hooks);
        let places = [("everything".to_owned(), points.clone())];
        let found = model.decoder.gradients(Start::Tokens(tokens), Logits::All, &places, hooks, mixed).unwrap();
        for point in points {
            let gradient = found.gradients.get(point).unwrap();
            let mut direction = direction(gradient);
            if point.site == Site::ExpertWeights {
                // An expert that a token does not have is not computed.
                direction *= found.activations.get(point).unwrap().ne(0.0);
            }
            let direction = &direction / direction.norm();
            let ours = (gradient * &direction).sum(None).double_value(&[]);
            let wanted = derivative(model, tokens, point, add, &direction);
            assert!((ours - wanted).abs() < 1e-6 * (1.0 + wanted.abs()), "{name} {}: {ours} {wanted}", point.name());
        }
    }
}

#[test]
fn finite_differences_agree_at_every_hook_of_every_family() {
    let _guard = tch::no_grad_guard();
    for name in TINY {
        let model = double(name);
        let tokens = some_tokens(&model, 2, 6);
        compare_with_differences(name, &model, &tokens, &|_| ());
    }
}

#[test]
fn gradients_are_those_of_the_run_with_its_hooks() {
    let _guard = tch::no_grad_guard();
    for name in ["llama3", "olmo2", "gpt_neox", "gemma2", "mixtral"] {
        let model = double(name);
        let config = model.config();
        let tokens = some_tokens(&model, 2, 6);
        let at = |site, layer| HookPoint { site, layer };
        // A hook, an intervention in single samples and one in a head.
        let add = |hooks: &mut Hooks<'static>| {
            let squared: Callback = Box::new(|_, value| Ok(Some(value.square() * 0.3 + value)));
            hooks.add(config, vec![at(Site::AttentionOut, 1)], "squared", Action::Call(squared));
            let (scaled, added) = (Change::Scale(-1.5), Change::Add(Tensor::from(0.7)));
            let (rows, positions) = (Some(vec![1]), At::Several(vec![2, 4]));
            hooks.intervene(
                config,
                Intervention { point: at(Site::ResidPre, 1), positions, rows, head: None, change: scaled },
            );
            let positions = At::One(3);
            hooks.intervene(
                config,
                Intervention { point: at(Site::Z, 2), positions, rows: None, head: Some(1), change: added },
            );
        };
        let plain = model.decoder.forward(&tokens, Logits::All, &mut Hooks::none()).unwrap();
        let mut hooks = Hooks::none();
        add(&mut hooks);
        let changed = model.decoder.forward(&tokens, Logits::All, &mut hooks).unwrap();
        assert!(max_difference(&changed, &plain) > 1e-3, "{name}: the hooks change nothing");
        compare_with_differences(name, &model, &tokens, &add);
    }
}

#[test]
fn padded_prompts_have_their_own_gradients() {
    let _guard = tch::no_grad_guard();
    let lengths = [7, 3, 5];
    let sites = [Site::Embed, Site::Query, Site::Z, Site::AttentionRaw, Site::MlpPost, Site::ResidPost];
    for name in TINY {
        let model = double(name);
        let vocabulary = model.config().d_vocab;
        let prompts: Vec<Vec<i64>> = (0..)
            .zip(lengths)
            .map(|(row, length)| (0..length).map(|place| (row * 31 + place * 37 + 5) % vocabulary).collect())
            .collect();
        let points: Vec<HookPoint> =
            hook::points(model.config()).into_iter().filter(|point| sites.contains(&point.site)).collect();
        let places = [("places".to_owned(), points.clone())];
        let run = |prompts: &[Vec<i64>], side| -> Gradients {
            let batch = model.decoder.batch(prompts, side).unwrap();
            let metric = |logits: &Tensor| log_probability(logits, 3);
            model.decoder.gradients(Start::Batch(&batch), Logits::Last, &places, Hooks::none(), metric).unwrap()
        };
        let alone: Vec<Gradients> = prompts.iter().map(|prompt| run(std::slice::from_ref(prompt), None)).collect();
        for side in [Side::Left, Side::Right] {
            let together = run(&prompts, Some(side));
            for (row, (alone, length)) in (0..).zip(alone.iter().zip(lengths)) {
                for point in &points {
                    let both = together.gradients.get(*point).unwrap().select(0, row);
                    let start = if side == Side::Left { 7 - length } else { 0 };
                    let wanted = alone.gradients.get(*point).unwrap().select(0, 0);
                    let difference = max_difference(&both.narrow(0, start, length), &wanted);
                    assert!(difference < 1e-10, "{name} {side:?} {row} {}: {difference:e}", point.name());
                    let filling = (7 - length) * both.numel() as i64 / 7;
                    assert_eq!(both.isnan().sum(Kind::Int64).int64_value(&[]), filling, "{name} {}", point.name());
                }
            }
        }
    }
}

#[test]
fn parts_of_a_run_with_frozen_slopes_sum_to_the_logit() {
    let _guard = tch::no_grad_guard();
    let without_biases = [
        "gemma",
        "gemma2",
        "gemma3",
        "granite",
        "llama2",
        "llama3",
        "mistral",
        "mixtral",
        "olmo",
        "olmo2",
        "olmo3",
        "olmoe",
        "phi3",
        "qwen3",
        "qwen3_moe",
        "smollm3",
    ];
    for name in without_biases {
        let model = double(name);
        let tokens = some_tokens(&model, 1, 7);
        let embed = HookPoint { site: Site::Embed, layer: 0 };
        let sum = |backward: Backward| -> (f64, f64) {
            let hooks = Hooks::with_backward(backward);
            let metric = |logits: &Tensor| Ok(logits.f_select(1, -1)?.f_select(-1, 3)?);
            let found = model.decoder.gradients(Start::Tokens(&tokens), Logits::Last, &named(&[embed]), hooks, metric);
            let found = found.unwrap();
            let product = found.activations.get(embed).unwrap() * found.gradients.get(embed).unwrap();
            (product.sum(None).double_value(&[]), found.value.double_value(&[0]))
        };
        for backward in [Backward::Frozen, Backward::Relp] {
            let (sum, logit) = sum(backward);
            assert!((sum - logit).abs() < 1e-10 * (1.0 + logit.abs()), "{name} {backward:?}: {sum} {logit}");
        }
        let (sum, logit) = sum(Backward::Exact);
        assert!((sum - logit).abs() > 1e-3, "{name}: derivatives already sum to the logit");
    }
}
