//! The request for a patching grid.

use std::path::PathBuf;
use std::rc::Rc;

use tch::Tensor;

use super::metric::Asked;
use super::set::{self, Element, Set};
use crate::error::{Error, Result};
use crate::model::config::Config;
use crate::model::decoder::Decoder;
use crate::model::hook::Site;

/// The most elements whose sets of all sizes are run.
const MOST_ELEMENTS: usize = 16;

/// The run to compare the patched run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// The target run alone (`pt_vs_to`)
    TargetOnly,
    /// The run of source and target together (`pt_vs_it`)
    SourceAndTarget,
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

/// A grid to compute. Samples may have targets of any lengths.
#[derive(Debug, Clone)]
pub struct Request {
    /// One source for all samples, or one per sample; its last token's activations are patched in
    pub sources: Vec<Vec<i64>>,
    /// Activations to patch in instead of a source's, one tensor per layer: [d_model], or [head, d_head] for heads
    pub vectors: Option<Rc<Vec<Tensor>>>,
    /// One prompt per sample
    pub targets: Vec<Vec<i64>>,
    /// One token per sample
    pub answers: Vec<i64>,
    /// Tokens to compare the answer with, for each sample; none at all for no comparison
    pub against: Vec<Vec<i64>>,
    /// The run to compare distributions with
    pub reference: Option<Reference>,
    /// The metrics asked for
    pub metrics: Vec<Asked>,
    /// Position to patch in the target; negative counts from its end. One for all samples, or one per sample
    pub positions: Vec<i64>,
    /// How many places to patch together: some of 1, 2 and 3; any numbers where `elements` are given
    pub sizes: Vec<usize>,
    /// The places to make sets of, in order; None: all
    pub elements: Option<Vec<Element>>,
    /// Activation to patch: the residual stream after a layer, attention's or the MLP's output, or single heads
    pub site: Site,
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
    /// The target with its filler in front
    pub prompt: Vec<i64>,
    /// The patched position, counted from the prompt's start
    pub position: i64,
    /// The token to measure
    pub answer: i64,
}

impl Request {
    /// The samples of the request, checked against the model.
    ///
    /// # Errors
    /// Lists of different lengths, ids or positions out of range, sizes other than 1 to 3, vectors of another shape.
    pub fn samples(&self, decoder: &Decoder) -> Result<Vec<Sample>> {
        self.check_counts()?;
        self.check_vectors(&decoder.config)?;
        self.check_sets(decoder)?;
        if let Some(tokens) = self.tokens_at_once.filter(|tokens| *tokens < 1) {
            return Err(Error::new(format!("{tokens} tokens cannot be computed at once")).hint("1 or more"));
        }
        let d_vocab = decoder.config.d_vocab;
        if let Some(id) = self.answers.iter().find(|id| !(0..d_vocab).contains(*id)) {
            return Err(Error::new(format!("answer id {id} is out of range"))
                .hint(format!("this model's ids are 0 to {}", d_vocab - 1)));
        }
        (0..self.targets.len())
            .map(|number| {
                let prompt: Vec<i64> = self.filler.iter().chain(&self.targets[number]).copied().collect();
                decoder.check_ids(&prompt, &format!("the prompt of sample {number}"))?;
                if self.vectors.is_none() {
                    decoder.check_ids(self.source(number), &format!("the source of sample {number}"))?;
                }
                let position = self.position(number, prompt.len() as i64)?;
                Ok(Sample { prompt, position, answer: self.answers[number] })
            })
            .collect()
    }

    fn check_sets(&self, decoder: &Decoder) -> Result<()> {
        let Some(elements) = &self.elements else {
            if self.sizes.is_empty() || self.sizes.iter().any(|size| !(1..=3).contains(size)) {
                return Err(Error::new("the sizes of sets must be some of 1, 2 and 3")
                    .hint("larger sets are made of a few places: elements: [4, 8, 12, 16], sizes: [1, 2, 3, 4]"));
            }
            return Ok(());
        };
        if elements.is_empty() || elements.len() > MOST_ELEMENTS {
            return Err(Error::new(format!("there are {} elements to make sets of", elements.len()))
                .hint(format!("1 to {MOST_ELEMENTS}")));
        }
        let all = set::elements(&decoder.config, self.site);
        if let Some(element) = elements.iter().find(|element| !all.contains(element)) {
            return Err(Error::new(format!("there is no element {element} at {}", self.site.name())).hint(format!(
                "the first is {}, the last {}",
                all[0],
                all[all.len() - 1]
            )));
        }
        if let Some(pair) = elements.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(Error::new(format!("element {} stands before {}", pair[0], pair[1]))
                .hint("each once, in ascending order"));
        }
        if self.sizes.is_empty() || self.sizes.iter().any(|size| !(1..=elements.len()).contains(size)) {
            return Err(Error::new(format!(
                "the sizes of sets of {} elements are 1 to {}",
                elements.len(),
                elements.len()
            )));
        }
        Ok(())
    }

    /// The sets to patch, in order of their elements.
    pub fn sets(&self, config: &Config) -> Vec<Set> {
        match &self.elements {
            Some(elements) => set::all(elements, &self.sizes),
            None => set::all(&set::elements(config, self.site), &self.sizes),
        }
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
            return wrong("answers", self.answers.len(), "one answer id per sample");
        }
        if self.vectors.is_none() && self.sources.len() != 1 && self.sources.len() != count {
            return wrong("sources", self.sources.len(), one_or_all);
        }
        if self.positions.len() != 1 && self.positions.len() != count {
            return wrong("positions", self.positions.len(), one_or_all);
        }
        Ok(())
    }

    fn check_vectors(&self, config: &Config) -> Result<()> {
        let Some(vectors) = &self.vectors else { return Ok(()) };
        let wanted = if self.site == Site::Z { vec![config.n_heads, config.d_head] } else { vec![config.d_model] };
        if vectors.len() as i64 != config.n_layers {
            return Err(Error::new(format!("there are {} vectors for {} layers", vectors.len(), config.n_layers)));
        }
        if let Some(layer) = vectors.iter().position(|vector| vector.size() != wanted) {
            return Err(Error::new(format!("the vector of layer {layer} does not have the shape {wanted:?}")));
        }
        let needs_source = [
            (self.setting == Setting::SourceAndTarget, "`pt_vs_it`"),
            (self.is_normalised(), "a normalised metric"),
            (self.reference == Some(Reference::Clean), "the reference \"clean\""),
        ];
        if let Some((_, what)) = needs_source.iter().find(|(asked, _)| *asked) {
            return Err(Error::new(format!(
                "{what} compares with the run of source and target together, but vectors have no source text"
            )));
        }
        Ok(())
    }

    /// Whether a metric needs the runs to normalise by.
    pub fn is_normalised(&self) -> bool {
        self.metrics.iter().any(|asked| asked.normalised)
    }

    /// Whether all samples get the same activations patched in.
    pub fn has_one_source(&self) -> bool {
        self.vectors.is_some() || self.sources.len() == 1
    }

    /// The source of one sample; not for given vectors, which have no source.
    pub fn source(&self, sample: usize) -> &[i64] {
        &self.sources[if self.sources.len() == 1 { 0 } else { sample }]
    }

    /// The run of a sample's source and target together.
    pub fn clean(&self, sample: usize) -> Vec<i64> {
        [self.source(sample), &self.targets[sample]].concat()
    }

    /// The baseline run of a sample whose target run is `prompt`.
    pub fn baseline(&self, sample: usize, prompt: &[i64]) -> Vec<i64> {
        match self.setting {
            Setting::TargetOnly => prompt.to_vec(),
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
