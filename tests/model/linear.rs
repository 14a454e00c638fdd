//! Locally linear maps and paths: exact on every family, complete, and equal to one another for every method.

use std::rc::Rc;

use crate::support::checkpoint::Checkpoint;
use crate::support::{TINY, generator, load, max_difference, on_device, tiny_path};
use lancet::linear::live::Through;
use lancet::linear::map::LinearMap;
use lancet::linear::operator::{Operator, Step};
use lancet::linear::path::best::Meeting;
use lancet::linear::path::compose::Composer;
use lancet::linear::path::cuts::Cuts;
use lancet::linear::path::draw::draw;
use lancet::linear::path::edge::Hop;
use lancet::linear::path::graph::{Graph, Path};
use lancet::linear::path::method::Selection;
use lancet::linear::path::plan::Plan;
use lancet::linear::path::request::{Edges, Granularity, GraphRequest, Mode};
use lancet::linear::path::score::Scorer;
use lancet::linear::path::table::{PathTable, TableOptions};
use lancet::linear::path::walk::Walk;
use lancet::linear::readout::{Readout, Scale};
use lancet::model::decoder::Logits;
use lancet::model::hook::{HookPoint, Site};
use lancet::model::intervention::{At, Change, Intervention};
use lancet::model::language_model::{LanguageModel, LoadOptions};
use lancet::model::run::Hooks;
use lancet::tensor::raw::numbers as flat;
use tch::{Kind, Tensor};

const PROMPT: &[i64] = &[3, 14, 15, 9, 2, 6];

fn frozen(model: &Rc<LanguageModel>) -> LinearMap {
    LinearMap::freeze(model.clone(), PROMPT).unwrap_or_else(|error| panic!("{error}"))
}

fn double(name: &str) -> Rc<LanguageModel> {
    Rc::new(load(&tiny_path(name).display().to_string(), Kind::Double))
}

/// The table of all paths, high-ranking up to 12.
fn table(map: &LinearMap, request: &GraphRequest, keep_low: bool) -> PathTable {
    let options = TableOptions { selection: Selection::All, max_rank: 12, keep_low, hold: true };
    let plan = Plan::new(map, request.clone(), 5, Scale::Logit, options).expect("a plan");
    plan.run(&mut |_| Ok(())).expect("a table")
}

/// The logit of a token at the last position.
fn logit(map: &LinearMap, answer: i64) -> Readout {
    map.readout(answer, Scale::Logit, map.length() - 1).expect("a readout")
}

fn request(edges: Edges) -> GraphRequest {
    GraphRequest {
        from: (0..PROMPT.len() as i64).collect(),
        to: PROMPT.len() as i64 - 1,
        edges,
        mode: Mode::Eq3,
        granularity: Granularity::Token,
        until: None,
        through: Through::Values,
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(&tensor.to_kind(Kind::Double).reshape([-1])).expect("floats")
}

#[test]
fn any_rank_may_be_the_last_to_keep() {
    let map = frozen(&double("llama2"));
    let all = table(&map, &request(Edges::Argmax), true);
    for max_rank in [1 << 62, i64::MAX] {
        let options = TableOptions { selection: Selection::All, max_rank, keep_low: false, hold: true };
        let plan = Plan::new(&map, request(Edges::Argmax), 5, Scale::Logit, options).expect("a plan");
        let kept = plan.run(&mut |_| Ok(())).expect("a table");
        assert_eq!(kept.held().expect("paths").len(), all.held().expect("paths").len());
    }
}

#[test]
fn tokens_and_biases_add_up_to_the_logits_on_every_family() {
    let _guard = tch::no_grad_guard();
    for name in TINY {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5)] {
            let model = Rc::new(load(&tiny_path(name).display().to_string(), kind));
            let map = frozen(&model);
            for to in 0..PROMPT.len() as i64 {
                let check = map.check(to).expect("a check");
                assert!(check.relative <= tolerance, "{name} {kind:?} at {to}: {check:?}");
            }
            let input = model.decoder.tokens(&[PROMPT.to_vec()]).expect("tokens");
            let logits = model.decoder.forward(&input, Logits::All, &mut Hooks::none()).expect("logits");
            let own = map.logits(3).expect("logits");
            assert!(max_difference(&own, &logits.select(0, 0).select(0, 3)) <= tolerance * 10.0, "{name}");
        }
    }
}

#[test]
fn the_backward_pass_gives_what_the_forward_pass_gives() {
    let _guard = tch::no_grad_guard();
    for name in TINY {
        let model = double(name);
        let map = frozen(&model);
        let to = 4;
        let all = map.totals(to).expect("totals");
        let ids = [7, 0, 11];
        let some = map.totals_of(to, &ids).expect("totals");
        assert!(
            max_difference(&all.index_select(1, &Tensor::from_slice(&ids).to_device(all.device())), &some) < 1e-12,
            "{name}"
        );
    }
}

#[test]
fn a_logit_is_split_without_remainder_at_every_layer() {
    let _guard = tch::no_grad_guard();
    for name in TINY {
        let model = double(name);
        let map = frozen(&model);
        let readout = logit(&map, 7);
        let flow = map.flow(&readout).expect("a flow");
        let (attention, mlp) = (numbers(&flow.attention_bias), numbers(&flow.mlp_bias));
        for layer in 0..=map.depth() {
            let nodes: f64 = numbers(&flow.node.select(0, layer as i64)).iter().sum();
            let biases: f64 = attention[layer..].iter().chain(&mlp[layer..]).sum();
            let sum = nodes + biases + flow.final_bias;
            assert!((sum - readout.value).abs() < 1e-11, "{name} layer {layer}: {sum} for {}", readout.value);
        }
        if model.config().parallel {
            continue;
        }
        // In sequential blocks, a path through or around a layer's attention continues through or around its MLP.
        for layer in 0..map.depth() {
            let heads: f64 = numbers(&flow.head.select(0, layer as i64)).iter().sum();
            assert!(
                heads.is_finite() && numbers(&flow.mlp.select(0, layer as i64)).iter().all(|part| part.is_finite())
            );
        }
    }
}

fn all_scores(map: &LinearMap, request: &GraphRequest, answer: i64) -> (Graph, Vec<(Path, f64, i64)>) {
    let graph = Graph::new(map, request.clone()).expect("a graph");
    let readout = map.readout(answer, Scale::Logit, graph.request.to).expect("a readout");
    let scorer = Scorer { map, graph: &graph, readout: &readout, max_rank: None };
    let paths: Vec<Path> = Walk::new(&graph, graph.depth()).collect();
    assert_eq!(paths.len() as f64, graph.count());
    assert!(paths.is_sorted());
    let scores = scorer.scores(&paths).expect("scores");
    let scored = paths
        .into_iter()
        .zip(scores)
        .map(|(path, score)| (path, score.value, score.rank.expect("all ranks")))
        .collect();
    (graph, scored)
}

#[test]
fn all_paths_of_a_token_sum_to_its_total_on_every_family() {
    let _guard = tch::no_grad_guard();
    for name in TINY {
        let model = double(name);
        let map = frozen(&model);
        let answer = 7;
        for granularity in [Granularity::Token, Granularity::Head] {
            let deep = map.depth() > 2 && granularity == Granularity::Head;
            let from = if deep { vec![3, 4, 5] } else { (0..PROMPT.len() as i64).collect() };
            let request = GraphRequest { from, granularity, ..request(Edges::All) };
            let (graph, scored) = all_scores(&map, &request, answer);
            let totals = flat(&map.totals_of(request.to, &[answer]).expect("totals")).expect("numbers");
            let readout = map.readout(answer, Scale::Logit, graph.request.to).expect("a readout");
            let scorer = Scorer { map: &map, graph: &graph, readout: &readout, max_rank: None };
            let sums = scorer.sums().expect("sums");
            for (source, by_program) in request.from.iter().zip(sums) {
                let of_source = scored.iter().filter(|(path, ..)| i64::from(path.source) == *source);
                let sum: f64 = of_source.map(|(_, logit, _)| logit).sum();
                let total = totals[*source as usize];
                assert!((sum - total).abs() < 1e-11, "{name} {granularity:?} from {source}: {sum} for {total}");
                assert!((by_program - total).abs() < 1e-11, "{name} {granularity:?} from {source}");
            }
        }
    }
}

#[test]
fn fewer_edges_give_fewer_paths_whose_sum_is_known_beforehand() {
    let _guard = tch::no_grad_guard();
    for name in ["olmo2", "gpt_neox", "gemma3"] {
        let model = double(name);
        let map = frozen(&model);
        let mut counts = Vec::new();
        for edges in [Edges::Argmax, Edges::TopP(0.6), Edges::All] {
            let request = request(edges);
            let (graph, scored) = all_scores(&map, &request, 5);
            let readout = map.readout(5, Scale::Logit, graph.request.to).expect("a readout");
            let scorer = Scorer { map: &map, graph: &graph, readout: &readout, max_rank: None };
            let sum: f64 = scored.iter().map(|(_, logit, _)| logit).sum();
            let known: f64 = scorer.sums().expect("sums").iter().sum();
            assert!((sum - known).abs() < 1e-11, "{name} {edges:?}: {sum} for {known}");
            counts.push(graph.count());
        }
        assert!(counts[0] < counts[2] && counts[1] <= counts[2], "{name}: {counts:?}");
    }
}

#[test]
fn the_search_finds_what_going_through_all_paths_finds() {
    let _guard = tch::no_grad_guard();
    for (name, edges) in
        [("olmo2", Edges::Argmax), ("llama3", Edges::All), ("gpt_neox", Edges::All), ("gemma2", Edges::All)]
    {
        let model = double(name);
        let map = frozen(&model);
        let (graph, mut scored) = all_scores(&map, &request(edges), 9);
        scored.sort_by(|one, other| other.1.total_cmp(&one.1));
        let readout = map.readout(9, Scale::Logit, graph.request.to).expect("a readout");
        let scorer = Scorer { map: &map, graph: &graph, readout: &readout, max_rank: None };
        for count in [1, 7, 40] {
            let found = Meeting::cheapest(&scorer).search(&scorer, count).expect("a search");
            assert_eq!(found.len(), count.min(scored.len()), "{name}");
            for ((path, score), (best, logit, rank)) in found.iter().zip(&scored) {
                assert!((score.value - logit).abs() < 1e-12, "{name}: {} for {logit}", score.value);
                assert!(path == best || (score.value - logit).abs() < 1e-14, "{name}");
                assert_eq!(score.rank, Some(*rank), "{name}");
            }
        }
    }
}

#[test]
fn giving_low_ranking_paths_up_early_changes_no_other() {
    let _guard = tch::no_grad_guard();
    for name in ["olmo2", "gemma2"] {
        let model = double(name);
        let map = frozen(&model);
        let (graph, scored) = all_scores(&map, &request(Edges::All), 5);
        for most in [1, 13, 40] {
            let readout = map.readout(5, Scale::Logit, graph.request.to).expect("a readout");
            let scorer = Scorer { map: &map, graph: &graph, readout: &readout, max_rank: Some(most) };
            let paths: Vec<Path> = scored.iter().map(|(path, ..)| path.clone()).collect();
            let scores = scorer.scores(&paths).expect("scores");
            for (score, (_, logit, rank)) in scores.iter().zip(&scored) {
                assert!((score.value - logit).abs() < 1e-12, "{name}");
                assert_eq!(score.rank, Some(*rank).filter(|rank| *rank <= most), "{name} up to {most}");
            }
        }
    }
}

fn wide_model(family: &str) -> LanguageModel {
    let _turn = generator();
    let options = LoadOptions { kind: Kind::Double, random_seed: Some(3), ..on_device() };
    let checkpoint = Checkpoint::of(family).with("vocab_size", 1200.into());
    checkpoint.write().load_with(options).expect("a model")
}

#[test]
fn paths_put_together_from_any_pieces_are_the_paths_that_are_followed() {
    let _guard = tch::no_grad_guard();
    for name in TINY {
        let model = double(name);
        let map = frozen(&model);
        // Some positions start no path, and some edges lead to no end.
        let request = GraphRequest { from: vec![1, 4, 5], ..request(Edges::TopP(0.7)) };
        let (graph, scored) = all_scores(&map, &request, 5);
        for max_rank in [None, Some(13)] {
            let readout = map.readout(5, Scale::Logit, graph.request.to).expect("a readout");
            let scorer = Scorer { map: &map, graph: &graph, readout: &readout, max_rank };
            for chosen in 0..1u32 << graph.depth() {
                let mut layers: Vec<usize> = (0..graph.depth()).filter(|layer| chosen >> layer & 1 == 1).collect();
                layers.push(graph.depth());
                let cuts = Cuts { layers, operations: 0.0, elements: 0.0 };
                let mut composer = Composer::new(scorer, &cuts).expect("segments");
                let (mut ranked, mut given_up, mut logit) = (Vec::new(), 0, 0.0);
                while let Some(found) = composer.next_block().expect("paths") {
                    ranked.extend(found.ranked);
                    given_up += found.abandoned.values().map(|(count, _)| count).sum::<u64>();
                    logit += found.abandoned.values().map(|(_, sum)| sum).sum::<f64>();
                }
                let most = max_rank.unwrap_or(i64::MAX);
                let (high, low): (Vec<_>, Vec<_>) = scored.iter().partition(|(.., rank)| *rank <= most);
                assert_eq!(ranked.len(), high.len(), "{name} {cuts:?}");
                for ((path, score), (other, logit, rank)) in ranked.iter().zip(&high) {
                    assert!(path == other && score.rank == Some(*rank), "{name} {cuts:?}");
                    assert!((score.value - logit).abs() < 1e-12, "{name} {cuts:?}");
                }
                let others: f64 = low.iter().map(|(_, logit, _)| logit).sum();
                assert_eq!(given_up, low.len() as u64, "{name} {cuts:?}");
                assert!((logit - others).abs() < 1e-12, "{name} {cuts:?}");
            }
        }
    }
}

#[test]
fn a_table_knows_what_following_every_path_finds() {
    let _guard = tch::no_grad_guard();
    let mut cut = 0;
    for family in ["olmo2", "gpt_neox", "gemma2", "gpt2"] {
        let model = Rc::new(wide_model(family));
        let prompt: Vec<i64> = (0..12).map(|number| number * number + 1).collect();
        let map = LinearMap::freeze(model.clone(), &prompt).expect("a map");
        for edges in [Edges::Argmax, Edges::All] {
            let request = GraphRequest { from: (0..12).collect(), to: 11, ..request(edges) };
            let (graph, scored) = all_scores(&map, &request, 5);
            let readout = map.readout(5, Scale::Logit, graph.request.to).expect("a readout");
            let scorer = Scorer { map: &map, graph: &graph, readout: &readout, max_rank: Some(12) };
            cut += usize::from(Cuts::cheapest(&scorer).layers.len() > 1);
            for keep_low in [true, false] {
                let table = table(&map, &request, keep_low);
                let wanted: Vec<_> = scored.iter().filter(|(.., rank)| keep_low || *rank <= 12).collect();
                assert_eq!(table.kept, wanted.len() as u64, "{family} {edges:?}");
                for ((path, score), (other, logit, rank)) in table.held().expect("paths").iter().zip(wanted) {
                    assert!(path == other && score.rank == Some(*rank) && (score.value - logit).abs() < 1e-11);
                }
                for start in &table.starts {
                    let own: Vec<_> =
                        scored.iter().filter(|(path, ..)| i64::from(path.source) == start.position).collect();
                    let high = own.iter().filter(|(.., rank)| *rank <= 12).count() as u64;
                    assert_eq!((start.computed, start.high_ranking), (own.len() as u64, high), "{family}");
                    let logit: f64 = own.iter().map(|(_, logit, _)| logit).sum();
                    assert!((start.value - logit).abs() < 1e-10, "{family}");
                }
            }
        }
    }
    assert!(cut > 1, "{cut} of the graphs were such that cutting paths saves work");
}

#[test]
fn a_path_that_overflows_is_an_error() {
    let _guard = tch::no_grad_guard();
    let model = double("olmo2");
    let map = frozen(&model);
    let graph = Graph::new(&map, request(Edges::Argmax)).expect("a graph");
    let readout = map.readout(5, Scale::Logit, graph.request.to).expect("a readout");
    let scorer = Scorer { map: &map, graph: &graph, readout: &readout, max_rank: None };
    let vectors =
        Tensor::full([2, model.config().d_model], f64::INFINITY, (Kind::Double, model.decoder.output_device()));
    let error = scorer.read_out(&vectors).expect_err("refused");
    assert!(error.to_string().contains("overflows the model"), "{error}");
}

#[test]
fn a_token_without_paths_has_an_empty_table() {
    let _guard = tch::no_grad_guard();
    let mut empty = 0;
    for name in TINY {
        let model = double(name);
        let prompt: Vec<i64> = (0..9).map(|number| 28 * number % 60 + 10).collect();
        let map = LinearMap::freeze(model.clone(), &prompt).expect("a map");
        for from in 0..8 {
            let request = GraphRequest { from: vec![from], to: 8, ..request(Edges::Argmax) };
            let graph = Graph::new(&map, request.clone()).expect("a graph");
            if graph.count() > 0.0 {
                continue;
            }
            empty += 1;
            let table = table(&map, &request, true);
            assert!(table.held().expect("paths").is_empty(), "{name} from {from}");
        }
    }
    assert!(empty > 0, "paths lead from everywhere");
}

/// Hooks that put a vector over the residual stream after layer 0 at position 2, and silence an MLP at another, or
/// attention where there is none.
fn interventions(model: &LanguageModel, vector: &Tensor) -> Hooks<'static> {
    let mut hooks = Hooks::none();
    let at = |site, layer| HookPoint { site, layer };
    let silenced = if model.config().attention_only { Site::AttentionOut } else { Site::MlpOut };
    for (point, position, change) in
        [(at(Site::ResidPost, 0), 2, Change::Patch(vector.shallow_clone())), (at(silenced, 1), 4, Change::Zero)]
    {
        let positions = At::One(position);
        hooks.intervene(&model.decoder.config, Intervention { point, positions, rows: None, head: None, change });
    }
    hooks
}

#[test]
fn what_interventions_put_in_completes_the_logits_of_their_run() {
    let _guard = tch::no_grad_guard();
    for name in TINY {
        let model = double(name);
        let decoder = &model.decoder;
        let vector = frozen(&model).residual(1).select(0, 5) * 1.5;
        let map = LinearMap::freeze_with(model.clone(), PROMPT, interventions(&model, &vector)).expect("a map");
        let to = PROMPT.len() as i64 - 1;
        let check = map.check(to).expect("a check");
        assert!(check.relative <= 1e-12, "{name}: {check:?}");

        let input = decoder.tokens(&[PROMPT.to_vec()]).expect("tokens");
        let logits = decoder.forward(&input, Logits::All, &mut interventions(&model, &vector)).expect("logits");
        let own = map.logits(to).expect("logits");
        assert!(max_difference(&own, &logits.select(0, 0).select(0, to)) < 1e-11, "{name}");
        let part = map.intervention(to).expect("a part").abs().max().double_value(&[]);
        assert!(part > 1e-4, "{name}: the interventions act, {part}");

        // The patch acts at its own position only; its contribution is the vector less the replaced residual.
        let put = map.put_in().expect("what was put in");
        assert_eq!(put.iter().map(|(layer, _)| *layer).collect::<Vec<_>>(), [1, 2], "{name}");
        let change = put[0].1.select(0, 0);
        assert!(max_difference(&change.select(0, 2), &(&vector - frozen(&model).residual(1).select(0, 2))) < 1e-11);
        let elsewhere = Tensor::from_slice(&[0i64, 1, 3, 4, 5]).to_device(change.device());
        assert!(change.index_select(0, &elsewhere).abs().max().double_value(&[]) < 1e-11, "{name}");

        let readout = logit(&map, 7);
        let flow = map.flow(&readout).expect("a flow");
        let (attention, mlp) = (numbers(&flow.attention_bias), numbers(&flow.mlp_bias));
        for layer in 0..=map.depth() {
            let nodes: f64 = numbers(&flow.node.select(0, layer as i64)).iter().sum();
            let biases: f64 = attention[layer..].iter().chain(&mlp[layer..]).sum();
            let behind: f64 = flow.intervention[layer + 1..].iter().sum();
            let sum = nodes + biases + behind + flow.final_bias;
            assert!((sum - readout.value).abs() < 1e-11, "{name} layer {layer}: {sum} for {}", readout.value);
        }
        let refused = map.predict(to, &mut |_| Ok(())).expect_err("a map under hooks predicts nothing");
        assert!(refused.to_string().contains("frozen without hooks"), "{refused}");
    }
}

#[test]
fn nothing_after_the_last_residual_can_be_changed_in_a_map() {
    let model = double("olmo2");
    let mut hooks = Hooks::none();
    let point = HookPoint { site: Site::LnFinalNormalized, layer: 0 };
    let positions = At::One(0);
    let intervention = Intervention { point, positions, rows: None, head: None, change: Change::Zero };
    hooks.intervene(&model.decoder.config, intervention);
    let error = LinearMap::freeze_with(model.clone(), PROMPT, hooks).expect_err("refused");
    assert!(error.to_string().contains("ln_final.hook_normalized"), "{error}");
}

#[test]
fn a_sample_estimates_the_number_of_high_ranking_paths() {
    let _guard = tch::no_grad_guard();
    let model = double("olmo2");
    let map = frozen(&model);
    let request = request(Edges::All);
    let (graph, scored) = all_scores(&map, &request, 5);
    let readout = map.readout(5, Scale::Logit, graph.request.to).expect("a readout");
    let scorer = Scorer { map: &map, graph: &graph, readout: &readout, max_rank: None };
    let sample = draw(&graph, 4000, 1);
    assert_eq!(sample, draw(&graph, 4000, 1));
    let high = |rank: i64| rank <= 20;
    let true_share = scored.iter().filter(|(.., rank)| high(*rank)).count() as f64 / scored.len() as f64;
    let scores = scorer.scores(&sample).expect("scores");
    let share = scores.iter().filter(|score| score.rank.is_some_and(high)).count() as f64 / 4000.0;
    let error = (true_share * (1.0 - true_share) / 4000.0).sqrt();
    assert!((share - true_share).abs() < 4.0 * error, "{share} for {true_share} +- {error}");
}

#[test]
fn a_paths_matrix_and_its_singular_values_are_those_of_the_factors() {
    let _guard = tch::no_grad_guard();
    for name in ["olmo2", "gpt2", "gpt_neox", "gemma2"] {
        let model = double(name);
        let map = frozen(&model);
        let depth = map.depth();
        let steps: Vec<Step> = (0..depth)
            .map(|layer| Step {
                target: if layer + 1 == depth { 5 } else { 3 },
                heads: None,
                residual: None,
                hop: Hop::Value,
            })
            .collect();
        let operator = Operator::path(&map, (0, 2), &steps).expect("a path");
        let matrix = operator.matrix().expect("a matrix");
        let embedding = map.embeddings().get(2);
        let carried = matrix.matmul(&embedding);
        assert!(
            max_difference(&carried, &operator.apply(&embedding.unsqueeze(0)).expect("applied").squeeze_dim(0)) < 1e-12
        );
        let back = operator.apply_transposed(&carried.unsqueeze(0)).expect("transposed").squeeze_dim(0);
        assert!(max_difference(&back, &matrix.tr().matmul(&carried)) < 1e-11, "{name}");

        for operator in [operator, Operator::whole(&map, (0, 1), (depth, 5)).expect("a map")] {
            let operator = operator.normed().expect("it ends at the last node");
            let (u, s, _) = operator.matrix().expect("a matrix").svd(true, true);
            let found = operator.singular(4).expect("singular values");
            assert!(max_difference(&found.values, &s.narrow(0, 0, 4)) < 1e-6 * s.double_value(&[0]), "{name}");
            let along = found.left.select(1, 0).dot(&u.select(1, 0)).abs().double_value(&[]);
            assert!((along - 1.0).abs() < 1e-6, "{name}: {along}");
        }
    }
}
