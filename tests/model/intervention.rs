//! Interventions against the same change by masks, at every kind of selection, and their errors.

use crate::support::{
    assert_contains, capture_all, changing, failure, logits_with, max_difference, run_script, script_failure, session,
    some_tokens, tiny, tiny_path,
};
use lancet::model::decoder::Logits;
use lancet::model::hook::{self, HookPoint};
use lancet::model::intervention::{At, Change, Intervention};
use lancet::model::language_model::LanguageModel;
use lancet::model::run::Hooks;
use lancet::model::window::Window;
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 3;
const LENGTH: i64 = 6;

/// Which samples, positions and heads.
struct Selection {
    positions: At,
    rows: Option<Vec<i64>>,
    head: Option<i64>,
}

impl Selection {
    fn of(positions: At, rows: Option<Vec<i64>>, head: Option<i64>) -> Self {
        Self { positions, rows, head }
    }

    /// The selected positions counted from the first.
    fn places(&self) -> Vec<i64> {
        let from_first = |position: &i64| if *position < 0 { position + LENGTH } else { *position };
        match &self.positions {
            At::All => (0..LENGTH).collect(),
            At::One(position) => vec![from_first(position)],
            At::Several(positions) => positions.iter().map(from_first).collect(),
        }
    }

    fn samples(&self) -> Vec<i64> {
        let from_first = |row: &i64| if *row < 0 { row + BATCH } else { *row };
        self.rows.as_ref().map_or((0..BATCH).collect(), |rows| rows.iter().map(from_first).collect())
    }

    /// True where an activation of the shape of `value` is selected.
    fn mask(&self, point: HookPoint, value: &Tensor) -> Tensor {
        let among = |dim: i64, chosen: &[i64]| {
            let size = value.size()[dim as usize];
            let mut shape = vec![1; value.dim()];
            shape[dim as usize] = size;
            let flags: Vec<bool> = (0..size).map(|index| chosen.contains(&index)).collect();
            Tensor::from_slice(&flags).reshape(&shape).to_device(value.device())
        };
        let mut mask =
            among(point.site.position_dim(value.dim()), &self.places()).logical_and(&among(0, &self.samples()));
        if let (Some(head), Some(dim)) = (self.head, point.site.head_dim(value.dim())) {
            let size = value.size()[dim as usize];
            mask = mask.logical_and(&among(dim, &[if head < 0 { head + size } else { head }]));
        }
        mask.expand_as(value)
    }

    /// The selected part of `value`, in an intervention's shape.
    fn part(&self, point: HookPoint, value: &Tensor) -> Tensor {
        let mut part = value.index_select(0, &Tensor::from_slice(&self.samples()).to_device(value.device()));
        let mut head_dim = point.site.head_dim(value.dim());
        let mut position_dim = point.site.position_dim(value.dim());
        if let (Some(head), Some(dim)) = (self.head, head_dim.take()) {
            part = part.select(dim, head);
            position_dim -= i64::from(dim < position_dim);
        }
        match self.positions {
            At::All => part,
            At::One(_) => part.select(position_dim, self.places()[0]),
            At::Several(_) => {
                part.index_select(position_dim, &Tensor::from_slice(&self.places()).to_device(value.device()))
            }
        }
    }
}

/// Every kind of selection; heads only if there are any.
fn selections(heads: Option<i64>) -> Vec<Selection> {
    let positions = [
        At::All,
        At::One(2),
        At::One(0),
        At::One(-1),
        At::One(-LENGTH),
        At::Several(vec![4, 1]),
        At::Several(vec![-1, 0, 3]),
        At::Several((1..4).collect()),
    ];
    let rows = [None, Some(vec![0]), Some(vec![2, 0]), Some(vec![-1])];
    let heads = heads.map_or(vec![None], |count| vec![None, Some(0), Some(count - 1), Some(-1)]);
    let mut all = Vec::new();
    for positions in &positions {
        for rows in &rows {
            all.extend(heads.iter().map(|head| Selection::of(positions.clone(), rows.clone(), *head)));
        }
    }
    all
}

/// Values that differ everywhere.
fn values_like(value: &Tensor) -> Tensor {
    let ramp = Tensor::arange(value.numel() as i64, (Kind::Float, value.device())).view_as(value);
    (ramp * 0.37).sin()
}

fn intervened(model: &LanguageModel, tokens: &Tensor, intervention: Intervention) -> Tensor {
    let mut hooks = Hooks::none();
    hooks.intervene(model.config(), intervention);
    logits_with(model, tokens, hooks)
}

/// Every change at every selection of `sites` gives the same as the mask.
fn check(name: &str, sites: &[&str]) {
    let model = tiny(name);
    let tokens = some_tokens(&model, BATCH, LENGTH);
    let (clean, cache) = capture_all(&model, &tokens);
    for site in sites {
        let point = hook::parse(&format!("{site}.1"), model.config()).unwrap();
        let activation = cache.get(point).unwrap();
        let (values, untouched) = (values_like(activation), activation.copy());
        let heads = point.site.head_dim(activation.dim()).map(|dim| activation.size()[dim as usize]);
        for (number, selection) in selections(heads).into_iter().enumerate() {
            let mask = selection.mask(point, activation);
            let part = selection.part(point, &values);
            let changes: [(Change, Tensor); 4] = [
                (Change::Patch(part.copy()), values.copy()),
                (Change::Zero, activation.zeros_like()),
                (Change::Add(part), activation + &values),
                (Change::Scale(-0.5), activation * -0.5),
            ];
            for (change, whole) in changes {
                let Selection { positions, rows, head } = &selection;
                let what = format!("{name} {site} {change:?} {positions:?} {rows:?} {head:?}");
                let wanted = whole.where_self(&mask, activation);
                // The first position attends only to itself, for any query.
                let idle = match &change {
                    Change::Add(_) => matches!(*site, "q" | "attn_scores"),
                    _ => *site == "q",
                } && selection.places() == [0];
                // Minus infinity times a negative number would be infinity.
                let runs = number % 5 == 0 && !(*site == "attn_scores" && matches!(change, Change::Scale(_)));
                let (positions, rows, head) = (positions.clone(), rows.clone(), *head);
                let intervention = Intervention { point, positions, rows, head, change };
                let window = Window { start: 0, length: LENGTH, prompt: LENGTH };
                let ours = intervention.apply(activation, window).unwrap().expect("it touches something");
                assert_eq!(max_difference(&ours, &wanted), 0.0, "{what}");
                if runs {
                    let whole = logits_with(&model, &tokens, changing(&model, vec![point], |_| wanted.copy()));
                    let ours = intervened(&model, &tokens, intervention);
                    assert_eq!(max_difference(&ours, &whole), 0.0, "{what}: logits");
                    assert_eq!(max_difference(&ours, &clean) > 0.0, !idle, "{what}: effect");
                }
            }
        }
        assert_eq!(activation, &untouched, "what an intervention is given stays as it was");
    }
}

#[test]
fn residual_hooks_change_where_they_should() {
    check("olmo2", &["resid_post", "mlp_out", "mlp.hook_post"]);
}

#[test]
fn single_heads_change_where_they_should() {
    // Two heads of keys and values for four of queries.
    check("llama3", &["q", "k", "v", "z"]);
}

#[test]
fn patterns_and_scores_change_by_query_position_and_head() {
    check("gpt2", &["pattern", "attn_scores"]);
}

#[test]
fn values_broadcast() {
    let model = tiny("qwen3");
    let tokens = some_tokens(&model, BATCH, LENGTH);
    let point = hook::parse("resid_post.0", model.config()).unwrap();
    let d_model = model.config().d_model;
    let vector = values_like(&Tensor::zeros([d_model], (Kind::Float, Device::Cpu)));
    let wanted = logits_with(&model, &tokens, changing(&model, vec![point], |value| vector.expand_as(value)));
    let shapes: &[&[i64]] =
        &[&[d_model], &[1, d_model], &[LENGTH, d_model], &[1, LENGTH, d_model], &[BATCH, 1, d_model]];
    for shape in shapes {
        let value = vector.expand(*shape, false);
        for positions in [At::All, At::Several((0..LENGTH).collect())] {
            let change = Change::Patch(value.shallow_clone());
            let ours = intervened(&model, &tokens, Intervention { point, positions, rows: None, head: None, change });
            assert_eq!(ours, wanted, "{shape:?}");
        }
    }
    // A value in another dtype is converted to the model's.
    let change = Change::Patch(vector.to_kind(Kind::Double));
    let whole = Intervention { point, positions: At::All, rows: None, head: None, change };
    assert_eq!(intervened(&model, &tokens, whole), wanted);
}

#[test]
fn what_does_not_fit_is_refused_with_both_sides() {
    let model = tiny("llama3");
    let tokens = some_tokens(&model, BATCH, LENGTH);
    let refuse = |site: &str, positions: At, rows: Option<Vec<i64>>, head: Option<i64>, change: Change| {
        let point = hook::parse(&format!("{site}.1"), model.config()).unwrap();
        let mut hooks = Hooks::none();
        hooks.intervene(model.config(), Intervention { point, positions, rows, head, change });
        let message =
            failure(model.decoder.forward(&tokens, Logits::All, &mut hooks).map(|_| hooks.finish()).and_then(|x| x));
        assert_contains(&message, &[&format!("`{}`", point.name())]);
        message
    };
    let one = At::One;
    let floats = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let cases: Vec<(String, &[&str])> = vec![
        (refuse("resid_post", one(6), None, None, Change::Zero), &["position 6", "there are 6", "0 to 5"]),
        (refuse("resid_post", one(-7), None, None, Change::Zero), &["position -7", "-1 to -6"]),
        (refuse("resid_post", one(i64::MIN), None, None, Change::Zero), &["-9223372036854775808"]),
        (refuse("pattern", one(i64::MAX), None, None, Change::Zero), &["9223372036854775807"]),
        (refuse("resid_post", At::Several(vec![0, 9]), None, None, Change::Scale(2.0)), &["position 9", "0 to 5"]),
        (refuse("resid_post", At::Several(vec![]), None, None, Change::Zero), &["never ran"]),
        (refuse("resid_post", At::All, Some(vec![3]), None, Change::Zero), &["sample 3", "there are 3", "0 to 2"]),
        (refuse("resid_post", At::All, Some(vec![]), None, Change::Zero), &["never ran"]),
        (refuse("z", At::All, None, Some(4), Change::Zero), &["head 4", "there are 4"]),
        (refuse("k", At::All, None, Some(2), Change::Zero), &["head 2", "there are 2"]),
        (refuse("resid_post", At::All, None, Some(0), Change::Zero), &["has no heads", "pattern"]),
        (refuse("resid_post", one(0), None, None, Change::Patch(floats(&[31]))), &["patch", "[31]", "[3, 32]"]),
        (refuse("resid_post", At::All, None, None, Change::Add(floats(&[2, 32]))), &["add", "[2, 32]", "[3, 6, 32]"]),
        (refuse("z", one(1), None, Some(1), Change::Patch(floats(&[4, 16]))), &["[4, 16]", "[3, 16]"]),
        (
            refuse("resid_post", At::Several(vec![0, 1]), Some(vec![1]), None, Change::Patch(floats(&[3, 32]))),
            &["[3, 32]", "[1, 2, 32]"],
        ),
    ];
    for (message, parts) in cases {
        assert_contains(&message, parts);
    }
}

#[test]
fn scripts_say_positions_in_many_ways() {
    let mut session = session();
    session.set_variable("path", tiny_path("olmo2").display().to_string().into());
    let setup = r#"
        let model = load_model(path, #{ device: device });
        let ids = [[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]];
        let clean = model.forward(ids);
        // The logits after the listed positions of the first MLP's output are set to zero by a closure.
        let by_closure = |model, ids, places| model.run_with_hooks(ids, [["blocks.0.hook_mlp_out", |x| {
            for place in places { x[:, place] = 0.0; }
            x
        }]]);
    "#;
    run_script(&mut session, setup);
    for (position, places) in [
        ("2", "[2]"),
        ("-1", "[4]"),
        ("[0, -2]", "[0, 3]"),
        ("1..3", "[1, 2]"),
        ("1..=3", "[1, 2, 3]"),
        ("-2..0", "[3, 4]"),
        ("\"all\"", "[0, 1, 2, 3, 4]"),
        ("()", "[0, 1, 2, 3, 4]"),
        ("\"first\"", "[0]"),
        ("\"last\"", "[4]"),
        ("\"query\"", "[3]"),
        ("\"words\"", "[1, 2]"),
    ] {
        let script = format!(
            r#"
            let named = #{{ positions: #{{ query: 3, words: 1..3 }} }};
            let ours = model.run_with_hooks(ids, [zero("mlp_out.0", {position})], named);
            let wanted = by_closure.call(model, ids, {places});
            assert((ours - wanted).abs().max().item() == 0.0, "differs");
            assert((ours - clean).abs().max().item() > 0.001, "no effect");
            "#
        );
        run_script(&mut session, &script);
    }
    run_script(
        &mut session,
        r#"
        let all = model.run_with_hooks(ids, [zero("blocks.*.hook_mlp_out")]);
        let each = [];
        for layer in 0..4 { each.push(zero(`mlp_out.${layer}`)); }
        assert((all - model.run_with_hooks(ids, each)).abs().max().item() == 0.0, "a pattern means all that match");
    "#,
    );
    for (script, parts) in [
        (r#"model.run_with_hooks(ids, [zero("mlp_out.0", "lasst")])"#, &["`lasst`", "did you mean `last`"][..]),
        (
            r#"model.run_with_hooks(ids, [zero("mlp_out.0", "T")], #{ positions: #{ T: 7 } })"#,
            &["position 7", "0 to 4"],
        ),
        (r#"model.run_with_hooks(ids, [zero("mlp_out.0", 1.5)])"#, &["position must be", "not float"]),
        (r#"model.run_with_hooks(ids, [zero("mlp_out.0", [1, 2.0])])"#, &["an integer, not float"]),
        (r#"model.run_with_hooks(ids, [zero("mlp_out.0", 0..1000000000000)])"#, &["1000000000000"]),
        (r#"model.run_with_hooks(ids, [zero("mlp_out.0", 3..1)])"#, &["never ran"]),
        (r#"zero("mlp_out.0", 0, #{ row: [0] })"#, &["no option `row`", "did you mean `rows`"]),
        (r#"patch("mlp_out.0", 0, "x")"#, &["`patch` must be a tensor or a number, not string"]),
    ] {
        assert_contains(&script_failure(&mut session, script), parts);
    }
}
