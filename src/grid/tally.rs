//! Measures logits in one pass over the vocabulary, as a whole or block by block.

use tch::{Device, Kind, Tensor};

use super::measured::Measured;
use super::target::Target;
use crate::error::Result;
use crate::interrupt;
use crate::model::decoder::Decoder;
use crate::tensor::raw::{constant, wide};

/// Logits at once on a CPU, rows times tokens: few enough to stay in its caches from one step to the next.
const ROWS_CPU: i64 = 1024;
const TOKENS_CPU: i64 = 1024;
/// Logits at once elsewhere.
const LOGITS_GPU: i64 = 1 << 26;

/// The counts and sums of the blocks so far, [row] or [row, 1]; float64, or float32 at least where they are logits.
pub struct Tally<'t> {
    target: &'t Target<'t>,
    /// Logits of the answers' ids, [row, id]
    answers: Tensor,
    /// The highest of them, [row, 1]
    best: Tensor,
    /// Logits of the tokens to compare with, [row, token]
    against: Option<Tensor>,
    /// Number of tokens above the best
    higher: Tensor,
    sum: Tensor,
    log_sum_exps: Vec<Tensor>,
    /// Of p_reference (log p_reference - l + shift)
    divergence: Tensor,
    /// Makes its terms small, so that they lose no digits: about the logsumexp
    shift: Option<Tensor>,
}

impl<'t> Tally<'t> {
    /// Nothing counted yet, for rows whose `logits` of some tokens are known, and these tokens' `place_of`.
    fn new(target: &'t Target, logits: &Tensor, place_of: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let (device, kind, rows) = (logits.device(), logits.kind(), logits.size()[0]);
        let gather = |ids: &Tensor| -> Result<Tensor> { Ok(logits.f_gather(1, &place_of(ids)?, false)?) };
        let answers = gather(&target.answers)?;
        let none = Tensor::f_zeros([rows], (Kind::Double, device))?;
        let shift = match &target.reference {
            None => None,
            Some(reference) => {
                let own = target.answers.f_narrow(1, 0, 1)?;
                let known = reference.f_gather(1, &own.f_to(reference.device())?, false)?;
                Some(answers.f_narrow(1, 0, 1)?.f_sub(&known.f_to_device_(device, kind, false, false)?)?)
            }
        };
        Ok(Self {
            best: answers.f_amax([1].as_slice(), true)?,
            answers,
            against: target.against.as_ref().map(gather).transpose()?,
            higher: none.shallow_clone(),
            sum: none.shallow_clone(),
            log_sum_exps: Vec::new(),
            divergence: none,
            shift,
            target,
        })
    }

    /// Counts logits, [row, token], of the tokens from `start` on.
    fn add(&mut self, logits: &Tensor, start: i64) -> Result<()> {
        // As numbers: libtorch adds up booleans several times more slowly. Counts have no gradients.
        let above = logits.f_empty_like()?;
        let above = logits.f_detach()?.f_gt_tensor_out(&above, &self.best.f_detach()?)?;
        let above = above.f_sum_dim_intlist(1, false, logits.kind())?;
        self.higher = self.higher.f_add(&above)?;
        self.sum = self.sum.f_add(&logits.f_sum_dim_intlist(1, false, logits.kind())?)?;
        self.log_sum_exps.push(logits.f_logsumexp([1].as_slice(), true)?.f_to_kind(Kind::Double)?);
        if let (Some(reference), Some(shift)) = (&self.target.reference, &self.shift) {
            let reference = reference.f_narrow(1, start, logits.size()[1])?;
            let reference = reference.f_to_device_(logits.device(), logits.kind(), false, false)?;
            let terms = reference.f_exp()?.f_mul(&reference.f_sub(logits)?.f_add(shift)?)?;
            // A token that the reference rules out adds nothing.
            let terms = terms.f_masked_fill_tensor(&reference.f_eq(f64::NEG_INFINITY)?, &constant(0.0)?)?;
            self.divergence = self.divergence.f_add(&terms.f_sum_dim_intlist(1, false, logits.kind())?)?;
        }
        Ok(())
    }

    /// The measurements of a whole vocabulary of `d_vocab` tokens, with what the caller's function gave, [row]. Where a row
    /// holds NaN, which has no rank, its logit is NaN.
    fn finish(self, d_vocab: i64, closure: Tensor) -> Result<Measured> {
        let device = self.answers.device();
        let log_sum_exp = Tensor::f_cat(&self.log_sum_exps, 1)?.f_logsumexp([1].as_slice(), false)?;
        let answers = self.answers.f_to_kind(Kind::Double)?;
        let answer = match &self.target.repetition {
            None => answers.f_squeeze_dim(1)?,
            Some(repetition) => {
                let repetition = repetition.f_to_device_(device, Kind::Double, false, false)?;
                answers.f_add(&repetition)?.f_logsumexp([1].as_slice(), false)?
            }
        };
        let none = || Tensor::f_zeros([answers.size()[0]], (Kind::Double, device));
        let kl = match &self.shift {
            None => none()?,
            Some(shift) => {
                let shift = shift.f_squeeze_dim(1)?.f_to_kind(Kind::Double)?;
                self.divergence.f_sub(&shift)?.f_add(&log_sum_exp)?
            }
        };
        let count = constant(d_vocab as f64)?;
        Ok(Measured {
            logit: answer.f_masked_fill_tensor(&log_sum_exp.f_isnan()?, &constant(f64::NAN)?)?,
            rank: self.higher.f_to_kind(Kind::Int64)?.f_add(&Tensor::f_ones([1], (Kind::Int64, device))?)?,
            log_sum_exp,
            mean: self.sum.f_div(&count)?,
            against: match &self.against {
                None => none()?,
                Some(against) => against.f_mean_dim(1, false, Kind::Double)?,
            },
            kl,
            closure,
        })
    }
}

impl Measured {
    /// Measures logits, [row, d_vocab], by a target of as many samples. Where a row holds NaN, which has no rank, its
    /// logit is NaN.
    ///
    /// # Errors
    /// Too little memory on the logits' device; an error of the caller's function.
    pub fn of_logits(logits: &Tensor, target: &Target) -> Result<Self> {
        let logits = logits.f_to_kind(wide(logits.kind()))?;
        let mut tally = Tally::new(target, &logits, |ids| Ok(ids.f_to(logits.device())?))?;
        tally.add(&logits, 0)?;
        tally.finish(logits.size()[1], target.closure(&logits)?)
    }

    /// Measures residuals after the last layer, [run · sample, d_model], by a target of the samples, and unembeds as
    /// many at once as caches or memory allow.
    ///
    /// # Errors
    /// Too little memory; an error of the caller's function; Ctrl-C.
    pub fn of_residuals(decoder: &Decoder, residuals: &Tensor, target: &Target) -> Result<Self> {
        let (rows, samples, d_vocab) = (residuals.size()[0], target.samples.len() as i64, decoder.config.d_vocab_out);
        let (step, width) = match decoder.output_device() {
            // A function of the logits gets all of them.
            Device::Cpu if target.closure.is_none() => (ROWS_CPU, TOKENS_CPU.min(d_vocab)),
            _ => ((LOGITS_GPU / d_vocab).max(1), d_vocab),
        };
        let mut parts = Vec::new();
        let mut start = 0;
        while start < rows {
            interrupt::check()?;
            let length = step.min(rows - start);
            let own: Vec<usize> = (start..start + length).map(|row| (row % samples) as usize).collect();
            let target = target.select(&own, decoder.output_device())?;
            let normed = decoder
                .final_norm
                .forward_plain(&residuals.f_narrow(0, start, length)?.f_to(decoder.output_device())?)?;
            parts.push(if width == d_vocab {
                Self::of_logits(&decoder.unembed_part(&decoder.unembedding, &normed)?, &target)?
            } else {
                Self::of_blocks(decoder, &normed, &target, width)?
            });
            start += length;
        }
        Self::join(&parts)
    }

    /// Measures what the final norm gives, [row, d_model], in blocks of `width` tokens.
    fn of_blocks(decoder: &Decoder, normed: &Tensor, target: &Target, width: i64) -> Result<Self> {
        let logits_of = |part| -> Result<Tensor> {
            let logits = decoder.unembed_part(&part, normed)?;
            Ok(logits.f_to_kind(wide(logits.kind()))?)
        };
        let ids = target.ids()?;
        let known = logits_of(decoder.unembedding.select(&ids)?)?;
        let sorted = Tensor::f_from_slice(&ids)?.f_to(decoder.output_device())?;
        let place_of = |own: &Tensor| -> Result<Tensor> {
            Ok(own.f_searchsorted(&sorted, false, false, "left", None::<&Tensor>)?)
        };
        let mut tally = Tally::new(target, &known, place_of)?;
        let d_vocab = decoder.config.d_vocab_out;
        let mut start = 0;
        while start < d_vocab {
            let length = width.min(d_vocab - start);
            let mut logits = logits_of(decoder.unembedding.narrow(start, length)?)?;
            // Another product may differ in its last digit, and no token is above itself.
            let (first, end) = (ids.partition_point(|id| *id < start), ids.partition_point(|id| *id < start + length));
            if first < end {
                let columns = sorted.f_narrow(0, first as i64, (end - first) as i64)?.f_sub(&constant(start)?)?;
                let _ = logits.f_index_copy_(1, &columns, &known.f_narrow(1, first as i64, (end - first) as i64)?)?;
            }
            tally.add(&logits, start)?;
            start += length;
        }
        tally.finish(d_vocab, Tensor::f_zeros([normed.size()[0]], (Kind::Double, decoder.output_device()))?)
    }
}
