//! The nodes that scores are given to: places of the residual stream, what components add to it, heads, neurons.

use crate::error::Result;
use crate::grid::set::{self, Element};
use crate::model::config::Config;
use crate::model::hook::{HookPoint, Site};

/// A kind of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The embedded tokens
    Embed,
    /// The residual stream before a layer
    ResidPre,
    /// The residual stream after a layer's attention
    ResidMid,
    /// The residual stream after a layer
    ResidPost,
    /// What attention adds
    AttentionOut,
    /// What an MLP adds
    MlpOut,
    /// What a head mixes
    Head,
    /// A neuron of an MLP
    Neuron,
    /// The query of a head
    Query,
    /// The key of a key head
    Key,
    /// The value of a value head
    Value,
}

impl Kind {
    /// Every kind with its name in scripts.
    pub const NAMES: [(&'static str, Self); 11] = [
        ("embed", Self::Embed),
        ("resid_pre", Self::ResidPre),
        ("resid_mid", Self::ResidMid),
        ("resid_post", Self::ResidPost),
        ("attn_out", Self::AttentionOut),
        ("mlp_out", Self::MlpOut),
        ("head", Self::Head),
        ("neuron", Self::Neuron),
        ("q", Self::Query),
        ("k", Self::Key),
        ("v", Self::Value),
    ];

    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }

    /// The hook that holds nodes of this kind.
    pub fn site(self) -> Site {
        match self {
            Self::Embed => Site::Embed,
            Self::ResidPre => Site::ResidPre,
            Self::ResidMid => Site::ResidMid,
            Self::ResidPost => Site::ResidPost,
            Self::AttentionOut => Site::AttentionOut,
            Self::MlpOut => Site::MlpOut,
            Self::Head => Site::Z,
            Self::Neuron => Site::MlpPost,
            Self::Query => Site::Query,
            Self::Key => Site::Key,
            Self::Value => Site::Value,
        }
    }

    /// Whether it is a place of the residual stream, which all layers before it have written to.
    pub fn is_residual(self) -> bool {
        matches!(self, Self::Embed | Self::ResidPre | Self::ResidMid | Self::ResidPost)
    }

    /// The points of all layers.
    ///
    /// # Errors
    /// A model without them.
    pub fn points(self, config: &Config) -> Result<Vec<HookPoint>> {
        let site = self.site();
        let mut layers: Vec<i64> = self.elements(config)?.iter().map(|element| element.layer).collect();
        layers.dedup();
        Ok(layers.into_iter().map(|layer| HookPoint { site, layer }).collect())
    }

    fn elements(self, config: &Config) -> Result<Vec<Element>> {
        match self {
            Self::Embed => Ok(vec![Element { layer: 0, head: None }]),
            _ => set::elements(config, self.site()),
        }
    }
}

// A kind's number is its place in the list.
const _: () = {
    let mut place = 0;
    while place < Kind::NAMES.len() {
        assert!(Kind::NAMES[place].1 as usize == place);
        place += 1;
    }
};

/// One node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Its kind
    pub kind: Kind,
    /// Its layer and, where the kind has them, head or neuron
    pub element: Element,
}

impl Node {
    /// The hook that holds it.
    pub fn point(&self) -> HookPoint {
        HookPoint { site: self.kind.site(), layer: self.element.layer }
    }

    /// Its name: `a3.h5` for a head and `m3` for an MLP, as the MIB track has them; `a3`, `m3.n17`, `a3.h5<q>`, `r3.post`.
    /// A key or value that several query heads share is `a3.kv1<k>`.
    pub fn name(&self, config: &Config) -> String {
        let Element { layer, head } = self.element;
        let part = head.map_or(String::new(), |head| head.to_string());
        let shared = if config.n_kv_heads < config.n_heads { "kv" } else { "h" };
        match self.kind {
            Kind::Embed => "input".to_owned(),
            Kind::ResidPre => format!("r{layer}.pre"),
            Kind::ResidMid => format!("r{layer}.mid"),
            Kind::ResidPost => format!("r{layer}.post"),
            Kind::AttentionOut => format!("a{layer}"),
            Kind::MlpOut => format!("m{layer}"),
            Kind::Head => format!("a{layer}.h{part}"),
            Kind::Neuron => format!("m{layer}.n{part}"),
            Kind::Query => format!("a{layer}.h{part}<q>"),
            Kind::Key => format!("a{layer}.{shared}{part}<k>"),
            Kind::Value => format!("a{layer}.{shared}{part}<v>"),
        }
    }
}

/// All nodes of some kinds, kind by kind, in order of layer and head.
///
/// # Errors
/// A model without one of the kinds.
pub fn nodes(kinds: &[Kind], config: &Config) -> Result<Vec<Node>> {
    let of_kind = |kind: &Kind| -> Result<Vec<Node>> {
        Ok(kind.elements(config)?.into_iter().map(|element| Node { kind: *kind, element }).collect())
    };
    Ok(kinds.iter().map(of_kind).collect::<Result<Vec<_>>>()?.concat())
}
