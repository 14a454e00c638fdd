//! The digest of a source: the activations at its last token, which a grid patches in.

use std::collections::HashMap;
use std::rc::Rc;

use tch::{Kind, Tensor};

use super::request::{Origin, Request};
use super::sample::Sample;
use super::set;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::block::Block;
use crate::model::decoder::{Decoder, Logits, not_finite_hint};
use crate::model::hook::{HookPoint, Site};
use crate::model::run::{Action, Hooks};
use crate::tensor::raw::Arithmetic;

/// The activations of `source` at its last token, for every layer: [d_model], [head, width] for heads, [d_mlp].
///
/// # Errors
/// An empty source, ids out of range, too little memory.
pub fn digest(decoder: &Decoder, source: &[i64], site: Site) -> Result<Vec<Tensor>> {
    let points: Vec<HookPoint> = (0..decoder.config.n_layers).map(|layer| HookPoint { site, layer }).collect();
    let mut hooks = Hooks::none();
    hooks.add(&decoder.config, points.clone(), "source", Action::Capture);
    let _logits = decoder.forward(&decoder.tokens(&[source.to_vec()])?, Logits::Last, &mut hooks)?;
    let cache = hooks.finish()?;
    points
        .iter()
        .map(|point| {
            let missing = || Error::new(format!("`{}` was not captured", point.name()));
            Ok(cache.get(*point).ok_or_else(missing)?.f_select(0, 0)?.f_select(0, -1)?.f_contiguous()?)
        })
        .collect()
}

/// What a request patches into its samples, each computed once.
pub struct Digests<'a> {
    decoder: &'a Decoder,
    request: &'a Request,
    samples: &'a [Sample],
    computed: HashMap<&'a [i64], Rc<Vec<Tensor>>>,
    mean: Option<Rc<Vec<Tensor>>>,
}

impl<'a> Digests<'a> {
    /// The digests of a request's `samples`, none of them computed yet.
    pub fn new(decoder: &'a Decoder, request: &'a Request, samples: &'a [Sample]) -> Self {
        Self { decoder, request, samples, computed: HashMap::new(), mean: None }
    }

    /// The activations to patch into one sample, one tensor per layer (see [`digest`]).
    ///
    /// # Errors
    /// Activations that are not finite; too little memory; Ctrl-C.
    pub fn get(&mut self, sample: usize) -> Result<Rc<Vec<Tensor>>> {
        if matches!(self.request.origin, Origin::Mean) {
            if let Some(mean) = &self.mean {
                return Ok(Rc::clone(mean));
            }
            let mean = Rc::new(self.mean()?);
            self.mean = Some(Rc::clone(&mean));
            return Ok(mean);
        }
        self.of_sample(sample)
    }

    /// What one sample's own source has.
    fn of_sample(&mut self, sample: usize) -> Result<Rc<Vec<Tensor>>> {
        let source = self.samples[sample].source.as_slice();
        if let Some(known) = self.computed.get(source) {
            return Ok(Rc::clone(known));
        }
        let decoder = self.decoder;
        let (vectors, what) = match &self.request.origin {
            Origin::Vectors(vectors) => {
                let own = |(block, vector): (&Block, &Tensor)| {
                    Ok(vector.f_to_device_(block.device(), decoder.kind, false, false)?)
                };
                (
                    decoder.blocks.iter().zip(vectors.iter()).map(own).collect::<Result<Vec<_>>>()?,
                    "the given vector".to_owned(),
                )
            }
            Origin::Zero => {
                let zeros = set::shape(&decoder.config, self.request.site);
                let zeros = |block: &Block| Ok(Tensor::f_zeros(zeros.as_slice(), (decoder.kind, block.device()))?);
                (decoder.blocks.iter().map(zeros).collect::<Result<Vec<_>>>()?, "zero".to_owned())
            }
            Origin::Source(_) | Origin::Mean | Origin::Resample(_) => {
                (digest(decoder, source, self.request.site)?, format!("the source of sample {sample}"))
            }
        };
        for (layer, vector) in vectors.iter().enumerate() {
            if vector.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                return Err(Error::new(format!("{what} holds infinity or NaN at layer {layer}"))
                    .hint(not_finite_hint(decoder.kind)));
            }
        }
        let vectors = Rc::new(vectors);
        self.computed.insert(source, Rc::clone(&vectors));
        Ok(vectors)
    }

    /// The mean over all samples, each layer's in the model's dtype.
    fn mean(&mut self) -> Result<Vec<Tensor>> {
        let (kind, count) = (self.decoder.kind, self.samples.len());
        let mut sums: Vec<Tensor> = Vec::new();
        for sample in 0..count {
            interrupt::check()?;
            for (layer, vector) in self.of_sample(sample)?.iter().enumerate() {
                let vector = vector.f_to_kind(Kind::Double)?;
                match sums.get_mut(layer) {
                    Some(sum) => *sum = sum.f_add(&vector)?,
                    None => sums.push(vector),
                }
            }
        }
        sums.iter().map(|sum| Ok(sum.times(1.0 / count as f64)?.f_to_kind(kind)?)).collect()
    }
}
