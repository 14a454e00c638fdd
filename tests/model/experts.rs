//! Mixtures of experts: what the router's hooks mean, and the experts' weights in scripts.

use crate::support::{
    capture_all, changing, eval, eval_tensor, logits, logits_with, max_difference, run_script, session, some_tokens,
    tiny, tiny_path,
};
use lancet::model::cache::ActivationCache;
use lancet::model::decoder::Logits;
use lancet::model::hook::{HookPoint, Site};
use lancet::model::language_model::LanguageModel;
use lancet::model::run::{Action, Hooks};
use tch::{Kind, Tensor};

const NAMES: [&str; 4] = ["olmoe", "mixtral", "qwen3_moe", "gpt_oss"];
const LAYER: i64 = 1;

fn at(site: Site) -> HookPoint {
    HookPoint { site, layer: LAYER }
}

fn get(cache: &ActivationCache, site: Site) -> &Tensor {
    cache.get(at(site)).expect("captured")
}

/// All activations of a run in which `change` is applied at one place.
fn changed(model: &LanguageModel, tokens: &Tensor, site: Site, change: impl Fn(&Tensor) -> Tensor) -> ActivationCache {
    let _guard = tch::no_grad_guard();
    let mut hooks = changing(model, vec![at(site)], change);
    let sites = [Site::ExpertWeights, Site::MlpPost, Site::MlpRaw];
    hooks.add(model.config(), sites.map(at).to_vec(), "captured", Action::Capture);
    let _logits = model.decoder.forward(tokens, Logits::All, &mut hooks).expect("the run succeeds");
    hooks.finish().expect("every hook ran")
}

#[test]
fn weights_are_the_softmax_of_the_largest_scores() {
    for name in NAMES {
        let model = tiny(name);
        let experts = model.config().experts.expect("experts");
        let (_, cache) = capture_all(&model, &some_tokens(&model, 2, 7));
        let (scores, weights) = (get(&cache, Site::RouterScores), get(&cache, Site::ExpertWeights));
        let probabilities = scores.softmax(-1, Kind::Float);
        let least = probabilities.topk(experts.per_token, -1, true, true).0.select(-1, -1).unsqueeze(-1);
        let chosen = probabilities.where_self(&probabilities.ge_tensor(&least), &probabilities.zeros_like());
        let sums = chosen.sum_dim_intlist([-1].as_slice(), true, Kind::Float);
        let expected = if experts.normalized { &chosen / sums } else { chosen };
        assert!(max_difference(weights, &expected) < 1e-6, "{name}");
    }
}

#[test]
fn the_output_is_the_weighted_sum_over_experts_by_the_weights_in_scripts() {
    for name in NAMES {
        let mut session = session();
        let path = tiny_path(name).display().to_string();
        run_script(&mut session, &format!("let model = load_model(\"{path}\", #{{ device: device }});"));
        let weight = eval_tensor(&mut session, &format!("model.blocks[{LAYER}].mlp.W_out"));
        let model = tiny(name);
        let (_, cache) = capture_all(&model, &some_tokens(&model, 2, 7));
        let (hidden, weights) = (get(&cache, Site::MlpPost), get(&cache, Site::ExpertWeights));
        let mut each = Tensor::einsum("bpem,emd->bped", &[hidden, &weight], None::<&[i64]>);
        if name == "gpt_oss" {
            each += eval_tensor(&mut session, &format!("model.blocks[{LAYER}].mlp.b_out"));
        }
        let sum = (each * weights.unsqueeze(-1)).sum_dim_intlist([2].as_slice(), false, Kind::Float);
        assert!(max_difference(&sum, get(&cache, Site::MlpRaw)) < 1e-5, "{name}");
        let sizes = eval(&mut session, "[model.cfg.num_experts, model.cfg.experts_per_token]").into_array().unwrap();
        let experts = model.config().experts.expect("experts");
        let sizes: Vec<i64> = sizes.into_iter().map(|size| size.as_int().unwrap()).collect();
        assert_eq!(sizes, [experts.count, experts.per_token], "{name}");
    }
}

#[test]
fn scores_choose_weights_scale_and_activations_without_weight_do_nothing() {
    for name in NAMES {
        let model = tiny(name);
        let tokens = some_tokens(&model, 2, 7);
        let first = |value: &Tensor| {
            let out = value.copy();
            let _ = out.select(-1, 0).fill_(50.0);
            out
        };
        let cache = changed(&model, &tokens, Site::RouterScores, first);
        let weights = get(&cache, Site::ExpertWeights);
        assert!(weights.select(-1, 0).min().double_value(&[]) > 0.99, "{name}: the first expert is everyone's");

        let clean = changed(&model, &tokens, Site::ExpertWeights, Tensor::copy);
        let halved = changed(&model, &tokens, Site::ExpertWeights, |weights| weights * 0.5);
        assert!(max_difference(get(&halved, Site::MlpRaw), &(get(&clean, Site::MlpRaw) * 0.5)) < 1e-5, "{name}");
        let silent = changed(&model, &tokens, Site::ExpertWeights, Tensor::zeros_like);
        assert_eq!(get(&silent, Site::MlpRaw).abs().max().double_value(&[]), 0.0, "{name}");

        let absent = get(&clean, Site::ExpertWeights).eq(0.0).unsqueeze(-1);
        assert!(absent.any().int64_value(&[]) == 1, "{name}: some experts are not chosen");
        for site in [Site::MlpPre, Site::MlpPreLinear, Site::MlpPost] {
            let noise = |value: &Tensor| value + absent.to_kind(value.kind()) * 3.0;
            let hooks: Hooks = changing(&model, vec![at(site)], noise);
            assert_eq!(max_difference(&logits_with(&model, &tokens, hooks), &logits(&model, &tokens)), 0.0, "{name}");
        }
    }
}

#[test]
fn models_without_experts_or_mlps_say_so() {
    let mut session = session();
    for (name, script) in [
        (
            "llama2",
            "model.cfg.num_experts == () && !model.cfg.attn_only && !model.blocks[0].mlp.contains(\"W_router\")",
        ),
        (
            "toy_attn_only",
            "model.cfg.attn_only && !model.blocks[0].contains(\"mlp\") && !model.blocks[0].contains(\"ln2\")",
        ),
        ("toy_solu_ln", "model.cfg.act_fn == \"solu_ln\" && model.blocks[0].mlp.ln.w.shape == [48]"),
        ("olmo", "model.cfg.normalization_type == \"LNPre\" && !model.blocks[0].contains(\"ln1\") && model.b_U == ()"),
        ("gptj", "model.b_U.shape == [model.cfg.d_vocab] && model.cfg.parallel_attn_mlp"),
    ] {
        let path = tiny_path(name).display().to_string();
        run_script(&mut session, &format!("let model = load_model(\"{path}\", #{{ device: device }});"));
        assert!(eval(&mut session, script).as_bool().unwrap(), "{name}: {script}");
    }
}
