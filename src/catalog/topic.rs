//! The topics of the reference. Each native function carries its topic as the first of its comments.

use std::fmt::{self, Display, Formatter};

/// Begins the comment that names a topic; the help leaves it out.
const MARK: &str = "/// @topic ";

/// A page of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Loading, tokens, running, generating, weights.
    Models,
    /// Caches, hooks, interventions.
    Hooks,
    /// `patch_grid`, `sweep` and their results.
    Grids,
    /// Gradients' uses: components, edges, circuits.
    Circuits,
    /// Frozen maps, paths and graphs of paths.
    Linear,
    /// The type `tensor`.
    Tensors,
    /// The module `stats`.
    Statistics,
    /// Text, JSON, CSV, parquet, safetensors, tasks.
    Files,
    /// The type `table`.
    Tables,
    /// The type `figure`.
    Plots,
    /// Runs in shards.
    Cluster,
    /// Everything else.
    Utilities,
}

impl Topic {
    /// All topics, in the order of the reference.
    pub const ALL: [Self; 12] = [
        Self::Models,
        Self::Hooks,
        Self::Grids,
        Self::Circuits,
        Self::Linear,
        Self::Tensors,
        Self::Statistics,
        Self::Files,
        Self::Tables,
        Self::Plots,
        Self::Cluster,
        Self::Utilities,
    ];

    /// The title of the page.
    pub fn title(self) -> &'static str {
        match self {
            Self::Models => "Models",
            Self::Hooks => "Hooks and interventions",
            Self::Grids => "Grids and sweeps",
            Self::Circuits => "Attribution and circuits",
            Self::Linear => "Linear maps and paths",
            Self::Tensors => "Tensors",
            Self::Statistics => "Statistics",
            Self::Files => "Files",
            Self::Tables => "Tables and reports",
            Self::Plots => "Plots",
            Self::Cluster => "Runs on a cluster",
            Self::Utilities => "Utilities",
        }
    }

    /// The comment that gives a function this topic.
    pub fn comment(self) -> String {
        format!("{MARK}{self}")
    }

    /// The topic that a function's comments name.
    pub fn of<'a>(mut comments: impl Iterator<Item = &'a str>) -> Option<Self> {
        let title = comments.find_map(|comment| comment.strip_prefix(MARK))?;
        Self::ALL.into_iter().find(|topic| topic.title() == title)
    }

    /// Whether a comment names a topic.
    pub fn is_comment(comment: &str) -> bool {
        comment.starts_with(MARK)
    }
}

impl Display for Topic {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.title())
    }
}
