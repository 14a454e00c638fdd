//! Scores of heads split over pairs of sources: the parts add up to the run's own scores on every family, and taking
//! one source away in a run with frozen norms takes away its part.

use std::rc::Rc;

use crate::support::checkpoint::Checkpoint;
use crate::support::{TINY, load, max_difference, tiny_path};
use lancet::error::Result;
use lancet::linear::attention::Side;
use lancet::linear::head_score::{HeadScore, Place};
use lancet::linear::map::LinearMap;
use lancet::model::cache::ActivationCache;
use lancet::model::config::{Config, NormPlacement};
use lancet::model::decoder::Logits;
use lancet::model::hook::{self, HookPoint, Site};
use lancet::model::intervention::{At, Change, Intervention};
use lancet::model::language_model::{LanguageModel, LoadOptions};
use lancet::model::residual::Residual;
use lancet::model::run::{Action, Hooks};
use tch::{Device, Kind, Tensor};

const PROMPT: &[i64] = &[3, 14, 15, 9, 2, 6];

fn loaded(name: &str, kind: Kind) -> Rc<LanguageModel> {
    Rc::new(load(&tiny_path(name).display().to_string(), kind))
}

/// All activations of a run of the prompt under interventions.
fn run(model: &LanguageModel, interventions: Vec<Intervention>) -> ActivationCache {
    let config = &model.decoder.config;
    let mut hooks = Hooks::none();
    interventions.into_iter().for_each(|intervention| hooks.intervene(config, intervention));
    let is_kept = |point: &HookPoint| !matches!(point.site, Site::HeadsIn | Site::HeadResult);
    hooks.add(config, hook::points(config).into_iter().filter(is_kept).collect(), "all", Action::Capture);
    let input = model.decoder.tokens(&[PROMPT.to_vec()]).expect("tokens");
    let _logits = model.decoder.forward(&input, Logits::All, &mut hooks).expect("a run");
    hooks.finish().expect("every hook ran")
}

fn at(cache: &ActivationCache, site: Site, layer: usize) -> Tensor {
    cache.get(HookPoint { site, layer: layer as i64 }).expect("an activation").shallow_clone()
}

/// The model's own scores of a layer before the soft cap, [head, query, key]; minus infinity where a key is hidden.
fn scores(config: &Config, cache: &ActivationCache, layer: usize) -> Tensor {
    let capped = at(cache, Site::AttentionScores, layer).select(0, 0).to_kind(Kind::Double);
    match config.attention_soft_cap {
        None => capped,
        Some(cap) => {
            let hidden = capped.isinf();
            ((capped.masked_fill(&hidden, 0.0) / cap).atanh() * cap).masked_fill(&hidden, f64::NEG_INFINITY)
        }
    }
}

fn places(map: &LinearMap) -> impl Iterator<Item = Place> {
    let (heads, length) = (map.config().n_heads, map.length());
    let pairs = move || (0..length).flat_map(|query| (0..=query).map(move |key| (query, key)));
    (0..map.depth()).flat_map(move |layer| {
        (0..heads).flat_map(move |head| pairs().map(move |(query, key)| Place { layer, head, query, key }))
    })
}

/// Splits a score; None where the model clips its query or key.
fn split(map: &LinearMap, place: Place) -> Option<HeadScore> {
    match map.head_score(place) {
        Ok(score) => Some(score),
        Err(error) if map.config().query_key_value_clip.is_some() => {
            assert!(error.to_string().contains("clips the"), "{error}");
            None
        }
        Err(error) => panic!("{place:?}: {error}"),
    }
}

#[test]
fn the_parts_add_up_to_the_scores_of_the_run_on_every_family() {
    let _guard = tch::no_grad_guard();
    for name in TINY {
        for (kind, tolerance) in [(Kind::Double, 1e-10), (Kind::Float, 1e-5)] {
            let model = loaded(name, kind);
            let map = LinearMap::freeze(model.clone(), PROMPT).expect("a map");
            let cache = run(&model, Vec::new());
            let mut compared = 0;
            for layer in 0..map.depth() {
                let own = scores(map.config(), &cache, layer);
                let size = own.masked_fill(&own.isinf(), 0.0).abs().max().double_value(&[]);
                for place in places(&map).filter(|place| place.layer == layer && (place.head + place.key) % 2 == 0) {
                    let own = own.double_value(&[place.head, place.query, place.key]);
                    let Some(score) = split(&map, place) else { continue };
                    let sum = score.sum().expect("a sum");
                    let error = (sum - score.value).abs() / size;
                    assert!(error <= tolerance, "{name} {kind:?} {place:?}: {sum} for {}", score.value);
                    if own.is_infinite() {
                        assert_eq!(score.probability, 0.0, "{name} {place:?}");
                        continue;
                    }
                    assert!((sum - own).abs() / size <= tolerance, "{name} {kind:?} {place:?}: {sum} for {own}");
                    compared += 1;
                }
            }
            // The tiny OLMo clips all of its queries and keys.
            assert_eq!(compared > 20, *name != "olmo", "{name}: {compared} scores");
        }
    }
}

#[test]
fn a_clip_that_takes_no_effect_leaves_scores_linear() {
    let _guard = tch::no_grad_guard();
    let checkpoint = Checkpoint::of("olmo").with("clip_qkv", 1000.0.into());
    let options = LoadOptions { kind: Kind::Double, ..LoadOptions::default() };
    let model = Rc::new(checkpoint.write().load_with(options).expect("a model"));
    let map = LinearMap::freeze(model.clone(), PROMPT).expect("a map");
    let own = scores(map.config(), &run(&model, Vec::new()), 1);
    for place in places(&map).filter(|place| place.layer == 1) {
        let sum = map.head_score(place).expect("a score").sum().expect("a sum");
        let own = own.double_value(&[place.head, place.query, place.key]);
        assert!((sum - own).abs() < 1e-10, "{place:?}: {sum} for {own}");
    }
}

#[test]
fn the_sources_are_what_the_cache_says_each_component_adds() {
    let _guard = tch::no_grad_guard();
    for name in TINY {
        let model = loaded(name, Kind::Double);
        let map = LinearMap::freeze(model.clone(), PROMPT).expect("a map");
        let cache = run(&model, Vec::new());
        let (last, position) = (map.depth(), 4);
        let sources = map.sources(last, position).expect("sources");
        let of = |label: &str| {
            let place = sources.labels.iter().position(|own| own == label).unwrap_or_else(|| panic!("{name}: {label}"));
            sources.vectors.get(place as i64)
        };
        let residual = Residual { decoder: &model.decoder, cache: &cache, positions: At::One(position) };
        let heads = residual.heads(last as i64, false).expect("heads");
        for (label, value) in heads.labels.iter().zip(&heads.values) {
            assert!(max_difference(&of(label), &value.select(0, 0)) < 1e-11, "{name} {label}");
        }
        for layer in 0..last {
            if !model.config().attention_only {
                let added = at(&cache, Site::MlpOut, layer).select(0, 0).get(position);
                assert!(max_difference(&of(&format!("{layer}_mlp_out")), &added) < 1e-11, "{name} MLP {layer}");
            }
        }
        let embed = at(&cache, Site::Embed, 0).select(0, 0).get(position);
        assert!(max_difference(&of("embed"), &embed) < 1e-12, "{name}");
        let whole = sources.vectors.sum_dim_intlist(0, false, Kind::Double);
        let own = at(&cache, Site::ResidPost, last - 1).select(0, 0).get(position);
        assert!(max_difference(&whole, &own) < 1e-10, "{name}");
        let without_heads = of("bias");
        assert!(!without_heads.isnan().any().int64_value(&[]).is_positive(), "{name}");
    }
}

fn intervention(site: Site, layer: usize, positions: At, change: Change) -> Intervention {
    Intervention { point: HookPoint { site, layer: layer as i64 }, positions, rows: None, head: None, change }
}

/// Scores of a layer, [head, query, key], where `vector` is taken from what attention reads at a position and the
/// divisors of norms before and within attention stay those of `clean`.
fn without(model: &LanguageModel, clean: &ActivationCache, layer: usize, position: i64, vector: &Tensor) -> Tensor {
    let config = &model.decoder.config;
    let frozen = |site| intervention(site, layer, At::All, Change::Patch(at(clean, site, layer)));
    let take = |site| intervention(site, layer, At::One(position), Change::Add(-vector));
    let mut changes = if config.norm_placement == NormPlacement::Post || !config.has_norm() {
        vec![take(Site::AttentionIn)]
    } else {
        vec![take(Site::Ln1In), frozen(Site::Ln1Scale)]
    };
    if config.has_query_key_norm() {
        changes.extend([frozen(Site::QueryNormScale), frozen(Site::KeyNormScale)]);
    }
    scores(config, &run(model, changes), layer)
}

#[test]
fn taking_a_source_away_takes_away_its_part() {
    let _guard = tch::no_grad_guard();
    for name in TINY.iter().filter(|name| **name != "olmo") {
        let model = loaded(name, Kind::Double);
        let map = LinearMap::freeze(model.clone(), PROMPT).expect("a map");
        let clean = run(&model, Vec::new());
        let layer = map.depth() - 1;
        let (query, key) = (5, 4);
        let own = scores(map.config(), &clean, layer);
        for (side, position) in [(Side::Query, query), (Side::Key, key)] {
            let sources = map.sources(layer, position).expect("sources");
            // The bias of a query or key itself is not in what it reads.
            for (number, label) in sources.labels.iter().enumerate().take(sources.labels.len() - 1) {
                let left = without(&model, &clean, layer, position, &sources.vectors.get(number as i64));
                for head in 0..map.config().n_heads {
                    let place = Place { layer, head, query, key };
                    let part =
                        map.head_score(place).expect("a score").by(side).expect("parts").double_value(&[number as i64]);
                    let change = (&own - &left).double_value(&[head, query, key]);
                    assert!((change - part).abs() < 1e-9, "{name} {label} {side:?} head {head}: {part} for {change}");
                }
            }
        }
    }
}

#[test]
fn interventions_are_a_source_and_changed_scores_are_refused() -> Result<()> {
    let _guard = tch::no_grad_guard();
    for name in ["olmo2", "gemma3", "gpt_neox", "gpt2"] {
        let model = loaded(name, Kind::Double);
        let config = &model.decoder.config;
        let hooked = |site, layer| {
            let mut hooks = Hooks::none();
            let size = match site {
                Site::AttentionScores => vec![1],
                _ => vec![config.d_model],
            };
            let change = Change::Add(Tensor::ones(size, (Kind::Double, Device::Cpu)) * 0.5);
            hooks.intervene(config, intervention(site, layer, At::One(2), change));
            LinearMap::freeze_with(model.clone(), PROMPT, hooks).expect("a map")
        };
        let map = hooked(Site::ResidPost, 0);
        let score = map.head_score(Place { layer: 1, head: 1, query: 2, key: 1 })?;
        assert!(score.query_labels.iter().any(|label| label == "intervention"), "{name}");
        assert!((score.sum()? - score.value).abs() < 1e-10, "{name}");

        let map = hooked(Site::AttentionScores, 1);
        let error = map.head_score(Place { layer: 1, head: 1, query: 2, key: 1 }).expect_err("changed scores");
        assert!(error.to_string().contains("changes the scores or the pattern of layer 1"), "{error}");
        assert!(map.head_score(Place { layer: 0, head: 1, query: 2, key: 1 }).is_ok(), "{name}");
    }
    Ok(())
}
