//! The digest of a source: the activations at its last token, which a grid patches into its targets.

use std::collections::HashMap;
use std::rc::Rc;

use tch::Tensor;

use super::request::Request;
use crate::error::{Error, Result};
use crate::model::decoder::{Decoder, Logits, not_finite_hint};
use crate::model::hook::{HookPoint, Site};
use crate::model::run::{Action, Hooks};

/// The activations of `source` at its last token: for every layer, [d_model], or [head, d_head] for heads.
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

/// The digests of a request's sources, each computed once.
pub struct Digests<'a> {
    decoder: &'a Decoder,
    request: &'a Request,
    computed: HashMap<&'a [i64], Rc<Vec<Tensor>>>,
}

impl<'a> Digests<'a> {
    /// The digests of `request`, none of them computed yet.
    pub fn new(decoder: &'a Decoder, request: &'a Request) -> Self {
        Self { decoder, request, computed: HashMap::new() }
    }

    /// The activations to patch into one sample: for every layer, [d_model], or [head, d_head] for heads.
    ///
    /// # Errors
    /// Activations that are not finite; too little memory.
    pub fn get(&mut self, sample: usize) -> Result<Rc<Vec<Tensor>>> {
        let source = if self.request.vectors.is_some() { &[][..] } else { self.request.source(sample) };
        if let Some(known) = self.computed.get(source) {
            return Ok(Rc::clone(known));
        }
        let decoder = self.decoder;
        let (vectors, what) = match &self.request.vectors {
            Some(vectors) => {
                let own = |vector: &Tensor| Ok(vector.f_to_device_(decoder.device, decoder.kind, false, false)?);
                (vectors.iter().map(own).collect::<Result<Vec<_>>>()?, "the given vector".to_owned())
            }
            None => (digest(decoder, source, self.request.site)?, format!("the source of sample {sample}")),
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
}
