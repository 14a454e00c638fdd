//! The places where a run can be read and changed: their names (TransformerLens's), and which of them a model has.

use crate::model::config::{Config, NormPlacement, PositionEmbedding};

/// A kind of place; those inside a block occur once per layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
#[allow(missing_docs)] // The names are the literature's own.
pub enum Site {
    Embed,
    PosEmbed,
    ResidPre,
    Ln1In,
    Ln1Scale,
    Ln1Normalized,
    Ln1Out,
    AttentionIn,
    HeadsIn,
    QueryIn,
    KeyIn,
    ValueIn,
    QueryNormedIn,
    KeyNormedIn,
    ValueNormedIn,
    Query,
    Key,
    Value,
    QueryNormScale,
    QueryNormNormalized,
    QueryNormed,
    KeyNormScale,
    KeyNormNormalized,
    KeyNormed,
    RotaryCos,
    RotarySin,
    RotaryQuery,
    RotaryKey,
    AttentionScores,
    Pattern,
    Z,
    HeadResult,
    AttentionRaw,
    Ln1PostScale,
    Ln1PostNormalized,
    AttentionOut,
    ResidMid,
    MlpIn,
    Ln2Scale,
    Ln2Normalized,
    Ln2Out,
    MlpNormedIn,
    RouterScores,
    ExpertWeights,
    MlpGateIn,
    MlpUpIn,
    MlpPre,
    MlpPreLinear,
    MlpMid,
    MlpNormScale,
    MlpNormNormalized,
    MlpPost,
    MlpRaw,
    Ln2PostScale,
    Ln2PostNormalized,
    MlpOut,
    ResidPost,
    LnFinalScale,
    LnFinalNormalized,
    LnFinalOut,
    Unembed,
}

/// Every site in order of execution, with its name (inside a block: what follows `blocks.{l}.`).
pub(super) const SITES: &[(Site, &str)] = &[
    (Site::Embed, "hook_embed"),
    (Site::PosEmbed, "hook_pos_embed"),
    (Site::ResidPre, "hook_resid_pre"),
    (Site::Ln1In, "ln1.hook_in"),
    (Site::Ln1Scale, "ln1.hook_scale"),
    (Site::Ln1Normalized, "ln1.hook_normalized"),
    (Site::Ln1Out, "ln1.hook_out"),
    (Site::AttentionIn, "attn.hook_in"),
    (Site::HeadsIn, "hook_attn_in"),
    (Site::QueryIn, "hook_q_input"),
    (Site::KeyIn, "hook_k_input"),
    (Site::ValueIn, "hook_v_input"),
    (Site::QueryNormedIn, "attn.q.hook_in"),
    (Site::KeyNormedIn, "attn.k.hook_in"),
    (Site::ValueNormedIn, "attn.v.hook_in"),
    (Site::Query, "attn.hook_q"),
    (Site::Key, "attn.hook_k"),
    (Site::Value, "attn.hook_v"),
    (Site::QueryNormScale, "attn.q_norm.hook_scale"),
    (Site::QueryNormNormalized, "attn.q_norm.hook_normalized"),
    (Site::QueryNormed, "attn.hook_q_normed"),
    (Site::KeyNormScale, "attn.k_norm.hook_scale"),
    (Site::KeyNormNormalized, "attn.k_norm.hook_normalized"),
    (Site::KeyNormed, "attn.hook_k_normed"),
    (Site::RotaryCos, "attn.hook_cos"),
    (Site::RotarySin, "attn.hook_sin"),
    (Site::RotaryQuery, "attn.hook_rot_q"),
    (Site::RotaryKey, "attn.hook_rot_k"),
    (Site::AttentionScores, "attn.hook_attn_scores"),
    (Site::Pattern, "attn.hook_pattern"),
    (Site::Z, "attn.hook_z"),
    (Site::HeadResult, "attn.hook_result"),
    (Site::AttentionRaw, "attn.hook_out"),
    (Site::Ln1PostScale, "ln1_post.hook_scale"),
    (Site::Ln1PostNormalized, "ln1_post.hook_normalized"),
    (Site::AttentionOut, "hook_attn_out"),
    (Site::ResidMid, "hook_resid_mid"),
    (Site::MlpIn, "hook_mlp_in"),
    (Site::Ln2Scale, "ln2.hook_scale"),
    (Site::Ln2Normalized, "ln2.hook_normalized"),
    (Site::Ln2Out, "ln2.hook_out"),
    (Site::MlpNormedIn, "mlp.hook_in"),
    (Site::RouterScores, "mlp.hook_router_scores"),
    (Site::ExpertWeights, "mlp.hook_expert_weights"),
    (Site::MlpGateIn, "mlp.gate.hook_in"),
    (Site::MlpUpIn, "mlp.in.hook_in"),
    (Site::MlpPre, "mlp.hook_pre"),
    (Site::MlpPreLinear, "mlp.hook_pre_linear"),
    (Site::MlpMid, "mlp.hook_mid"),
    (Site::MlpNormScale, "mlp.ln.hook_scale"),
    (Site::MlpNormNormalized, "mlp.ln.hook_normalized"),
    (Site::MlpPost, "mlp.hook_post"),
    (Site::MlpRaw, "mlp.hook_out"),
    (Site::Ln2PostScale, "ln2_post.hook_scale"),
    (Site::Ln2PostNormalized, "ln2_post.hook_normalized"),
    (Site::MlpOut, "hook_mlp_out"),
    (Site::ResidPost, "hook_resid_post"),
    (Site::LnFinalScale, "ln_final.hook_scale"),
    (Site::LnFinalNormalized, "ln_final.hook_normalized"),
    (Site::LnFinalOut, "ln_final.hook_out"),
    (Site::Unembed, "hook_unembed"),
];

// A site's number is its place in the list.
const _: () = {
    let mut place = 0;
    while place < SITES.len() {
        assert!(SITES[place].0 as usize == place);
        place += 1;
    }
};

impl Site {
    /// The number of kinds of site.
    pub const COUNT: usize = SITES.len();

    /// The name; inside a block, what follows `blocks.{l}.`.
    pub fn name(self) -> &'static str {
        SITES[self as usize].1
    }

    /// Whether it occurs once per layer.
    pub fn in_block(self) -> bool {
        (Self::ResidPre..=Self::ResidPost).contains(&self)
    }

    /// Whether it holds a vector of the residual stream's width for every head. Such a site is computed, and cached,
    /// only where it is asked for.
    pub fn is_per_head(self) -> bool {
        matches!(self, Self::HeadsIn | Self::QueryIn | Self::KeyIn | Self::ValueIn | Self::HeadResult)
    }

    /// Whether its first dimension runs over the samples; the rotary embedding is the same for all of them.
    pub fn has_samples(self) -> bool {
        !matches!(self, Self::RotaryCos | Self::RotarySin)
    }

    /// The dimension that runs over the (query) positions of an activation with `rank` dimensions.
    pub fn position_dim(self, rank: usize) -> i64 {
        match self.head_dim(rank) {
            Some(1) => 2,
            _ => 1,
        }
    }

    /// The dimension that runs over heads of an activation with `rank` dimensions, if there is one.
    pub fn head_dim(self, rank: usize) -> Option<i64> {
        match self {
            Self::AttentionScores | Self::Pattern => Some(1),
            // TransformerLens's norms of queries and keys see the heads first, unless one norm spans them all.
            _ if self.is_query_key_norm() => (rank == 4).then_some(1),
            Self::Query | Self::Key | Self::Value | Self::RotaryQuery | Self::RotaryKey | Self::Z => Some(2),
            _ if self.is_per_head() => Some(2),
            _ => None,
        }
    }

    fn is_query_key_norm(self) -> bool {
        (Self::QueryNormScale..=Self::KeyNormed).contains(&self)
    }

    /// Whether a layer of a model of this config has the site.
    fn exists(self, config: &Config, layer: i64) -> bool {
        match self {
            Self::PosEmbed => config.position_embedding == PositionEmbedding::Learned,
            Self::RotaryCos | Self::RotarySin | Self::RotaryQuery | Self::RotaryKey => {
                config.layers.get(layer as usize).is_some_and(|layer| layer.rope.is_some())
            }
            _ if config.attention_only && (Self::ResidMid..=Self::MlpOut).contains(&self) => false,
            Self::Ln1Scale
            | Self::Ln1Normalized
            | Self::Ln2Scale
            | Self::Ln2Normalized
            | Self::LnFinalScale
            | Self::LnFinalNormalized
                if !config.has_norm() =>
            {
                false
            }
            Self::MlpPreLinear => config.gated_mlp,
            Self::MlpMid | Self::MlpNormScale | Self::MlpNormNormalized => config.mlp_norm,
            Self::MlpGateIn | Self::MlpUpIn => config.gated_mlp && config.experts.is_none(),
            Self::RouterScores | Self::ExpertWeights => config.experts.is_some(),
            // A norm that attention shares with the MLP is attention's.
            Self::MlpIn | Self::Ln2Scale | Self::Ln2Normalized if config.shared_norm => false,
            Self::Ln1In | Self::Ln1Out => config.norm_placement != NormPlacement::Post,
            Self::Ln2Out => config.norm_placement != NormPlacement::Post && !config.shared_norm,
            Self::Ln1PostScale | Self::Ln1PostNormalized | Self::Ln2PostScale | Self::Ln2PostNormalized => {
                config.norm_placement == NormPlacement::Both
            }
            _ if self.is_query_key_norm() => config.has_query_key_norm(),
            _ => true,
        }
    }

    /// The place of a site in the order of execution: a norm after its sublayer runs where the second norm of families
    /// with both kinds does.
    fn order(self, config: &Config) -> Self {
        if config.norm_placement != NormPlacement::Post {
            return self;
        }
        match self {
            Self::Ln1Scale => Self::Ln1PostScale,
            Self::Ln1Normalized => Self::Ln1PostNormalized,
            Self::Ln2Scale => Self::Ln2PostScale,
            Self::Ln2Normalized => Self::Ln2PostNormalized,
            other => other,
        }
    }
}

/// One place in one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HookPoint {
    /// The kind of place
    pub site: Site,
    /// The layer; 0 outside the blocks
    pub layer: i64,
}

impl HookPoint {
    /// The full name, such as `blocks.3.attn.hook_z`.
    pub fn name(&self) -> String {
        if self.site.in_block() {
            format!("blocks.{}.{}", self.layer, self.site.name())
        } else {
            self.site.name().to_owned()
        }
    }

    /// A number unique to the point, below [`HookPoint::count`].
    pub fn index(&self) -> usize {
        self.layer as usize * Site::COUNT + self.site as usize
    }

    /// One more than the largest [`HookPoint::index`].
    pub fn count(config: &Config) -> usize {
        config.n_layers as usize * Site::COUNT
    }

    /// Whether a model of this config has the point.
    pub fn exists(&self, config: &Config) -> bool {
        let layers = if self.site.in_block() { config.n_layers } else { 1 };
        (0..layers).contains(&self.layer) && self.site.exists(config, self.layer)
    }
}

/// All hook points of a model, in order of execution.
pub fn points(config: &Config) -> Vec<HookPoint> {
    let mut block: Vec<Site> = SITES.iter().map(|(site, _)| *site).filter(|site| site.in_block()).collect();
    block.sort_by_key(|site| site.order(config));
    let outside = |before: bool| {
        let sites = SITES.iter().map(|(site, _)| *site).filter(|site| !site.in_block());
        sites.filter(move |site| (*site < Site::ResidPre) == before).map(|site| HookPoint { site, layer: 0 })
    };
    let inside = (0..config.n_layers).flat_map(|layer| block.iter().map(move |site| HookPoint { site: *site, layer }));
    outside(true).chain(inside).chain(outside(false)).filter(|point| point.exists(config)).collect()
}

/// The points that a run caches where it is told no names: those that it computes anyway.
pub fn usual(config: &Config) -> Vec<HookPoint> {
    points(config).into_iter().filter(|point| !point.site.is_per_head()).collect()
}
