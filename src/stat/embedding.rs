//! t-SNE: samples in two dimensions, neighbours close together. The algorithm is exact, because the crate's Barnes-Hut
//! approximation takes no seed.

use linfa::traits::Transformer;
use linfa_tsne::TSneParams;
use ndarray::Array2;

use super::generator;
use super::matrix::doubles;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::tensor::raw::numbers;
use crate::worker::{self, Bounds};

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

/// A limit too: steps that Ctrl-C leaves behind go on until they are done.
const MOST_STEPS: usize = 100_000;

const STACK_BYTES: usize = 8 << 20;

/// Positions [sample, 2] for `x` [sample, feature].
///
/// # Errors
/// Not a matrix of finite numbers, too many samples or steps, fewer than two features, samples that do not differ, or a
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
    if settings.n_iter > MOST_STEPS {
        return Err(Error::new(format!("`n_iter` of `tsne` is at most {MOST_STEPS}, not {}", settings.n_iter)));
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
    let centred = Array2::from_shape_vec((samples as usize, features as usize), numbers(&centred)?)
        .map_err(|error| Error::new(error.to_string()))?;
    let embed = move || {
        TSneParams::embedding_size_with_rng(2, generator(settings.seed))
            .approx_threshold(0.0)
            .perplexity(settings.perplexity)
            .max_iter(settings.n_iter)
            .transform(centred)
    };
    let embedded = worker::run(Bounds::stack(STACK_BYTES), embed)?
        .map_err(|error| Error::new(format!("`tsne` failed: {error}")))?;
    if embedded.iter().any(|value| !value.is_finite()) {
        return Err(Error::new("`tsne` did not converge").hint("try another perplexity or seed"));
    }
    let positions: Vec<f64> = embedded.into_iter().collect();
    Ok(tch::Tensor::f_from_slice(&positions)?.f_reshape([-1, 2])?.into())
}
