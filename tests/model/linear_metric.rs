//! Parts of linear maps in every metric that is linear in the logits: they add up to the run's own value, and are those
//! of all tokens' logits weighted by hand.

use std::rc::Rc;

use crate::support::{TINY, assert_contains, load, max_difference, run_script, script_failure, session, tiny_path};
use lancet::linear::live::Through;
use lancet::linear::map::LinearMap;
use lancet::linear::path::graph::{Graph, Path};
use lancet::linear::path::method::Selection;
use lancet::linear::path::plan::Plan;
use lancet::linear::path::request::{Edges, Granularity, GraphRequest, Mode};
use lancet::linear::path::score::Scorer;
use lancet::linear::path::table::TableOptions;
use lancet::linear::path::walk::Walk;
use lancet::linear::readout::Scale;
use lancet::model::hook::{HookPoint, Site};
use lancet::model::intervention::{At, Change, Intervention};
use lancet::model::language_model::LanguageModel;
use lancet::model::run::Hooks;
use lancet::session::Session;
use tch::{Kind, Tensor};

const PROMPT: &[i64] = &[3, 14, 15, 9, 2, 6];
const ANSWER: i64 = 7;
const AGAINST: [i64; 2] = [11, 30];

fn scales() -> [Scale; 4] {
    [Scale::Logit, Scale::LogitDifference(AGAINST.to_vec()), Scale::CentredLogit, Scale::LogProbability]
}

fn double(name: &str) -> Rc<LanguageModel> {
    Rc::new(load(&tiny_path(name).display().to_string(), Kind::Double))
}

/// A metric of logits, [.., d_vocab], linearised at `clean`, without its constant.
fn weighted(scale: &Scale, logits: &Tensor, clean: &Tensor) -> Tensor {
    let own = logits.select(-1, ANSWER);
    match scale {
        Scale::Logit => own,
        Scale::LogitDifference(_) => own - (logits.select(-1, AGAINST[0]) + logits.select(-1, AGAINST[1])) / 2.0,
        Scale::CentredLogit => own - logits.mean_dim(-1, false, Kind::Double),
        Scale::LogProbability => {
            own - (logits * clean.softmax(-1, Kind::Double)).sum_dim_intlist(-1, false, Kind::Double)
        }
    }
}

/// A metric of one run's logits.
fn metric(scale: &Scale, logits: &Tensor) -> f64 {
    match scale {
        Scale::LogProbability => logits.log_softmax(-1, Kind::Double).double_value(&[ANSWER]),
        scale => weighted(scale, logits, logits).double_value(&[]),
    }
}

fn patched(model: &LanguageModel, vector: &Tensor) -> Hooks<'static> {
    let mut hooks = Hooks::none();
    let point = HookPoint { site: Site::ResidPost, layer: 0 };
    let change = Change::Patch(vector.shallow_clone());
    let intervention = Intervention { point, positions: At::One(2), rows: None, head: None, change };
    hooks.intervene(&model.decoder.config, intervention);
    hooks
}

#[test]
fn tokens_biases_and_interventions_add_up_to_the_metric_of_the_run() {
    let _guard = tch::no_grad_guard();
    for name in TINY {
        let model = double(name);
        let plain = LinearMap::freeze(model.clone(), PROMPT).expect("a map");
        let vector = plain.residual(1).select(0, 5) * 1.5;
        let hooked = LinearMap::freeze_with(model.clone(), PROMPT, patched(&model, &vector)).expect("a map");
        for map in [plain, hooked] {
            let to = map.length() - 1;
            let logits = map.logits(to).expect("logits");
            for scale in scales() {
                let readout = map.readout(ANSWER, scale.clone(), to).expect("a readout");
                let truth = metric(&scale, &logits);
                assert!((readout.value - truth).abs() < 1e-11, "{name} {scale:?}: {} for {truth}", readout.value);

                let flow = map.flow(&readout).expect("a flow");
                for layer in 0..=map.depth() as i64 {
                    let later = |biases: &Tensor| biases.narrow(0, layer, map.depth() as i64 - layer).sum(Kind::Double);
                    let nodes = flow.node.select(0, layer).sum(Kind::Double);
                    let sum = (nodes + later(&flow.attention_bias) + later(&flow.mlp_bias)).double_value(&[])
                        + flow.final_bias
                        + readout.constant
                        + flow.intervention[layer as usize + 1..].iter().sum::<f64>();
                    assert!((sum - truth).abs() < 1e-10, "{name} {scale:?} layer {layer}: {sum} for {truth}");
                }

                let totals = map.totals_in(&readout).expect("totals");
                assert!(max_difference(&totals, &flow.node.select(0, 0)) < 1e-12, "{name} {scale:?}");
                let naive = weighted(&scale, &map.totals(to).expect("totals"), &logits);
                assert!(max_difference(&totals, &naive) < 1e-11, "{name} {scale:?}");
                let biases = weighted(&scale, &map.bias(to).expect("biases"), &logits).double_value(&[]);
                let put_in = weighted(&scale, &map.intervention(to).expect("a part"), &logits).double_value(&[]);
                let sum = totals.sum(Kind::Double).double_value(&[]) + biases + put_in + readout.constant;
                assert!((sum - truth).abs() < 1e-10, "{name} {scale:?}: {sum} for {truth}");
            }
        }
    }
}

#[test]
fn all_paths_of_a_token_sum_to_its_total_in_every_metric() {
    let _guard = tch::no_grad_guard();
    for name in ["olmo2", "gpt_neox", "gemma2", "gpt2"] {
        let model = double(name);
        let map = LinearMap::freeze(model.clone(), PROMPT).expect("a map");
        let to = map.length() - 1;
        let request = GraphRequest {
            from: (0..map.length()).collect(),
            to,
            edges: Edges::All,
            mode: Mode::Eq3,
            granularity: Granularity::Token,
            until: None,
            through: Through::Values,
        };
        let graph = Graph::new(&map, request.clone()).expect("a graph");
        let paths: Vec<Path> = Walk::new(&graph, graph.depth()).collect();
        let logit = map.readout(ANSWER, Scale::Logit, to).expect("a readout");
        let ranks =
            Scorer { map: &map, graph: &graph, readout: &logit, max_rank: None }.scores(&paths).expect("scores");
        for scale in scales() {
            let readout = map.readout(ANSWER, scale.clone(), to).expect("a readout");
            let scorer = Scorer { map: &map, graph: &graph, readout: &readout, max_rank: None };
            let totals: Vec<f64> = map.totals_in(&readout).expect("totals").try_into().expect("numbers");
            let scores = scorer.scores(&paths).expect("scores");
            for (score, other) in scores.iter().zip(&ranks) {
                assert_eq!(score.rank, other.rank, "{name} {scale:?}: ranks are the answer's among all tokens");
            }
            for ((source, total), by_program) in (0u32..).zip(&totals).zip(scorer.sums().expect("sums")) {
                let own = paths.iter().zip(&scores).filter(|(path, _)| path.source == source);
                let sum: f64 = own.map(|(_, score)| score.value).sum();
                assert!((sum - total).abs() < 1e-11, "{name} {scale:?} from {source}: {sum} for {total}");
                assert!((by_program - total).abs() < 1e-11, "{name} {scale:?} from {source}");
            }
            // The search finds the paths of highest value, whatever it measures.
            let options =
                TableOptions { selection: Selection::Highest { count: 9 }, max_rank: 12, keep_low: true, hold: true };
            let plan = Plan::new(&map, request.clone(), ANSWER, scale.clone(), options).expect("a plan");
            let table = plan.run(&mut |_| Ok(())).expect("a table");
            let mut values: Vec<f64> = scores.iter().map(|score| score.value).collect();
            values.sort_by(|one, other| other.total_cmp(one));
            for ((_, score), value) in table.held().expect("paths").iter().zip(&values) {
                assert!((score.value - value).abs() < 1e-11, "{name} {scale:?}: {} for {value}", score.value);
            }
        }
    }
}

fn linearized() -> Session {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(&mut session, "let lin = load_model(path, #{ device: device }).linearize([3, 14, 15, 9, 2, 6]);");
    session
}

#[test]
fn scripts_name_values_by_their_metric() {
    let mut session = linearized();
    let folder = tempfile::tempdir().expect("a folder");
    session.set_variable("folder", folder.path().display().to_string().into());
    run_script(
        &mut session,
        r#"
        let metric = #{ kind: "logit_difference", against: [11, 30] };
        let flow = lin.flow(#{ answer: 7, metric: metric });
        assert_eq(flow.logit_difference, flow.value);
        let totals = lin.totals(#{ answer: 7, metric: metric });
        assert((totals - flow.node[0]).abs().max().item() < 1e-6);
        let request = #{ answer: 7, metric: metric, edges: "all", quiet: true };
        let paths = lin.paths(request);
        assert_eq(paths.metric, "logit_difference");
        assert_eq(paths.rows()[0].logit_difference, paths.value[0].item());
        assert(!paths.rows()[0].contains("logit"));
        let start = paths.starts[2];
        assert((start.graph_logit_difference - totals[2].item()).abs() < 1e-5);
        assert((start.logit_difference - totals[2].item()).abs() < 1e-4);
        assert(start.contains("high_logit_difference"));
        assert((lin.path_counts(request).logit_difference - totals.to("f64")).abs().max().item() < 1e-5);
        paths.save(`${folder}/paths.csv`);
        assert(read_csv(`${folder}/paths.csv`)[0].contains("logit_difference"));
        let graph = path_graph(paths, #{ high_ranking_only: false, min_node: 0.0, min_edge: 0.0 });
        assert(graph.nodes[0].contains("logit_difference"));
        assert(`${graph}`.contains("measured by logit difference"));
        graph.save(`${folder}/paths.svg`);
        assert(read_text(`${folder}/paths.svg`).contains("logit difference"));
        assert(`${lin.paths(#{ answer: 7, metric: "log_probability", quiet: true })}`.contains("linearised"));
        assert_eq(lin.paths(#{ answer: 7, quiet: true }).metric, "logit");
        "#,
    );
    let refused = script_failure(&mut session, "paths.logit");
    assert_contains(&refused, &["measured in `logit_difference`", "read `value`"]);
}

#[test]
fn metrics_without_parts_are_refused() {
    let mut session = linearized();
    for metric in ["\"probability\"", "\"rr\"", "\"rank\"", "\"kl\"", "#{ kind: \"kl\", reference: \"clean\" }"] {
        for call in ["flow", "totals", "paths", "path_counts"] {
            let message = script_failure(&mut session, &format!("lin.{call}(#{{ answer: 7, metric: {metric} }})"));
            assert_contains(&message, &["is not linear in the logits", "log_probability"]);
        }
    }
    for (request, part) in [
        ("metric: \"logits\"", "logits"),
        ("metric: [\"logit\", \"centred_logit\"]", "one metric at a time"),
        ("metric: #{ kind: \"logit\", normalised: true }", "not normalised"),
        ("metric: \"logit_difference\"", "needs tokens to compare"),
        ("metric: #{ kind: \"logit_difference\", against: 7 }", "the answer"),
        ("metric: #{ kind: \"logit_difference\", against: 1000000 }", "out of range"),
        ("metric: |logits| logits[:, 5]", "not measured by functions"),
        ("ids: [3]", "either `ids`"),
    ] {
        let message = script_failure(&mut session, &format!("lin.totals(#{{ answer: 7, {request} }})"));
        assert_contains(&message, &[part]);
    }
}
