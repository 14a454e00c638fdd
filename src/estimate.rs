//! What a model and its runs will take on each device: told from its config, before anything is loaded.

use std::iter::successors;

use tch::{Device, Kind};

use crate::error::Result;
use crate::grid::memory::{self, Size};
use crate::model::config::Config;
use crate::model::language_model::{LanguageModel, LoadOptions};
use crate::model::placement::Placement;
use crate::model::room::{self, Machine};
use crate::model::size::Counts;

/// What is done with a model.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// Tokens of a prompt; 0: nothing runs
    pub length: i64,
    /// Prompts that run together
    pub batch: i64,
    /// Tokens that are generated after each
    pub new_tokens: i64,
    /// Every activation that a run computes anyway is cached
    pub cached: bool,
    /// A grid of patches
    pub grid: Option<Size>,
}

/// What one device takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// The device
    pub device: Device,
    /// Its weights
    pub weights: f64,
    /// What a run holds at most: keys and values, activations, logits
    pub run: f64,
    /// What a cache keeps of it
    pub cache: f64,
    /// What a grid holds at most
    pub grid: f64,
}

impl Share {
    /// What it takes at most: a run and a grid come one after the other.
    pub fn total(&self) -> f64 {
        self.weights + (self.run + self.cache).max(self.grid)
    }
}

/// What a model and its runs take.
#[derive(Debug)]
pub struct Estimate {
    /// The model's config
    pub config: Config,
    /// The numbers of its weights
    pub counts: Counts,
    /// Where they go
    pub placement: Placement,
    /// What each device takes
    pub shares: Vec<Share>,
    /// The first device without room
    pub lacking: Option<Share>,
    /// What would fit instead, in words, where there is no room
    pub fitting: Vec<String>,
}

impl Estimate {
    /// The estimate for a model, whose config is fetched where it is missing. No weights are read or fetched.
    ///
    /// # Errors
    /// No such model, a config that is not supported; devices that the machine lacks; a grid that the model does not have.
    pub fn new(id: &str, options: &LoadOptions, machine: &Machine, work: &Work) -> Result<Self> {
        let places = machine.places(options)?;
        let config = LanguageModel::config_of(id, options)?;
        let counts = Counts::new(&config);
        let nodes = work.grid.as_ref().map(|size| size.tokens(&config)).transpose()?.unwrap_or(0.0);
        let need = Need { config: &config, counts: &counts, length: work.length as f64, cached: work.cached };
        let load = Load { batch: work.batch as f64, new_tokens: work.new_tokens as f64, nodes };
        let bytes = |placement: &Placement, kind: Kind, load: Load| -> Vec<(Device, f64)> {
            need.shares(placement, kind, load).iter().map(|share| (share.device, share.total())).collect()
        };
        let placement = machine.placement(&counts, places);
        let shares = need.shares(&placement, options.kind, load);
        let lacking = machine.lacking(bytes(&placement, options.kind, load)).map(|(device, _)| device);
        let mut fitting = Vec::new();
        if lacking.is_some() {
            let choice = (options.kind, places);
            fitting = machine.fitting(&counts, choice, &|placement, kind| bytes(placement, kind, load));
            let fits = |part: f64| {
                let load = Load { batch: (load.batch * part).ceil(), nodes: load.nodes * part, ..load };
                machine.lacking(bytes(&placement, options.kind, load)).is_none()
            };
            let together = work.grid.as_ref().map_or(work.batch, |size| size.samples);
            let halves = successors(Some(together / 2), |fewer| Some(fewer / 2)).take_while(|fewer| *fewer > 0);
            let fewer = halves.into_iter().find(|fewer| fits(*fewer as f64 / together as f64));
            let what = if work.grid.is_some() { "samples" } else { "prompts" };
            fitting.extend(fewer.map(|fewer| format!("with at most {fewer} {what} at once it fits as it is")));
        }
        let lacking = shares.iter().find(|share| Some(share.device) == lacking).copied();
        Ok(Self { placement, shares, lacking, fitting, counts, config })
    }
}

/// How much runs together.
#[derive(Clone, Copy)]
struct Load {
    batch: f64,
    new_tokens: f64,
    /// Tokens that a grid holds a residual stream for
    nodes: f64,
}

/// What does not depend on how much runs together, nor where.
struct Need<'a> {
    config: &'a Config,
    counts: &'a Counts,
    length: f64,
    cached: bool,
}

impl Need<'_> {
    /// What each device takes.
    fn shares(&self, placement: &Placement, kind: Kind, load: Load) -> Vec<Share> {
        let config = self.config;
        let size = kind.elt_size_in_bytes() as f64;
        let tokens = load.batch * self.length;
        let is_generating = load.new_tokens > 0.0;
        let seen = if is_generating { tokens + load.batch * load.new_tokens } else { 0.0 };
        let key_values = 2.0 * (config.n_kv_heads * config.d_head) as f64 * seen;
        let share = |(device, weights): (Device, f64)| {
            let layers = placement.layers.iter().filter(|own| **own == device).count() as f64;
            let has_layers = f64::from(u8::from(layers > 0.0));
            // Generating needs the logits of the last position only.
            let positions = if is_generating { load.batch } else { tokens };
            let logits = f64::from(u8::from(placement.output == device)) * positions * config.d_vocab_out as f64;
            // What layers gave back is not free for the logits at once.
            let run = key_values * layers + has_layers * tokens * self.held() + 2.0 * logits;
            let cache = if self.cached { tokens * self.kept() * layers + logits } else { 0.0 };
            // A grid's activations go from device to device with its layers; in place, with what a layer makes of some.
            let at_once = memory::tokens_at_once(load.nodes, device);
            let grid = has_layers * (2.0 * load.nodes * config.d_model as f64 + at_once * self.held());
            Share { device, weights, run: run * size, cache: cache * size, grid: grid * size }
        };
        room::weights(self.counts, placement, kind).into_iter().map(share).collect()
    }

    /// Numbers, for each token, that a layer holds at once: the residual stream, and what attention or the MLP makes of it.
    fn held(&self) -> f64 {
        let config = self.config;
        let (heads, keys) = (config.n_heads * config.d_head, config.n_kv_heads * config.d_head);
        // Scores, their softmax and the pattern.
        let scores = 3.0 * config.n_heads as f64 * self.length;
        let attention = (3 * heads + 4 * keys) as f64 + scores;
        let experts = config.experts.map_or(1, |experts| experts.per_token);
        let mlp = experts * config.d_mlp * if config.gated_mlp { 4 } else { 3 };
        6.0 * config.d_model as f64 + attention.max(mlp as f64)
    }

    /// Numbers, for each token, that a cache of everything keeps of a layer.
    fn kept(&self) -> f64 {
        let config = self.config;
        let (heads, keys) = (config.n_heads * config.d_head, config.n_kv_heads * config.d_head);
        // Queries and keys before and after their rotation and, where there is one, their norm.
        let stages = if config.has_query_key_norm() { 4 } else { 2 };
        let attention = (stages * (heads + keys) + keys + heads) as f64 + 2.0 * config.n_heads as f64 * self.length;
        // With experts, the hidden activations of all are kept.
        let experts = config.experts.map_or(1, |experts| experts.count);
        let maps = if config.gated_mlp { 3 } else { 2 };
        let mlp = if config.attention_only { 0 } else { experts * config.d_mlp * maps };
        // The stream before, between and after, what norms give, what is added.
        9.0 * config.d_model as f64 + attention + mlp as f64
    }
}
