//! The cells of a grid as a CSV file.

use std::io;
use std::path::Path;

use tch::{Kind, Tensor};

use super::outcome::{Effect, Grid};
use super::set;
use crate::error::Result;
use crate::{file, interrupt};

/// Writes every cell in a line: set (layers joined by `+`, heads as layer.head), sample, effects on the answer's logit
/// and reciprocal rank, rank.
///
/// # Errors
/// The file cannot be written; Ctrl-C.
pub fn write_csv(grid: &Grid, path: &Path) -> Result<()> {
    let flat = |tensor: &Tensor| -> Result<Vec<f64>> {
        Ok(Vec::<f64>::try_from(&tensor.f_to_kind(Kind::Double)?.f_reshape([-1])?)?)
    };
    let logit = flat(&grid.effect(Effect::Logit)?)?;
    let reciprocal = flat(&grid.effect(Effect::ReciprocalRank)?)?;
    let rank = Vec::<i64>::try_from(&grid.rank.f_reshape([-1])?)?;
    file::write_atomic(path, |out| {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(["set", "sample", "effect_logit", "effect_rr", "rank"])?;
        for (number, set) in grid.sets.iter().enumerate() {
            interrupt::check().map_err(io::Error::other)?;
            let name = set::name(set);
            for sample in 0..grid.samples() {
                let cell = number * grid.samples() + sample;
                let numbers = [logit[cell].to_string(), reciprocal[cell].to_string(), rank[cell].to_string()];
                let [logit, reciprocal, rank] = &numbers;
                writer.write_record([&name, &sample.to_string(), logit, reciprocal, rank])?;
            }
        }
        writer.flush()
    })
}
