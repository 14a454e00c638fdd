//! Rotary embeddings in a config: `rope_parameters`, for all layers or by kind of layer, or older files' `rope_theta`,
//! `rope_scaling` and names of single families, with the precedence of transformers' modeling_rope_utils.py.

use serde_json::{Map, Value};

use super::config_class::ConfigClass;
use super::fields::{Fields, unsupported};
use crate::error::{Error, Result};
use crate::model::config::{Rope, RopeScaling};

/// Fields of a rotary embedding that change no number.
const HARMLESS: &[&str] = &["finetuned"];

/// The specifics of a family's rotary embedding.
pub(super) struct Style {
    /// The field of the base if `rope_parameters` has none
    pub theta: &'static str,
    /// The field of the rotated share of a head's dimensions if `rope_parameters` has none
    pub fraction: &'static str,
    /// The share if there is no such field; `None` for a family that always rotates all
    pub default_fraction: Option<f64>,
    /// Fields that transformers 4 wrote as copies of `theta` and `fraction`; they are not read
    pub copies: Option<(&'static str, &'static str)>,
    /// Whether every scaling is longrope, under any name
    pub only_long: bool,
    /// Fields that change nothing in texts
    pub harmless: &'static [&'static str],
    /// The parameters where the file has neither `rope_parameters` nor `rope_scaling`
    pub default_parameters: Option<fn() -> Value>,
    /// Whether neighbouring dimensions are rotated together
    pub interleaved: bool,
    /// Whether an odd number of rotated dimensions is refused, where transformers' code fails on it
    pub only_even: bool,
}

/// The specifics of Llama, shared by most families.
pub(super) const LLAMA: Style = Style {
    theta: "rope_theta",
    fraction: "partial_rotary_factor",
    default_fraction: None,
    copies: None,
    only_long: false,
    harmless: &[],
    default_parameters: None,
    interleaved: false,
    only_even: false,
};

/// The rotary embeddings of a model with sliding windows.
pub(super) struct LayerRopes {
    /// For layers that attend to all positions
    pub full: Rope,
    /// For layers with a sliding window
    pub sliding: Rope,
}

impl LayerRopes {
    /// The same for all layers.
    pub fn same(rope: Rope) -> Self {
        Self { full: rope.clone(), sliding: rope }
    }
}

/// The sizes of a head and of a text.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub d_head: i64,
    pub n_ctx: i64,
}

/// The rotary embedding of all layers.
pub(super) fn rope(fields: &Fields, style: &Style, extent: Extent) -> Result<Rope> {
    let (scaling, parameters) = (fields.object("rope_scaling")?, fields.object("rope_parameters")?);
    if let (Some(scaling), Some(parameters)) = (scaling, parameters)
        && scaling != parameters
    {
        return Err(
            Error::new("config fields `rope_scaling` and `rope_parameters` are different").hint("delete the wrong one")
        );
    }
    let name = if scaling.is_some() { "rope_scaling" } else { "rope_parameters" };
    let is_absent = ["rope_scaling", "rope_parameters"].iter().all(|key| fields.given(key).is_none_or(Value::is_null));
    let default = style.default_parameters.filter(|_| is_absent).and_then(|default| default().as_object().cloned());
    let parameters = scaling.or(parameters).cloned().or(default).unwrap_or_default();
    let parameters = Fields::of_object(parameters, name);
    let theta = match parameters.given_number("rope_theta")?.or(fields.given_number(style.theta)?) {
        Some(theta) => theta,
        None => class(fields)?.default_theta("global"),
    };
    let one = One { fields, parameters, style, extent, by_layer: false };
    one.read(theta)
}

/// The rotary embeddings of a family that has one for each kind of layer. If `rope_parameters` has no base for layers
/// with a sliding window, it is the field `local_theta`.
pub(super) fn ropes_by_layer(fields: &Fields, local_theta: Option<&str>, extent: Extent) -> Result<LayerRopes> {
    let all = Fields::of_object(fields.object("rope_parameters")?.cloned().unwrap_or_default(), "rope_parameters");
    let of = |layers: &str| Ok::<_, Error>(all.object(layers)?.cloned().unwrap_or_default());
    let (mut full, sliding) = (of("full_attention")?, of("sliding_attention")?);
    all.refuse_unread()?;
    if let Some(scaling) = fields.object("rope_scaling")? {
        // As in transformers, only a `rope_type` in `rope_scaling` takes effect, not an older `type`.
        full.entry("rope_type").or_insert_with(|| "default".into());
        full.extend(scaling.clone());
    }
    let read = |parameters: Map<String, Value>, layers: &str, theta: &dyn Fn() -> Result<f64>| {
        let parameters = Fields::of_object(parameters, &format!("rope_parameters.{layers}"));
        let theta = match parameters.given_number("rope_theta")? {
            Some(theta) => theta,
            None => theta()?,
        };
        One { fields, parameters, style: &LLAMA, extent, by_layer: true }.read(theta)
    };
    let given = fields.given_number("rope_theta")?;
    let global = class(fields)?.default_theta("global");
    let full = read(full, "full_attention", &|| Ok(given.unwrap_or(global)))?;
    let sliding = read(sliding, "sliding_attention", &|| match (local_theta, given) {
        (Some(key), _) => Ok(fields.given_number(key)?.unwrap_or(class(fields)?.default_theta("local"))),
        (None, Some(theta)) if theta != global => Err(unsupported(
            "rope_theta",
            theta,
            "transformers 4 and 5 take different bases for layers with a sliding window: write it to \
             `rope_parameters.sliding_attention.rope_theta` and `rope_parameters.full_attention.rope_theta`",
        )),
        (None, _) => Ok(global),
    })?;
    if let Some(key) = local_theta {
        let _ = fields.given_number(key)?;
    }
    Ok(LayerRopes { full, sliding })
}

fn class(fields: &Fields) -> Result<&'static ConfigClass> {
    fields.class().ok_or_else(|| Error::new("a rotary embedding without a config class"))
}

/// One rotary embedding while it is read from a config.
struct One<'a> {
    fields: &'a Fields,
    parameters: Fields,
    style: &'a Style,
    extent: Extent,
    by_layer: bool,
}

impl One<'_> {
    fn read(&self, theta: f64) -> Result<Rope> {
        let (name, fraction) = self.fraction()?;
        let (dim, exponent_dim) = self.dimensions(&name, fraction)?;
        if let Some((theta_copy, fraction_copy)) = self.style.copies {
            self.fields.agrees(theta_copy, theta)?;
            self.fields.agrees(fraction_copy, fraction)?;
        }
        let scaling = self.scaling(dim, exponent_dim)?;
        for key in HARMLESS.iter().chain(self.style.harmless) {
            let _ = self.parameters.given(key);
        }
        self.parameters.refuse_unread()?;
        Ok(Rope { theta, dim, exponent_dim, scaling, interleaved: self.style.interleaved })
    }

    /// The rotated share of a head's dimensions, with its field.
    fn fraction(&self) -> Result<(String, f64)> {
        const KEY: &str = "partial_rotary_factor";
        let outer_key = self.style.fraction;
        let (inner, outer) = match self.style.default_fraction {
            Some(_) => (self.parameters.given_number(KEY)?, self.fields.given_number(outer_key)?),
            None => (self.parameters.optional_number(KEY)?, self.fields.optional_number(outer_key)?),
        };
        let name = if inner.is_some() { self.parameters.name(KEY) } else { outer_key.to_owned() };
        let fraction = inner.or(outer).unwrap_or(self.style.default_fraction.unwrap_or(1.0));
        if self.style.default_fraction.is_none() && fraction != 1.0 {
            return Err(unsupported(&name, fraction, "this family rotates all dimensions of a head"));
        }
        Ok((name, fraction))
    }

    /// The number of rotated dimensions of a head, and the divisor of the frequencies' exponents. These differ if the
    /// share of the head is an odd number: transformers rotates one more.
    fn dimensions(&self, name: &str, fraction: f64) -> Result<(i64, i64)> {
        let exponent_dim = (self.extent.d_head as f64 * fraction) as i64;
        let dim = exponent_dim + exponent_dim % 2;
        let is_odd = dim != exponent_dim;
        if exponent_dim < 1 || dim > self.extent.d_head || is_odd && self.style.only_even {
            let hint =
                format!("of head_dim {}, it must leave an even number of rotated dimensions", self.extent.d_head);
            return Err(unsupported(name, fraction, &hint));
        }
        Ok((dim, exponent_dim))
    }

    fn scaling(&self, dim: i64, exponent_dim: i64) -> Result<RopeScaling> {
        let parameters = &self.parameters;
        let (kind, old) = (parameters.text("rope_type")?, parameters.text("type")?);
        let kind = match kind.or(old).unwrap_or("default") {
            "su" | "yarn" if self.style.only_long => "longrope",
            other => other,
        };
        // Read for every kind: older files have it beside the scaling, and it has no effect without one.
        let original = self.original_context()?;
        if matches!(kind, "yarn" | "longrope") && dim != exponent_dim {
            return Err(unsupported(
                &parameters.name("rope_type"),
                format!("\"{kind}\""),
                "the rotated dimensions are odd",
            ));
        }
        Ok(match kind {
            "default" => RopeScaling::Default,
            "longrope" => self.longrope(original, dim)?,
            other if self.style.only_long => return Err(self.unknown(other, "default, longrope")),
            "linear" => RopeScaling::Linear { factor: parameters.number("factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: parameters.number("factor")?,
                low_frequency_factor: parameters.number("low_freq_factor")?,
                high_frequency_factor: parameters.number("high_freq_factor")?,
                original_context: original,
            },
            "yarn" => self.yarn(original)?,
            // The loader takes the divisors from the file's tensor.
            "frequency_factors" => RopeScaling::Divisors(Vec::new()),
            other => return Err(self.unknown(other, "default, linear, llama3, yarn, longrope")),
        })
    }

    fn unknown(&self, kind: &str, known: &str) -> Error {
        unsupported(&self.parameters.name("rope_type"), format!("\"{kind}\""), &format!("supported: {known}"))
    }

    /// The length of training texts before the frequencies were scaled.
    fn original_context(&self) -> Result<f64> {
        const KEY: &str = "original_max_position_embeddings";
        let inner = self.parameters.given_number(KEY)?;
        let outer = if self.by_layer { None } else { self.fields.optional_number(KEY)? };
        Ok(outer.or(inner).unwrap_or(self.extent.n_ctx as f64))
    }

    fn yarn(&self, original_context: f64) -> Result<RopeScaling> {
        let parameters = &self.parameters;
        let factor = match parameters.given("factor") {
            Some(Value::Null) => self.extent.n_ctx as f64 / original_context,
            _ => parameters.number("factor")?,
        };
        // transformers treats 0 as missing here.
        let turns = |key: &str, default: f64| {
            Ok::<_, Error>(parameters.optional_number(key)?.filter(|turns| *turns != 0.0).unwrap_or(default))
        };
        let truncate = match parameters.given("truncate") {
            None => true,
            Some(Value::Null) => false,
            Some(_) => parameters.flag("truncate")?,
        };
        if self.by_layer && !truncate {
            return Err(unsupported(
                &parameters.name("truncate"),
                truncate,
                "transformers passes over it where each kind of layer has its own rotary embedding",
            ));
        }
        Ok(RopeScaling::Yarn {
            factor,
            attention_factor: yarn_attention_factor(parameters, factor)?,
            beta_fast: turns("beta_fast", 32.0)?,
            beta_slow: turns("beta_slow", 1.0)?,
            original_context,
            truncate,
        })
    }

    fn longrope(&self, original: f64, dim: i64) -> Result<RopeScaling> {
        let parameters = &self.parameters;
        let factor = parameters.optional_number("factor")?.unwrap_or(self.extent.n_ctx as f64 / original);
        let by_length = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
        let (short, long) = (parameters.numbers("short_factor")?, parameters.numbers("long_factor")?);
        if short.len() as i64 != dim / 2 || long.len() as i64 != dim / 2 {
            return Err(Error::new(format!(
                "config field `{}`: {} short and {} long factors for {} frequencies",
                parameters.name("short_factor"),
                short.len(),
                long.len(),
                dim / 2
            )));
        }
        Ok(RopeScaling::LongRope {
            short,
            long,
            attention_factor: parameters.optional_number("attention_factor")?.unwrap_or(by_length),
            original_context: original as i64,
        })
    }
}

fn yarn_attention_factor(parameters: &Fields, factor: f64) -> Result<f64> {
    let magnitude = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
    let weight = |key: &str| Ok::<_, Error>(parameters.optional_number(key)?.filter(|weight| *weight != 0.0));
    let weights = (weight("mscale")?, weight("mscale_all_dim")?);
    let given = parameters.optional_number("attention_factor")?;
    Ok(given.unwrap_or_else(|| match weights {
        (Some(one), Some(all)) => magnitude(one) / magnitude(all),
        _ => magnitude(1.0),
    }))
}
