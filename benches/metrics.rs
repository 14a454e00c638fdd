//! What a planned grid costs with all metrics, as a ratio to one that counts ranks only, on smollm2. In one run: the
//! whole grid, the measuring of as many residuals as it has, and the same with ranks alone.

use std::time::Instant;

use lancet::grid::driver;
use lancet::grid::measured::Measured;
use lancet::grid::request::{Origin, Request};
use lancet::grid::target::Target;
use lancet::model::decoder::Decoder;
use lancet::model::language_model::{LanguageModel, LoadOptions};
use tch::{Kind, Tensor};

/// Samples of the grid, and the rows and tokens of a block, as the grid has them.
const SAMPLES: usize = 8;
const BLOCK: i64 = 1024;

fn request(length: usize) -> Request {
    let prompt = |sample: usize| (0..length as i64).map(|place| 100 + 37 * sample as i64 + 11 * place).collect();
    let source = (0..20).map(|place| 500 + 13 * place).collect();
    let answers = (0..SAMPLES as i64).map(|sample| vec![200 + 41 * sample]).collect();
    Request::new(Origin::Source(vec![source]), (0..SAMPLES).map(prompt).collect(), answers)
}

/// Counts the tokens above the answer, in the blocks of a grid.
fn ranks(decoder: &Decoder, residuals: &Tensor, answers: &Tensor) -> lancet::error::Result<Tensor> {
    let mut parts = Vec::new();
    for start in (0..residuals.size()[0]).step_by(BLOCK as usize) {
        let length = BLOCK.min(residuals.size()[0] - start);
        let normed = decoder.final_norm.forward_plain(&residuals.narrow(0, start, length))?;
        let answers = answers.narrow(0, start, length);
        let own = (normed.shallow_clone() * decoder.unembedding.weight.index_select(0, &answers)).sum_dim_intlist(
            1,
            true,
            normed.kind(),
        );
        let mut higher = Tensor::zeros([length], (normed.kind(), normed.device()));
        for token in (0..decoder.config.d_vocab).step_by(BLOCK as usize) {
            let part = decoder.unembedding.narrow(token, BLOCK.min(decoder.config.d_vocab - token))?;
            let logits = decoder.unembed_part(&part, &normed)?;
            let above = logits.gt_tensor_out(&logits.empty_like(), &own);
            higher += above.sum_dim_intlist(1, false, logits.kind());
        }
        parts.push(higher);
    }
    Ok(Tensor::cat(&parts, 0))
}

fn seconds<T>(work: impl FnOnce() -> lancet::error::Result<T>) -> Result<f64, lancet::error::Error> {
    let start = Instant::now();
    let _ = work()?;
    Ok(start.elapsed().as_secs_f64())
}

fn main() -> Result<(), lancet::error::Error> {
    let _guard = tch::no_grad_guard();
    let model = LanguageModel::load("smollm2", &LoadOptions { device: "cpu".into(), ..LoadOptions::default() })?;
    let decoder = &model.decoder;
    for length in [4, 12] {
        let request = request(length);
        let sets = driver::compute(
            &model,
            &Request {
                targets: request.targets[..1].to_vec(),
                answers: request.answers[..1].to_vec(),
                ..request.clone()
            },
            None,
            &mut |_| (),
        )?
        .sets;
        // A set with the last layer has its parent's values: it is not measured on its own.
        let nodes =
            1 + sets.iter().filter(|set| set.iter().all(|place| place.layer + 1 < decoder.config.n_layers)).count();
        let rows = (nodes * SAMPLES) as i64;
        let residuals = Tensor::randn([rows, decoder.config.d_model], (Kind::Float, decoder.output_device()));
        let target = Target::answers(&request.answers)?;
        let samples = Tensor::arange(rows, (Kind::Int64, decoder.output_device())).remainder(SAMPLES as i64);
        let answers = target.answers.squeeze_dim(1).index_select(0, &samples);
        let (mut all, mut alone, mut whole) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
        for _ in 0..3 {
            all = all.min(seconds(|| Measured::of_residuals(decoder, &residuals, &target))?);
            alone = alone.min(seconds(|| ranks(decoder, &residuals, &answers))?);
            whole = whole.min(seconds(|| driver::compute(&model, &request, None, &mut |_| ()))?);
        }
        println!(
            "{length} tokens: grid {whole:.2} s, of which measuring {all:.2} s, ranks alone {alone:.2} s: a grid with all \
             metrics costs {:.3} times one with ranks",
            whole / (whole - all + alone)
        );
    }
    Ok(())
}
