//! The request for a patching grid.

use std::path::PathBuf;
use std::rc::Rc;

use tch::Tensor;

use super::draw;
use super::metric::Asked;
use super::set::{self, Element, Set};
use crate::error::{Error, Result};
use crate::model::config::Config;
use crate::model::decoder::Decoder;
use crate::model::hook::Site;

/// The most sets of one grid.
const MOST_SETS: f64 = 4_194_304.0;

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

impl Reference {
    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Target => "target",
        }
    }
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
    /// Folder to store finished samples in; None: nowhere
    pub store: Option<PathBuf>,
}

/// One sample of a checked request.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The run that is patched
    pub prompt: Vec<i64>,
    /// The patched position, counted from the prompt's start
    pub position: i64,
    /// The target with its filler in front
    pub target: Vec<i64>,
    /// The text whose last token's activations are patched in; empty where none are read
    pub source: Vec<i64>,
}

impl Request {
    /// The samples of the request, checked against the model.
    ///
    /// # Errors
    /// Lists of different lengths, ids or positions out of range, sizes that do not exist, vectors of another shape; an
    /// option that needs a source text and there is none.
    pub fn samples(&self, decoder: &Decoder) -> Result<Vec<Sample>> {
        self.check_counts()?;
        self.check_origin(&decoder.config)?;
        self.check_sets(&decoder.config)?;
        if let Some(tokens) = self.tokens_at_once.filter(|tokens| *tokens < 1) {
            return Err(Error::new(format!("{tokens} tokens cannot be computed at once")).hint("1 or more"));
        }
        for (number, ids) in self.answers.iter().enumerate() {
            if ids.is_empty() {
                return Err(Error::new(format!("sample {number} has no answer")).hint("one id or several"));
            }
            if let Some(twice) = (1..ids.len()).find(|place| ids[..*place].contains(&ids[*place])) {
                return Err(Error::new(format!("the answer of sample {number} has the id {} twice", ids[twice])));
            }
            if let Some(id) = ids.iter().find(|id| !(0..decoder.config.d_vocab).contains(*id)) {
                return Err(Error::new(format!("answer id {id} is out of range"))
                    .hint(format!("this model's ids are 0 to {}", decoder.config.d_vocab - 1)));
            }
        }
        let mut samples =
            (0..self.targets.len()).map(|number| self.sample(number, decoder)).collect::<Result<Vec<_>>>()?;
        if let Origin::Resample(seed) = self.origin {
            let own: Vec<Vec<i64>> = samples.iter().map(|sample| sample.source.clone()).collect();
            for (sample, other) in samples.iter_mut().zip(draw::others(own.len(), seed)?) {
                sample.source.clone_from(&own[other]);
            }
        }
        Ok(samples)
    }

    fn sample(&self, number: usize, decoder: &Decoder) -> Result<Sample> {
        let target: Vec<i64> = self.filler.iter().chain(&self.targets[number]).copied().collect();
        decoder.check_ids(&target, &format!("the prompt of sample {number}"))?;
        if let Some(source) = self.source(number) {
            decoder.check_ids(source, &format!("the source of sample {number}"))?;
        }
        let position = self.position(number, target.len() as i64)?;
        let read_up_to = || target[..=position as usize].to_vec();
        Ok(match (&self.origin, self.source(number), self.direction) {
            (_, Some(source), Direction::Denoise) => {
                Sample { prompt: target.clone(), position, source: source.to_vec(), target }
            }
            (_, Some(source), Direction::Noise) => {
                Sample { prompt: self.clean(number), position: source.len() as i64 - 1, source: read_up_to(), target }
            }
            (Origin::Mean | Origin::Resample(_), ..) => {
                Sample { prompt: target.clone(), position, source: read_up_to(), target }
            }
            _ => Sample { prompt: target.clone(), position, source: Vec::new(), target },
        })
    }

    fn check_sets(&self, config: &Config) -> Result<()> {
        let all = set::elements(config, self.site)?;
        let count = self.elements.as_ref().map_or(all.len(), Vec::len);
        if let Some(elements) = &self.elements {
            if elements.is_empty() {
                return Err(Error::new("there are 0 elements to make sets of").hint("1 or more"));
            }
            if let Some(element) = elements.iter().find(|element| !all.contains(element)) {
                let (first, last) = (all[0], all[all.len() - 1]);
                return Err(Error::new(format!("there is no element {element} at {}", self.site.name()))
                    .hint(format!("the first is {first}, the last {last}")));
            }
            if let Some(pair) = elements.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(Error::new(format!("element {} stands before {}", pair[0], pair[1]))
                    .hint("each once, in ascending order"));
            }
        }
        let sets = match &self.sizes {
            Sizes::Random { subsets: 0, .. } => return Err(Error::new("`subsets` must be at least 1")),
            Sizes::Random { subsets, .. } => *subsets as f64,
            Sizes::Of(sizes) => {
                if self.elements.is_none() && (sizes.is_empty() || sizes.iter().any(|size| !(1..=3).contains(size))) {
                    return Err(Error::new("the sizes of sets must be some of 1, 2 and 3")
                        .hint("larger sets are made of a few places: elements: [4, 8, 12, 16], sizes: [1, 2, 3, 4]"));
                }
                if sizes.is_empty() || sizes.iter().any(|size| *size == 0 || (self.elements.is_some() && *size > count))
                {
                    return Err(Error::new(format!("the sizes of sets of {count} elements are 1 to {count}")));
                }
                sizes.iter().map(|size| set::binomial(count, *size)).sum()
            }
        };
        if sets > MOST_SETS {
            return Err(Error::new(format!("{count} elements have {sets:.3e} sets of these sizes"))
                .hint("choose some by `elements`, or `sizes: \"random\", subsets: 500`"));
        }
        Ok(())
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

    fn check_counts(&self) -> Result<()> {
        let count = self.targets.len();
        let wrong = |what: &str, found: usize, hint: &str| {
            Err(Error::new(format!("there are {count} targets and {found} {what}")).hint(hint))
        };
        let one_or_all = "one for all samples, or one per sample";
        if count == 0 {
            return Err(Error::new("a grid needs at least one target"));
        }
        if self.answers.len() != count {
            return wrong("answers", self.answers.len(), "one answer id per sample, or an array of ids per sample");
        }
        match &self.origin {
            Origin::Source(sources) if sources.len() != 1 && sources.len() != count => {
                return wrong("sources", sources.len(), one_or_all);
            }
            _ => {}
        }
        if self.positions.len() != 1 && self.positions.len() != count {
            return wrong("positions", self.positions.len(), one_or_all);
        }
        Ok(())
    }

    fn check_origin(&self, config: &Config) -> Result<()> {
        if let Origin::Vectors(vectors) = &self.origin {
            let wanted = set::shape(config, self.site);
            if vectors.len() as i64 != config.n_layers {
                return Err(Error::new(format!("there are {} vectors for {} layers", vectors.len(), config.n_layers)));
            }
            if let Some(layer) = vectors.iter().position(|vector| vector.size() != wanted) {
                return Err(Error::new(format!("the vector of layer {layer} does not have the shape {wanted:?}")));
            }
        }
        if matches!(self.origin, Origin::Source(_)) {
            return Ok(());
        }
        let needs_source = [
            (self.direction == Direction::Noise, "`direction: \"noise\"`"),
            (self.setting == Setting::SourceAndTarget, "`pt_vs_it`"),
            (self.is_normalised(), "a normalised metric"),
            (self.reference == Some(Reference::Clean), "the reference \"clean\""),
        ];
        match needs_source.iter().find(|(asked, _)| *asked) {
            Some((_, what)) => Err(Error::new(format!(
                "{what} needs the run of source and target together, but `{}` has no source text",
                self.origin.name()
            ))),
            None => Ok(()),
        }
    }

    /// Whether a metric needs the runs to normalise by.
    pub fn is_normalised(&self) -> bool {
        self.metrics.iter().any(|asked| asked.normalised)
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
    fn source(&self, sample: usize) -> Option<&[i64]> {
        match &self.origin {
            Origin::Source(sources) => Some(&sources[if sources.len() == 1 { 0 } else { sample }]),
            _ => None,
        }
    }

    /// The run of a sample's source, if it has one, and target together.
    pub fn clean(&self, sample: usize) -> Vec<i64> {
        [self.source(sample).unwrap_or(&[]), &self.targets[sample]].concat()
    }

    /// The baseline run of a sample whose target run is `target`.
    pub fn baseline(&self, sample: usize, target: &[i64]) -> Vec<i64> {
        match self.setting {
            Setting::TargetOnly => target.to_vec(),
            Setting::SourceAndTarget => self.clean(sample),
        }
    }

    fn position(&self, sample: usize, length: i64) -> Result<i64> {
        let given = self.positions[if self.positions.len() == 1 { 0 } else { sample }];
        let position = if given < 0 { given + length } else { given };
        if (0..length).contains(&position) {
            return Ok(position);
        }
        Err(Error::new(format!(
            "position {given} is out of range for sample {sample}, whose prompt has {length} tokens"
        )))
    }
}
