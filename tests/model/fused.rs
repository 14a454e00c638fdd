//! Long texts, where attention is fused unless something looks at it: both ways give the same.

use lancet::model::config::PositionEmbedding;
use lancet::model::decoder::{Decoder, Logits};
use lancet::model::forward::Start;
use lancet::model::hook::{self, HookPoint};
use lancet::model::key_value::KeyValueCache;
use lancet::model::padding::{Batch, Side};
use lancet::model::run::{Action, Hooks};
use tch::{Kind, Tensor};

use crate::support::{TINY, load, max_difference, tiny_path};

const LENGTHS: [usize; 2] = [80, 67];

/// Hooks that look at every pattern, so that attention is not fused.
fn looking(decoder: &Decoder) -> Hooks<'static> {
    let points: Vec<HookPoint> = hook::matching("pattern", &decoder.config).unwrap();
    let mut hooks = Hooks::none();
    hooks.add(&decoder.config, points, "pattern", Action::Call(Box::new(|_, _| Ok(None))));
    hooks
}

fn rows(decoder: &Decoder) -> Vec<Vec<i64>> {
    let id = |row: usize, place: usize| ((row * 31 + place * 37 + 11) as i64) % decoder.config.d_vocab;
    LENGTHS.iter().enumerate().map(|(row, length)| (0..*length).map(|place| id(row, place)).collect()).collect()
}

#[test]
fn fused_attention_gives_what_the_patterns_give() {
    let _guard = tch::no_grad_guard();
    let mut compared = 0;
    for name in TINY {
        for (kind, allowed) in [(Kind::Float, 2e-5), (Kind::Double, 1e-10)] {
            let model = load(&tiny_path(name).display().to_string(), kind);
            let decoder = &model.decoder;
            if decoder.config.position_embedding == PositionEmbedding::Learned && decoder.config.n_ctx < 80 {
                continue;
            }
            let rows = rows(decoder);
            let near = |what: &str, ours: &Tensor, wanted: &Tensor| {
                let size = wanted.nan_to_num(0.0, 0.0, 0.0).abs().max().double_value(&[]);
                let difference = max_difference(&ours.nan_to_num(0.0, 0.0, 0.0), &wanted.nan_to_num(0.0, 0.0, 0.0));
                assert!(difference < allowed * (1.0 + size), "{name} {kind:?} {what}: {difference:e}");
            };
            for side in [None, Some(Side::Left), Some(Side::Right)] {
                let batch = match side {
                    None => Batch::from(decoder.tokens(&rows[..1]).unwrap()),
                    Some(_) => decoder.batch(&rows, side).unwrap(),
                };
                let fused = decoder.forward_batch(&batch, Logits::All, &mut Hooks::none()).unwrap();
                let wanted = decoder.forward_batch(&batch, Logits::All, &mut looking(decoder)).unwrap();
                near(&format!("{side:?}"), &fused, &wanted);
                assert_eq!(fused.isnan().any().int64_value(&[]) == 1, side.is_some());
            }
            // After positions seen before.
            let whole = decoder.tokens(&rows[..1]).unwrap();
            let mut cache = KeyValueCache::new(decoder);
            let layers = decoder.blocks.len();
            let start = whole.narrow(1, 0, 5);
            let _ = decoder.run_layers(Start::Tokens(&start), layers, &mut Hooks::none(), Some(&mut cache)).unwrap();
            let rest = whole.narrow(1, 5, 75);
            if !decoder.ropes.iter().any(|rope| rope.is_changed_between(5, 80)) {
                let fused = decoder.forward_cached(&rest, Logits::All, &mut Hooks::none(), &mut cache).unwrap();
                let wanted = decoder.forward(&whole, Logits::All, &mut looking(decoder)).unwrap();
                near("after a prefix", &fused, &wanted.narrow(1, 5, 75));
            }
            compared += 1;
        }
    }
    assert!(compared > 40, "only {compared}");
}
