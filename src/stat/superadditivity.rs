//! Whether two layers patched together do more than both alone: the interaction `f(i, j) - f(i) - f(j)` per sample.

use std::collections::{BTreeMap, HashMap, HashSet};

use rand::seq::SliceRandom;

use super::bootstrap::{self, Interval};
use super::correction::{Scale, benjamini_hochberg, holm};
use super::probability::{Alternative, Probability, choice};
use super::sign::{SignTest, sign_test};
use super::ttest::{self, TTest};
use super::wilcoxon::{self, Wilcoxon};
use super::{check_sample, generator};
use crate::error::{Error, Result};
use crate::interrupt;

/// The criterion to rank pairs by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RankBy {
    /// The mean effect of the pair.
    #[default]
    Effect,
    /// The mean interaction.
    Interaction,
}

impl RankBy {
    /// The criterion of that name.
    ///
    /// # Errors
    /// An unknown name.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match choice("rank_by", name, &["effect", "interaction"])? {
            0 => Self::Effect,
            _ => Self::Interaction,
        })
    }
}

/// The settings of an analysis.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The settings of the intervals; their seed is also the seed of the split.
    pub bootstrap: bootstrap::Settings,
    /// Whether to rank pairs on one half of the samples and test them on the other.
    pub split: bool,
    /// The criterion to rank pairs by.
    pub rank_by: RankBy,
    /// Whether a single layer counts as a pair with itself, as in the paper's grids.
    pub diagonal: bool,
    /// The number of reported pairs, the highest first; all if not given. Corrections always count all pairs.
    pub top: Option<usize>,
    /// Pairs to leave out, because the patching itself determines their interaction.
    pub null_sets: Vec<Vec<i64>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bootstrap: bootstrap::Settings::default(),
            split: true,
            rank_by: RankBy::default(),
            diagonal: false,
            top: None,
            null_sets: Vec::new(),
        }
    }
}

/// A p-value with its corrections for all tested pairs.
#[derive(Debug, Clone, Copy)]
pub struct Corrected {
    /// Without correction.
    pub p: Probability,
    /// Corrected by Holm's method.
    pub holm: Probability,
    /// Corrected by Benjamini and Hochberg's.
    pub benjamini_hochberg: Probability,
}

/// The results for one pair on its test samples.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The two layers.
    pub layers: [i64; 2],
    /// The mean effect of patching both.
    pub mean_effect: f64,
    /// The mean interaction with its interval.
    pub interval: Interval,
    /// The number of test samples.
    pub n: usize,
    /// The share of samples with a positive interaction.
    pub share_positive: f64,
    /// The exact sign test of the interaction.
    pub sign: (SignTest, Corrected),
    /// The signed-rank test of the interaction.
    pub wilcoxon: (Wilcoxon, Corrected),
    /// The t-test of the interaction against 0. If t is undefined, its p-value is 1.
    pub ttest: (TTest, Corrected),
    /// The paper's t-test of the booleans `f(i, j) >= f(i) + f(j)`.
    pub paper: TTest,
    /// The number of these booleans that are true.
    pub k: usize,
}

/// One pair's layers, effects and interactions, sample by sample.
struct Cell {
    layers: [i64; 2],
    effects: Vec<f64>,
    interactions: Vec<f64>,
    /// Whether the pair's effect is at least the sum of both layers alone.
    at_least: Vec<f64>,
}

/// Tests the interaction of every pair. `effects` has a row for each set of one or two layers, with a number per
/// sample.
///
/// # Errors
/// Sets and effects that do not match, a pair without its single layers, too few samples, or numbers that are not
/// finite.
pub fn superadditivity(sets: &[Vec<i64>], effects: &[Vec<f64>], settings: &Settings) -> Result<Vec<Pair>> {
    let n = check(sets, effects, settings)?;
    let cells = cells(sets, effects, settings)?;
    let (ranking, testing) = if settings.split {
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut generator(settings.bootstrap.seed));
        let testing = order.split_off(n / 2);
        (order, testing)
    } else {
        ((0..n).collect(), (0..n).collect())
    };
    let mean_of = |values: &[f64], samples: &[usize]| -> f64 {
        samples.iter().map(|sample| values[*sample]).sum::<f64>() / samples.len() as f64
    };
    let score = |cell: &Cell| match settings.rank_by {
        RankBy::Effect => mean_of(&cell.effects, &ranking),
        RankBy::Interaction => mean_of(&cell.interactions, &ranking),
    };
    let tested = cells.iter().map(|cell| Tested::new(cell, &testing)).collect::<Result<Vec<_>>>()?;
    let signs = corrected(tested.iter().map(|cell| cell.sign.p))?;
    let wilcoxons = corrected(tested.iter().map(|cell| cell.wilcoxon.p))?;
    let ttests = corrected(tested.iter().map(|cell| cell.ttest.p))?;

    let mut order: Vec<usize> = (0..cells.len()).collect();
    let scores: Vec<f64> = cells.iter().map(score).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order.truncate(settings.top.unwrap_or(order.len()));
    let samples: Vec<Vec<f64>> = order.iter().map(|index| tested[*index].interactions.clone()).collect();
    let intervals = bootstrap::means(&samples, settings.bootstrap)?;
    let report = |(index, interval): (usize, Interval)| {
        let (cell, tested) = (&cells[index], &tested[index]);
        let positive = tested.interactions.iter().filter(|value| **value > 0.0).count();
        Pair {
            layers: cell.layers,
            mean_effect: mean_of(&cell.effects, &testing),
            interval,
            n: testing.len(),
            share_positive: positive as f64 / testing.len() as f64,
            sign: (tested.sign, signs[index]),
            wilcoxon: (tested.wilcoxon, wilcoxons[index]),
            ttest: (tested.ttest, ttests[index]),
            paper: tested.paper,
            k: tested.k,
        }
    };
    Ok(order.into_iter().zip(intervals).map(report).collect())
}

/// The test results for one pair.
struct Tested {
    interactions: Vec<f64>,
    sign: SignTest,
    wilcoxon: Wilcoxon,
    ttest: TTest,
    paper: TTest,
    k: usize,
}

impl Tested {
    fn new(cell: &Cell, samples: &[usize]) -> Result<Self> {
        interrupt::check()?;
        let take = |values: &[f64]| -> Vec<f64> { samples.iter().map(|sample| values[*sample]).collect() };
        let interactions = take(&cell.interactions);
        let at_least = take(&cell.at_least);
        let mut ttest = ttest::one_sample(&interactions, 0.0, Alternative::TwoSided)?;
        if ttest.t.is_nan() {
            ttest.p = Probability::new(1.0);
        }
        let mut wilcoxon = wilcoxon::wilcoxon(&interactions, wilcoxon::Settings::default())?;
        if wilcoxon.p.value().is_nan() {
            wilcoxon.p = Probability::new(1.0);
        }
        Ok(Self {
            sign: sign_test(&interactions, 0.0, Alternative::TwoSided)?,
            wilcoxon,
            ttest,
            paper: ttest::paper(&at_least)?,
            k: at_least.iter().filter(|value| **value == 1.0).count(),
            interactions,
        })
    }
}

/// The number of samples.
fn check(sets: &[Vec<i64>], effects: &[Vec<f64>], settings: &Settings) -> Result<usize> {
    if sets.len() != effects.len() {
        return Err(Error::new(format!("there are {} sets but effects of {}", sets.len(), effects.len()))
            .hint("`effects` has one row for each set and one column for each sample"));
    }
    let n = effects.first().map_or(0, Vec::len);
    let least = if settings.split { 4 } else { 2 };
    for (set, row) in sets.iter().zip(effects) {
        check_sample(&format!("the effects of {set:?}"), row, 1)?;
        if row.len() != n {
            return Err(Error::new(format!("the effects of {set:?} are for {} samples, not {n}", row.len())));
        }
    }
    if n < least {
        let error = Error::new(format!("`superadditivity` needs at least {least} samples, not {n}"));
        return Err(if n < 2 { error } else { error.hint("`split: false` ranks and tests on the same samples") });
    }
    Ok(n)
}

/// A set as a pair of layers; a single layer counts twice.
fn pair(set: &[i64]) -> Result<[i64; 2]> {
    match *set {
        [layer] => Ok([layer, layer]),
        [first, second] => Ok([first.min(second), first.max(second)]),
        _ => Err(Error::new(format!("{set:?} is not a set of one or two layers"))),
    }
}

fn cells(sets: &[Vec<i64>], effects: &[Vec<f64>], settings: &Settings) -> Result<Vec<Cell>> {
    let mut rows: BTreeMap<[i64; 2], &Vec<f64>> = BTreeMap::new();
    for (set, row) in sets.iter().zip(effects) {
        if rows.insert(pair(set)?, row).is_some() {
            return Err(Error::new(format!("the set {set:?} appears twice")));
        }
    }
    let singles: HashMap<i64, &Vec<f64>> =
        rows.iter().filter(|([a, b], _)| a == b).map(|([layer, _], row)| (*layer, *row)).collect();
    let null = settings.null_sets.iter().map(|set| pair(set)).collect::<Result<HashSet<_>>>()?;
    let mut cells = Vec::new();
    for (layers, row) in rows {
        let [first, second] = layers;
        if null.contains(&layers) || (first == second && !settings.diagonal) {
            continue;
        }
        let single = |layer: i64| {
            singles.get(&layer).copied().ok_or_else(|| {
                Error::new(format!("the pair {layers:?} needs the effect of layer {layer} alone"))
                    .hint(format!("add the set [{layer}]"))
            })
        };
        let sums: Vec<f64> = single(first)?.iter().zip(single(second)?).map(|(a, b)| a + b).collect();
        let interactions: Vec<f64> = row.iter().zip(&sums).map(|(both, sum)| both - sum).collect();
        if interactions.iter().all(|value| *value == 0.0) {
            continue;
        }
        let at_least = row.iter().zip(&sums).map(|(both, sum)| f64::from(u8::from(both >= sum))).collect();
        cells.push(Cell { layers, effects: row.clone(), interactions, at_least });
    }
    match cells.is_empty() {
        true => Err(Error::new("there is no pair with an interaction to test")),
        false => Ok(cells),
    }
}

fn corrected(p_values: impl Iterator<Item = Probability>) -> Result<Vec<Corrected>> {
    let p_values: Vec<Probability> = p_values.collect();
    let logarithms: Vec<f64> = p_values.iter().map(|p| p.log10()).collect();
    let from_log10 = |value: f64| Probability::from_ln(value * std::f64::consts::LN_10);
    let (holm, hochberg) = (holm(&logarithms, Scale::Log10)?, benjamini_hochberg(&logarithms, Scale::Log10)?);
    let each = p_values.into_iter().zip(holm).zip(hochberg);
    Ok(each
        .map(|((p, holm), hochberg)| Corrected { p, holm: from_log10(holm), benjamini_hochberg: from_log10(hochberg) })
        .collect())
}
