//! Sets of places that are patched together: layers, or heads of layers.

use std::fmt::{self, Display, Formatter};

use tch::Tensor;

use crate::error::Result;
use crate::model::config::Config;
use crate::model::hook::{HookPoint, Site};
use crate::model::intervention::{At, Change, Intervention};

/// One place: a layer, or one of its heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// The layer
    pub layer: i64,
    /// The head, where single heads are patched
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
    /// The element's part of a layer's activations: [.., d_model] whole, or its head's [.., d_head] of [.., head,
    /// d_head].
    ///
    /// # Errors
    /// Activations without such a head.
    pub fn part(&self, activations: &Tensor) -> Result<Tensor> {
        Ok(match self.head {
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
    set.iter().map(Element::to_string).collect::<Vec<_>>().join("+")
}

/// Every place of a model at which `site` can be patched.
pub fn elements(config: &Config, site: Site) -> Vec<Element> {
    (0..config.n_layers)
        .flat_map(|layer| match site {
            Site::Z => (0..config.n_heads).map(|head| Element { layer, head: Some(head) }).collect::<Vec<_>>(),
            _ => vec![Element { layer, head: None }],
        })
        .collect()
}

/// All sets of the given sizes, in order of their elements: [0], [0, 1], .., [1], ...
pub fn all(elements: &[Element], sizes: &[usize]) -> Vec<Set> {
    let largest = sizes.iter().copied().max().unwrap_or(0);
    let mut sets = Vec::new();
    extend(elements, 0, &mut Vec::new(), largest, &mut |set| {
        if sizes.contains(&set.len()) {
            sets.push(set.to_vec());
        }
    });
    sets
}

fn extend(elements: &[Element], from: usize, set: &mut Set, largest: usize, keep: &mut impl FnMut(&[Element])) {
    if set.len() == largest {
        return;
    }
    for (index, element) in elements.iter().enumerate().skip(from) {
        set.push(*element);
        keep(set);
        extend(elements, index + 1, set, largest, keep);
        set.pop();
    }
}
