//! Cells that were computed before, one file per sample, so that an interrupted grid goes on where it stopped.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::driver::Request;
use crate::error::Result;
use crate::file;
use crate::model::language_model::LanguageModel;

/// A folder of finished samples. A file's name is the hash of all that its numbers depend on: weights, dtype, tokens,
/// answer, position, site and sizes.
pub struct Store {
    folder: PathBuf,
    /// Hash of what all samples of a request share
    common: Sha256,
    /// What differs: source, prompt, answer
    samples: Vec<Vec<u8>>,
}

/// Changed whenever the numbers or the layout of the files change.
const VERSION: &str = "lancet cells 1";

impl Store {
    /// The store in `folder` for one request.
    pub fn open(folder: &Path, model: &LanguageModel, request: &Request) -> Result<Self> {
        let mut common = Sha256::new();
        common.update(VERSION);
        common.update(model.fingerprint()?);
        common.update(format!("{:?} {:?} {:?}", model.decoder.kind, request.site, request.sizes));
        let samples = (0..request.targets.len())
            .map(|sample| {
                let answer = request.answers.get(sample);
                format!("{:?} {:?} {answer:?}", request.source(sample), request.prompt(sample)).into_bytes()
            })
            .collect();
        Ok(Self { folder: folder.to_owned(), common, samples })
    }

    fn path(&self, sample: usize, position: i64) -> PathBuf {
        let mut hash = self.common.clone();
        hash.update(self.samples.get(sample).map_or(&[][..], Vec::as_slice));
        hash.update(format!(" {position}"));
        let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(name.get(..2).unwrap_or("")).join(format!("{name}.cells"))
    }

    /// The sample's cells, if they are there and whole.
    pub fn get(&self, sample: usize, position: i64, sets: usize) -> Option<Vec<(f64, i64)>> {
        let bytes = std::fs::read(self.path(sample, position)).ok()?;
        let cells: Vec<(f64, i64)> = bytes
            .chunks_exact(16)
            .filter_map(|cell| {
                let (logit, rank) = cell.split_at(8);
                Some((f64::from_le_bytes(logit.try_into().ok()?), i64::from_le_bytes(rank.try_into().ok()?)))
            })
            .collect();
        (cells.len() == sets && bytes.len() == sets * 16).then_some(cells)
    }

    /// Keeps the sample's cells.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&self, sample: usize, position: i64, cells: &[(f64, i64)]) -> Result<()> {
        file::write_atomic(&self.path(sample, position), |out| {
            for (logit, rank) in cells {
                out.write_all(&logit.to_le_bytes())?;
                out.write_all(&rank.to_le_bytes())?;
            }
            Ok(())
        })
    }
}
