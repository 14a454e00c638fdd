//! The request for a patching grid.

use std::path::PathBuf;
use std::rc::Rc;

use tch::Tensor;

use super::draw;
use super::metric::{Asked, Metric};
use super::sample::Sample;
use super::set::{self, Element, Set};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::hook::Site;

/// Where the activations that are patched in come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The last token of a text: one text for all samples, or one per sample
    Source(Vec<Vec<i64>>),
    /// Given, one tensor per layer: [d_model], or [head, d_head] for heads
    Vectors(Rc<Vec<Tensor>>),
    /// Zeros
    Zero,
    /// The mean of the targets' own, each at its patched position
    Mean,
    /// Another sample's target's, drawn by this seed
    Resample(u64),
}

impl Origin {
    /// Its name in scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Vectors(_) => "vectors",
            Self::Zero => "zero",
            Self::Mean => "mean",
            Self::Resample(_) => "resample",
        }
    }
}

/// The run that is patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The target alone, with the source's activations: what suffices
    Denoise,
    /// Source and target together, with the target's activations in the place of the source's: what is needed
    Noise,
}

impl Direction {
    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Denoise => "denoise",
            Self::Noise => "noise",
        }
    }
}

/// The run to compare the patched run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// The target run alone (`pt_vs_to`)
    TargetOnly,
    /// The run of source and target together (`pt_vs_it`)
    SourceAndTarget,
}

impl Setting {
    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::TargetOnly => "pt_vs_to",
            Self::SourceAndTarget => "pt_vs_it",
        }
    }
}

/// The run whose distribution a patched run's is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// Source and target together
    Clean,
    /// The target alone
    Target,
}

/// Which sets of the elements to patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sizes {
    /// All sets of these sizes
    Of(Vec<usize>),
    /// Independent draws, each element in or out by an even chance
    Random {
        /// How many
        subsets: usize,
        /// Of the draws
        seed: u64,
    },
}

/// A grid to compute. Samples may have targets of any lengths.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where the activations that are patched in come from
    pub origin: Origin,
    /// One prompt per sample
    pub targets: Vec<Vec<i64>>,
    /// The ids that count as the answer, for each sample
    pub answers: Vec<Vec<i64>>,
    /// Tokens to compare the answer with, for each sample; none at all for no comparison
    pub against: Vec<Vec<i64>>,
    /// The run to compare distributions with
    pub reference: Option<Reference>,
    /// The metrics asked for
    pub metrics: Vec<Asked>,
    /// Position to patch in the target; negative counts from its end. One for all samples, or one per sample
    pub positions: Vec<i64>,
    /// Which sets of places to patch
    pub sizes: Sizes,
    /// The places to make sets of, in order; None: all
    pub elements: Option<Vec<Element>>,
    /// Activation to patch
    pub site: Site,
    /// The run to patch
    pub direction: Direction,
    /// The baseline
    pub setting: Setting,
    /// A token put in front of every target
    pub filler: Option<i64>,
    /// Ranks beyond this score -1 (the paper's released code); None: 1 / rank always
    pub max_rank: Option<i64>,
    /// Number of cells to compute again, each in a run of its own
    pub verify: usize,
    /// Largest number of prompt tokens computed at once; None: a number that suits the device
    pub tokens_at_once: Option<i64>,
    /// Folder to store finished batches in; None: nowhere
    pub store: Option<PathBuf>,
}

impl Request {
    /// A grid of the residual stream at the first position, one and two layers, by log-probability, without a store.
    pub fn new(origin: Origin, targets: Vec<Vec<i64>>, answers: Vec<Vec<i64>>) -> Self {
        Self {
            origin,
            targets,
            answers,
            against: Vec::new(),
            reference: None,
            metrics: vec![Asked::plain(Metric::LogProbability)],
            positions: vec![0],
            sizes: Sizes::Of(vec![1, 2]),
            elements: None,
            site: Site::ResidPost,
            direction: Direction::Denoise,
            setting: Setting::TargetOnly,
            filler: None,
            max_rank: None,
            verify: 0,
            tokens_at_once: None,
            store: None,
        }
    }

    /// The places to make sets of, in order.
    ///
    /// # Errors
    /// A model without the site.
    pub fn elements(&self, config: &Config) -> Result<Vec<Element>> {
        self.elements.clone().map_or_else(|| set::elements(config, self.site), Ok)
    }

    /// The sets to patch: in order of their elements, or as drawn.
    ///
    /// # Errors
    /// A model without the site.
    pub fn sets(&self, config: &Config) -> Result<Vec<Set>> {
        let elements = self.elements(config)?;
        Ok(match &self.sizes {
            Sizes::Of(sizes) => set::all(&elements, sizes),
            Sizes::Random { subsets, seed } => draw::subsets(&elements, *subsets, *seed),
        })
    }

    /// Whether a metric needs the runs to normalise by.
    pub fn is_normalised(&self) -> bool {
        self.metrics.iter().any(|asked| asked.normalised)
    }

    /// Whether the baseline is the run that is patched.
    pub fn is_against_itself(&self) -> bool {
        (self.direction == Direction::Denoise) == (self.setting == Setting::TargetOnly)
    }

    /// Whether all samples get the same activations patched in.
    pub fn has_one_source(&self) -> bool {
        match &self.origin {
            Origin::Source(sources) => sources.len() == 1 && self.direction == Direction::Denoise,
            Origin::Vectors(_) | Origin::Zero | Origin::Mean => true,
            Origin::Resample(_) => false,
        }
    }

    /// The source of one sample, where there are sources.
    pub(super) fn source(&self, sample: usize) -> Option<&[i64]> {
        match &self.origin {
            Origin::Source(sources) => Some(&sources[if sources.len() == 1 { 0 } else { sample }]),
            _ => None,
        }
    }

    /// The run of a sample's source, if it has one, and target together.
    pub fn clean(&self, sample: usize) -> Vec<i64> {
        [self.source(sample).unwrap_or(&[]), &self.targets[sample]].concat()
    }

    /// The run whose distribution a sample's patched runs are compared with; empty without one.
    pub(super) fn reference_run(&self, number: usize, sample: &Sample) -> Vec<i64> {
        match self.reference {
            None => Vec::new(),
            Some(Reference::Clean) => self.clean(number),
            Some(Reference::Target) => sample.target.clone(),
        }
    }

    /// The baseline run of a sample whose target run is `target`.
    pub fn baseline(&self, sample: usize, target: &[i64]) -> Vec<i64> {
        match self.setting {
            Setting::TargetOnly => target.to_vec(),
            Setting::SourceAndTarget => self.clean(sample),
        }
    }
}
