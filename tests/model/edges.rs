//! Scores of edges and runs of circuits: EAP-IG and the MIB track (`make_edge_fixtures.py`), gradients and single runs of
//! every family, laws.

use crate::support::{TINY, fixture, load, max_difference, run_script, session, tiny_path};
use lancet::attribution::alternative::Ablation;
use lancet::attribution::circuit::Circuit;
use lancet::attribution::circuit_run::Evaluator;
use lancet::attribution::edge_attribution::{Method, scores};
use lancet::attribution::exact_edge::effects;
use lancet::attribution::graph::{Destination, Edge, Graph, Letter, Source};
use lancet::attribution::pairs::Pairs;
use lancet::attribution::written;
use lancet::grid::metric::Metric;
use lancet::grid::objective::Objective;
use lancet::grid::target::{self, Target};
use lancet::model::backward::Backward;
use lancet::model::decoder::Logits;
use lancet::model::forward::Start;
use lancet::model::hook::{HookPoint, Site};
use lancet::model::language_model::LanguageModel;
use lancet::model::run::Hooks;
use tch::{Kind, Tensor};

/// Samples of two lengths.
const CLEAN: [&[i64]; 3] = [&[3, 14, 15, 9, 2], &[6, 5, 35, 8, 9], &[7, 9, 3]];
const CORRUPTED: [&[i64]; 3] = [&[3, 14, 1, 9, 2], &[6, 11, 35, 8, 9], &[7, 2, 3]];

struct Setting {
    model: LanguageModel,
    graph: Graph,
    pairs: Pairs,
    objective: Objective<'static>,
}

fn setting(name: &str) -> Setting {
    let model = load(&tiny_path(name).display().to_string(), Kind::Double);
    let rows = |prompts: &[&[i64]]| prompts.iter().map(|prompt| prompt.to_vec()).collect::<Vec<_>>();
    let pairs = Pairs::new(&model.decoder, &rows(&CLEAN), Some(&rows(&CORRUPTED))).unwrap();
    let answers = vec![vec![4], vec![5], vec![6]];
    let mut target = Target::answers(&answers).unwrap();
    target.against = Some(target::against(&answers, &[vec![8], vec![9], vec![10]]).unwrap());
    let objective = Objective::new(Metric::LogitDifference, target).unwrap();
    Setting { graph: Graph::new(model.config()), model, pairs, objective }
}

fn metric(setting: &Setting, prompts: &[&[i64]]) -> Vec<f64> {
    let one = |(sample, prompt): (usize, &&[i64])| {
        let tokens = setting.model.decoder.tokens(&[prompt.to_vec()]).unwrap();
        let logits = setting.model.decoder.forward(&tokens, Logits::Last, &mut Hooks::none()).unwrap();
        setting.objective.of(&logits.squeeze_dim(1), &[sample]).unwrap().double_value(&[0])
    };
    prompts.iter().enumerate().map(one).collect()
}

fn close(ours: &[f64], theirs: &[f64], what: &str) {
    let worst = ours.iter().zip(theirs).map(|(one, other)| (one - other).abs()).fold(0.0, f64::max);
    assert!(ours.len() == theirs.len() && worst < 1e-9, "{what}: {worst:e}");
}

#[test]
fn scores_and_curves_are_those_of_eap_ig_and_mib() {
    let mut session = session();
    session.set_variable("path", tiny_path("gpt2").display().to_string().into());
    session.set_variable("file", fixture("edges.json").display().to_string().into());
    session.set_variable("circuit_file", fixture("edges/circuit.json").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let want = read_json(file);
        let sorted = |names| { names.sort(); names };
        let model = load_model(path, #{ dtype: "f64", device: device });
        let request = #{
            clean: want.clean, corrupted: want.corrupted, answer: want.answers,
            metric: #{ kind: "logit_difference", against: want.distractors },
        };
        let methods = #{
            "EAP": #{ method: "eap" },
            "clean-corrupted": #{ method: "clean-corrupted" },
            "EAP-IG-inputs": #{ method: "eap-ig-inputs", steps: want.steps, rule: "left" },
            "EAP-IG-activations": #{ method: "eap-ig-activations", steps: want.steps, rule: "right" },
            "exact": #{ method: "exact" },
            "EAP zero": #{ method: "eap", ablation: "zero" },
            "EAP mean-positional": #{ method: "eap", ablation: "mean" },
        };
        for name in methods.keys() {
            let options = methods[name];
            let edges = model.edges(request + options);
            assert_eq(edges.len(), want.edges.len());
            for (edge, number) in want.edges {
                let difference = abs(edges[edge] - want.scores[name][number]);
                assert(difference < 1e-8, `${name} ${edge}: ${difference}`);
            }
        }

        let edges = model.edges(request);
        for name in want.curves.keys() {
            let curve = want.curves[name];
            let words = name.split(", ");
            let options = #{
                ablation: #{ patching: "corrupted", zero: "zero", "mean-positional": "mean" }[words[1]],
                select: if words[0].contains("greedy") { "greedy" } else { "top" },
                rank: if words[0].contains("signed") { "helpful" } else { "absolute" },
            };
            let ours = edges.curve(options);
            assert(allclose(tensor(ours.faithfulness), tensor(curve.faithfulness), #{ atol: 1e-7 }), name);
            assert(abs(ours.cpr - curve.area_under) < 1e-7 && abs(ours.cmd - curve.area_from_1) < 1e-7, name);
            assert(abs(ours.empty - curve.empty) < 1e-8);
            let circuits = want.circuits.get(words[0]);
            for (share, place) in want.shares {
                let keep = #{ keep: share * 1.0, select: options.select, rank: options.rank };
                let found = circuit(edges, keep).pruned().edges;
                assert_eq(sorted.call(found), sorted.call(circuits[place].map(|number| want.edges[number])));
            }
        }

        let read = model.edges(request + #{ scores: circuit_file });
        let found = circuit(read, #{ keep: "file" });
        assert_eq(sorted.call(found.edges), sorted.call(want.circuits["top"][6].map(|number| want.edges[number])));
        let theirs = read_json(circuit_file);
        let kept = theirs.nodes.keys().filter(|name| theirs.nodes[name].in_graph && name != "logits");
        assert_eq(sorted.call(found.nodes), sorted.call(kept));
        assert(theirs.edges.keys().all(|name| read[name] == theirs.edges[name].score));
        "#,
    );
}

/// The gradient of the metric's sum at what a destination reads, [pos, d_model], from the hook there.
fn gradient_at(setting: &Setting, sample: usize, destination: Destination, backward: Backward) -> Option<Tensor> {
    let model = &setting.model;
    let (site, layer, head) = match destination {
        Destination::Head { layer, letter, head, .. } => {
            let site = match letter {
                Letter::Query => Site::QueryIn,
                Letter::Key => Site::KeyIn,
                Letter::Value => Site::ValueIn,
            };
            (site, layer, Some(head))
        }
        Destination::Mlp { layer } => (Site::MlpIn, layer, None),
        Destination::Logits => (Site::ResidPost, model.config().n_layers - 1, None),
    };
    let point = HookPoint { site, layer };
    if !point.exists(model.config()) {
        return None;
    }
    let tokens = model.decoder.tokens(&[CLEAN[sample].to_vec()]).unwrap();
    let places = [(point.name(), vec![point])];
    let hooks = Hooks::with_backward(backward);
    let run = model.decoder.gradients(Start::Tokens(&tokens), Logits::Last, &places, hooks, |logits| {
        setting.objective.of(&logits.squeeze_dim(1), &[sample])
    });
    let gradient = run.unwrap().gradients.get(point).unwrap().select(0, 0);
    Some(match head {
        Some(head) => gradient.select(1, head),
        None => gradient,
    })
}

#[test]
fn estimates_are_differences_times_gradients_in_every_family() {
    for name in TINY {
        let setting = setting(name);
        let (decoder, graph) = (&setting.model.decoder, &setting.graph);
        let of = |prompts: &[&[i64]], sample: usize| {
            written::of_run(decoder, &decoder.tokens(&[prompts[sample].to_vec()]).unwrap()).unwrap().select(1, 0)
        };
        for (method, backward) in [(Method::Clean, Backward::Exact), (Method::Clean, Backward::Frozen)] {
            let how = (method, Ablation::Corrupted, backward);
            let ours = scores(decoder, graph, &setting.pairs, &setting.objective, how).unwrap();
            assert_eq!(ours.size(), [3, graph.edges.len() as i64]);
            let mut compared = 0;
            for sample in [0, 2] {
                let difference = of(&CORRUPTED, sample) - of(&CLEAN, sample);
                for (number, destination) in graph.destinations.iter().enumerate() {
                    // With patterns held constant, nothing depends on queries and keys.
                    let is_cut = matches!(destination, Destination::Head { letter, .. } if *letter != Letter::Value);
                    if backward == Backward::Frozen && is_cut {
                        continue;
                    }
                    let Some(gradient) = gradient_at(&setting, sample, *destination, backward) else { continue };
                    let expected = (&difference * gradient.unsqueeze(0).to_device(difference.device()))
                        .sum_dim_intlist([1, 2].as_slice(), false, None);
                    for (place, edge) in graph.edges.iter().enumerate().filter(|(_, edge)| edge.destination == number) {
                        let (one, other) = (
                            ours.double_value(&[sample as i64, place as i64]),
                            expected.double_value(&[edge.source as i64]),
                        );
                        assert!((one - other).abs() < 1e-9, "{name} {}: {one} {other}", graph.name(*edge));
                        compared += 1;
                    }
                }
            }
            assert!(compared > graph.edges.len() / 4, "{name}: {compared}");
        }
    }
}

#[test]
fn what_sources_add_is_the_residual_stream() {
    for name in TINY {
        let Setting { model, .. } = setting(name);
        let (decoder, config) = (&model.decoder, model.config());
        let tokens = decoder.tokens(&[CLEAN[0].to_vec()]).unwrap();
        let parts = written::of_run(decoder, &tokens).unwrap().sum_dim_intlist(0, false, None);
        let biases = decoder.blocks.iter().filter_map(|block| block.attention.output.bias.as_ref());
        let factor = config.residual_scale.unwrap_or(1.0);
        let mut sum = biases.fold(parts, |sum, bias| (bias * factor).to_device(sum.device()) + sum);
        if let Some(positions) = &decoder.position_embedding {
            sum += positions.narrow(0, 0, tokens.size()[1]).to_device(sum.device());
        }
        let last = decoder.run_layers(Start::Tokens(&tokens), decoder.blocks.len(), &mut Hooks::none(), None).unwrap();
        let difference = max_difference(&sum, &last);
        assert!(difference < 1e-10, "{name}: {difference:e}");
    }
}

#[test]
fn exact_effects_are_those_of_circuits_without_one_edge() {
    for name in TINY {
        let setting = setting(name);
        let (decoder, graph) = (&setting.model.decoder, &setting.graph);
        // Every kind of destination, in every layer.
        let chosen: Vec<Edge> = graph.edges.iter().copied().step_by(7).collect();
        for ablation in [Ablation::Corrupted, Ablation::Zero] {
            let ours = effects(decoder, graph, &setting.pairs, &setting.objective, ablation, &chosen).unwrap();
            let evaluator = Evaluator::new(decoder, graph, &setting.pairs, &setting.objective, ablation).unwrap();
            let whole = evaluator.whole(&Circuit::full(graph)).unwrap();
            for (place, edge) in chosen.iter().enumerate().step_by(3) {
                let mut circuit = Circuit::full(graph);
                circuit.kept[graph.edges.binary_search(edge).unwrap()] = false;
                let without = evaluator.whole(&circuit).unwrap();
                let expected: Vec<f64> = without.iter().zip(&whole).map(|(one, other)| one - other).collect();
                let column: Vec<f64> = (0..3).map(|sample| ours.double_value(&[sample, place as i64])).collect();
                close(&column, &expected, &format!("{name} {}", graph.name(*edge)));
            }
        }
    }
}

#[test]
fn a_circuit_of_all_edges_is_the_clean_run_and_one_of_none_the_corrupted() {
    for name in TINY {
        let setting = setting(name);
        let (decoder, graph) = (&setting.model.decoder, &setting.graph);
        let evaluator =
            Evaluator::new(decoder, graph, &setting.pairs, &setting.objective, Ablation::Corrupted).unwrap();
        close(&evaluator.whole(&Circuit::full(graph)).unwrap(), &metric(&setting, &CLEAN), name);
        close(&evaluator.whole(&Circuit::empty(graph)).unwrap(), &metric(&setting, &CORRUPTED), name);
    }
}

#[test]
fn integrated_gradients_of_a_short_way_are_exact() {
    // Where the two runs lie close together, gradients say what patches do.
    let setting = setting("olmo2");
    let (decoder, graph) = (&setting.model.decoder, &setting.graph);
    let embedding = decoder.embedding.shallow_clone();
    let mut near = embedding.get(1);
    near.copy_(&(embedding.get(15) + 1e-4 * (embedding.get(1) - embedding.get(15))));
    let pairs = {
        let rows = |prompts: &[&[i64]]| prompts.iter().map(|prompt| prompt.to_vec()).collect::<Vec<_>>();
        Pairs::new(decoder, &rows(&CLEAN[..1]), Some(&rows(&CORRUPTED[..1]))).unwrap()
    };
    let how = |method| (method, Ablation::Corrupted, Backward::Exact);
    let estimated = scores(decoder, graph, &pairs, &setting.objective, how(Method::CleanCorrupted)).unwrap();
    let exact = effects(decoder, graph, &pairs, &setting.objective, Ablation::Corrupted, &graph.edges).unwrap();
    let (difference, size) = (max_difference(&estimated, &exact), exact.abs().max().double_value(&[]));
    assert!(size > 1e-7 && difference < 1e-3 * size, "{difference:e} of {size:e}");
}

#[test]
fn names_lead_back_to_edges() {
    for name in ["gpt2", "llama3", "gptj", "toy_attn_only"] {
        let graph = setting(name).graph;
        for (edge, name) in graph.edges.iter().zip(graph.names()) {
            assert_eq!(graph.edge(&name).unwrap(), *edge);
        }
        let shared = graph.n_heads / graph.n_kv_heads;
        for destination in 0..graph.destinations.len() {
            let owners = graph.owners(destination);
            match graph.destinations[destination] {
                Destination::Head { letter: Letter::Query, .. } | Destination::Mlp { .. } => {
                    assert_eq!(owners.len(), 1)
                }
                Destination::Head { .. } => assert_eq!(owners.len() as i64, shared),
                Destination::Logits => assert!(owners.is_empty()),
            }
            assert!(owners.iter().all(|source| !matches!(graph.sources[*source], Source::Input)));
        }
    }
}
