//! Plans a grid so that no work is done twice.
//!
//! A patch at position p leaves the positions before it as they are (causal attention): this *prefix* is run once. The
//! *column*, position p through all layers, and the *suffix* after it are run layer by layer for all nodes at once. A
//! node is a set patched so far (see `tree`).
//!
//! - Before layer l there are only the nodes whose layers are below l, so sets share everything up to their next layer.
//! - The suffix sees a patch only through the column's keys and values in later layers: a new node starts from a copy
//!   of its parent's suffix.
//! - A patched residual stream forgets what was patched before, so nodes with the same last layer share their column.
//!   At position 0, with one source and one first token, it does not depend on the sample either and is run once for
//!   all.
//! - A patch in the last layer does not reach the suffix, unless it is one of keys or values: such a set has its
//!   parent's values.
//! - Keys and values are seen in their own layer: nodes that patch them are added before it, not after.

use std::fmt::{self, Display, Formatter};

use tch::{Device, Kind};

use super::group::Group;
use super::request::Request;
use super::set::{Element, Set};
use super::tree::Tree;
use crate::device;
use crate::model::decoder::Decoder;
use crate::model::hook::Site;

/// Tokens that pass through a block at once: enough for full speed, few enough to stay in the processor's caches.
const TOKENS_AT_ONCE_CPU: i64 = 1024;
const TOKENS_AT_ONCE_GPU: i64 = 1 << 16;
/// Samples that are computed together. The number is fixed, since the last bits of a result depend on it: more samples
/// later, or a machine with more memory, change no number of those before.
const SAMPLES_AT_ONCE: usize = 16;
/// The share of free memory that the suffixes of one batch may take.
const MEMORY_SHARE: f64 = 0.3;
/// Assumed free memory if the system does not report it, in bytes.
const MEMORY_DEFAULT: u64 = 4 << 30;

/// Whether the positions after a patched one see the patch in its own layer: keys and values.
pub fn reaches_suffix_at_once(site: Site) -> bool {
    matches!(site, Site::Key | Site::Value | Site::KeyIn | Site::ValueIn)
}

/// The work of a grid. A pass takes one token through one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Number of sets
    pub sets: usize,
    /// Samples to compute
    pub samples: usize,
    /// Samples found in the store
    pub stored: usize,
    /// Passes of the plan
    pub passes: u64,
    /// Passes of one run per cell
    pub plain_passes: u64,
    /// Largest memory for the activations of a batch
    pub bytes: u64,
}

impl Display for Plan {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { sets, samples, stored, passes, plain_passes, .. } = self;
        if *passes == 0 {
            write!(formatter, "{sets} sets: nothing to compute")?;
        } else {
            let times = *plain_passes as f64 / *passes as f64;
            write!(
                formatter,
                "{sets} sets x {samples} samples: {passes} block passes of a token instead of {plain_passes} \
                 ({times:.1} times fewer)"
            )?;
        }
        if *stored > 0 {
            write!(formatter, ", {stored} samples from the store")?;
        }
        Ok(())
    }
}

/// Divides the work of a grid: lists its nodes, groups samples to run together, and counts the passes.
pub struct Planner<'a> {
    /// The model that runs the grid
    pub decoder: &'a Decoder,
    /// The request to plan
    pub request: &'a Request,
    /// Largest number of tokens that pass through a block at once
    pub tokens_at_once: i64,
    sets: &'a [Set],
    /// Nodes of prompts with a suffix
    with_suffix: Tree,
    /// Nodes of prompts that are patched at their last position
    without_suffix: Tree,
}

impl<'a> Planner<'a> {
    /// A planner for the given sets.
    pub fn new(decoder: &'a Decoder, request: &'a Request, sets: &'a [Set]) -> Self {
        let default = if decoder.device == Device::Cpu { TOKENS_AT_ONCE_CPU } else { TOKENS_AT_ONCE_GPU };
        let n_layers = decoder.config.n_layers;
        let seen = |set: &Set| seen_by_suffix(set, request.site, n_layers);
        // At the last position a residual stream remembers its last patch only.
        let remembered = |set: &Set| match request.site {
            Site::ResidPost => set.last().copied().into_iter().collect(),
            _ => set.clone(),
        };
        Self {
            decoder,
            request,
            tokens_at_once: request.tokens_at_once.unwrap_or(default),
            sets,
            with_suffix: Tree::new(&sets.iter().map(seen).collect::<Vec<_>>(), n_layers),
            without_suffix: Tree::new(&sets.iter().map(remembered).collect::<Vec<_>>(), n_layers),
        }
    }

    /// Halves the number of tokens at once. False if that is no longer possible.
    pub fn halve(&mut self) -> bool {
        let possible = self.tokens_at_once > 1;
        if possible {
            self.tokens_at_once /= 2;
        }
        possible
    }

    /// The nodes of a group.
    pub fn tree(&self, group: &Group) -> &Tree {
        if group.suffix() > 0 { &self.with_suffix } else { &self.without_suffix }
    }

    /// Whether nodes with the same last layer share their column.
    pub fn shares_columns(&self) -> bool {
        self.request.site == Site::ResidPost
    }

    /// Whether one column serves all samples of the group.
    pub fn has_one_column(&self, group: &Group) -> bool {
        group.position == 0 && self.request.has_one_source()
    }

    /// Bytes for the activations of one sample of a group.
    fn sample_bytes(&self, group: &Group) -> u64 {
        let element = if self.decoder.kind == Kind::Double { 8 } else { 4 };
        self.tree(group).size() as u64 * group.suffix().max(1) as u64 * self.decoder.config.d_model as u64 * element
    }

    /// The batches of a group: at most a fixed number of samples each.
    pub fn batches(&self, group: &Group) -> Vec<Group> {
        let count = group.samples.len();
        let batch = |start: usize| group.slice(start..(start + SAMPLES_AT_ONCE).min(count));
        (0..count).step_by(SAMPLES_AT_ONCE).map(batch).collect()
    }

    /// Whether the nodes of a batch fit into memory together.
    pub fn fits(&self, batch: &Group) -> bool {
        let free = device::free_memory(self.decoder.device).unwrap_or(MEMORY_DEFAULT);
        self.bytes(batch) as f64 <= free as f64 * MEMORY_SHARE
    }

    fn bytes(&self, batch: &Group) -> u64 {
        batch.samples.len() as u64 * self.sample_bytes(batch)
    }

    /// Passes that a batch takes.
    fn passes(&self, group: &Group) -> u64 {
        let samples = group.samples.len() as u64;
        let columns = if self.has_one_column(group) { 1 } else { samples };
        let tree = self.tree(group);
        let mut passes = group.position as u64 * samples * self.decoder.config.n_layers as u64;
        for (layer, (nodes, added)) in tree.counts().into_iter().zip(&tree.layers).enumerate() {
            let early = if reaches_suffix_at_once(self.request.site) { added.len() } else { 0 };
            passes += (nodes + early) as u64 * samples * group.suffix() as u64;
            passes += columns * if self.shares_columns() { layer as u64 + 1 } else { (nodes + added.len()) as u64 };
        }
        passes
    }

    /// The plan of the batches, beside `stored` samples that need no work.
    pub fn plan(&self, batches: &[&Group], stored: usize) -> Plan {
        let layers = self.decoder.config.n_layers as u64;
        let plain = |batch: &&Group| (self.sets.len() * batch.samples.len()) as u64 * batch.length as u64 * layers;
        Plan {
            sets: self.sets.len(),
            samples: batches.iter().map(|batch| batch.samples.len()).sum(),
            stored,
            passes: batches.iter().map(|batch| self.passes(batch)).sum(),
            plain_passes: batches.iter().map(plain).sum(),
            bytes: batches.iter().map(|batch| self.bytes(batch)).max().unwrap_or(0),
        }
    }

    /// For each set, the number of the node that has its values.
    pub fn nodes(&self, part: &Group) -> Vec<usize> {
        let n_layers = self.decoder.config.n_layers;
        let tree = self.tree(part);
        let node = |set: &Set| {
            let key: Set = match (part.suffix() > 0, self.shares_columns()) {
                (true, _) => seen_by_suffix(set, self.request.site, n_layers),
                (false, true) => set.last().copied().into_iter().collect(),
                (false, false) => set.clone(),
            };
            tree.index[&key]
        };
        self.sets.iter().map(node).collect()
    }
}

/// The part of a set that reaches the suffix.
fn seen_by_suffix(set: &Set, site: Site, n_layers: i64) -> Set {
    let reaches = |element: &Element| element.layer + 1 < n_layers || reaches_suffix_at_once(site);
    set.iter().copied().filter(reaches).collect()
}
