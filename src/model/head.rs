//! What single heads read and write: TransformerLens's inputs and results of every head, which a run computes only where a
//! hook asks for them.

use tch::Tensor;

use super::config::Config;
use super::hook::{HookPoint, Site};
use super::layer::{Linear, Norm, scaled};
use super::run::Hooks;
use crate::error::Result;

/// What an attention layer reads.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// What all heads read, [batch, pos, d_model]: after the norm, if one comes first
    pub normed: &'a Tensor,
    /// The residual stream before that norm, [batch, pos, d_model]
    pub residual: &'a Tensor,
    /// That norm
    pub norm: Option<&'a Norm>,
}

/// The residual stream that the heads of one projection read, [batch, pos, head, d_model].
#[derive(Debug)]
pub struct Own {
    value: Tensor,
    /// Whether gradients are computed for it: then they pass through it everywhere, and not through what all heads read
    is_watched: bool,
}

/// What each head reads for its queries, keys and values. None where no hook changed it.
#[derive(Debug, Default)]
pub struct HeadInputs {
    /// By query head
    pub query: Option<Own>,
    /// By key head
    pub key: Option<Own>,
    /// By value head
    pub value: Option<Own>,
}

impl HeadInputs {
    /// Passes the heads' inputs through their hooks. As in TransformerLens, key and value heads that several queries share
    /// take the first of `hook_attn_in`.
    ///
    /// # Errors
    /// An error raised by a hook.
    pub fn new(config: &Config, layer: i64, residual: &Tensor, hooks: &mut Hooks) -> Result<Self> {
        let at = |site| HookPoint { site, layer };
        if ![Site::HeadsIn, Site::QueryIn, Site::KeyIn, Site::ValueIn].iter().any(|site| hooks.wants(at(*site))) {
            return Ok(Self::default());
        }
        let (batch, length, d_model) = residual.size3()?;
        let copies = |heads| residual.f_unsqueeze(2)?.f_expand([batch, length, heads, d_model], false);
        let all = hooks.change(at(Site::HeadsIn), &copies(config.n_heads)?)?;
        let mut of = |site, heads| -> Result<Option<Own>> {
            let given = match &all {
                Some(all) => all.f_narrow(2, 0, heads)?,
                None => copies(heads)?,
            };
            let changed = hooks.change(at(site), &given)?.or_else(|| all.is_some().then_some(given));
            let is_watched = hooks.watches(at(Site::HeadsIn)) || hooks.watches(at(site));
            Ok(changed.map(|value| Own { value, is_watched }))
        };
        Ok(Self {
            query: of(Site::QueryIn, config.n_heads)?,
            key: of(Site::KeyIn, config.n_kv_heads)?,
            value: of(Site::ValueIn, config.n_kv_heads)?,
        })
    }
}

impl Input<'_> {
    /// The projection of the input, after its hook at `point`, into heads, [batch, pos, head, d_head]. A head whose own
    /// input differs from the residual stream at a position reads that input there, after the norm.
    ///
    /// # Errors
    /// An error raised by the hook.
    pub fn project(
        &self,
        linear: &Linear,
        heads: i64,
        own: Option<Own>,
        point: HookPoint,
        hooks: &mut Hooks,
    ) -> Result<Tensor> {
        let normed = hooks.pass(point, self.normed.shallow_clone())?;
        let all = split(&linear.forward(&normed)?, heads)?;
        let Some(Own { value: own, is_watched }) = own else { return Ok(all) };
        let differs = own.f_ne_tensor(&self.residual.f_unsqueeze(2)?)?.f_any_dim(-1, true)?;
        let normed = match self.norm {
            Some(norm) => norm.forward_by(&own, hooks.backward())?,
            None => own,
        };
        let weight = linear.weight.f_view([heads, -1, normed.size()[3]])?;
        let mut projected = Tensor::f_einsum("bphm,hdm->bphd", &[&normed, &weight], None::<i64>)?;
        if let Some(bias) = &linear.bias {
            projected = projected.f_add(&split(bias, heads)?)?;
        }
        if is_watched {
            return Ok(projected);
        }
        Ok(projected.f_where_self(&differs, &all)?)
    }
}

/// What the heads write together, [batch, pos, d_model], from their mixed values `z`, [batch, pos, head, d_head]. Where a
/// hook changes what single heads write, it is their sum and the bias. The hook sees it times the factor of what is added
/// to the residual stream (Granite), as in TransformerLens.
///
/// # Errors
/// An error raised by a hook.
pub fn output(config: &Config, linear: &Linear, z: &Tensor, layer: i64, hooks: &mut Hooks) -> Result<Tensor> {
    let point = HookPoint { site: Site::HeadResult, layer };
    let out = linear.forward(&z.f_flatten(2, 3)?)?;
    if !hooks.wants(point) {
        return Ok(out);
    }
    let results = scaled(results(linear, z)?, config.residual_scale)?;
    let Some(changed) = hooks.change(point, &results)? else { return Ok(out) };
    let differs = changed.f_ne_tensor(&results)?.f_flatten(2, 3)?.f_any_dim(-1, true)?;
    let mut sum = scaled(changed.f_sum_dim_intlist(2, false, None)?, config.residual_scale.map(f64::recip))?;
    if let Some(bias) = &linear.bias {
        sum = sum.f_add(bias)?;
    }
    if changed.requires_grad() {
        return Ok(sum);
    }
    Ok(sum.f_where_self(&differs, &out)?)
}

/// What each head writes, [.., head, d_model], from its mixed values `z`, [.., head, d_head], before any factor.
///
/// # Errors
/// A libtorch error, such as too little memory.
pub fn results(linear: &Linear, z: &Tensor) -> Result<Tensor> {
    let (heads, d_head) = (z.size()[z.dim() - 2], z.size()[z.dim() - 1]);
    let weight = linear.weight.f_unflatten(1, [heads, d_head])?;
    Ok(Tensor::f_einsum("...hd,mhd->...hm", &[z, &weight], None::<i64>)?)
}

fn split(x: &Tensor, heads: i64) -> Result<Tensor> {
    Ok(x.f_unflatten(-1, [heads, -1])?)
}
