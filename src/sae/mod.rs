//! Sparse autoencoders and transcoders: their weights, and what they make of activations. The numbers are SAELens's.

pub mod config;
mod fields;
pub mod file;
pub mod saelens;

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use config::{Activation, Config, Normalization, TopK};

use crate::error::{Error, Result};
use crate::tensor::is_float;
use crate::tensor::raw::{Arithmetic, constant};

/// What SAELens adds to a standard deviation.
const EPSILON: f64 = 1e-5;

/// A sparse autoencoder or transcoder.
#[derive(Debug)]
pub struct Sae {
    config: Config,
    weights: BTreeMap<String, Tensor>,
}

/// How an activation's normalization is undone.
enum Undo {
    Nothing,
    Scale(Tensor),
    Moments { mean: Tensor, deviation: Tensor },
}

impl Sae {
    /// An SAE of weights by SAELens's names: `W_enc` [d_in, d_sae], `W_dec` [d_sae, d_out], `b_dec` [d_out], and what
    /// the architecture has besides.
    ///
    /// # Errors
    /// A weight that is missing, or that the architecture does not have; shapes that do not fit each other; weights
    /// that are not floats of one dtype on one device; a `k` that is not from 1 to d_sae.
    pub fn new(config: Config, weights: BTreeMap<String, Tensor>) -> Result<Self> {
        let sae = Self { config, weights };
        sae.check()?;
        Ok(sae)
    }

    fn check(&self) -> Result<()> {
        let architecture = self.config.architecture;
        let name = architecture.name();
        let mut needed = vec!["W_enc", "W_dec", "b_dec"];
        needed.extend_from_slice(match architecture.activation {
            Activation::Gated => &["b_gate", "r_mag", "b_mag"],
            Activation::JumpRelu => &["b_enc", "threshold"],
            _ => &["b_enc"],
        });
        if architecture.has_skip {
            needed.push("W_skip");
        }
        if let Some(missing) = needed.iter().find(|name| !self.weights.contains_key(**name)) {
            return Err(Error::new(format!("a {name} SAE needs the weight `{missing}`"))
                .hint(format!("its weights are {}", needed.join(", "))));
        }
        if let Some(other) = self.weights.keys().find(|name| !needed.contains(&name.as_str())) {
            return Err(Error::new(format!("a {name} SAE has no weight `{other}`"))
                .hint(format!("its weights are {}", needed.join(", "))));
        }
        let matrix = |name: &str| match self.weights[name].size()[..] {
            [rows, columns] if rows > 0 && columns > 0 => Ok([rows, columns]),
            _ => Err(Error::new(format!("`{name}` has the shape {:?}, not two dimensions", self.weights[name].size()))),
        };
        let ([d_in, d_sae], [_, d_out]) = (matrix("W_enc")?, matrix("W_dec")?);
        let (kind, device) = (self.kind(), self.device());
        for (name, weight) in &self.weights {
            let shape = match name.as_str() {
                "W_enc" => vec![d_in, d_sae],
                "W_dec" => vec![d_sae, d_out],
                "W_skip" => vec![d_out, d_in],
                "b_dec" => vec![d_out],
                _ => vec![d_sae],
            };
            if weight.size() != shape {
                return Err(Error::new(format!("`{name}` has the shape {:?}", weight.size())).hint(format!(
                    "beside `W_enc` of [{d_in}, {d_sae}] and `W_dec` of [_, {d_out}] it must be {shape:?}"
                )));
            }
            if weight.kind() != kind || !is_float(kind) || weight.device() != device {
                return Err(Error::new(format!("`{name}` and `W_enc` are not floats of one dtype on one device")));
            }
        }
        if !architecture.is_transcoder && d_in != d_out {
            return Err(Error::new(format!("it reads {d_in} numbers and gives {d_out}"))
                .hint("only a transcoder, which has a `hook_name_out`, may give another number"));
        }
        if architecture.is_transcoder && self.config.apply_b_dec_to_input {
            return Err(Error::new("`apply_b_dec_to_input` cannot be true of a transcoder")
                .hint("its `b_dec` belongs to the output"));
        }
        if architecture.is_transcoder != self.config.hook_name_out.is_some() && self.config.hook_name.is_some() {
            return Err(Error::new("a transcoder has both `hook_name` and `hook_name_out`, an SAE only `hook_name`"));
        }
        if architecture.is_transcoder && self.config.hook_head_index.is_some() {
            return Err(
                Error::new("a transcoder of a single head is not supported").hint("leave `hook_head_index` out")
            );
        }
        match architecture.top_k() {
            Some(TopK { k, .. }) if !(1..=d_sae).contains(&k) => {
                Err(Error::new(format!("`k` cannot be {k}")).hint(format!("1 to {d_sae}, the number of latents")))
            }
            _ => Ok(()),
        }
    }

    /// What it computes, and where.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its weights by SAELens's names.
    pub fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.weights
    }

    /// The numbers of an activation that it reads.
    pub fn d_in(&self) -> i64 {
        self.weights["W_enc"].size()[0]
    }

    /// The number of latents.
    pub fn d_sae(&self) -> i64 {
        self.weights["W_enc"].size()[1]
    }

    /// The numbers of an activation that it gives.
    pub fn d_out(&self) -> i64 {
        self.weights["W_dec"].size()[1]
    }

    /// The dtype in which it computes.
    pub fn kind(&self) -> Kind {
        self.weights["W_enc"].kind()
    }

    /// Where its weights are.
    pub fn device(&self) -> Device {
        self.weights["W_enc"].device()
    }

    /// The same with weights of another dtype or on another device.
    ///
    /// # Errors
    /// A dtype that is not of floats; a libtorch error, such as too little memory.
    pub fn to(&self, kind: Kind, device: Device) -> Result<Self> {
        let moved =
            |(name, weight): (&String, &Tensor)| Ok((name.clone(), weight.f_to_device_(device, kind, false, false)?));
        Self::new(self.config.clone(), self.weights.iter().map(moved).collect::<Result<_>>()?)
    }

    /// The same where inputs are to be multiplied by `factor` first, and outputs divided by it.
    ///
    /// # Errors
    /// A factor that is not above 0; a transcoder, whose output has a scale of its own.
    pub fn with_input_scale(mut self, factor: f64) -> Result<Self> {
        if !(factor > 0.0 && factor.is_finite()) {
            return Err(Error::new(format!("a scaling factor must be above 0, not {factor}")));
        }
        if self.config.architecture.is_transcoder {
            return Err(Error::new("a transcoder's output has a scale of its own")
                .hint("multiply and divide its weights yourself, and use `new_sae`"));
        }
        for name in ["W_enc", "W_dec", "b_dec"] {
            let weight = &self.weights[name];
            let scaled = if name == "W_enc" { weight.times(factor)? } else { weight.over(factor)? };
            self.weights.insert(name.into(), scaled);
        }
        Ok(self)
    }

    /// The latents of activations, [.., d_sae], on the SAE's device and in its dtype.
    ///
    /// # Errors
    /// Activations of another width.
    pub fn encode(&self, x: &Tensor) -> Result<Tensor> {
        let (x, _) = self.normalized(&self.flat(x)?)?;
        let x = if self.config.apply_b_dec_to_input { x.f_sub(&self.weights["b_dec"])? } else { x };
        let weight = &self.weights["W_enc"];
        let before = |bias: &str| -> Result<Tensor> { Ok(x.f_matmul(weight)?.f_add(&self.weights[bias])?) };
        match self.config.architecture.activation {
            Activation::Relu => Ok(before("b_enc")?.f_relu()?),
            Activation::Gated => {
                let is_open = before("b_gate")?.f_gt_tensor(&constant(0.0)?)?.f_to_kind(self.kind())?;
                let magnitudes = x.f_matmul(&weight.f_mul(&self.weights["r_mag"].f_exp()?)?)?;
                Ok(magnitudes.f_add(&self.weights["b_mag"])?.f_relu()?.f_mul(&is_open)?)
            }
            Activation::JumpRelu => {
                let before = before("b_enc")?;
                let is_above = before.f_gt_tensor(&self.weights["threshold"])?.f_to_kind(self.kind())?;
                Ok(before.f_relu()?.f_mul(&is_above)?)
            }
            Activation::TopK(top_k) => {
                let before = self.weighted(before("b_enc")?, top_k)?;
                let (values, indices) = before.f_topk(top_k.k, -1, true, false)?;
                Ok(before.f_zeros_like()?.f_scatter(-1, &indices, &values.f_relu()?)?)
            }
            Activation::AbsTopK(top_k) => {
                let before = self.weighted(before("b_enc")?, top_k)?;
                let (_, indices) = before.f_abs()?.f_topk(top_k.k, -1, true, false)?;
                Ok(before.f_zeros_like()?.f_scatter(-1, &indices, &before.f_gather(-1, &indices, false)?)?)
            }
        }
    }

    /// The output for latents. `input` is what they are the latents of, or were before they were changed.
    ///
    /// # Errors
    /// Another number of latents; no input where the output depends on it.
    pub fn decode(&self, latents: &Tensor, input: Option<&Tensor>) -> Result<Tensor> {
        if latents.size().last() != Some(&self.d_sae()) {
            return Err(Error::new(format!("latents of shape {:?} do not end with {}", latents.size(), self.d_sae())));
        }
        let latents = latents.f_to_device_(self.device(), self.kind(), false, false)?;
        let latents = match self.config.architecture.top_k() {
            Some(TopK { by_decoder_norm: true, .. }) => latents.f_mul(&self.decoder_norms()?.f_reciprocal()?)?,
            _ => latents,
        };
        let output = latents.f_matmul(&self.weights["W_dec"])?.f_add(&self.weights["b_dec"])?;
        let Some(input) = input else {
            if self.config.architecture.has_skip || self.config.normalization != Normalization::None {
                return Err(Error::new("this SAE's output depends on its input, not only on the latents")
                    .hint("give the input too: decode(latents, input)"));
            }
            return Ok(output);
        };
        let flat = self.flat(input)?;
        let output = match self.normalized(&flat)? {
            _ if self.config.architecture.is_transcoder => output,
            (_, Undo::Nothing) => output,
            (_, Undo::Scale(scale)) => output.f_div(&scale)?,
            (_, Undo::Moments { mean, deviation }) => output.f_mul(&deviation)?.f_add(&mean)?,
        };
        let output = match self.weights.get("W_skip") {
            Some(skip) => output.f_add(&flat.f_matmul(&skip.f_transpose(0, 1)?)?)?,
            None => output,
        };
        let joined = flat.dim() < input.dim() && !self.config.architecture.is_transcoder;
        Ok(if joined { output.f_reshape(input.size())? } else { output })
    }

    /// The reconstruction of activations, or what a transcoder predicts from them.
    ///
    /// # Errors
    /// Activations of another width.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.decode(&self.encode(x)?, Some(x))
    }

    /// Activations as the encoder reads them, [.., d_in], in the SAE's dtype and on its device.
    fn flat(&self, x: &Tensor) -> Result<Tensor> {
        let d_in = self.d_in();
        let shape = x.size();
        let flat = match shape[..] {
            [.., last] if last == d_in => x.shallow_clone(),
            [.., heads, last] if self.config.joins_heads && heads.checked_mul(last) == Some(d_in) => {
                x.f_flatten(-2, -1)?
            }
            _ => {
                return Err(Error::new(format!(
                    "an activation of shape {shape:?} does not fit an SAE of {d_in} numbers"
                ))
                .hint(match &self.config.hook_name {
                    Some(name) => format!("it reads `{name}`, and the shape must end with {d_in}"),
                    None => format!("the shape must end with {d_in}"),
                }));
            }
        };
        Ok(flat.f_to_device_(self.device(), self.kind(), false, false)?)
    }

    fn normalized(&self, x: &Tensor) -> Result<(Tensor, Undo)> {
        match self.config.normalization {
            Normalization::None => Ok((x.shallow_clone(), Undo::Nothing)),
            Normalization::ConstantNorm => {
                let scale = constant((self.d_in() as f64).sqrt())?.f_div(&lengths(x)?)?;
                Ok((x.f_mul(&scale)?, Undo::Scale(scale)))
            }
            Normalization::LayerNorm => {
                let mean = x.f_mean_dim(-1, true, None::<Kind>)?;
                let x = x.f_sub(&mean)?;
                let deviation = x.f_std_dim(-1, true, true)?;
                Ok((x.f_div(&deviation.plus(EPSILON)?)?, Undo::Moments { mean, deviation }))
            }
        }
    }

    fn weighted(&self, before: Tensor, top_k: TopK) -> Result<Tensor> {
        Ok(if top_k.by_decoder_norm { before.f_mul(&self.decoder_norms()?)? } else { before })
    }

    fn decoder_norms(&self) -> Result<Tensor> {
        Ok(lengths(&self.weights["W_dec"])?.f_squeeze_dim(-1)?)
    }
}

/// The lengths of vectors, [.., 1].
fn lengths(vectors: &Tensor) -> Result<Tensor> {
    Ok(vectors.f_square()?.f_sum_dim_intlist([-1].as_slice(), true, None::<Kind>)?.f_sqrt()?)
}
