//! t-SNE: samples in two dimensions, neighbours close together. The algorithm is exact.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bhtsne::tSNE;
use rand::Rng;
use rayon::ThreadPoolBuilder;

use super::generator;
use super::matrix::doubles;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::tensor::Tensor;
use crate::tensor::raw::numbers;

/// The settings of an embedding.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The approximate number of neighbours that each sample keeps close.
    pub perplexity: f64,
    /// The number of steps of gradient descent.
    pub n_iter: usize,
    /// The seed of the starting positions.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { perplexity: 30.0, n_iter: 1000, seed: 0 }
    }
}

/// A limit, because every pair of samples takes memory and time in each step.
const MOST_SAMPLES: i64 = 5000;

/// Steps during which neighbours attract each other more, as in the original program; half of the steps, if they are few.
const EARLY_STEPS: usize = 250;

/// What unwinds the library after Ctrl-C.
struct Stopped;

/// Positions [sample, 2] for `x` [sample, feature].
///
/// # Errors
/// Not a matrix of finite numbers, too many samples, fewer than two features, samples that do not differ, or a
/// perplexity that does not fit their number; Ctrl-C.
pub fn tsne(x: &Tensor, settings: Settings) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let matrix = doubles("tsne", x)?;
    let (samples, features) = matrix.size2()?;
    if features < 2 {
        return Err(Error::new("`tsne` needs at least 2 features"));
    }
    if samples > MOST_SAMPLES {
        return Err(Error::new(format!("`tsne` takes at most {MOST_SAMPLES} samples, not {samples}"))
            .hint("take a part of the samples"));
    }
    let most = (samples - 1) as f64 / 3.0;
    if !(settings.perplexity >= 1.0 && settings.perplexity <= most) {
        return Err(Error::new(format!("a perplexity of {} does not fit {samples} samples", settings.perplexity))
            .hint(format!("from 1 to {most:.0}, a third of the number of samples")));
    }
    let centred = matrix.f_sub(&matrix.f_narrow(0, 0, 1)?)?;
    if numbers(&centred.f_abs()?.f_max()?)? == [0.0] {
        return Err(Error::new("`tsne` needs samples that differ"));
    }
    let embedded = positions(&numbers(&centred)?, features as usize, settings)?;
    if embedded.iter().any(|value| !value.is_finite()) {
        return Err(Error::new("`tsne` did not converge").hint("try another perplexity or seed"));
    }
    Ok(tch::Tensor::f_from_slice(&embedded)?.f_reshape([-1, 2])?.into())
}

/// Positions of samples, whose features stand one after the other.
fn positions(values: &[f64], features: usize, settings: Settings) -> Result<Vec<f64>> {
    let samples: Vec<&[f64]> = values.chunks_exact(features).collect();
    let mut random = generator(settings.seed);
    let start: Vec<f64> = (0..2 * samples.len()).map(|_| random.gen_range(-1e-4..1e-4)).collect();
    let early = EARLY_STEPS.min(settings.n_iter / 2);
    let descend = || {
        tSNE::<f64, &[f64]>::new(&samples)
            .perplexity(settings.perplexity)
            .epochs(settings.n_iter)
            .stop_lying_epoch(early)
            .momentum_switch_epoch(early)
            .initial_embedding(start)
            .epoch_callback(|_, _| {
                if interrupt::is_pending() {
                    resume_unwind(Box::new(Stopped));
                }
            })
            .exact(|a, b| a.iter().zip(*b).map(|(a, b)| (a - b).powi(2)).sum())
            .embedding()
    };
    // One thread adds in one order, so that the positions depend on the seed alone.
    let one_thread = ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(|error| Error::new(format!("`tsne` cannot start a thread: {error}")))?;
    match catch_unwind(AssertUnwindSafe(|| one_thread.install(descend))) {
        Ok(embedded) => Ok(embedded),
        Err(reason) if reason.is::<Stopped>() => Err(Error::Interrupted),
        Err(panic) => resume_unwind(panic),
    }
}
