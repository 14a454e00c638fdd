//! Sets of places that are patched together: layers, or heads or neurons of layers.

use std::fmt::{self, Display, Formatter};

use tch::Tensor;

use crate::error::{Error, Result};
use crate::model::config::Config;
use crate::model::hook::{HookPoint, Site};
use crate::model::intervention::{At, Change, Intervention};

/// One place: a layer, or one of its heads or neurons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// The layer
    pub layer: i64,
    /// The head, where single heads are patched, or the neuron
    pub head: Option<i64>,
}

/// Places patched together, in order of layer and head.
pub type Set = Vec<Element>;

impl Display for Element {
    /// `3`, or `3.5` for head 5 of layer 3.
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.head {
            None => write!(formatter, "{}", self.layer),
            Some(head) => write!(formatter, "{}.{head}", self.layer),
        }
    }
}

impl Element {
    /// The element's part of a layer's activations: [..] whole, or its head's [.., width] of [.., head, width], or its
    /// neuron's [..] of [.., neuron].
    ///
    /// # Errors
    /// Activations without such a head.
    pub fn part(&self, site: Site, activations: &Tensor) -> Result<Tensor> {
        Ok(match self.head {
            Some(neuron) if site == Site::MlpPost => activations.f_select(-1, neuron)?,
            Some(head) => activations.f_select(-2, head)?,
            None => activations.shallow_clone(),
        })
    }

    /// The intervention that patches `value` into the element at `position` of all samples.
    pub fn patch(&self, site: Site, position: i64, value: Tensor) -> Intervention {
        Intervention {
            point: HookPoint { site, layer: self.layer },
            positions: At::One(position),
            rows: None,
            head: self.head,
            change: Change::Patch(value),
        }
    }
}

/// The text of a set: its elements joined by `+`, such as `3+7`.
pub fn name(set: &[Element]) -> String {
    if set.is_empty() {
        return "none".to_owned();
    }
    set.iter().map(Element::to_string).collect::<Vec<_>>().join("+")
}

/// The number of heads or neurons of a layer at `site`; None where a layer is one place.
fn places(config: &Config, site: Site) -> Option<i64> {
    match site {
        Site::Z | Site::Query | Site::QueryIn => Some(config.n_heads),
        Site::Key | Site::Value | Site::KeyIn | Site::ValueIn => Some(config.n_kv_heads),
        Site::MlpPost => Some(config.d_mlp),
        _ => None,
    }
}

/// The shape of what a source has at `site` in one layer.
pub fn shape(config: &Config, site: Site) -> Vec<i64> {
    let width = match site {
        Site::MlpPost => None,
        Site::Z | Site::Query | Site::Key | Site::Value => Some(config.d_head),
        _ => Some(config.d_model),
    };
    places(config, site).into_iter().chain(width).collect()
}

/// Every place of a model at which `site` can be patched.
///
/// # Errors
/// A model without the site.
pub fn elements(config: &Config, site: Site) -> Result<Vec<Element>> {
    if let Some(layer) = (0..config.n_layers).find(|layer| !HookPoint { site, layer: *layer }.exists(config)) {
        return Err(Error::new(format!("layer {layer} of this model has no {}", site.name())));
    }
    if site == Site::MlpPost && config.experts.is_some() {
        return Err(Error::new("the neurons of a model with experts are those of each expert")
            .hint("patch `mlp_out`, or use hooks"));
    }
    let of_layer = |layer| -> Vec<Element> {
        match places(config, site) {
            Some(count) => (0..count).map(|head| Element { layer, head: Some(head) }).collect(),
            None => vec![Element { layer, head: None }],
        }
    };
    Ok((0..config.n_layers).flat_map(of_layer).collect())
}

/// The number of sets of `k` of `n` elements.
pub fn binomial(n: usize, k: usize) -> f64 {
    (0..k).map(|step| (n as f64 - step as f64) / (step + 1) as f64).product()
}

/// All sets of the given sizes, in order of their elements: [0], [0, 1], .., [1], ...
pub fn all(elements: &[Element], sizes: &[usize]) -> Vec<Set> {
    let mut sets = Vec::new();
    extend(elements, 0, &mut Vec::new(), sizes, &mut |set| sets.push(set.to_vec()));
    sets
}

/// Calls `keep` with the sets of those sizes that begin with `set`, and goes no way that leads to none.
fn extend(elements: &[Element], from: usize, set: &mut Set, sizes: &[usize], keep: &mut impl FnMut(&[Element])) {
    let length = set.len();
    let leads = |index: usize| sizes.iter().any(|size| (length + 1..=length + elements.len() - index).contains(size));
    for (index, element) in elements.iter().enumerate().skip(from).take_while(|(index, _)| leads(*index)) {
        set.push(*element);
        if sizes.contains(&set.len()) {
            keep(set);
        }
        extend(elements, index + 1, set, sizes, keep);
        set.pop();
    }
}
