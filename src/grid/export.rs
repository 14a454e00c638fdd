//! The cells of a grid as a CSV file.

use std::io;
use std::path::Path;

use tch::{Kind, Tensor};

use super::metric::Metric;
use super::outcome::Grid;
use super::set;
use crate::error::Result;
use crate::{file, interrupt};

/// The effects that every file has.
const EFFECTS: [(&str, Metric); 4] = [
    ("effect_logit", Metric::Logit),
    ("effect_centred_logit", Metric::CentredLogit),
    ("effect_log_probability", Metric::LogProbability),
    ("effect_rr", Metric::ReciprocalRank),
];

/// Writes every cell in a line: set (layers joined by `+`, heads as layer.head), sample, effects on the answer's logit,
/// centred logit, log-probability and reciprocal rank, rank.
///
/// # Errors
/// The file cannot be written; Ctrl-C.
pub fn write_csv(grid: &Grid, path: &Path) -> Result<()> {
    let flat = |tensor: &Tensor| -> Result<Vec<f64>> {
        Ok(Vec::<f64>::try_from(&tensor.f_to_kind(Kind::Double)?.f_reshape([-1])?)?)
    };
    let effects = EFFECTS.iter().map(|(_, metric)| flat(&grid.effect(*metric)?)).collect::<Result<Vec<_>>>()?;
    let rank = Vec::<i64>::try_from(&grid.patched.rank.f_reshape([-1])?)?;
    file::write_atomic(path, |out| {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(["set", "sample"].iter().chain(EFFECTS.iter().map(|(name, _)| name)).chain(&["rank"]))?;
        for (number, set) in grid.sets.iter().enumerate() {
            interrupt::check().map_err(io::Error::other)?;
            let name = set::name(set);
            for sample in 0..grid.samples() {
                let cell = number * grid.samples() + sample;
                let numbers = effects.iter().map(|values| values[cell].to_string());
                let record = [name.clone(), sample.to_string()].into_iter().chain(numbers);
                writer.write_record(record.chain([rank[cell].to_string()]))?;
            }
        }
        writer.flush()
    })
}
