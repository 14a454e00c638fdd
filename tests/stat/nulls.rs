//! How often tests reject where there is nothing to find. At a p-value up to 0.05, that may be at most one data set in
//! 20: over 20,000 data sets, a share of 0.055 is more than three standard errors beyond. The data are symmetric around
//! the null value, as the tests assume; medians alone suffice for the sign test, and exchangeability for two samples.

use lancet::error::Result;
use lancet::stat::probability::Alternative::{self, Greater, Less, TwoSided};
use lancet::stat::superadditivity::superadditivity;
use lancet::stat::{bootstrap, cluster, equivalence, generator, max_t, permutation, sign, superadditivity as pairs};
use lancet::stat::{ttest, wilcoxon};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

const DATA_SETS: usize = 20_000;
const LEVEL: f64 = 0.05;
const MOST: f64 = 0.055;

fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (random.r#gen(), random.r#gen());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

fn laplace(random: &mut ChaCha8Rng) -> f64 {
    let exponential = -(1.0 - random.r#gen::<f64>()).ln();
    if random.r#gen() { exponential } else { -exponential }
}

/// The standard deviation of sample `index`, from 0.3 to 5.
fn spread(index: usize) -> f64 {
    0.3 * (1 << (index % 5)) as f64
}

type Draw = fn(&mut ChaCha8Rng, usize) -> f64;

/// Symmetric around 0.
const SYMMETRIC: [(&str, Draw); 3] = [
    ("normal", |random, _| normal(random)),
    ("Laplace", |random, _| laplace(random)),
    ("normal of different spreads", |random, index| spread(index) * normal(random)),
];

fn sample(random: &mut ChaCha8Rng, n: usize, draw: Draw) -> Vec<f64> {
    (0..n).map(|index| draw(random, index)).collect()
}

/// Rows that share part of what each sample is.
fn correlated(random: &mut ChaCha8Rng, rows: usize, n: usize, draw: Draw) -> Vec<Vec<f64>> {
    let shared = sample(random, n, draw);
    let row = |row: usize| {
        let own = sample(random, n, draw);
        own.iter().zip(&shared).map(|(own, shared)| spread(row) * (own + shared)).collect()
    };
    (0..rows).map(row).collect()
}

/// Fails if too many of the p-values of data sets without an effect reject.
fn holds(test: &str, mut p_value: impl FnMut(&mut ChaCha8Rng) -> Result<f64>) {
    let mut random = generator(20_260_101);
    let rejected = (0..DATA_SETS).filter(|_| p_value(&mut random).unwrap() <= LEVEL).count();
    let share = rejected as f64 / DATA_SETS as f64;
    eprintln!("{test}: {share}");
    assert!(share <= MOST, "{test} rejects {share} of data sets without an effect");
}

fn over_symmetric(test: &str, p_value: impl Fn(&mut ChaCha8Rng, Draw, Alternative) -> Result<f64>) {
    for (name, draw) in SYMMETRIC {
        for alternative in [TwoSided, Greater, Less] {
            holds(&format!("{test} of {name}, {alternative:?}"), |random| p_value(random, draw, alternative));
        }
    }
}

#[test]
fn t_tests_hold_their_level() {
    over_symmetric("t-test", |random, draw, alternative| {
        Ok(ttest::one_sample(&sample(random, 15, draw), 0.0, alternative)?.p.value())
    });
    over_symmetric("t-test over clusters", |random, draw, alternative| {
        let clusters: Vec<usize> = (0..9).flat_map(|cluster| std::iter::repeat_n(cluster, cluster + 1)).collect();
        let of_cluster = sample(random, 9, draw);
        let values: Vec<f64> =
            clusters.iter().enumerate().map(|(index, cluster)| of_cluster[*cluster] + draw(random, index)).collect();
        Ok(cluster::ttest(&values, &clusters, alternative)?.test.p.value())
    });
}

#[test]
fn equivalence_is_seldom_found_at_the_end_of_the_margin() {
    for (name, draw) in SYMMETRIC {
        for (side, margin) in [(1.0, 3.0), (-1.0, 3.0), (1.0, 0.8)] {
            holds(&format!("tost of {name} at {side} of {margin}"), |random| {
                let values: Vec<f64> = sample(random, 15, draw).iter().map(|value| value + side * margin).collect();
                Ok(equivalence::tost(&values, margin, LEVEL)?.p.value())
            });
        }
    }
}

#[test]
fn tests_on_ranks_and_signs_hold_their_level() {
    over_symmetric("signed-rank test", |random, draw, alternative| {
        let settings = wilcoxon::Settings { alternative, ..wilcoxon::Settings::default() };
        Ok(wilcoxon::wilcoxon(&sample(random, 15, draw), settings)?.p.value())
    });
    over_symmetric("sign test", |random, draw, alternative| {
        // Skewed, with a median of 0.
        let skewed: Vec<f64> = sample(random, 25, draw).into_iter().map(f64::exp_m1).collect();
        Ok(sign::sign_test(&skewed, 0.0, alternative)?.p.value())
    });
}

#[test]
fn permutations_hold_their_level() {
    over_symmetric("paired permutation test", |random, draw, alternative| {
        let settings = permutation::Settings { n_resamples: 199, seed: random.r#gen(), paired: true, alternative };
        Ok(permutation::permutation_test(&sample(random, 12, draw), &[0.0; 12], settings)?.p.value())
    });
    holds("permutation test of exponential samples", |random| {
        let [a, b] = [7, 12].map(|n| sample(random, n, |random, _| laplace(random).abs()));
        let settings = permutation::Settings { n_resamples: 199, seed: random.r#gen(), ..Default::default() };
        Ok(permutation::permutation_test(&a, &b, settings)?.p.value())
    });
}

#[test]
fn any_of_several_hypotheses_is_seldom_rejected() {
    let least = |p_values: &[f64]| p_values.iter().copied().fold(1.0, f64::min);
    over_symmetric("max_t", |random, draw, alternative| {
        let rows = correlated(random, 6, 12, draw);
        let settings = max_t::Settings { permutations: 99, seed: random.r#gen(), alternative };
        Ok(least(&max_t::max_t(&rows, settings)?.single_step))
    });
    // Some hypotheses are false, and only the step-down p-values of the others count.
    over_symmetric("max_t beside effects", |random, draw, alternative| {
        let mut rows = correlated(random, 6, 12, draw);
        let effect = if alternative == Less { -40.0 } else { 40.0 };
        rows[..3].iter_mut().flatten().for_each(|value| *value += effect);
        let settings = max_t::Settings { permutations: 99, seed: random.r#gen(), alternative };
        Ok(least(&max_t::max_t(&rows, settings)?.step_down[3..]))
    });
    let sets: Vec<Vec<i64>> = vec![vec![0], vec![1], vec![2], vec![0, 1], vec![0, 2], vec![1, 2]];
    for (name, draw) in SYMMETRIC {
        for test in ["sign", "wilcoxon", "ttest"] {
            holds(&format!("superadditivity's {test} of {name}"), |random| {
                let mut effects = correlated(random, 3, 30, draw);
                let noise = correlated(random, 3, 30, draw);
                for (pair, noise) in [[0, 1], [0, 2], [1, 2]].iter().zip(noise) {
                    let sum = |sample: usize| effects[pair[0]][sample] + effects[pair[1]][sample] + noise[sample];
                    effects.push((0..30).map(sum).collect());
                }
                let bootstrap = bootstrap::Settings { n_resamples: 2, ..bootstrap::Settings::default() };
                let settings = pairs::Settings { bootstrap, ..pairs::Settings::default() };
                let found = superadditivity(&sets, &effects, &settings)?;
                let holm = |pair: &pairs::Pair| match test {
                    "sign" => pair.sign.1.holm.value(),
                    "wilcoxon" => pair.wilcoxon.1.holm.value(),
                    _ => pair.ttest.1.holm.value(),
                };
                Ok(least(&found.iter().map(holm).collect::<Vec<_>>()))
            });
        }
    }
}
