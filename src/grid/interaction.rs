//! Interactions of places that are patched together: what a set does beyond what its parts do (methods: `docs/src/methods.md`).

use std::collections::{HashMap, HashSet};

use tch::Tensor;

use super::frozen::Frozen;
use super::measured::Measured;
use super::metric::{Asked, Metric};
use super::outcome::Grid;
use super::request::{Direction, Reference};
use super::set::{self, Element, Set};
use crate::error::{Error, Result};
use crate::interrupt;

/// What a set's effect is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Null {
    /// The sum of its parts: the Möbius coefficient
    Additive,
    /// The most that one of its smaller sets does, which overwriting gives
    Maximum,
    /// Independent gains of probability: 1 - Π(1 - gain)
    Bliss,
    /// The coefficient in the frozen maps, where patches only overwrite one another
    Frozen,
}

/// A null with what it needs.
#[derive(Debug, Clone, Copy)]
pub struct Against<'a> {
    /// The null
    pub null: Null,
    /// What the frozen maps predict of the grid, for [`Null::Frozen`]
    pub frozen: Option<&'a Frozen>,
}

/// How the coefficients of the sets that hold a set count for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// Its own only: the interaction where nothing else is patched
    Mobius,
    /// The mean over all backgrounds (Grabisch and Roubens 1999)
    Shapley,
    /// Shared so that the orders up to the set's add up to the effect of all places (Sundararajan et al. 2020)
    ShapleyTaylor,
}

/// The interactions of a grid.
#[derive(Debug)]
pub struct Interactions {
    /// The sets, all of one size
    pub sets: Vec<Set>,
    /// Their interactions, float64 [set, sample]
    pub values: Tensor,
    /// 1 where the effect of one place of a pair changes its sign when the other is patched, float64 [set, sample]; for
    /// pairs only
    pub crossovers: Option<Tensor>,
}

/// The values of one metric in all runs of a grid.
struct Values<'a> {
    samples: usize,
    /// 1 where patches raise the metric, -1 where they lower it, in the direction of the grid
    sign: f64,
    unpatched: Vec<f64>,
    patched: Vec<f64>,
    row: HashMap<&'a [Element], usize>,
}

impl<'a> Values<'a> {
    fn new(grid: &'a Grid, asked: Asked, unpatched: &Measured, patched: &Measured) -> Result<Self> {
        Ok(Self {
            samples: grid.samples(),
            sign: sign(grid, asked.metric),
            unpatched: Vec::<f64>::try_from(&grid.levels(unpatched, asked)?)?,
            patched: Vec::<f64>::try_from(&grid.levels(patched, asked)?.f_reshape([-1])?)?,
            row: grid.sets.iter().enumerate().map(|(row, set)| (set.as_slice(), row)).collect(),
        })
    }

    /// The values of one set, one per sample.
    fn get(&self, set: &[Element]) -> Result<&[f64]> {
        if set.is_empty() {
            return Ok(&self.unpatched);
        }
        let Some(row) = self.row.get(set) else {
            return Err(Error::new(format!("the grid does not have the set {}", set::name(set))).hint(
                "an interaction needs every set within its own: `sizes: [1, 2]` for pairs, `[1, 2, 3]` for triples",
            ));
        };
        Ok(&self.patched[row * self.samples..(row + 1) * self.samples])
    }

    /// The Möbius coefficients of all sets of `places`, [set][sample], where bit i of a set's number is place i: differences
    /// place by place, so that what cancels leaves no rounding.
    fn coefficients(&self, places: &[Element]) -> Result<Vec<Vec<f64>>> {
        let held = |mask: usize| -> Set {
            places.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0).map(|(_, element)| *element).collect()
        };
        let mut coefficients: Vec<Vec<f64>> =
            (0..1 << places.len()).map(|mask| Ok(self.get(&held(mask))?.to_vec())).collect::<Result<_>>()?;
        for bit in 0..places.len() {
            interrupt::check()?;
            for mask in (0..coefficients.len()).filter(|mask| mask & (1 << bit) != 0) {
                let without = coefficients[mask ^ (1 << bit)].clone();
                coefficients[mask].iter_mut().zip(without).for_each(|(value, without)| *value -= without);
            }
        }
        Ok(coefficients)
    }

    fn mobius(&self, set: &[Element]) -> Result<Vec<f64>> {
        Ok(self.coefficients(set)?.pop().unwrap_or_default())
    }

    /// A set's value less what the null expects. `frozen` are the values in the frozen maps.
    fn against(&self, set: &[Element], null: Null, frozen: Option<&Self>) -> Result<Vec<f64>> {
        let own = self.get(set)?;
        match null {
            Null::Additive => self.mobius(set),
            Null::Frozen => {
                let Some(frozen) = frozen else { return Err(Error::new("the frozen maps of this grid are not given")) };
                Ok(self.mobius(set)?.iter().zip(frozen.mobius(set)?).map(|(own, frozen)| own - frozen).collect())
            }
            Null::Maximum => {
                let mut most = vec![f64::NEG_INFINITY; self.samples];
                for part in subsets(set).into_iter().filter(|part| !part.is_empty() && part.len() < set.len()) {
                    let values = self.get(&part)?;
                    most.iter_mut().zip(values).for_each(|(most, value)| *most = most.max(self.sign * value));
                }
                Ok(own.iter().zip(most).map(|(own, most)| own - self.sign * most).collect())
            }
            Null::Bliss => {
                let mut kept = vec![1.0; self.samples];
                for element in set {
                    let gains = self.get(std::slice::from_ref(element))?.iter().zip(&self.unpatched);
                    kept.iter_mut()
                        .zip(gains)
                        .for_each(|(kept, (value, unpatched))| *kept *= 1.0 - (value - unpatched));
                }
                let gains = own.iter().zip(&self.unpatched).map(|(own, unpatched)| own - unpatched);
                Ok(gains.zip(kept).map(|(gain, kept)| gain - (1.0 - kept)).collect())
            }
        }
    }

    /// Whether the effect of one place of a pair changes its sign when the other is patched.
    fn crossovers(&self, pair: &[Element]) -> Result<Vec<f64>> {
        let [first, second] = pair else { return Err(Error::new("only pairs have crossovers")) };
        let (first, second, both) = (self.get(&[*first])?, self.get(&[*second])?, self.get(pair)?);
        let crosses = |sample: usize| {
            let (first, second, both, none) = (first[sample], second[sample], both[sample], self.unpatched[sample]);
            (first - none) * (both - second) < 0.0 || (second - none) * (both - first) < 0.0
        };
        Ok((0..self.samples).map(|sample| f64::from(crosses(sample))).collect())
    }
}

/// The sets of `order` places in a grid, and what they do beyond what their parts do.
///
/// # Errors
/// A grid without the sets within them; an order other than 2 and 3; `Bliss` of a metric other than the probability, or of
/// noising; `Maximum` of a function; an index other than `Mobius` against another null than `Additive`, or without all sets of the grid's places.
pub fn interactions(
    grid: &Grid,
    order: usize,
    asked: Asked,
    Against { null, frozen }: Against,
    index: Index,
) -> Result<Interactions> {
    if !(2..=3).contains(&order) {
        return Err(Error::new(format!("there are no interactions of order {order}")).hint("2 or 3"));
    }
    let asked = grid.given(asked);
    if null == Null::Bliss && asked != Asked::plain(Metric::Probability) {
        return Err(Error::new("the null \"bliss\" is about probabilities").hint("metric: \"probability\""));
    }
    if null == Null::Bliss && grid.direction == Direction::Noise {
        return Err(Error::new("the null \"bliss\" is about gains of probability, and noising takes it away"));
    }
    if null == Null::Maximum && asked.metric == Metric::Closure {
        return Err(Error::new(
            "the null \"maximum\" needs to know whether more is better, and a function does not say",
        ));
    }
    if null != Null::Additive && index != Index::Mobius {
        return Err(Error::new("a Shapley index is held against the additive null only"));
    }
    // Of drawn sets, one may come twice.
    let mut known = HashSet::new();
    let mut sets: Vec<Set> = Vec::new();
    for set in grid.sets.iter().filter(|set| set.len() == order) {
        if known.insert(set.as_slice()) {
            sets.push(set.clone());
        }
    }
    if sets.is_empty() {
        return Err(Error::new(format!("the grid has no sets of {order} places")).hint(if order == 2 {
            "sizes: [1, 2]"
        } else {
            "sizes: [1, 2, 3]"
        }));
    }
    let values = Values::new(grid, asked, &grid.unpatched, &grid.patched)?;
    let frozen = frozen.map(|frozen| Values::new(grid, asked, &frozen.unpatched, &frozen.patched)).transpose()?;
    let mut rows = Vec::with_capacity(sets.len() * values.samples);
    match index {
        Index::Mobius => {
            for set in &sets {
                interrupt::check()?;
                rows.extend(values.against(set, null, frozen.as_ref())?);
            }
        }
        Index::Shapley | Index::ShapleyTaylor => rows = shared(grid, &values, &sets, index)?,
    }
    let shape = [sets.len() as i64, values.samples as i64];
    let crossovers = match order {
        2 => {
            let rows = sets.iter().map(|set| values.crossovers(set)).collect::<Result<Vec<_>>>()?;
            Some(Tensor::f_from_slice(&rows.concat())?.f_view(shape)?)
        }
        _ => None,
    };
    Ok(Interactions { values: Tensor::f_from_slice(&rows)?.f_view(shape)?, sets, crossovers })
}

/// The Shapley indexes of sets, from the coefficients of all sets of the grid's places: SII(S) is the sum over T that
/// hold S of a(T) / (|T| - |S| + 1), STI(S) that of a(T) / C(|T|, |S|).
fn shared(grid: &Grid, values: &Values, sets: &[Set], index: Index) -> Result<Vec<f64>> {
    let places = &grid.elements;
    let count = u32::try_from(places.len()).ok().and_then(|places| 1_usize.checked_shl(places));
    let Some(count) = count.filter(|count| *count == grid.sets.len() + 1) else {
        return Err(Error::new(format!(
            "a Shapley index needs all sets of the grid's {} places, and the grid has {}",
            places.len(),
            grid.sets.len()
        ))
        .hint("a grid of a few places has all of theirs: elements: [4, 8, 12, 16]"));
    };
    let coefficients = values.coefficients(places)?;
    let mut rows = Vec::with_capacity(sets.len() * values.samples);
    for set in sets {
        interrupt::check()?;
        let own: usize = set.iter().filter_map(|element| places.binary_search(element).ok()).map(|bit| 1 << bit).sum();
        let mut sum = vec![0.0; values.samples];
        for mask in (0..count).filter(|mask| mask & own == own) {
            let size = mask.count_ones() as usize;
            let share = match index {
                Index::ShapleyTaylor => set::binomial(size, set.len()).recip(),
                _ => ((size - set.len() + 1) as f64).recip(),
            };
            sum.iter_mut().zip(&coefficients[mask]).for_each(|(sum, value)| *sum += share * value);
        }
        rows.extend(sum);
    }
    Ok(rows)
}

/// The sign of what patches are expected to do: denoising raises a metric of which more is better, noising lowers it.
fn sign(grid: &Grid, metric: Metric) -> f64 {
    let is_loss = match metric {
        Metric::Rank => true,
        Metric::Kl => grid.reference == Some(Reference::Clean),
        _ => false,
    };
    if is_loss == (grid.direction == Direction::Noise) { 1.0 } else { -1.0 }
}

/// All subsets, the empty one first.
fn subsets(set: &[Element]) -> Vec<Set> {
    let mut found = vec![Set::new()];
    found.extend(set::all(set, &(1..=set.len()).collect::<Vec<_>>()));
    found
}
