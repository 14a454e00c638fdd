//! The other names of a site: short ones, TransformerLens 4's, the module paths of Hugging Face, nnterp's accessors.

use super::site::{SITES, Site};
use crate::model::config::{Config, NormPlacement};

/// Where a spelling has the layer.
pub const LAYER: &str = "{}";

/// The module paths of Hugging Face's blocks.
const BLOCKS: [&str; 4] = ["model.layers", "transformer.h", "gpt_neox.layers", "model.decoder.layers"];

/// The names of the attention's module.
const ATTENTION: [&str; 3] = ["self_attn", "attn", "attention"];

/// The names of a site without its layer, which therefore mean all layers: `attn.hook_z`, `hook_z`, `attn.z`, `z`.
pub fn kinds(site: Site) -> Vec<String> {
    let full = site.name();
    let last = last_part(full);
    let mut kinds = vec![full.to_owned(), full.replace("hook_", "")];
    if SITES.iter().filter(|(_, other)| last_part(other) == last).count() == 1 {
        kinds.extend([last.to_owned(), last.replace("hook_", "")]);
    }
    let others: &[&str] = match site {
        Site::Embed => &["token_embeddings"],
        Site::Pattern => &["attn", "attention_probabilities"],
        Site::AttentionScores => &["attn_logits"],
        Site::Query => &["query"],
        Site::Key => &["key"],
        Site::Value => &["value"],
        Site::MlpPre => &["mlp_pre"],
        Site::MlpPost => &["mlp_post"],
        Site::ResidPre => &["layers_input"],
        Site::ResidPost => &["layers_output"],
        Site::AttentionIn => &["attentions_input"],
        Site::AttentionRaw => &["attentions_output"],
        Site::MlpNormedIn => &["mlps_input"],
        Site::MlpRaw => &["mlps_output"],
        _ => &[],
    };
    kinds.extend(others.iter().map(|kind| (*kind).to_owned()));
    kinds
}

/// What follows the last dot.
pub fn last_part(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

/// All names of a site but its full one, with [`LAYER`] in the place of the layer.
pub fn spellings(site: Site, config: &Config) -> Vec<String> {
    if !site.in_block() {
        return outside(site).iter().map(|name| (*name).to_owned()).chain(kinds(site)).collect();
    }
    let mut names: Vec<String> = kinds(site)
        .into_iter()
        .flat_map(|kind| {
            // TransformerLens also takes `k6`.
            let joined = kind.chars().all(|letter| letter.is_ascii_lowercase()).then(|| format!("{kind}{LAYER}"));
            [format!("blocks.{LAYER}.{kind}"), format!("{kind}.{LAYER}")].into_iter().chain(joined)
        })
        .collect();
    for name in transformer_lens(site, config) {
        names.extend([format!("blocks.{LAYER}.{name}"), format!("{name}.{LAYER}")]);
    }
    for path in module_paths(site, config) {
        names.extend(BLOCKS.map(|blocks| format!("{blocks}.{LAYER}.{path}")));
    }
    names
}

/// The names of sites outside the blocks.
fn outside(site: Site) -> &'static [&'static str] {
    match site {
        Site::Embed => {
            &["embed.hook_out", "model.embed_tokens.output", "transformer.wte.output", "gpt_neox.embed_in.output"]
        }
        Site::PosEmbed => &["pos_embed.hook_out", "transformer.wpe.output"],
        Site::LnFinalOut => &[
            "unembed.hook_in",
            "model.norm.output",
            "transformer.ln_f.output",
            "gpt_neox.final_layer_norm.output",
            "lm_head.input",
            "embed_out.input",
        ],
        Site::Unembed => &["unembed.hook_out", "lm_head.output", "embed_out.output"],
        _ => &[],
    }
}

/// The names of the last block's output as the final norm's input.
pub const LAST_OUTPUT: [&str; 4] =
    ["ln_final.hook_in", "model.norm.input", "transformer.ln_f.input", "gpt_neox.final_layer_norm.input"];

/// TransformerLens 4's further names inside a block, without `blocks.{l}.`.
fn transformer_lens(site: Site, config: &Config) -> &'static [&'static str] {
    let post = config.norm_placement == NormPlacement::Post;
    let second = config.norm_placement != NormPlacement::Pre;
    match site {
        Site::ResidPre => &["hook_in"],
        Site::ResidPost => &["hook_out"],
        Site::HeadsIn => &["attn.hook_attn_in"],
        Site::QueryIn => &["attn.hook_q_input"],
        Site::KeyIn => &["attn.hook_k_input"],
        Site::ValueIn => &["attn.hook_v_input"],
        Site::Query => &["attn.q.hook_out"],
        Site::Key => &["attn.k.hook_out"],
        Site::Value => &["attn.v.hook_out"],
        Site::QueryNormed => &["attn.q_norm.hook_out"],
        Site::KeyNormed => &["attn.k_norm.hook_out"],
        Site::Z => &["attn.o.hook_in"],
        Site::AttentionRaw if second => &["attn.hook_hidden_states", "attn.o.hook_out", "ln1_post.hook_in"],
        Site::AttentionRaw => &["attn.hook_hidden_states", "attn.o.hook_out"],
        Site::AttentionOut if second => &["ln1_post.hook_out"],
        Site::Ln1Scale if post => &["ln1_post.hook_scale"],
        Site::Ln1Normalized if post => &["ln1_post.hook_normalized"],
        Site::MlpIn if !post => &["ln2.hook_in"],
        Site::MlpNormedIn if !config.gated_mlp => &["mlp.in.hook_in"],
        // TransformerLens calls the router of a mixture of experts its gate.
        Site::RouterScores if config.experts.is_some() => &["mlp.router.hook_out", "mlp.gate.hook_out"],
        Site::MlpPre if config.experts.is_some() => &[],
        Site::MlpPre if config.gated_mlp => &["mlp.gate.hook_out"],
        Site::MlpPre => &["mlp.in.hook_out"],
        Site::MlpPreLinear => &["mlp.in.hook_out"],
        Site::MlpMid => &["mlp.ln.hook_in"],
        Site::MlpPost if config.mlp_norm => &["mlp.out.hook_in", "mlp.ln.hook_out"],
        Site::MlpPost => &["mlp.out.hook_in"],
        Site::MlpRaw if second => &["mlp.out.hook_out", "ln2_post.hook_in"],
        Site::MlpRaw => &["mlp.out.hook_out"],
        Site::MlpOut if second => &["ln2_post.hook_out"],
        Site::Ln2Scale if post => &["ln2_post.hook_scale"],
        Site::Ln2Normalized if post => &["ln2_post.hook_normalized"],
        _ => &[],
    }
}

/// The module paths of Hugging Face inside a block.
fn module_paths(site: Site, config: &Config) -> Vec<String> {
    let attention = |parts: &[&str]| -> Vec<String> {
        ATTENTION.iter().flat_map(|module| parts.iter().map(move |part| format!("{module}.{part}"))).collect()
    };
    let owned = |parts: &[&str]| -> Vec<String> { parts.iter().map(|part| (*part).to_owned()).collect() };
    let norms = norm_paths(site, config);
    let modules = match site {
        Site::ResidPre => owned(&["input"]),
        Site::ResidPost => owned(&["output"]),
        Site::AttentionIn => attention(&["input"]),
        Site::QueryNormedIn => attention(&["q_proj.input"]),
        Site::KeyNormedIn => attention(&["k_proj.input"]),
        Site::ValueNormedIn => attention(&["v_proj.input"]),
        Site::Query => attention(&["q_proj.output"]),
        Site::Key => attention(&["k_proj.output"]),
        Site::Value => attention(&["v_proj.output"]),
        Site::Z => attention(&["o_proj.input", "c_proj.input", "dense.input"]),
        Site::AttentionRaw => attention(&["output", "o_proj.output", "c_proj.output", "dense.output"]),
        Site::MlpNormedIn => owned(&["mlp.input"]),
        Site::MlpGateIn => owned(&["mlp.gate_proj.input"]),
        Site::MlpUpIn => owned(&["mlp.up_proj.input"]),
        Site::MlpPre if config.gated_mlp => owned(&["mlp.gate_proj.output"]),
        Site::MlpPre => owned(&["mlp.c_fc.output", "mlp.dense_h_to_4h.output"]),
        Site::MlpPreLinear => owned(&["mlp.up_proj.output"]),
        Site::MlpPost => owned(&["mlp.down_proj.input", "mlp.c_proj.input", "mlp.dense_4h_to_h.input"]),
        Site::MlpRaw => owned(&["mlp.output", "mlp.down_proj.output", "mlp.c_proj.output", "mlp.dense_4h_to_h.output"]),
        _ => Vec::new(),
    };
    modules.into_iter().chain(owned(norms)).collect()
}

/// The paths of a block's norms: `post_attention_layernorm` is the second norm in some families, the MLP's in others.
fn norm_paths(site: Site, config: &Config) -> &'static [&'static str] {
    use NormPlacement::{Both, Post, Pre};
    match (site, config.norm_placement) {
        (Site::Ln1In, _) => &["input_layernorm.input", "ln_1.input"],
        (Site::Ln1Out, _) => &["input_layernorm.output", "ln_1.output"],
        (Site::AttentionRaw, Post | Both) => &["post_attention_layernorm.input"],
        (Site::AttentionOut, Post | Both) => &["post_attention_layernorm.output"],
        (Site::MlpIn, Pre) => &["post_attention_layernorm.input", "ln_2.input"],
        (Site::Ln2Out, Pre) => &["post_attention_layernorm.output", "ln_2.output"],
        (Site::MlpIn, Both) => &["pre_feedforward_layernorm.input"],
        (Site::Ln2Out, Both) => &["pre_feedforward_layernorm.output"],
        (Site::MlpRaw, Post | Both) => &["post_feedforward_layernorm.input"],
        (Site::MlpOut, Post | Both) => &["post_feedforward_layernorm.output"],
        _ => &[],
    }
}
