//! The sweep planner against single runs on every family, its store, and sweeps of any hooks.

use crate::support::{TINY, load, logits, max_difference, run_script, script_failure, session, tiny_path};
use lancet::error::Error;
use lancet::grid::digest::Digests;
use lancet::grid::metric::{Asked, Metric};
use lancet::grid::outcome::Grid;
use lancet::grid::request::{Origin, Request, Setting, Sizes};
use lancet::grid::set::{self, Element};
use lancet::grid::target::Target;
use lancet::grid::{driver, plain};
use lancet::model::hook::Site;
use lancet::model::language_model::LanguageModel;
use lancet::share::{self, Piece, Share};
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

fn request(site: Site, position: i64, sizes: &[usize]) -> Request {
    Request {
        metrics: vec![Asked::plain(Metric::Logit)],
        positions: vec![position],
        sizes: Sizes::Of(sizes.to_vec()),
        site,
        tokens_at_once: Some(16),
        ..Request::new(
            Origin::Source(vec![vec![3, 4, 5, 6]]),
            vec![vec![1, 2, 3, 4, 5], vec![1, 7, 8, 9, 2], vec![4, 5, 6]],
            vec![vec![5], vec![6], vec![7]],
        )
    }
}

fn compute(model: &LanguageModel, request: &Request) -> Grid {
    let _guard = tch::no_grad_guard();
    driver::compute(model, request, None, &mut |_| ()).unwrap_or_else(|error| panic!("{error}"))
}

fn double(name: &str) -> LanguageModel {
    load(&tiny_path(name).display().to_string(), Kind::Double)
}

/// In float64 the order of sums leaves differences near 1e-15, so a larger difference is an error of the plan.
#[test]
fn the_plan_equals_the_plain_way_on_every_family() {
    for name in TINY {
        let model = double(name);
        for position in [0, 1, -1] {
            let mut request = request(Site::ResidPost, position, &[1, 2, 3]);
            request.verify = usize::MAX;
            let grid = compute(&model, &request);
            let verified = grid.verified.expect("asked for");
            assert_eq!(verified.rank_differences, 0, "{name} at {position}");
            assert!(verified.max_logit_difference < 1e-12, "{name} at {position}: {verified:?}");
            assert_eq!(verified.cells, grid.sets.len() * 3, "{name}: every cell was computed twice");
        }
    }
}

const SITES: [(Site, &[usize]); 10] = [
    (Site::AttentionOut, &[1, 2, 3]),
    (Site::MlpOut, &[2]),
    (Site::Z, &[1, 2]),
    (Site::ResidPost, &[3]),
    (Site::Query, &[1, 2]),
    (Site::Key, &[1, 2]),
    (Site::Value, &[1, 2]),
    (Site::KeyIn, &[1, 2]),
    (Site::ValueIn, &[1]),
    (Site::MlpPost, &[1]),
];

#[test]
fn the_plan_equals_the_plain_way_at_every_site() {
    for name in ["olmo2", "gemma2", "gpt2", "gpt_neox"] {
        let model = double(name);
        for (site, sizes) in SITES {
            for position in [0, 2, -1] {
                let mut request = request(site, position, sizes);
                request.verify = 150;
                let verified = compute(&model, &request).verified.expect("asked for");
                assert_eq!(verified.rank_differences, 0, "{name} {site:?} at {position}");
                assert!(verified.max_logit_difference < 1e-12, "{name} {site:?} at {position}: {verified:?}");
            }
        }
    }
}

/// One source per sample, one position per sample, a filler, and targets that are a single token.
#[test]
fn samples_may_differ_in_everything() {
    let model = double("llama3");
    let mut request = request(Site::ResidPost, 0, &[1, 2]);
    request.origin = Origin::Source(vec![vec![3, 4], vec![5, 6, 7], vec![8]]);
    request.targets = vec![vec![1, 2, 3], vec![9], vec![1, 2, 3]];
    request.positions = vec![0, 1, -1];
    request.filler = Some(11);
    request.verify = usize::MAX;
    let verified = compute(&model, &request).verified.expect("asked for");
    assert_eq!(verified.rank_differences, 0);
    assert!(verified.max_logit_difference < 1e-12, "{verified:?}");
}

/// Given vectors act like a source with these activations.
#[test]
fn vectors_stand_for_a_source() {
    for site in [Site::ResidPost, Site::Z] {
        let model = double("olmo2");
        let mut request = request(site, 0, &[1, 2]);
        let from_source = compute(&model, &request);
        let samples = request.samples(&model.decoder).expect("samples");
        let digest = Digests::new(&model.decoder, &request, &samples).get(0).expect("digest");
        request.origin = Origin::Vectors(digest);
        request.verify = 40;
        let from_vectors = compute(&model, &request);
        assert_eq!(from_vectors.patched.logit, from_source.patched.logit);
        assert!(from_vectors.verified.expect("asked for").max_logit_difference < 1e-12);
    }
}

#[test]
fn the_size_of_a_step_does_not_change_the_numbers() {
    let model = double("qwen3");
    let mut request = request(Site::ResidPost, 0, &[1, 2]);
    let reference = compute(&model, &request);
    for tokens in [1, 7, 1 << 20] {
        request.tokens_at_once = Some(tokens);
        let grid = compute(&model, &request);
        assert!(max_difference(&grid.patched.logit, &reference.patched.logit) < 1e-12);
        assert_eq!(grid.patched.rank, reference.patched.rank);
    }
}

#[test]
fn effects_are_against_the_chosen_baseline() {
    let model = double("olmo2");
    let mut request = request(Site::ResidPost, 0, &[1]);
    let alone = compute(&model, &request);
    request.setting = Setting::SourceAndTarget;
    let together = compute(&model, &request);
    assert_eq!(alone.patched.logit, together.patched.logit);
    for (sample, (target, answer)) in request.targets.iter().zip(&request.answers).enumerate() {
        for (grid, prompt) in [(&alone, target.clone()), (&together, [&[3, 4, 5, 6][..], target].concat())] {
            let tokens = model.decoder.tokens(&[prompt]).expect("tokens");
            let logits = logits(&model, &tokens).select(0, 0).select(0, -1);
            let expected = logits.double_value(&[answer[0]]);
            assert!((grid.baseline.logit.double_value(&[sample as i64]) - expected).abs() < 1e-12);
            let higher = logits.gt(expected).sum(Kind::Int64).int64_value(&[]);
            assert_eq!(grid.baseline.rank.int64_value(&[sample as i64]), 1 + higher);
        }
    }
    let effect = together.effect(Metric::Logit).expect("effect");
    assert!(max_difference(&effect, &(&together.patched.logit - &together.baseline.logit)) == 0.0);
}

#[test]
fn released_ranks_beyond_the_limit_score_minus_one() {
    let model = double("olmo2");
    let mut request = request(Site::ResidPost, 0, &[1, 2]);
    request.max_rank = Some(20);
    let grid = compute(&model, &request);
    let scores = grid.patched.values(Metric::ReciprocalRank, grid.max_rank).expect("scores");
    let beyond = grid.patched.rank.gt(20);
    assert!(beyond.any().int64_value(&[]) == 1 && beyond.logical_not().any().int64_value(&[]) == 1);
    assert!(scores.masked_select(&beyond).eq(-1.0).all().int64_value(&[]) == 1);
    let within = beyond.logical_not();
    assert_eq!(
        scores.masked_select(&within),
        grid.patched.rank.masked_select(&within).to_kind(Kind::Double).reciprocal()
    );
}

/// The store returns computed cells only for the same samples and the same model.
#[test]
fn an_interrupted_grid_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().expect("folder");
    let model = double("mistral");
    let mut request = request(Site::ResidPost, 0, &[1, 2]);
    let fresh = compute(&model, &request);
    request.store = Some(folder.path().to_owned());
    let mut first = request.clone();
    first.targets.truncate(2);
    first.answers.truncate(2);
    compute(&model, &first);
    let resumed = compute(&model, &request);
    assert_eq!((resumed.plan.samples, resumed.plan.stored), (1, 2));
    let text = resumed.plan.to_string();
    assert!(text.contains("x 1 samples") && text.contains("2 samples from the store"), "{text}");
    assert!(max_difference(&resumed.patched.logit, &fresh.patched.logit) < 1e-12);
    assert_eq!(resumed.patched.rank, fresh.patched.rank);
    let again = compute(&model, &request);
    assert_eq!((again.plan.samples, again.plan.stored, again.plan.passes), (0, 3, 0));
    assert!(again.plan.to_string().contains("nothing to compute"), "{}", again.plan);
    assert_eq!(again.patched.logit, resumed.patched.logit);

    // A change of any input of the numbers makes a different sample.
    let changes: [fn(&mut Request); 5] = [
        |request| request.origin = Origin::Source(vec![vec![3, 4, 5, 7]]),
        |request| request.answers = vec![vec![6], vec![7], vec![8]],
        |request| request.positions = vec![1],
        |request| request.sizes = Sizes::Of(vec![1]),
        |request| request.site = Site::MlpOut,
    ];
    for change in changes {
        let mut changed = request.clone();
        change(&mut changed);
        let plan = compute(&model, &changed).plan;
        assert!(plan.stored == 0 && !plan.to_string().contains("store"), "{plan}");
    }
    let other = load(&tiny_path("mistral").display().to_string(), Kind::Float);
    assert_eq!(compute(&other, &request).plan.stored, 0);

    // The cells of a damaged file are computed again.
    for entry in std::fs::read_dir(folder.path()).expect("store") {
        for file in std::fs::read_dir(entry.expect("entry").path()).expect("folder") {
            std::fs::write(file.expect("file").path(), b"cut off").expect("written");
        }
    }
    let recomputed = compute(&model, &request);
    assert_eq!(recomputed.plan.stored, 0);
    assert_eq!(recomputed.patched.rank, fresh.patched.rank);
}

/// What is in the store, and which shards of a run computed what, changes no bit of a number.
#[test]
fn neither_earlier_runs_nor_shards_change_a_number() {
    let model = load(&tiny_path("mistral").display().to_string(), Kind::Float);
    let mut request = request(Site::ResidPost, 0, &[1, 2]);
    request.targets = (0..40).map(|number| vec![4, 5 + number % 3, 6 + number % 11]).collect();
    request.answers = (0..40).map(|number| vec![7 + number % 5]).collect();
    let whole = compute(&model, &request);

    let folder = tempfile::tempdir().expect("folder");
    request.store = Some(folder.path().to_owned());
    let mut first = request.clone();
    first.targets.truncate(20);
    first.answers.truncate(20);
    compute(&model, &first);
    let later = compute(&model, &request);
    assert_eq!((later.plan.stored, later.plan.samples), (16, 24), "a batch with new members is computed again");
    assert_eq!(later.patched.logit, whole.patched.logit);

    let folder = tempfile::tempdir().expect("folder");
    request.store = Some(folder.path().to_owned());
    let _guard = tch::no_grad_guard();
    let mut computed = 0;
    for shard in [1, 0, 2] {
        let _shard = share::enter(Share::Piece(Piece::of_shard(shard, 3)));
        let mut plan = None;
        let outcome = driver::compute(&model, &request, None, &mut |announced| plan = Some(*announced));
        computed += plan.expect("a plan").samples;
        assert_eq!(matches!(outcome, Err(Error::Deferred)), shard != 2, "the last one finds the others' results");
        assert_eq!(share::take_results().len(), 1);
    }
    assert_eq!(computed, 40);
    let merged = compute(&model, &request);
    assert_eq!((merged.plan.stored, merged.plan.passes), (40, 0));
    assert_eq!(merged.patched.logit, whole.patched.logit);
}

/// Given vectors are part of a stored cell's name, down to the bit.
#[test]
fn grids_of_given_vectors_are_stored() {
    let folder = tempfile::tempdir().expect("folder");
    let model = double("llama3");
    let vectors = |last: f64| {
        let vector = |layer: i64| Tensor::ones([model.config().d_model], (Kind::Double, Device::Cpu)) * (layer + 1);
        let vectors: Vec<Tensor> = (0..model.config().n_layers).map(vector).collect();
        let _ = vectors[0].get(0).fill_(last);
        Origin::Vectors(Rc::new(vectors))
    };
    let mut request = request(Site::ResidPost, 0, &[1, 2]);
    request.store = Some(folder.path().to_owned());
    request.origin = vectors(1.0);
    let fresh = compute(&model, &request);
    let again = compute(&model, &request);
    assert_eq!((fresh.plan.stored, again.plan.stored), (0, 3));
    assert_eq!(again.patched.logit, fresh.patched.logit);
    request.origin = vectors(1.0 + f64::EPSILON);
    assert_eq!(compute(&model, &request).plan.stored, 0);
}

/// The keys of stored cells and of models are written out field by field, so that nothing but a version changes them.
/// (A separate Python program computed the values from the fixture's files.)
#[test]
fn the_keys_of_models_and_cells_are_pinned() {
    let folder = tempfile::tempdir().expect("folder");
    let model = load(&tiny_path("llama3").display().to_string(), Kind::Float);
    assert_eq!(
        model.fingerprint().expect("fingerprint"),
        "97143b5374b2d07a0242e787075b69ef5fdd6993db3bfaa8f533d77e40a6d288"
    );
    let mut request = request(Site::ResidPost, -1, &[1, 2]);
    request.store = Some(folder.path().to_owned());
    compute(&model, &request);
    let folders = std::fs::read_dir(folder.path()).expect("store").map(|entry| entry.expect("entry").path());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).expect("folder"));
    let mut names: Vec<String> =
        files.map(|file| file.expect("file").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let expected = [
        "4088a0c41dcac3e0f2a3e4671dd48b9a1880ea79007738254a527120cbd51ee7.cells",
        "4b81571578152b122388ee6e680cb0b076c572fa7fa731cae19f43290ecc0d99.cells",
    ];
    assert_eq!(names, expected);
}

/// Values that cannot be compared are an error with the place and both values; they do not count as equal.
#[test]
fn verification_fails_on_what_it_cannot_compare() {
    let _guard = tch::no_grad_guard();
    let mut model = double("llama3");
    let mut request = request(Site::ResidPost, 0, &[1, 2]);
    request.verify = usize::MAX;
    let samples = request.samples(&model.decoder).expect("a request");
    let target = Target::answers(&request.answers).expect("answers");
    let failed = |model: &LanguageModel, grid: &Grid| {
        plain::verify(&model.decoder, &request, &samples, &target, grid).expect_err("it is noticed").to_string()
    };
    let grid = || compute(&model, &request);
    let name = |grid: &Grid| lancet::grid::set::name(&grid.sets[1]);

    let without_logit = grid();
    let _ = without_logit.patched.logit.get(1).get(2).fill_(f64::NAN);
    let error = failed(&model, &without_logit);
    assert!(error.contains(&format!("set {} of sample 2", name(&without_logit))), "{error}");
    assert!(error.contains("logit NaN, rank") && error.contains("in a run of its own"), "{error}");

    let infinite = grid();
    let _ = infinite.patched.logit.get(1).get(2).fill_(f64::INFINITY);
    assert!(failed(&model, &infinite).contains("logit inf"));

    let without_rank = grid();
    let _ = without_rank.patched.rank.get(1).get(2).fill_(0);
    assert!(failed(&model, &without_rank).contains("rank 0 in the grid"));

    // The grid is complete, and the runs that check it are not.
    let whole = grid();
    let weight = model.decoder.final_norm.weight.as_mut().expect("a weight");
    *weight = weight.full_like(f64::NAN);
    let error = failed(&model, &whole);
    assert!(error.contains("logit NaN, rank 1 in a run of its own"), "{error}");
}

/// Logits that are not finite are an error that names their origin.
#[test]
fn what_is_not_finite_is_refused_at_its_cause() {
    let _guard = tch::no_grad_guard();
    // Unembedding and embedding are not tied, so damage to a row of one does not change the other.
    let mut model = double("qwen3");
    let mut request = request(Site::ResidPost, 0, &[1]);
    let failed = |model: &LanguageModel, request: &Request| {
        driver::compute(model, request, None, &mut |_| ()).expect_err("it is noticed").to_string()
    };
    let config = model.config();
    let mut vectors: Vec<_> = (0..config.n_layers).map(|_| model.decoder.embedding.get(1)).collect();
    vectors[1] = vectors[1].full_like(f64::INFINITY);
    request.origin = Origin::Vectors(std::rc::Rc::new(vectors));
    assert_eq!(failed(&model, &request), "the given vector holds infinity or NaN at layer 1");

    // Only a source has token 3, so the targets without it can be run.
    request.origin = Origin::Source(vec![vec![3, 4, 5, 6]]);
    request.targets = vec![vec![1, 2], vec![4, 5]];
    request.answers = vec![vec![5], vec![6]];
    let embedding = model.decoder.embedding.copy();
    let _ = model.decoder.embedding.get(3).fill_(f64::NAN);
    assert_eq!(failed(&model, &request), "the source of sample 0 holds infinity or NaN at layer 0");

    model.decoder.embedding = embedding;
    let _ = model.decoder.embedding.get(5).fill_(f64::NAN);
    request.origin = Origin::Source(vec![vec![3]]);
    assert_eq!(failed(&model, &request), "the logits of sample 1 are not finite without a patch");
}

/// Of few elements in large sets, only what is wanted is gone through.
#[test]
fn sets_of_all_elements_but_few_are_listed_at_once() {
    let elements: Vec<Element> = (0..45).map(|layer| Element { layer, head: None }).collect();
    assert_eq!(set::all(&elements, &[45]), std::slice::from_ref(&elements));
    assert_eq!(set::all(&elements, &[1, 44]).len(), 90);
    let few = &elements[..3];
    let names: Vec<String> = set::all(few, &[1, 2]).iter().map(|set| set::name(set)).collect();
    assert_eq!(names, ["0", "0+1", "0+2", "1", "1+2", "2"]);
}

/// Several items in one batch give the same as each alone.
#[test]
fn a_sweep_of_closures_equals_one_run_per_item() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    let script = r#"
        let model = load_model(path, #{ device: device, dtype: "f64" });
        let prompts = [[1, 2, 3, 4], [5, 6, 7, 8]];
        let hooks = |item| [
            [`blocks.${item}.hook_mlp_out`, |value| value * 0.5],
            add(`blocks.${item}.hook_attn_out`, -1, 0.1, #{ rows: [1] }),
            patch("blocks.0.attn.hook_z", 1, 0.3, #{ head: item }),
        ];
        let items = [0, 1, 2];
        let apart = items.map(|item| model.run_with_hooks(prompts, hooks.call(item)).select(1, -1));
        for batch in [1, 4, 100] {
            let seen = model.sweep(#{ target: prompts, over: items, hooks: hooks, batch: batch, metric: |logits| logits });
            for (item, place) in items { assert(allclose(seen[place], apart[place], #{ rtol: 0.0, atol: 1e-12 })); }
            let result = model.sweep(#{ target: prompts, over: items, hooks: hooks, batch: batch, answer: [9, 10] });
            for (item, place) in items {
                for (id, row) in [9, 10] {
                    let logits = apart[place][row];
                    assert((result.logit[place, row] - logits[id]).abs().item() < 1e-12);
                    assert_eq(result.rank[place, row].item(), (logits > logits[id]).sum().item() + 1);
                }
            }
        }
    "#;
    run_script(&mut session, script);
}

/// `patch_grid` patches in the vectors of `digest`, at every site.
#[test]
fn a_digest_stands_for_its_source() {
    let mut session = session();
    session.set_variable("path", tiny_path("olmo2").display().to_string().into());
    let script = r#"
        let model = load_model(path, #{ device: device, dtype: "f64" });
        let source = [3, 4, 5, 6];
        for site in ["resid_post", "attn_out", "mlp_out", "z"] {
            let asked = #{ target: [[1, 2, 3]], answer: [5], site: site, sizes: [1], store: false, quiet: true };
            let from_source = asked; from_source.source = source;
            let from_vectors = asked; from_vectors.vectors = model.digest(source, #{ site: site });
            assert_eq(model.patch_grid(from_vectors).logit, model.patch_grid(from_source).logit);
        }
        assert_eq(model.digest(source)[1], model.digest(source, #{ site: "resid_post" })[1]);
    "#;
    run_script(&mut session, script);
    let error = script_failure(&mut session, "model.digest([[1, 2], [3]])");
    assert!(error.contains("takes one source, not 2"), "{error}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(&mut session, "let model = load_model(path, #{ device: device });");
    for (options, message) in [
        ("#{ source: [1], target: [[1, 2]] }", "`patch_grid` needs `answer`"),
        ("#{ source: [1], target: [[1, 2], [3]], answer: [1] }", "2 targets and 1 answers"),
        ("#{ source: [1], target: [[1, 2]], answer: [1], position: 2 }", "position 2 is out of range for sample 0"),
        ("#{ source: [1], target: [[1, 2]], answer: [100000] }", "answer id 100000 is out of range"),
        ("#{ source: [], target: [[1, 2]], answer: [1] }", "empty"),
        ("#{ source: [1], target: [[1, 2]], answer: [1], sizes: [4] }", "some of 1, 2 and 3"),
        ("#{ source: [1], target: [[1, 2]], answer: [1], site: \"resid_pst\" }", "did you mean `resid_post`"),
        ("#{ source: [1], target: [[1, 2]], answer: [1], positon: 0 }", "did you mean `position`"),
        ("#{ source: [1], target: [[1, 2]], answer: [1], max_rank: 5 }", "goes with `rr: \"released\"`"),
        ("#{ source: [1], target: [[1, 99999]], answer: [1] }", "token id 99999 at position 1"),
        ("#{ source: [1], target: [[1, 2]], answer: [1], verify: -3 }", "-3 cells cannot"),
        ("#{ source: [1], target: [[1, 2]], answer: tensor([7.9]) }", "a tensor of token ids"),
    ] {
        let error = script_failure(&mut session, &format!("model.patch_grid({options})"));
        assert!(error.contains(message), "{options}: {error}");
    }
    for (options, message) in [
        ("#{ target: [1, 2], over: [0] , answer: [1] }", "`sweep` needs `hooks`"),
        ("#{ target: [1, 2], over: [0], hooks: |x| [] }", "`sweep` needs `answer` or `metric`"),
        ("#{ target: [1, 2], over: [0], hooks: |x| [zero(`blocks.9.hook_mlp_out`)], answer: [1] }", "no layer 9"),
        (
            "#{ target: [1, 2], over: [0], hooks: |x| [[\"blocks.0.hook_mlp_out\", |v| throw \"mine\"]], answer: [1] }",
            "mine",
        ),
    ] {
        let error = script_failure(&mut session, &format!("model.sweep({options})"));
        assert!(error.contains(message), "{options}: {error}");
    }
}
