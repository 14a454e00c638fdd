//! The names of hooks: TransformerLens's with their shapes, values and changes (`make_hook_name_fixtures.py`), and what else
//! users may call them.

use std::collections::BTreeMap;

use crate::support::checksum::difference;
use crate::support::{TINY, assert_contains, capture_all, changing, failure, fixture, logits_with, tiny};
use lancet::model::cache::ActivationCache;
use lancet::model::hook::{self, HookPoint};
use lancet::model::language_model::LanguageModel;
use serde_json::Value;
use tch::Tensor;

/// What differs from TransformerLens on purpose, or is left out: a part of a model and a name, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("embed.hook_in: ", "token ids and position numbers are not activations"),
    ("rotary_emb.hook_in: ", "TransformerLens's rotary embedding reads the dtype of its input only"),
    ("rotary_emb.hook_cos: ", "each layer has its own, `attn.hook_cos`: Gemma 3's layers have two kinds"),
    ("rotary_emb.hook_sin: ", "as its cosine"),
    ("q_norm.hook_in: ", "it is `attn.hook_q`, which has positions before heads"),
    ("k_norm.hook_in: ", "it is `attn.hook_k`, which has positions before heads"),
    ("cohere blocks.1.attn.q_norm.", "heads come first, as in the other families"),
    ("cohere blocks.1.attn.k_norm.", "heads come first, as in the other families"),
    ("gpt_neo blocks.1.attn.hook_attn_scores: ", "TransformerLens shows probabilities there"),
    ("gptj blocks.1.attn.hook_attn_scores: ", "TransformerLens shows probabilities there"),
    ("opt blocks.1.attn.hook_attn_scores: ", "TransformerLens shows probabilities there"),
    ("olmo blocks.1.attn.hook_v: ", "what attention mixes: after the clip"),
    ("olmo blocks.1.attn.v.hook_out: ", "what attention mixes: after the clip"),
    ("opt blocks.1.ln2.", "OPT's MLP joins samples and positions, and TransformerLens's norm sees that"),
    ("toy_attn_only blocks.1.attn.hook_attn_scores: ", "TransformerLens shows probabilities there"),
    ("toy_gelu blocks.1.attn.hook_attn_scores: ", "TransformerLens shows probabilities there"),
    ("toy_plain blocks.1.attn.hook_attn_scores: ", "TransformerLens shows probabilities there"),
    ("toy_solu_ln blocks.1.attn.hook_attn_scores: ", "TransformerLens shows probabilities there"),
    ("smollm3 blocks.1.attn.hook_rot_", "layer 1 rotates nothing"),
    ("gpt_oss blocks.1.attn.hook_cos: ", "every angle once, where the other families have it twice"),
    ("gpt_oss blocks.1.attn.hook_sin: ", "every angle once, where the other families have it twice"),
    ("mixtral blocks.1.mlp.", EXPERTS),
    ("olmoe blocks.1.mlp.", EXPERTS),
    ("qwen3_moe blocks.1.mlp.", EXPERTS),
    ("gpt_oss blocks.1.mlp.", EXPERTS),
];

const EXPERTS: &str = "TransformerLens joins samples and positions for the router, and calls the experts' input and output \
                       `hook_pre` and `hook_post`";

/// The models of the reference: TransformerLens runs no MXFP4 weights without a GPU.
fn models() -> impl Iterator<Item = &'static str> {
    TINY.iter().copied().filter(|name| *name != "gpt_oss_mxfp4")
}

struct Reference(Value);

impl Reference {
    fn open() -> Self {
        let text = std::fs::read_to_string(fixture("hook_names.json")).unwrap();
        Self(serde_json::from_str(&text).unwrap())
    }

    fn tokens(&self) -> Tensor {
        let rows: Vec<Vec<i64>> = serde_json::from_value(self.0["ids"].clone()).unwrap();
        Tensor::from_slice2(&rows)
    }

    fn of(&self, model: &str, what: &str) -> BTreeMap<String, Value> {
        serde_json::from_value(self.0["models"][model][what].clone()).unwrap()
    }
}

/// Whether a problem, `MODEL NAME: ...`, is one of those.
fn is_different(problem: &str) -> bool {
    DIFFERENT.iter().any(|(part, _)| problem.contains(part))
}

#[test]
fn every_name_of_transformer_lens_has_its_shape_and_values() {
    let reference = Reference::open();
    let mut problems = Vec::new();
    for name in models() {
        let model = tiny(name);
        let (_, cache) = capture_all(&model, &reference.tokens());
        for (hook, expected) in reference.of(name, "names") {
            if let Some(problem) = problem(&model, &cache, &hook, expected.as_array().unwrap()) {
                problems.push(format!("{name} {hook}: {problem}"));
            }
        }
    }
    problems.retain(|problem| !is_different(problem));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// How the activation under a name differs from TransformerLens's, `[shape, checksum, sum of sizes]`.
fn problem(model: &LanguageModel, cache: &ActivationCache, hook: &str, expected: &[Value]) -> Option<String> {
    let value = match hook::parse(hook, model.config()) {
        Err(error) => return Some(error.to_string()),
        Ok(point) => cache.get(point).unwrap(),
    };
    let shape: Vec<i64> = serde_json::from_value(expected[0].clone()).unwrap();
    if value.size() != shape {
        return Some(format!("shape {:?}, not {shape:?}", value.size()));
    }
    difference(value, &expected[1..])
}

/// Every site is one of TransformerLens's, in some family.
#[test]
fn every_site_is_in_the_reference() {
    let reference = Reference::open();
    let mut known: Vec<&str> = Vec::new();
    let loaded: Vec<LanguageModel> = models().map(tiny).collect();
    for (name, model) in models().zip(&loaded) {
        let names = reference.of(name, "names");
        let points = names.keys().filter_map(|name| hook::parse(name, model.config()).ok());
        known.extend(points.map(|point| point.site.name()));
    }
    for model in &loaded {
        for point in hook::points(model.config()) {
            assert!(known.contains(&point.site.name()) || point.site.name() == "hook_attn_in", "{}", point.name());
        }
    }
}

#[test]
fn changes_have_the_effect_that_they_have_in_transformer_lens() {
    let reference = Reference::open();
    let mut problems = Vec::new();
    for name in models() {
        let model = tiny(name);
        let changes = reference.of(name, "changes");
        assert!(changes.len() > 6, "{name}");
        for (hook, expected) in &changes {
            let point = match hook::parse(hook, model.config()) {
                Ok(point) => point,
                Err(error) => {
                    problems.push(format!("{name} {hook}: {error}"));
                    continue;
                }
            };
            let halve = |value: &Tensor| {
                let changed = value.copy();
                let at_position = changed.narrow(point.site.position_dim(value.dim()), 2, 1);
                let mut part = match point.site.head_dim(value.dim()) {
                    Some(dim) => at_position.narrow(dim, 1, 1),
                    None => at_position,
                };
                let _ = part.g_mul_scalar_(0.5);
                changed
            };
            let logits = logits_with(&model, &reference.tokens(), changing(&model, vec![point], halve));
            if let Some(difference) = difference(&logits, expected.as_array().unwrap()) {
                problems.push(format!("{name} {hook}: {difference}"));
            }
        }
    }
    problems.retain(|problem| !is_different(problem));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn names(model: &LanguageModel, pattern: &str) -> Vec<String> {
    let found = hook::matching(pattern, model.config()).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    found.iter().map(HookPoint::name).collect()
}

#[test]
fn names_may_be_short_count_from_the_end_and_stand_for_many() {
    let model = tiny("olmo2"); // 4 layers
    let all = |site: &str| (0..4).map(|layer| format!("blocks.{layer}.{site}")).collect::<Vec<_>>();
    let cases: &[(&str, &[&str])] = &[
        ("resid_post.-1", &["blocks.3.hook_resid_post"]),
        ("blocks.-4.attn.hook_z", &["blocks.0.attn.hook_z"]),
        ("layers_output[-1]", &["blocks.3.hook_resid_post"]),
        ("model.layers.-2.mlp.output", &["blocks.2.mlp.hook_out"]),
        (
            "blocks.-1.*_out",
            &["blocks.3.attn.hook_out", "blocks.3.hook_attn_out", "blocks.3.mlp.hook_out", "blocks.3.hook_mlp_out"],
        ),
        ("blocks.[1-2].hook_mlp_out", &["blocks.1.hook_mlp_out", "blocks.2.hook_mlp_out"]),
        ("layers_output[0-1]", &["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]),
        ("z.{0,2}", &["blocks.0.attn.hook_z", "blocks.2.attn.hook_z"]),
        ("attn.3", &["blocks.3.attn.hook_pattern"]),
        ("k2", &["blocks.2.attn.hook_k"]),
        ("embed", &["hook_embed"]),
        ("token_embeddings", &["hook_embed"]),
        ("attention_probabilities[3]", &["blocks.3.attn.hook_pattern"]),
        ("mlps_input[3]", &["blocks.3.mlp.hook_in"]),
        ("result.3", &["blocks.3.attn.hook_result"]),
        ("mlp_in.3", &["blocks.3.hook_mlp_in"]),
        ("model.layers.3.mlp.input", &["blocks.3.mlp.hook_in"]),
        ("model.layers.3.self_attn.q_proj.output", &["blocks.3.attn.hook_q"]),
        ("model.layers.3.post_attention_layernorm.output", &["blocks.3.hook_attn_out"]),
        ("lm_head.output", &["hook_unembed"]),
        ("blocks.0.hook_out", &["blocks.0.hook_resid_post"]),
        ("ln_final.hook_in", &["blocks.3.hook_resid_post"]),
        ("blocks.3.ln1_post.hook_scale", &["blocks.3.ln1.hook_scale"]),
    ];
    for (pattern, expected) in cases {
        assert_eq!(names(&model, pattern), *expected, "{pattern}");
    }
    let every: &[(&str, &str)] = &[
        ("pattern", "attn.hook_pattern"),
        ("hook_resid_post", "hook_resid_post"),
        ("attn.hook_out", "attn.hook_out"),
        ("layers_output", "hook_resid_post"),
        ("resid_post.*", "hook_resid_post"),
        ("layers_output[*]", "hook_resid_post"),
        ("model.layers.*.mlp.output", "mlp.hook_out"),
        ("blocks.*.hook_out", "hook_resid_post"),
        ("blocks.*.hook_z", "attn.hook_z"),
        ("blocks.[0-3].mlp.hook_post", "mlp.hook_post"),
        ("*.hook_result", "attn.hook_result"),
    ];
    for (pattern, site) in every {
        assert_eq!(names(&model, pattern), all(site), "{pattern}");
    }
    // `post_attention_layernorm` is the MLP's norm where norms come first.
    let llama = tiny("llama3");
    assert_eq!(names(&llama, "model.layers.1.post_attention_layernorm.output"), ["blocks.1.ln2.hook_out"]);
    assert_eq!(names(&llama, "model.layers.1.input_layernorm.output"), ["blocks.1.ln1.hook_out"]);
}

#[test]
fn names_that_mean_nothing_or_several_say_so() {
    let model = tiny("llama3"); // 3 layers
    let cases: &[(&str, &[&str])] = &[
        ("scale.1", &["say which", "`blocks.1.ln1.hook_scale`", "`blocks.1.ln2.hook_scale`"]),
        ("resid_post.-4", &["there is no layer -4", "-1 to -3"]),
        ("blocks.[1-7].hook_z", &["there is no layer 7"]),
        ("blocks.[2-1].hook_z", &["`[2-1]` is no range of layers"]),
        ("rotary_emb.hook_cos", &["each layer has its own", "blocks.0.attn.hook_cos"]),
        ("embed.hook_in", &["not activations"]),
        ("blocks.0.attn.hook_resul", &["did you mean `blocks.0.attn.hook_result`"]),
        ("blocks.*.hook_nothing", &["no hook matches"]),
        ("W_Q", &["no hook is named `W_Q`"]),
    ];
    for (name, parts) in cases {
        assert_contains(&failure(hook::matching(name, model.config())), parts);
    }
    assert_contains(&failure(hook::parse("pattern", model.config())), &["names 3 hooks", "blocks.0.attn.hook_pattern"]);
}
