//! The map's predictions of patching grids: those of single predictions, and the null hypothesis that patches only
//! overwrite one another.

use std::rc::Rc;

use crate::support::checkpoint::Checkpoint;
use crate::support::{
    assert_contains, generator, load, max_difference, on_device, run_script, script_failure, session, tiny_path,
};
use lancet::grid::frozen::{self, Frozen};
use lancet::grid::measured::Measured;
use lancet::grid::metric::Metric;
use lancet::grid::request::{Origin, Request, Sizes};
use lancet::grid::set::{self, Element, Set};
use lancet::grid::target::Target;
use lancet::linear::map::LinearMap;
use lancet::linear::readout::Scale;
use lancet::model::hook::{HookPoint, Site};
use lancet::model::intervention::{At, Change, Intervention};
use lancet::model::language_model::{LanguageModel, LoadOptions};
use tch::{Device, Kind, Tensor};

/// Sequential and parallel blocks, norms before, after and on both sides, a soft cap, experts.
const MODELS: [&str; 6] = ["llama3", "olmo2", "gpt_neox", "gpt2", "gemma2", "mixtral"];
const SOURCE: &[i64] = &[21, 8, 33, 5];

fn double(name: &str) -> Rc<LanguageModel> {
    Rc::new(load(&tiny_path(name).display().to_string(), Kind::Double))
}

fn request(site: Site, sizes: &[usize]) -> Request {
    let targets = vec![vec![3, 14, 15, 9], vec![6, 2, 40], vec![12, 13, 50, 1, 4]];
    let answers = vec![vec![5], vec![60, 4], vec![7]];
    Request {
        positions: vec![0, -1, 2],
        sizes: Sizes::Of(sizes.to_vec()),
        site,
        ..Request::new(Origin::Source(vec![SOURCE.to_vec()]), targets, answers)
    }
}

fn patch(layer: i64, position: i64, vector: &Tensor) -> Intervention {
    let point = HookPoint { site: Site::ResidPost, layer };
    let change = Change::Patch(vector.shallow_clone());
    Intervention { point, positions: At::One(position), rows: None, head: None, change }
}

/// The logits that the map predicts under the patches of one set, by the map's own run with interventions.
fn single(map: &LinearMap, set: &Set, vectors: &[Tensor], position: i64, to: i64) -> Tensor {
    let prediction = map.predict(to, &mut |hooks| {
        for Element { layer, .. } in set {
            hooks.intervene(map.config(), patch(*layer, position, &vectors[*layer as usize]));
        }
        Ok(())
    });
    prediction.expect("a prediction").predicted
}

/// The predicted residuals at position `to`, [set, d_model].
fn ends(map: &LinearMap, sets: &[Vec<usize>], vectors: &[Tensor], position: i64, to: i64) -> Tensor {
    let (residuals, rows) = map.predict_sets(sets, vectors, position, to).expect("residuals");
    let rows: Vec<i64> = rows.into_iter().map(|row| row as i64).collect();
    residuals.index_select(0, &Tensor::from_slice(&rows).to_device(residuals.device()))
}

fn digest(model: &LanguageModel) -> Vec<Tensor> {
    lancet::grid::digest::digest(&model.decoder, SOURCE, Site::ResidPost).expect("a digest")
}

#[test]
fn the_frozen_null_is_what_predicting_every_set_alone_gives() {
    let _guard = tch::no_grad_guard();
    for name in MODELS {
        let model = double(name);
        let mut request = request(Site::ResidPost, &[1, 2, 3]);
        let sets = request.sets(model.config()).expect("sets");
        request.against = vec![vec![1]; 3];
        let samples = request.samples(&model.decoder).expect("samples");
        let mut target = Target::answers(&request.answers).expect("a target");
        target.against = Some(Tensor::from_slice(&[1i64, 1, 1]).view([3, 1]));
        let Frozen { patched, unpatched: clean } = frozen::predicted(&model, &request, None).expect("predictions");
        assert_eq!(patched.rank.size(), [sets.len() as i64, 3]);
        let vectors = digest(&model);
        for (number, sample) in samples.iter().enumerate() {
            let map = LinearMap::freeze(model.clone(), &sample.prompt).expect("a map");
            let to = map.length() - 1;
            let mut logits: Vec<Tensor> =
                sets.iter().map(|set| single(&map, set, &vectors, sample.position, to)).collect();
            logits.push(map.logits(to).expect("logits"));
            let own = target.select(&vec![number; logits.len()], Device::Cpu).expect("a target");
            let alone = Measured::of_logits(&Tensor::stack(&logits, 0), &own).expect("measured");
            for (what, metric) in Metric::NAMES.into_iter().filter(|(_, metric)| *metric != Metric::Kl) {
                let values = |measured: &Measured| measured.values(metric, None).expect("values").to(Device::Cpu);
                let ours = Tensor::cat(
                    &[values(&patched).select(1, number as i64), values(&clean).narrow(0, number as i64, 1)],
                    0,
                );
                let difference = max_difference(&ours, &values(&alone));
                assert!(difference < 1e-9, "{name} sample {number} {what}: {difference:e}");
            }
        }
    }
}

#[test]
fn in_the_map_a_pair_interacts_by_overwriting_only() {
    let _guard = tch::no_grad_guard();
    for name in MODELS {
        let model = double(name);
        let map = LinearMap::freeze(model.clone(), &[3, 14, 15, 9]).expect("a map");
        let (to, position, depth) = (3, 1, map.depth());
        let vectors = digest(&model);
        for scale in [Scale::Logit, Scale::LogitDifference(vec![9, 11]), Scale::CentredLogit] {
            let readout = map.readout(5, scale.clone(), to).expect("a readout");
            let effects = map.predict_grid(&vectors, &readout, position).expect("a grid");
            let sets: Vec<Vec<usize>> =
                (0..depth).flat_map(|i| (i..depth).map(move |j| if i == j { vec![i] } else { vec![i, j] })).collect();
            let changes = ends(&map, &sets, &vectors, position, to) - map.residual(depth).select(0, to);
            // The fast way and the whole logits agree.
            for (row, set) in (0..).zip(&sets) {
                let ours = effects.double_value(&[set[0] as i64, set[set.len() - 1] as i64]);
                let whole = readout.covector.select(0, 0).dot(&changes.select(0, row)).double_value(&[]);
                assert!((ours - whole).abs() < 1e-10, "{name} {scale:?} {set:?}: {ours} for {whole}");
            }
            // The interaction is minus the effect of what the second patch overwrites.
            for (i, vector) in vectors.iter().enumerate() {
                let run = map.residual(i + 1).select(0, position);
                let own = vector.to_device(run.device()) - run;
                for j in i + 1..depth {
                    let there = map.carry(&own, (i + 1, position), (j + 1, position)).expect("carried");
                    let end = map.carry(&there, (j + 1, position), (depth, to)).expect("carried");
                    let overwritten = readout.covector.select(0, 0).dot(&end).double_value(&[]);
                    let at = |i: usize, j: usize| effects.double_value(&[i as i64, j as i64]);
                    let eps = at(i, j) - at(i, i) - at(j, j);
                    assert!((eps + overwritten).abs() < 1e-10, "{name} {scale:?} ({i}, {j}): {eps}, {overwritten}");
                }
            }
        }
    }
}

#[test]
fn sets_are_predicted_in_parts_and_after_the_read_position_change_nothing() {
    let _guard = tch::no_grad_guard();
    let turn = generator();
    let options = LoadOptions { kind: Kind::Double, random_seed: Some(3), ..on_device() };
    let checkpoint = Checkpoint::of("llama3").with("num_hidden_layers", 5.into());
    let model = Rc::new(checkpoint.write().load_with(options).expect("a model"));
    drop(turn);
    let prompt: Vec<i64> = (0..110).map(|number| number * 7 % 60).collect();
    let map = LinearMap::freeze(model.clone(), &prompt).expect("a map");
    let vectors = digest(&model);
    // Sets of every size over many positions: more than are carried at once.
    let elements = set::elements(model.config(), Site::ResidPost).expect("elements");
    let all = set::all(&elements, &(1..=elements.len()).collect::<Vec<_>>());
    let sets: Vec<Vec<usize>> =
        all.iter().map(|set| set.iter().map(|element| element.layer as usize).collect()).collect();
    let together = ends(&map, &sets, &vectors, 1, 100);
    for (row, set) in (0..).zip(&sets) {
        let alone = ends(&map, std::slice::from_ref(set), &vectors, 1, 100);
        assert!(max_difference(&together.narrow(0, row, 1), &alone) < 1e-12, "{set:?}");
    }
    let clean = map.residual(map.depth()).narrow(0, 100, 1);
    assert_eq!(max_difference(&ends(&map, &[Vec::new()], &vectors, 1, 100), &clean), 0.0);
    let after = ends(&map, &sets, &vectors, 101, 100);
    assert_eq!(max_difference(&after, &clean.repeat([sets.len() as i64, 1])), 0.0);
    let refused = map.predict_sets(&[vec![99]], &vectors, 1, 100).expect_err("no such layer");
    assert!(refused.to_string().contains("99"), "{refused}");
}

#[test]
fn only_residual_streams_have_a_frozen_null() {
    let model = double("llama3");
    let request = request(Site::MlpOut, &[1]);
    let refused = frozen::predicted(&model, &request, None).expect_err("refused");
    assert_contains(&refused.to_string(), &["mlp_out"]);
}

#[test]
fn scripts_predict_grids_in_every_metric() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device, dtype: "f64" });
        let target = [3, 14, 15, 9];
        let source = [21, 8, 33, 5];
        let lin = model.linearize(target);
        let metrics = ["logit", #{ kind: "logit_difference", against: [11, 30] }, "centred_logit", "log_probability",
            "probability", "rank", "rr", #{ kind: "kl", reference: "clean" }];
        let request = #{ source: source, answer: 7, position: 1, metric: metrics };
        let grids = lin.predict_grid(request);
        assert_eq(grids.keys().len(), 8);
        assert(equal(lin.predict_grid(#{ source: source, answer: 7, position: 1 })[0], grids.logit[0]));
        let one = lin.predict_grid(#{ source: source, answer: 7, position: 1, metric: "rr" });
        assert(equal(one[0], grids.rr[0]));
        let digest = model.digest(source);
        let reference = model.forward(source + target)[0, -1].log_softmax(0);
        let measure = |logits| {
            let log_probabilities = logits.log_softmax(0);
            let rank = 1 + (logits > logits[7]).sum().item();
            #{ logit: logits[7].item(), logit_difference: (logits[7] - (logits[11] + logits[30]) / 2.0).item(),
                centred_logit: (logits[7] - logits.mean()).item(), log_probability: log_probabilities[7].item(),
                probability: log_probabilities[7].exp().item(), rank: rank, rr: 1.0 / rank,
                kl: kl_div(reference, log_probabilities).item() }
        };
        for i in 0..model.cfg.n_layers {
            for j in i..model.cfg.n_layers {
                let set = if i == j { [i] } else { [i, j] };
                let run = lin.predict(set.map(|layer| patch(`resid_post.${layer}`, 1, digest[layer])));
                let patched = measure.call(run.predicted);
                let clean = measure.call(run.clean);
                for name in grids.keys() {
                    let difference = grids[name][i, j].item() - (patched[name] - clean[name]);
                    assert(difference.abs() < 1e-8);
                }
            }
        }
        "#,
    );
    for (request, part) in [
        ("vectors: digest, answer: 7, metric: #{ kind: \"kl\", reference: \"clean\" }", "no source text"),
        ("source: source, answer: 7, metric: #{ kind: \"logit\", normalised: true }", "not normalised"),
        ("source: source, answer: 7, metric: []", "is empty"),
        ("source: source, answer: 7, metric: \"lgit\"", "lgit"),
    ] {
        assert_contains(&script_failure(&mut session, &format!("lin.predict_grid(#{{ {request} }})")), &[part]);
    }
}
