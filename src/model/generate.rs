//! Continues a text token by token, with a cache of keys and values.

use tch::{Device, Kind, Tensor};

use super::decoder::{Decoder, Logits, not_finite_hint};
use super::key_value::{KeyValueCache, outgrown};
use super::padding::Batch;
use super::run::Hooks;
use crate::error::{Error, Result};
use crate::tensor::generator::Generator;
use crate::tensor::raw::{Arithmetic, constant, numbers, wide};

/// How to choose the next token and when to stop.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Stop after this many new tokens
    pub max_tokens: i64,
    /// 0 is greedy: the token of highest logit; else logits are divided by it and a token is drawn
    pub temperature: f64,
    /// Draw among this many of the most likely only
    pub top_k: Option<i64>,
    /// Draw among the fewest tokens whose probabilities add up to this only
    pub top_p: Option<f64>,
    /// Seed of the draw
    pub seed: Option<i64>,
    /// Ids after which a text is complete; they are not part of the result
    pub stop_ids: Vec<i64>,
}

impl Default for Generation {
    fn default() -> Self {
        Self { max_tokens: 32, temperature: 0.0, top_k: None, top_p: None, seed: None, stop_ids: Vec::new() }
    }
}

impl Decoder {
    /// The new ids that follow each row of `tokens`, int64 [batch, pos]. Hooks see only the new positions of each step,
    /// but all positions once more when a long rope switches to its other frequencies.
    ///
    /// # Errors
    /// As [`Decoder::forward`]; an option out of its range; a model whose attention looks ahead, or whose outputs are not
    /// tokens.
    pub fn generate(&self, tokens: &Tensor, options: &Generation, hooks: &mut Hooks) -> Result<Vec<Vec<i64>>> {
        self.generate_after(None, &tokens.shallow_clone().into(), options, hooks)
    }

    /// The same, where the prompts follow a prefix, or have different lengths and are filled up on the left.
    ///
    /// # Errors
    /// As [`Decoder::generate`] and [`KeyValueCache::continued`]; filling after a prefix, or on the right.
    pub fn generate_after(
        &self,
        prefix: Option<&KeyValueCache>,
        Batch { tokens, padding }: &Batch,
        options: &Generation,
        hooks: &mut Hooks,
    ) -> Result<Vec<Vec<i64>>> {
        options.check()?;
        self.config.check_predicts_next("generating")?;
        if padding.as_ref().is_some_and(|padding| prefix.is_some() || !padding.can_go_on()) {
            return Err(Error::new("prompts of different lengths cannot follow a prefix")
                .hint("run those of one length together, or give whole texts without a prefix"));
        }
        self.check_tokens(tokens)?;
        let mut generator = options.seed.map(Generator::new);
        let batch = tokens.size()[0] as usize;
        let mut cache = match prefix {
            Some(prefix) => prefix.continued(self, tokens.size2()?)?,
            None => KeyValueCache { padding: padding.clone(), ..KeyValueCache::new(self) },
        };
        let mut rows: Vec<Vec<i64>> = vec![Vec::new(); batch];
        let mut done = vec![false; batch];
        let mut text = tokens.shallow_clone();
        let mut input = tokens.shallow_clone();
        for _ in 0..options.max_tokens {
            // Learned positions leave no room for more tokens: the text ends here.
            if !self.has_room(&cache, &input) && rows.iter().any(|row| !row.is_empty()) {
                break;
            }
            let logits = self.forward_cached(&input, Logits::Last, hooks, &mut cache)?.f_select(1, -1)?;
            check_choice(&logits, self.kind)?;
            let next = options.choose(&logits, generator.as_mut())?;
            let ids = Vec::<i64>::try_from(&next.f_to(Device::Cpu)?)?;
            for ((row, done), id) in rows.iter_mut().zip(&mut done).zip(ids) {
                *done |= options.stop_ids.contains(&id);
                if !*done {
                    row.push(id);
                }
            }
            if done.iter().all(|done| *done) {
                break;
            }
            input = next.f_unsqueeze(1)?;
            text = Tensor::f_cat(&[&text, &input.f_to(text.device())?], 1)?;
            if cache.is_outgrown(self) {
                if prefix.is_some() {
                    return Err(outgrown());
                }
                cache.restart();
                input = text.shallow_clone();
            }
        }
        Ok(rows)
    }
}

impl Generation {
    fn check(&self) -> Result<()> {
        let wrong = |option: &str, rule: &str| Err(Error::new(format!("option `{option}` is out of range")).hint(rule));
        match self {
            Self { max_tokens, .. } if *max_tokens < 1 => wrong("max_tokens", "at least 1"),
            Self { temperature, .. } if !(0.0..).contains(temperature) => wrong("temperature", "0 (greedy) or more"),
            Self { top_k: Some(count), .. } if *count < 1 => wrong("top_k", "at least 1"),
            Self { top_p: Some(share), .. } if !(*share > 0.0 && *share <= 1.0) => wrong("top_p", "above 0, at most 1"),
            Self { temperature, top_k, top_p, .. } if *temperature == 0.0 && (top_k.is_some() || top_p.is_some()) => {
                wrong(
                    "temperature",
                    "`top_k` and `top_p` choose among tokens that are drawn, with a temperature above 0",
                )
            }
            _ => Ok(()),
        }
    }

    /// One id per row of `logits`, [batch, d_vocab]; drawn from `generator`, or from the session's.
    fn choose(&self, logits: &Tensor, generator: Option<&mut Generator>) -> Result<Tensor> {
        if self.temperature == 0.0 {
            return Ok(logits.f_argmax(-1, false)?);
        }
        let logits = logits.f_to_kind(wide(logits.kind()))?.over(self.temperature)?;
        let (_, d_vocab) = logits.size2()?;
        let (sorted, ids) = logits.f_sort(-1, true)?;
        let keep = self.top_k.unwrap_or(d_vocab).min(d_vocab);
        let probabilities = sorted.f_narrow(-1, 0, keep)?.f_softmax(-1, None::<Kind>)?;
        let probabilities = match self.top_p {
            Some(share) => {
                // A token counts as long as those before it have not reached the share.
                let before = probabilities.f_cumsum(-1, None::<Kind>)?.f_sub(&probabilities)?;
                probabilities.f_masked_fill_tensor(&before.f_ge_tensor(&constant(share)?)?, &constant(0.0)?)?
            }
            None => probabilities,
        };
        // On the CPU, whose generator `seed` and `manual_seed` start.
        let probabilities = probabilities.f_to(Device::Cpu)?;
        let draw = || Ok(probabilities.f_multinomial(1, false)?);
        let drawn = generator.map_or_else(draw, |generator| generator.draw(draw))?;
        Ok(ids.f_gather(-1, &drawn.f_to(ids.device())?, false)?.f_squeeze_dim(-1)?)
    }
}

/// Refuses logits, [batch, d_vocab], among which none is the highest: NaN is above none, and is libtorch's maximum.
fn check_choice(logits: &Tensor, kind: Kind) -> Result<()> {
    let highest = numbers(&logits.f_amax([-1].as_slice(), false)?)?;
    match highest.iter().position(|logit| !logit.is_finite()) {
        None => Ok(()),
        Some(row) => {
            Err(Error::new(format!("the logits of prompt {row} are not finite, so that no token can be chosen"))
                .hint(not_finite_hint(kind)))
        }
    }
}
