//! Paths to a head's score, and paths through queries and keys: complete on every family, and the derivative of a run
//! whose norms and activations hooks hold fixed.

use std::cell::RefCell;
use std::rc::Rc;

use crate::support::{TINY, load, replace, tiny_path};
use lancet::linear::attention::Side;
use lancet::linear::head_score::Place;
use lancet::linear::live::Through;
use lancet::linear::map::LinearMap;
use lancet::linear::operator::{Operator, Step};
use lancet::linear::path::compose::Composer;
use lancet::linear::path::cuts::Cuts;
use lancet::linear::path::edge::Hop;
use lancet::linear::path::graph::{Graph, Path};
use lancet::linear::path::method::Selection;
use lancet::linear::path::plan::Plan;
use lancet::linear::path::request::{Edges, Granularity, GraphRequest, Mode};
use lancet::linear::path::score::Scorer;
use lancet::linear::path::table::TableOptions;
use lancet::linear::path::walk::Walk;
use lancet::linear::readout::{Readout, Scale};
use lancet::model::cache::ActivationCache;
use lancet::model::config::Config;
use lancet::model::decoder::Logits;
use lancet::model::hook::{self, HookPoint, Site};
use lancet::model::intervention::{At, Change, Intervention};
use lancet::model::language_model::LanguageModel;
use lancet::model::run::{Action, Hooks};
use lancet::tensor::raw::numbers;
use tch::{Kind, Tensor};

const PROMPT: &[i64] = &[3, 14, 15, 9, 2, 6];

fn double(name: &str) -> Rc<LanguageModel> {
    Rc::new(load(&tiny_path(name).display().to_string(), Kind::Double))
}

fn frozen(model: &Rc<LanguageModel>) -> LinearMap {
    LinearMap::freeze(model.clone(), PROMPT).expect("a map")
}

fn request(granularity: Granularity, through: Through) -> GraphRequest {
    GraphRequest {
        from: (0..PROMPT.len() as i64).collect(),
        to: PROMPT.len() as i64 - 1,
        edges: Edges::All,
        mode: Mode::Eq3,
        granularity,
        until: None,
        through,
    }
}

/// The families whose scores are linear: the tiny OLMo clips all queries and keys.
fn linear() -> impl Iterator<Item = &'static str> {
    TINY.iter().copied().filter(|name| *name != "olmo")
}

fn roots(map: &LinearMap) -> Vec<Readout> {
    let heads = map.config().n_heads;
    let places = (0..map.depth())
        .flat_map(|layer| [(0, 4, 2), (heads - 1, 3, 3)].map(|(head, query, key)| Place { layer, head, query, key }));
    let sides = places.flat_map(|place| [Side::Query, Side::Key].map(|side| (place, side)));
    sides.map(|(place, side)| map.score_readout(place, side).expect("a readout")).collect()
}

#[test]
fn a_score_is_split_without_remainder_at_every_layer() {
    let _guard = tch::no_grad_guard();
    for name in linear() {
        let model = double(name);
        let map = frozen(&model);
        for readout in roots(&map) {
            let flow = map.flow(&readout).expect("a flow");
            let (attention, mlp) = (numbers(&flow.attention_bias).unwrap(), numbers(&flow.mlp_bias).unwrap());
            for layer in 0..=readout.node.0 {
                let nodes = flow.node.get(layer as i64).sum(Kind::Double).double_value(&[]);
                let biases: f64 = attention[layer..].iter().chain(&mlp[layer..]).sum();
                let sum = nodes + biases + flow.final_bias;
                let value = readout.value;
                assert!((sum - value).abs() < 1e-10, "{name} {:?} layer {layer}: {sum} for {value}", readout.target);
            }
        }
    }
}

/// All paths to a readout with their values.
fn all(scorer: &Scorer) -> Vec<(Path, f64)> {
    let paths: Vec<Path> = Walk::new(scorer.graph, scorer.graph.depth()).collect();
    assert_eq!(paths.len() as f64, scorer.graph.count());
    let scores = scorer.scores(&paths).expect("scores");
    paths.into_iter().zip(scores.into_iter().map(|score| score.value)).collect()
}

#[test]
fn all_paths_of_a_token_sum_to_its_part_of_a_score_or_metric() {
    let _guard = tch::no_grad_guard();
    for name in linear() {
        let model = double(name);
        let map = frozen(&model);
        let logit = map.readout(7, Scale::Logit, 5).expect("a readout");
        for readout in roots(&map).into_iter().chain([logit]) {
            for (granularity, through) in [
                (Granularity::Token, Through::Values),
                (Granularity::Head, Through::Values),
                (Granularity::Head, Through::All),
            ] {
                let (until, to) = readout.node;
                if until > 2 && granularity == Granularity::Head {
                    continue;
                }
                let from = if granularity == Granularity::Head { vec![to - 1, to] } else { (0..=to).collect() };
                let wanted = GraphRequest { from, until: Some(until), to, ..request(granularity, through) };
                let graph = Graph::new(&map, wanted).expect("a graph");
                let scorer = Scorer { map: &map, graph: &graph, readout: &readout, max_rank: Some(1) };
                let scored = all(&scorer);
                let totals = numbers(&map.totals_through(&readout, through).expect("totals")).unwrap();
                let sums = scorer.sums().expect("sums");
                for (source, by_program) in graph.request.from.iter().zip(sums) {
                    let of_source = scored.iter().filter(|(path, _)| i64::from(path.source) == *source);
                    let sum: f64 = of_source.map(|(_, value)| value).sum();
                    let total = totals[*source as usize];
                    let what = format!("{name} {:?} {through:?} from {source}", readout.target);
                    assert!((sum - total).abs() < 1e-10, "{what}: {sum} for {total}");
                    assert!((by_program - total).abs() < 1e-10, "{what}");
                }
            }
        }
    }
}

#[test]
fn every_method_gives_the_same_paths_through_queries_and_keys() {
    let _guard = tch::no_grad_guard();
    for name in ["olmo2", "gemma2", "gpt_neox", "qwen3"] {
        let model = double(name);
        let map = frozen(&model);
        let place = Place { layer: map.depth() - 1, head: 1, query: 4, key: 2 };
        let readouts = [map.score_readout(place, Side::Key), map.readout(7, Scale::CentredLogit, 5)];
        for readout in readouts.map(|readout| readout.expect("a readout")) {
            let (until, to) = readout.node;
            let wanted = GraphRequest {
                from: vec![1, to],
                edges: Edges::Argmax,
                until: Some(until),
                to,
                ..request(Granularity::Head, Through::All)
            };
            let graph = Graph::new(&map, wanted.clone()).expect("a graph");
            let scorer = Scorer { map: &map, graph: &graph, readout: &readout, max_rank: None };
            let scored = all(&scorer);
            let hops: Vec<Hop> =
                scored.iter().flat_map(|(path, _)| graph.edges_of(path).map(|edge| edge.hop)).collect();
            assert!([Hop::Query, Hop::Key].iter().all(|hop| hops.contains(hop)) || until == 0, "{name}");
            for layers in [vec![until], (0..=until).collect()] {
                let cuts = Cuts { layers, operations: 0.0, elements: 0.0 };
                let mut composer = Composer::new(scorer, &cuts).expect("a composer");
                let mut found = Vec::new();
                while let Some(block) = composer.next_block().expect("a block") {
                    found.extend(block.ranked);
                }
                assert_eq!(found.len(), scored.len(), "{name}");
                for ((path, score), (other, value)) in found.iter().zip(&scored) {
                    assert!(path == other && (score.value - value).abs() < 1e-10, "{name}");
                }
            }
            let options =
                TableOptions { selection: Selection::Highest { count: 7 }, max_rank: 1, keep_low: true, hold: true };
            let again = match &readout.target {
                lancet::linear::readout::Target::Score { place, side } => map.score_readout(*place, *side),
                _ => map.readout(7, Scale::CentredLogit, 5),
            };
            let table = Plan::to(&map, wanted, again.expect("a readout"), options).expect("a plan");
            let table = table.run(&mut |_| Ok(())).expect("a table");
            let mut values: Vec<f64> = scored.iter().map(|(_, value)| *value).collect();
            values.sort_by(|one, other| other.total_cmp(one));
            let best: Vec<f64> = table.held().expect("paths").iter().map(|(_, score)| score.value).collect();
            assert_eq!(best.len(), values.len().min(7), "{name}");
            assert!(best.iter().zip(&values).all(|(one, other)| (one - other).abs() < 1e-10), "{name}: {best:?}");
        }
    }
}

/// Hooks that hold everything at a clean run's values that a map freezes, except for attention's scores.
struct Held {
    clean: ActivationCache,
}

fn run(model: &LanguageModel, mut hooks: Hooks) -> ActivationCache {
    let config = &model.decoder.config;
    let is_kept = |point: &HookPoint| !matches!(point.site, Site::HeadsIn | Site::HeadResult);
    hooks.add(config, hook::points(config).into_iter().filter(is_kept).collect(), "all", Action::Capture);
    let input = model.decoder.tokens(&[PROMPT.to_vec()]).expect("tokens");
    let _logits = model.decoder.forward(&input, Logits::All, &mut hooks).expect("a run");
    hooks.finish().expect("every hook ran")
}

impl Held {
    fn new(model: &LanguageModel) -> Self {
        Self { clean: run(model, Hooks::none()) }
    }

    fn value(&self, site: Site, layer: i64) -> Tensor {
        self.clean.get(HookPoint { site, layer }).expect("an activation").shallow_clone()
    }

    fn hooks(&self, config: &Config) -> Hooks<'static> {
        let mut hooks = Hooks::none();
        let divisors = [
            Site::Ln1Scale,
            Site::QueryNormScale,
            Site::KeyNormScale,
            Site::Ln1PostScale,
            Site::Ln2Scale,
            Site::MlpNormScale,
            Site::Ln2PostScale,
        ];
        let is_held =
            |point: &HookPoint| divisors.contains(&point.site) || (config.gated_mlp && point.site == Site::MlpPre);
        for point in hook::points(config).into_iter().filter(is_held) {
            let change = Change::Patch(self.value(point.site, point.layer));
            hooks.intervene(config, Intervention { point, positions: At::All, rows: None, head: None, change });
        }
        if config.gated_mlp || config.attention_only {
            return hooks;
        }
        // f(u) of a plain MLP becomes u times the clean f(u) / u.
        for layer in 0..config.n_layers {
            let site = if config.mlp_norm { Site::MlpMid } else { Site::MlpPost };
            let slope = self.value(site, layer) / self.value(Site::MlpPre, layer);
            let now = Rc::new(RefCell::new(None));
            let seen = now.clone();
            let look = Action::Call(Box::new(move |_: &HookPoint, value: &Tensor| {
                *seen.borrow_mut() = Some(value.shallow_clone());
                Ok(None)
            }));
            hooks.add(config, vec![HookPoint { site: Site::MlpPre, layer }], "looking", look);
            let change = replace(move |_| now.borrow().as_ref().expect("what the MLP reads") * &slope);
            hooks.add(config, vec![HookPoint { site, layer }], "held", Action::Call(change));
        }
        hooks
    }

    /// A readout's product with its node in a held run under one more change.
    fn read(&self, model: &LanguageModel, readout: &Readout, change: Intervention) -> f64 {
        let mut hooks = self.hooks(&model.decoder.config);
        hooks.intervene(&model.decoder.config, change);
        let cache = run(model, hooks);
        let (layer, position) = (readout.node.0 as i64, readout.node.1);
        let point = match layer {
            0 => HookPoint { site: Site::ResidPre, layer: 0 },
            layer => HookPoint { site: Site::ResidPost, layer: layer - 1 },
        };
        let x = cache.get(point).expect("a residual stream").select(0, 0).get(position);
        readout.covector.get(0).dot(&x.to_device(readout.covector.device())).double_value(&[])
    }

    /// The derivative of a readout by the factor of the values that `scaled` selects, by central differences.
    fn slope(&self, model: &LanguageModel, readout: &Readout, scaled: impl Fn(f64) -> Intervention) -> f64 {
        let step = |size: f64| {
            let (up, down) = (scaled(1.0 + size), scaled(1.0 - size));
            (self.read(model, readout, up) - self.read(model, readout, down)) / (2.0 * size)
        };
        // Richardson's extrapolation.
        (4.0 * step(5e-4) - step(1e-3)) / 3.0
    }
}

/// Families whose MLP hooks can hold: not those of experts.
fn held() -> impl Iterator<Item = &'static str> {
    linear().filter(|name| !["gpt_oss", "gpt_oss_mxfp4", "mixtral", "olmoe", "qwen3_moe"].contains(name))
}

fn scaled(site: Site, layer: i64, position: i64, head: Option<i64>, factor: f64) -> Intervention {
    let change = Change::Scale(factor);
    Intervention { point: HookPoint { site, layer }, positions: At::One(position), rows: None, head, change }
}

#[test]
fn a_token_s_part_through_queries_and_keys_is_the_derivative_of_a_held_run() {
    let _guard = tch::no_grad_guard();
    for name in held() {
        let model = double(name);
        let map = frozen(&model);
        let held = Held::new(&model);
        let logit = map.readout(7, Scale::Logit, 5).expect("a readout");
        let place = Place { layer: map.depth() - 1, head: 1, query: 4, key: 2 };
        let score = map.score_readout(place, Side::Query).expect("a readout");
        for readout in [logit, score] {
            let totals = numbers(&map.totals_through(&readout, Through::All).expect("totals")).unwrap();
            for source in [0, 2, 4] {
                let total = totals[source as usize];
                let slope = held.slope(&model, &readout, |factor| scaled(Site::ResidPre, 0, source, None, factor));
                let error = (slope - total).abs() / total.abs().max(0.1);
                assert!(error < 1e-7, "{name} {:?} from {source}: {total} for {slope}", readout.target);
            }
        }
    }
}

#[test]
fn a_single_hop_is_the_derivative_by_one_head_s_query_or_key() {
    let _guard = tch::no_grad_guard();
    // Models without biases and without norms of queries and keys.
    for name in ["llama2", "phi3", "mistral", "gemma2"] {
        let model = double(name);
        let map = frozen(&model);
        let is_shared = map.config().n_heads != map.config().n_kv_heads;
        let held = Held::new(&model);
        let readout = map.readout(7, Scale::Logit, 5).expect("a readout");
        let layer = map.depth() - 1;
        for (hop, site, source) in [(Hop::Query, Site::Query, 5), (Hop::Key, Site::Key, 3)] {
            if is_shared && hop == Hop::Key {
                continue;
            }
            let step = Step { target: 5, heads: Some(vec![1]), residual: Some(false), hop };
            let path = Operator::path(&map, (layer, source), &[step]).expect("a path");
            let here = map.residual(layer).narrow(0, source, 1);
            let linear_part = path.apply(&here).expect("a vector");
            let part = readout.covector.get(0).dot(&linear_part.get(0)).double_value(&[]);
            let back = path.apply_transposed(&readout.covector).expect("a covector");
            assert!((back.get(0).dot(&here.get(0)).double_value(&[]) - part).abs() < 1e-12, "{name} {hop:?}");
            let slope = held.slope(&model, &readout, |factor| scaled(site, layer as i64, source, Some(1), factor));
            assert!((slope - part).abs() < 1e-8, "{name} {hop:?}: {part} for {slope}");
        }
    }
}

#[test]
fn paths_have_the_value_of_their_steps_multiplied_out() {
    let _guard = tch::no_grad_guard();
    let model = double("olmo2");
    let map = frozen(&model);
    let readout = map.readout(7, Scale::Logit, 5).expect("a readout");
    let graph = Graph::new(&map, request(Granularity::Head, Through::All)).expect("a graph");
    let scorer = Scorer { map: &map, graph: &graph, readout: &readout, max_rank: Some(1) };
    let scored = all(&scorer);
    for (path, value) in scored.iter().step_by(scored.len() / 40) {
        let steps: Vec<Step> = graph
            .edges_of(path)
            .map(|edge| Step {
                target: i64::from(edge.target),
                heads: Some(edge.heads().collect()),
                residual: Some(edge.residual),
                hop: if edge.residual { Hop::Value } else { edge.hop },
            })
            .collect();
        let operator = Operator::path(&map, (0, i64::from(path.source)), &steps).expect("a path");
        let start = map.embeddings().narrow(0, i64::from(path.source), 1);
        let end = operator.apply(&start).expect("a vector");
        let product = readout.covector.get(0).dot(&end.get(0)).double_value(&[]);
        assert!((product - value).abs() < 1e-11, "{path:?}: {value} for {product}");
    }
}
