//! The request for paths: where they start and end, and which edges they may follow.

use tch::Device;

use crate::device::check_memory;
use crate::error::{Error, Result};
use crate::linear::live::Through;
use crate::linear::map::LinearMap;
use crate::model::config::Config;

/// The most heads of a layer: an edge has one bit for each.
const MAX_HEADS: i64 = 128;

/// Which keys a head's edges lead from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Edges {
    /// The one that it attends to most (the paper's choice)
    Argmax,
    /// All that it can see
    All,
    /// The fewest that hold this share of its attention
    TopP(f64),
}

/// The map of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The paper's Eq. 3: heads weighted by their attention, the residual stream from a position to itself only
    Eq3,
    /// The paper's released code: on every edge all heads with weight 1, and the residual stream
    Released,
}

/// The granularity of a path's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// From token to token, along all of the edge's heads at once
    Token,
    /// Along one head, or the residual stream alone
    Head,
}

/// Which paths a graph should have.
#[derive(Debug, Clone)]
pub struct GraphRequest {
    /// Positions that paths start from
    pub from: Vec<i64>,
    /// Position where they end
    pub to: i64,
    /// Which keys edges lead from
    pub edges: Edges,
    /// Which map an edge stands for
    pub mode: Mode,
    /// Whether heads have edges of their own
    pub granularity: Granularity,
    /// The layer before which they end; None: after the last
    pub until: Option<usize>,
    /// What of a head they may pass
    pub through: Through,
}

impl GraphRequest {
    /// Refuses a request that has no graph in `map`; [`Self::check_mode`] and [`Self::check_memory`] check the rest.
    ///
    /// # Errors
    /// A model whose attention looks ahead, a prompt of one token, no or a wrong position, a start after the end; a share outside 0 to 1; more than 128
    /// heads.
    pub fn check(&self, map: &LinearMap) -> Result<()> {
        map.config().check_causal("tracing paths")?;
        if map.length() < 2 {
            return Err(Error::new("the prompt is one token, so it has no paths between tokens")
                .hint("give at least two tokens"));
        }
        if self.from.is_empty() {
            return Err(Error::new("there is no position for paths to start from"));
        }
        map.position(self.to)?;
        if let Some(layer) = self.until {
            map.check_node_layer(layer as i64)?;
        }
        for source in &self.from {
            map.position(*source)?;
            if *source > self.to {
                return Err(Error::new(format!(
                    "paths cannot lead from position {source} to {}, which is before it",
                    self.to
                ))
                .hint("attention only looks back: paths start where they end, or before"));
            }
        }
        if let Edges::TopP(share) = self.edges
            && !(share > 0.0 && share <= 1.0)
        {
            return Err(Error::new(format!("edges cannot hold {share} of a head's attention"))
                .hint("a share above 0 and up to 1"));
        }
        match map.config().n_heads {
            heads if heads > MAX_HEADS => {
                Err(Error::new(format!("paths are traced for up to {MAX_HEADS} heads, and this model has {heads}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what the paper's released code cannot do.
    ///
    /// # Errors
    /// Released mode with grouped queries, for single heads, or through queries and keys; queries and keys of several
    /// heads at once.
    pub fn check_mode(&self, config: &Config) -> Result<()> {
        if self.mode == Mode::Eq3 {
            return match (self.through, self.granularity) {
                (Through::All, Granularity::Token) => {
                    Err(Error::new("paths through queries and keys pass one head at a time"))
                }
                _ => Ok(()),
            };
        }
        if self.through == Through::All {
            return Err(Error::new(
                "released mode has weights of 1 in place of patterns, so that no path leads through queries or keys",
            ));
        }
        if config.n_kv_heads != config.n_heads {
            return Err(Error::new(format!(
                "released mode needs one key-value head per head; this model has {} for {}",
                config.n_kv_heads, config.n_heads
            )));
        }
        match self.granularity {
            Granularity::Token => Ok(()),
            Granularity::Head => {
                Err(Error::new("released mode sums all heads on every edge, so there are no paths of single heads"))
            }
        }
    }

    /// Refuses a graph whose edges do not fit in memory.
    ///
    /// # Errors
    /// All edges of a long prompt.
    pub fn check_memory(&self, map: &LinearMap) -> Result<()> {
        if self.edges != Edges::All {
            return Ok(());
        }
        let (length, heads) = (map.length(), map.config().n_heads);
        let pairs = (length * (length + 1) / 2 * map.depth() as i64) as f64;
        let edges = match self.granularity {
            Granularity::Head if self.through == Through::All => pairs * (2 * heads + 1) as f64,
            Granularity::Head => pairs * (heads + 1) as f64,
            Granularity::Token => pairs,
        };
        check_memory("edges", edges * (64 + 16 * heads) as f64, Device::Cpu)
    }
}
