//! The samples of a grid's request, checked against the model.

use super::draw;
use super::request::{Direction, Origin, Reference, Request, Setting, Sizes};
use super::set;
use crate::error::{Error, Result};
use crate::model::config::Config;
use crate::model::decoder::Decoder;

/// The most sets of one grid.
const MOST_SETS: f64 = 4_194_304.0;
/// The most places that the drawn sets of one grid choose from, all together.
const MOST_PLACES: f64 = 67_108_864.0;

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
    /// A model whose attention looks ahead; lists of different lengths, ids or positions out of range, sizes that do not exist, vectors of another shape; an
    /// option that needs a source text and there is none.
    pub fn samples(&self, decoder: &Decoder) -> Result<Vec<Sample>> {
        // A prefix is run once, and a source's positions are taken as if nothing followed them.
        decoder.config.check_causal("a grid of patches")?;
        self.check_counts()?;
        self.check_origin(&decoder.config)?;
        self.check_sets(&decoder.config)?;
        if let Some(tokens) = self.tokens_at_once.filter(|tokens| *tokens < 1) {
            return Err(Error::new(format!("{tokens} tokens cannot be computed at once")).hint("1 or more"));
        }
        for ids in &self.answers {
            if let Some(id) = ids.iter().find(|id| !(0..decoder.config.d_vocab_out).contains(*id)) {
                return Err(Error::new(format!("answer id {id} is out of range"))
                    .hint(format!("this model's outputs are 0 to {}", decoder.config.d_vocab_out - 1)));
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
            Sizes::Random { subsets, .. } if *subsets as f64 * count as f64 > MOST_PLACES => {
                return Err(Error::new(format!("{subsets} sets of {count} elements are too many to hold"))
                    .hint("choose some by `elements`, or draw fewer"));
            }
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
