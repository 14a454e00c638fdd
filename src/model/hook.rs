//! The places where a run can be read and changed: their names (TransformerLens's), their aliases, and which of them a
//! model has.

use super::config::{Config, NormPlacement, PositionEmbedding};
use crate::error::{Error, Result, nearest};

/// A kind of place; those inside a block occur once per layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
#[allow(missing_docs)] // The names are the literature's own.
pub enum Site {
    Embed,
    PosEmbed,
    ResidPre,
    Ln1Scale,
    Query,
    Key,
    Value,
    RotaryQuery,
    RotaryKey,
    AttentionScores,
    Pattern,
    Z,
    AttentionRaw,
    Ln1PostScale,
    AttentionOut,
    ResidMid,
    Ln2Scale,
    RouterScores,
    ExpertWeights,
    MlpPre,
    MlpPreLinear,
    MlpMid,
    MlpNormScale,
    MlpPost,
    MlpRaw,
    Ln2PostScale,
    MlpOut,
    ResidPost,
    LnFinalScale,
    LnFinalNormalized,
}

/// Every site in order of execution, with its name (inside a block: what follows `blocks.{l}.`).
const SITES: &[(Site, &str)] = &[
    (Site::Embed, "hook_embed"),
    (Site::PosEmbed, "hook_pos_embed"),
    (Site::ResidPre, "hook_resid_pre"),
    (Site::Ln1Scale, "ln1.hook_scale"),
    (Site::Query, "attn.hook_q"),
    (Site::Key, "attn.hook_k"),
    (Site::Value, "attn.hook_v"),
    (Site::RotaryQuery, "attn.hook_rot_q"),
    (Site::RotaryKey, "attn.hook_rot_k"),
    (Site::AttentionScores, "attn.hook_attn_scores"),
    (Site::Pattern, "attn.hook_pattern"),
    (Site::Z, "attn.hook_z"),
    (Site::AttentionRaw, "attn.hook_out"),
    (Site::Ln1PostScale, "ln1_post.hook_scale"),
    (Site::AttentionOut, "hook_attn_out"),
    (Site::ResidMid, "hook_resid_mid"),
    (Site::Ln2Scale, "ln2.hook_scale"),
    (Site::RouterScores, "mlp.hook_router_scores"),
    (Site::ExpertWeights, "mlp.hook_expert_weights"),
    (Site::MlpPre, "mlp.hook_pre"),
    (Site::MlpPreLinear, "mlp.hook_pre_linear"),
    (Site::MlpMid, "mlp.hook_mid"),
    (Site::MlpNormScale, "mlp.ln.hook_scale"),
    (Site::MlpPost, "mlp.hook_post"),
    (Site::MlpRaw, "mlp.hook_out"),
    (Site::Ln2PostScale, "ln2_post.hook_scale"),
    (Site::MlpOut, "hook_mlp_out"),
    (Site::ResidPost, "hook_resid_post"),
    (Site::LnFinalScale, "ln_final.hook_scale"),
    (Site::LnFinalNormalized, "ln_final.hook_normalized"),
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
        !matches!(self, Self::Embed | Self::PosEmbed | Self::LnFinalScale | Self::LnFinalNormalized)
    }

    /// The dimension that runs over the (query) positions.
    pub fn position_dim(self) -> i64 {
        if matches!(self, Self::AttentionScores | Self::Pattern) { 2 } else { 1 }
    }

    /// The dimension that runs over heads, if there is one.
    pub fn head_dim(self) -> Option<i64> {
        match self {
            Self::AttentionScores | Self::Pattern => Some(1),
            Self::Query | Self::Key | Self::Value | Self::RotaryQuery | Self::RotaryKey | Self::Z => Some(2),
            _ => None,
        }
    }

    /// Whether a model of this config has the site.
    fn exists(self, config: &Config) -> bool {
        match self {
            Self::PosEmbed => config.position_embedding == PositionEmbedding::Learned,
            // A layer without rotary positions has none: see `points`.
            Self::RotaryQuery | Self::RotaryKey => config.position_embedding == PositionEmbedding::Rotary,
            Self::ResidMid | Self::Ln2Scale | Self::MlpPre | Self::MlpPost | Self::MlpRaw | Self::MlpOut => {
                !config.attention_only
            }
            Self::MlpPreLinear => config.gated_mlp && !config.attention_only,
            Self::MlpMid | Self::MlpNormScale => config.mlp_norm,
            Self::RouterScores | Self::ExpertWeights => config.experts.is_some(),
            Self::Ln1PostScale | Self::Ln2PostScale => config.norm_placement == NormPlacement::Both,
            _ => true,
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
}

/// All hook points of a model, in order of execution.
pub fn points(config: &Config) -> Vec<HookPoint> {
    let exists = |(site, _): &&(Site, &str)| site.exists(config);
    let outside = |from: Site, to: Site| {
        SITES
            .iter()
            .filter(exists)
            .filter(move |(site, _)| !site.in_block() && (from..=to).contains(site))
            .map(|(site, _)| HookPoint { site: *site, layer: 0 })
    };
    // A norm after its sublayer runs at the place of the second norm in families with both kinds.
    let post = config.norm_placement == NormPlacement::Post;
    let place = |site: &Site| match site {
        Site::Ln1Scale if post => Site::Ln1PostScale,
        Site::Ln2Scale if post => Site::Ln2PostScale,
        other => *other,
    };
    let mut block: Vec<Site> =
        SITES.iter().filter(exists).map(|(site, _)| *site).filter(|site| site.in_block()).collect();
    block.sort_by_key(place);
    let rotated = |layer: i64| config.layers[layer as usize].rope.is_some();
    let in_layer =
        |point: &HookPoint| !matches!(point.site, Site::RotaryQuery | Site::RotaryKey) || rotated(point.layer);
    let inside = (0..config.n_layers).flat_map(|layer| block.iter().map(move |site| HookPoint { site: *site, layer }));
    let inside = inside.filter(in_layer);
    outside(Site::Embed, Site::PosEmbed)
        .chain(inside)
        .chain(outside(Site::LnFinalScale, Site::LnFinalNormalized))
        .collect()
}

/// The point named `name`: a full name, `SITE` with the layer after a dot (`resid_post.3`), a Hugging Face module path
/// (`model.layers.3.self_attn.output`) or an nnterp accessor (`layers_output[3]`).
///
/// # Errors
/// An unknown name, with the nearest one; a layer that the model does not have.
pub fn parse(name: &str, config: &Config) -> Result<HookPoint> {
    let all = points(config);
    if let Some(point) = all.iter().find(|point| point.name() == name) {
        return Ok(*point);
    }
    let unknown = || {
        let names: Vec<String> = all.iter().map(HookPoint::name).collect();
        let error = Error::new(format!("no hook is named `{name}`"));
        match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`? `model.hook_names` lists them all")),
            None => error.hint("`model.hook_names` lists them all; for example `blocks.0.hook_resid_post`"),
        }
    };
    let (site, layer) = alias(name).ok_or_else(unknown)?;
    if site.in_block() && !(0..config.n_layers).contains(&layer) {
        return Err(Error::new(format!("no hook is named `{name}`: there is no layer {layer}"))
            .hint(format!("layers are 0 to {}", config.n_layers - 1)));
    }
    let point = HookPoint { site, layer: if site.in_block() { layer } else { 0 } };
    if !all.contains(&point) {
        return Err(Error::new(format!("`{name}` does not exist in a {} model", config.model_type))
            .hint("`model.hook_names` lists its hooks"));
    }
    Ok(point)
}

/// The points whose full name matches a glob (`*` and `?`; `blocks.*.hook_resid_post`), or the one with an exact name.
///
/// # Errors
/// No point matches.
pub fn matching(pattern: &str, config: &Config) -> Result<Vec<HookPoint>> {
    if !pattern.contains(['*', '?', '{']) {
        return Ok(vec![parse(pattern, config)?]);
    }
    let glob = globset::Glob::new(pattern)
        .map_err(|error| Error::new(format!("`{pattern}` is not a pattern: {}", error.kind())))?
        .compile_matcher();
    let found: Vec<HookPoint> = points(config).into_iter().filter(|point| glob.is_match(point.name())).collect();
    if found.is_empty() {
        return Err(Error::new(format!("no hook matches `{pattern}`"))
            .hint("`model.hook_names` lists them; for example `blocks.*.hook_resid_post`"));
    }
    Ok(found)
}

/// Site and layer of an alias, or of a name that only other families have.
fn alias(name: &str) -> Option<(Site, i64)> {
    let outside = SITES.iter().find(|(site, full)| !site.in_block() && *full == name).map(|(site, _)| (*site, 0));
    outside.or_else(|| module_path(name)).or_else(|| accessor(name)).or_else(|| short(name))
}

/// `resid_post.3`, `attn.hook_z.3`, `pattern.0`: the site's name, with or without `hook_`, then the layer. A full name
/// whose layer does not exist also ends here, so that the error can name the layer.
fn short(name: &str) -> Option<(Site, i64)> {
    let (site, layer) = match name.strip_prefix("blocks.") {
        Some(rest) => rest.split_once('.').map(|(layer, site)| (site, layer))?,
        None => name.rsplit_once('.')?,
    };
    let layer = layer.parse().ok()?;
    SITES
        .iter()
        .find(|(found, full)| {
            let last = full.rsplit('.').next().unwrap_or(full);
            let unique = !matches!(last, "hook_scale" | "hook_out");
            found.in_block()
                && (*full == site
                    || full.replace("hook_", "") == site
                    || (unique && (last == site || last.strip_prefix("hook_") == Some(site))))
        })
        .map(|(site, _)| (*site, layer))
}

/// Hugging Face module paths: `model.layers.3.mlp.output`, `transformer.h.3.attn.output`, `gpt_neox.layers.3.output`.
fn module_path(name: &str) -> Option<(Site, i64)> {
    let rest =
        ["model.decoder.", "model.", "transformer.", "gpt_neox."].iter().find_map(|root| name.strip_prefix(root))?;
    match rest {
        "embed_tokens.output" | "wte.output" | "embed_in.output" => return Some((Site::Embed, 0)),
        "wpe.output" => return Some((Site::PosEmbed, 0)),
        "norm.output" | "ln_f.output" | "final_layer_norm.output" | "final_layernorm.output" => {
            return Some((Site::LnFinalNormalized, 0));
        }
        _ => {}
    }
    let rest = rest.strip_prefix("layers.").or_else(|| rest.strip_prefix("h."))?;
    let (layer, part) = rest.split_once('.')?;
    let site = match part {
        "input" => Site::ResidPre,
        "output" => Site::ResidPost,
        "self_attn.output" | "attn.output" | "attention.output" => Site::AttentionRaw,
        "mlp.output" | "block_sparse_moe.output" => Site::MlpRaw,
        "self_attn.o_proj.input" | "attn.c_proj.input" | "attention.dense.input" => Site::Z,
        "mlp.down_proj.input" | "mlp.c_proj.input" | "mlp.dense_4h_to_h.input" => Site::MlpPost,
        _ => return None,
    };
    Some((site, layer.parse().ok()?))
}

/// nnterp's accessors: `layers_output[3]`, `layers_input[3]`, `attentions_output[3]`, `mlps_output[3]`.
fn accessor(name: &str) -> Option<(Site, i64)> {
    let (kind, rest) = name.split_once('[')?;
    let site = match kind {
        "layers_output" => Site::ResidPost,
        "layers_input" => Site::ResidPre,
        "attentions_output" => Site::AttentionRaw,
        "mlps_output" => Site::MlpRaw,
        _ => return None,
    };
    Some((site, rest.strip_suffix(']')?.parse().ok()?))
}
