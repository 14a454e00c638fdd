//! What the logits of each sample are measured by: answers, tokens to compare with, a reference, the caller's function.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::tensor::raw::values;

/// Measures logits, [row, d_vocab], of the samples of these numbers: one number per row, in any shape and kind.
pub type Closure<'a> = dyn Fn(&Tensor, &[usize]) -> Result<Tensor> + 'a;

/// What the logits of each sample are measured by.
pub struct Target<'a> {
    /// The answers' ids, int64 [sample, id]; samples with fewer ids repeat one
    pub answers: Tensor,
    /// 0 where an id counts, -infinity where it is a repetition, [sample, id]; None if every sample has one id
    pub repetition: Option<Tensor>,
    /// Ids of tokens that the answer is compared with, int64 [sample, token]
    pub against: Option<Tensor>,
    /// Log-probabilities of the reference run, [sample, d_vocab]
    pub reference: Option<Tensor>,
    /// The samples' numbers
    pub samples: Vec<usize>,
    /// A metric of the caller's own
    pub closure: Option<&'a Closure<'a>>,
}

impl<'a> Target<'a> {
    /// The answers' ids, at least one for each sample, and nothing to compare with.
    ///
    /// # Errors
    /// A sample without an id, or with one twice; too little memory.
    pub fn answers(answers: &[Vec<i64>]) -> Result<Self> {
        for (number, ids) in answers.iter().enumerate() {
            if ids.is_empty() {
                return Err(Error::new(format!("sample {number} has no answer")).hint("one id or several"));
            }
            if let Some(id) = repeated(ids) {
                return Err(Error::new(format!("the answer of sample {number} has the id {id} twice")));
            }
        }
        let most = answers.iter().map(Vec::len).max().unwrap_or(0);
        let padded = |ids: &Vec<i64>| -> Vec<i64> { ids.iter().cycle().take(most).copied().collect() };
        let counts =
            |ids: &Vec<i64>| (0..most).map(|place| if place < ids.len() { 0.0 } else { f64::NEG_INFINITY }).collect();
        let shape = [answers.len() as i64, most as i64];
        let table = |values: Tensor| -> Result<Tensor> { Ok(values.f_view(shape)?) };
        let ids: Vec<Vec<i64>> = answers.iter().map(padded).collect();
        let repetition: Vec<Vec<f64>> = answers.iter().map(counts).collect();
        Ok(Self {
            answers: table(Tensor::f_from_slice(&ids.concat())?)?,
            repetition: (most > 1).then(|| table(Tensor::f_from_slice(&repetition.concat())?)).transpose()?,
            against: None,
            reference: None,
            samples: (0..answers.len()).collect(),
            closure: None,
        })
    }

    /// The samples of these numbers, on a device.
    ///
    /// # Errors
    /// Too little memory.
    pub fn select(&self, samples: &[usize], device: Device) -> Result<Self> {
        let index = Tensor::f_from_slice(&samples.iter().map(|sample| *sample as i64).collect::<Vec<_>>())?;
        let some = |values: &Tensor| -> Result<Tensor> {
            Ok(values.f_index_select(0, &index.f_to(values.device())?)?.f_to(device)?)
        };
        Ok(Self {
            answers: some(&self.answers)?,
            repetition: self.repetition.as_ref().map(some).transpose()?,
            against: self.against.as_ref().map(some).transpose()?,
            reference: self.reference.as_ref().map(some).transpose()?,
            samples: samples.iter().map(|sample| self.samples[*sample]).collect(),
            closure: self.closure,
        })
    }

    /// Every id that a sample's answer or comparison has, once, in order.
    ///
    /// # Errors
    /// Too little memory.
    pub fn ids(&self) -> Result<Vec<i64>> {
        let list = |ids: &Tensor| -> Result<Vec<i64>> { values(&ids.f_to(Device::Cpu)?.f_reshape([-1])?) };
        let mut ids = list(&self.answers)?;
        if let Some(against) = &self.against {
            ids.extend(list(against)?);
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// What the caller's function makes of logits, float64 [row].
    pub(super) fn closure(&self, logits: &Tensor) -> Result<Tensor> {
        let rows = logits.size()[0];
        let Some(closure) = self.closure else {
            return Ok(Tensor::f_zeros([rows], (Kind::Double, logits.device()))?);
        };
        // One set at a time: its samples ascend.
        let mut parts = Vec::new();
        let mut start = 0;
        while start < self.samples.len() {
            let rest = &self.samples[start..];
            let length = 1 + rest.windows(2).take_while(|pair| pair[0] < pair[1]).count();
            let own = logits.f_narrow(0, start as i64, length as i64)?;
            let values = closure(&own, &rest[..length])?;
            if values.numel() != length || values.dim() > 1 {
                return Err(Error::new(format!(
                    "a metric is one number per sample: of {length} samples this function gave {:?}",
                    values.size()
                ))
                .hint("|logits| takes [sample, d_vocab] and returns [sample], such as logits[:, 5] - logits[:, 7]"));
            }
            parts.push(values.f_reshape([-1])?.f_to_device_(logits.device(), Kind::Double, false, false)?);
            start += length;
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }
}

/// The ids that answers are compared with, as one tensor [sample, token].
///
/// # Errors
/// Another number of samples, samples with different numbers of ids, none at all, or the answer among them.
pub fn against(answers: &[Vec<i64>], ids: &[Vec<i64>]) -> Result<Tensor> {
    if ids.len() != answers.len() {
        return Err(Error::new(format!("`against` has ids for {} samples and there are {}", ids.len(), answers.len()))
            .hint("the same ids for all samples, or an array of ids per sample"));
    }
    let count = ids.first().map_or(0, Vec::len);
    if count == 0 || ids.iter().any(|own| own.len() != count) {
        return Err(Error::new("every sample must have as many ids in `against`, at least one"));
    }
    for (sample, (answers, own)) in answers.iter().zip(ids).enumerate() {
        if let Some(id) = repeated(own) {
            return Err(Error::new(format!("`against` has the id {id} twice for sample {sample}")));
        }
        if let Some(answer) = answers.iter().find(|answer| own.contains(answer)) {
            return Err(Error::new(format!("`against` has the answer of sample {sample} itself, id {answer}")));
        }
    }
    Ok(Tensor::f_from_slice(&ids.concat())?.f_view([ids.len() as i64, count as i64])?)
}

/// An id that stands there twice.
fn repeated(ids: &[i64]) -> Option<i64> {
    (1..ids.len()).find(|place| ids[..*place].contains(&ids[*place])).map(|place| ids[place])
}
