//! Grids of layers whose logits are made up.

use lancet::grid::measured::{Cell, Measured};
use lancet::grid::outcome::Grid;
use lancet::grid::plan::Plan;
use lancet::grid::request::{Direction, Setting, Sizes};
use lancet::grid::set::{Element, Set};

/// The first layers as elements.
pub fn layers(count: i64) -> Vec<Element> {
    (0..count).map(|layer| Element { layer, head: None }).collect()
}

/// A grid of `sets` whose logit in a sample is what `logit` makes of the set.
pub fn made_grid(
    elements: Vec<Element>,
    sets: Vec<Set>,
    sizes: Sizes,
    samples: usize,
    logit: impl Fn(&Set, usize) -> f64,
) -> Grid {
    let cell = |set: &Set, sample| Cell { logit: logit(set, sample), rank: 1, ..Cell::default() };
    let patched: Vec<Cell> = sets
        .iter()
        .flat_map(|set| (0..samples).map(move |sample| (set, sample)))
        .map(|(set, sample)| cell(set, sample))
        .collect();
    let baseline: Vec<Cell> = (0..samples).map(|sample| cell(&Set::new(), sample)).collect();
    let plan = Plan { sets: sets.len(), samples, stored: 0, passes: 0, plain_passes: 0, bytes: 0 };
    Grid {
        patched: Measured::of_cells(&patched).unwrap().shaped(&[sets.len() as i64, samples as i64]).unwrap(),
        sets,
        elements,
        sizes,
        baseline: Measured::of_cells(&baseline).unwrap(),
        unpatched: Measured::of_cells(&baseline).unwrap(),
        ends: None,
        direction: Direction::Denoise,
        setting: Setting::TargetOnly,
        metrics: Vec::new(),
        has_against: false,
        reference: None,
        has_closure: false,
        max_rank: None,
        plan,
        verified: None,
    }
}
