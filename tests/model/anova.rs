//! The shares of variance of a grid's sets, against sums over all of them.

use lancet::grid::anova::{Anova, Settings, anova};
use lancet::grid::metric::{Asked, Metric};
use lancet::grid::outcome::Grid;
use lancet::grid::request::Sizes;
use lancet::grid::set::{self, Set};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::made_grid::{layers, made_grid};
use crate::support::{run_script, script_failure, session, tiny_path};

const PLACES: usize = 7;
const SETTINGS: Settings = Settings { order: 3, resamples: 200, level: 0.95, seed: 1 };

fn mask(set: &Set) -> usize {
    set.iter().map(|element| 1 << element.layer).sum()
}

/// Two samples' values at all sets: strong single places, some pairs and noise of all orders.
fn values() -> Vec<Vec<f64>> {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    (0..2)
        .map(|_| {
            let single: Vec<f64> = (0..PLACES).map(|_| random.gen_range(-1.0..1.0)).collect();
            let pair: f64 = random.gen_range(0.5..1.5);
            (0..1 << PLACES)
                .map(|set: usize| {
                    let has = |place: usize| f64::from((set >> place & 1) as u8);
                    let sum: f64 = single.iter().enumerate().map(|(place, value)| value * has(place)).sum();
                    5.0 + sum + pair * has(0) * has(3) - has(1) * has(2) * has(5) + random.gen_range(-0.3..0.3)
                })
                .collect()
        })
        .collect()
}

/// The variance of each order, by the definition: the sum of squared coefficients over all sets of that size.
fn orders(values: &[f64]) -> Vec<f64> {
    let mut found = vec![0.0; PLACES + 1];
    for set in 0..values.len() {
        let walsh = |other: usize| if (set & other).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
        let coefficient: f64 = values.iter().enumerate().map(|(other, value)| walsh(other) * value).sum();
        found[set.count_ones() as usize] += (coefficient / values.len() as f64).powi(2);
    }
    found
}

fn expected() -> Vec<f64> {
    let samples: Vec<Vec<f64>> = values().iter().map(|values| orders(values)).collect();
    let of_order = |order: usize| samples.iter().map(|orders| orders[order]).sum::<f64>();
    let total: f64 = (1..=PLACES).map(of_order).sum();
    (1..=PLACES).map(|order| of_order(order) / total).collect()
}

fn shares(grid: &Grid, settings: Settings) -> Anova {
    anova(grid, Asked::plain(Metric::Logit), settings).unwrap_or_else(|error| panic!("{error}"))
}

fn random(subsets: usize, seed: u64) -> Grid {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let elements = layers(PLACES as i64);
    let draw = |random: &mut ChaCha8Rng| -> Set { elements.iter().copied().filter(|_| random.gen_bool(0.5)).collect() };
    let sets: Vec<Set> = (0..subsets).map(|_| draw(&mut random)).collect();
    let values = values();
    made_grid(elements, sets, Sizes::Random { subsets, seed }, 2, |set, sample| values[sample][mask(set)])
}

#[test]
fn all_sets_give_the_shares_of_the_definition() {
    let elements = layers(PLACES as i64);
    let sizes: Vec<usize> = (1..=PLACES).collect();
    let values = values();
    let grid = made_grid(elements.clone(), set::all(&elements, &sizes), Sizes::Of(sizes), 2, |set, sample| {
        values[sample][mask(set)]
    });
    let found = shares(&grid, Settings { order: PLACES, ..SETTINGS });
    assert!(found.is_exact);
    for (ours, expected) in found.share.iter().zip(expected()) {
        assert!((ours - expected).abs() < 1e-12, "{ours} {expected}");
    }
    assert!(found.share[PLACES].abs() < 1e-12, "nothing is above the highest order");
    let variance = orders(&values[1])[1..].iter().sum::<f64>();
    assert!((found.variance.double_value(&[1]) - variance).abs() < 1e-12);
    let few = shares(&grid, SETTINGS);
    assert!((few.share[3] - expected()[3..].iter().sum::<f64>()).abs() < 1e-12, "the rest is what lies above");
    let means: Vec<bool> =
        few.share.iter().zip(&few.interval).map(|(share, (low, high))| low <= share && share <= high).collect();
    assert_eq!(means, [true; 4]);
}

/// Over many draws the estimates have the exact variances as their mean.
#[test]
fn random_sets_estimate_without_bias() {
    let (draws, subsets) = (400, 24);
    let exact: Vec<f64> = orders(&values()[0]);
    let mut sums = [(0.0, 0.0); 4];
    for seed in 0..draws {
        let found = shares(&random(subsets, seed), Settings { resamples: 1, ..SETTINGS });
        let total = found.variance.mean(None).double_value(&[]) * 2.0;
        for (sum, value) in sums.iter_mut().zip(found.share.iter().take(3).map(|share| share * total).chain([total])) {
            *sum = (sum.0 + value, sum.1 + value * value);
        }
    }
    let other = orders(&values()[1]);
    let both = |order: usize| exact[order] + other[order];
    let all: f64 = (1..=PLACES).map(both).sum();
    let truth = [both(1), both(2), both(3), all];
    for ((sum, squares), truth) in sums.iter().zip(truth) {
        let n = draws as f64;
        let mean = sum / n;
        let error = ((squares / n - mean * mean) / n).sqrt();
        assert!((mean - truth).abs() < 4.0 * error, "{mean} +- {error}, {truth}");
        assert!(error < 0.05 * all, "the estimate says something: {error} of {all}");
    }
}

#[test]
fn intervals_of_random_sets_hold_the_shares() {
    let expected = expected();
    let mut held = [0; 3];
    for seed in 0..60 {
        let found = shares(&random(200, seed), SETTINGS);
        assert!(!found.is_exact);
        for (order, held) in held.iter_mut().enumerate() {
            let (low, high) = found.interval[order];
            *held += usize::from(low <= expected[order] && expected[order] <= high);
        }
    }
    assert!(held.iter().all(|held| *held >= 50), "{held:?} of 60");
}

#[test]
fn a_grid_of_random_sets_is_that_of_single_runs() {
    let mut session = session();
    session.set_variable("path", tiny_path("olmo2").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device, dtype: "f64" });
        let request = #{ source: [3, 4, 5], target: [[1, 2, 3], [7, 8]], answer: [5, 6], quiet: true, store: false };
        for site in ["resid_post", "z"] {
            for position in [0, -1] {
                let grid = model.patch_grid(request + #{ site: site, position: position, sizes: "random", subsets: 40,
                    seed: 7, verify: 80 });
                assert_eq(grid.sets.len(), 40);
                assert(grid.verified.max_logit_difference < 1e-12 && grid.verified.rank_differences == 0);
                assert_eq(model.patch_grid(request + #{ site: site, position: position, sizes: "random", subsets: 40,
                    seed: 7 }).sets, grid.sets);
                assert(model.patch_grid(request + #{ site: site, sizes: "random", subsets: 40, seed: 8 }).sets != grid.sets);
                let found = grid.anova(#{ metric: "logit", order: 2, n_resamples: 20 });
                assert(found.orders == [1, 2] && !found.exact && found.variance.shape == [2]);
                let sum = found.share.reduce(|sum, share| sum + share, 0.0) + found.rest.share;
                assert(abs(sum - 1.0) < 1e-12);
            }
        }
        let chosen = model.patch_grid(request + #{ elements: [0, 1] }).anova(#{ order: 2, metric: "logit" });
        assert(chosen.exact && abs(chosen.rest.share) < 1e-12);
        "#,
    );
    for (script, message) in [
        ("model.patch_grid(request + #{ sizes: \"random\" })", "needs `subsets`"),
        ("model.patch_grid(request + #{ sizes: \"rand\", subsets: 3 })", "rand"),
        ("model.patch_grid(request + #{ subsets: 3 })", "goes with `sizes: \"random\"`"),
        ("model.patch_grid(request + #{ sizes: \"random\", subsets: 0 })", "at least 1"),
        ("model.patch_grid(request + #{ seed: 3 })", "`seed` of `patch_grid` goes with"),
        ("model.patch_grid(request + #{ sizes: [1] }).anova(#{ order: 1 })", "random sets, or all sets"),
        ("model.patch_grid(request + #{ sizes: \"random\", subsets: 3 }).anova(#{ order: 1 })", "has 3 sets"),
        ("model.patch_grid(request + #{ sizes: \"random\", subsets: 9 }).anova(#{ order: 9 })", "no order 9"),
        ("model.patch_grid(request + #{ sizes: \"random\", subsets: 9 }).anova(#{ level: 2.0, order: 1 })", "level"),
        (
            "model.patch_grid(request + #{ sizes: \"random\", subsets: 9 }).anova(#{ n_resamples: 10000000000000, order: 1 })",
            "at most 1000000 resamples",
        ),
        ("model.patch_grid(request + #{ site: \"z\", sizes: \"random\", subsets: 9000000000 })", "too many to hold"),
    ] {
        let error = script_failure(&mut session, script);
        assert!(error.contains(message), "{script}: {error}");
    }
}
