//! Caches computed cells, one file per sample, so that an interrupted grid resumes where it stopped.

use std::path::{Path, PathBuf};

use super::metric::Cell;
use super::request::{Request, Sample};
use crate::access;
use crate::error::Result;
use crate::file;
use crate::identity::Identity;
use crate::model::language_model::LanguageModel;
use crate::tensor::kind_name;

/// A folder of finished samples. A file's name is the hash of everything its numbers depend on.
pub struct Store {
    /// One file per sample
    paths: Vec<PathBuf>,
}

/// Changed whenever the numbers, the fields below or the layout of the files change.
const VERSION: &str = "lancet cells 2";

impl Store {
    /// The store in `folder` for the samples of a request with sources.
    ///
    /// # Errors
    /// A folder that the running script may not write; the model's fingerprint cannot be computed.
    pub fn open(folder: &Path, model: &LanguageModel, request: &Request, samples: &[Sample]) -> Result<Self> {
        access::check_write(folder)?;
        let mut common = Identity::new(VERSION);
        common.field("model", model.fingerprint()?);
        common.field("dtype", kind_name(model.decoder.kind));
        common.field("site", request.site.name());
        common.list("sizes", &request.sizes);
        let path = |(number, sample): (usize, &Sample)| {
            let mut identity = common.clone();
            identity.list("source", request.source(number));
            identity.list("prompt", &sample.prompt);
            identity.field("position", sample.position);
            identity.field("answer", sample.answer);
            let name = identity.hex();
            folder.join(&name[..2]).join(format!("{name}.cells"))
        };
        Ok(Self { paths: samples.iter().enumerate().map(path).collect() })
    }

    /// The sample's cells, one per set, if the file exists and is complete.
    pub fn get(&self, sample: usize, sets: usize) -> Option<Vec<Cell>> {
        let bytes = file::read(&self.paths[sample]).ok()?;
        let (words, rest) = bytes.as_chunks::<8>();
        if words.len() != 2 * sets || !rest.is_empty() {
            return None;
        }
        let (pairs, _) = words.as_chunks::<2>();
        let cell =
            |[logit, rank]: &[[u8; 8]; 2]| Cell { logit: f64::from_le_bytes(*logit), rank: i64::from_le_bytes(*rank) };
        let cells: Vec<Cell> = pairs.iter().map(cell).collect();
        cells.iter().all(|cell| cell.is_measured()).then_some(cells)
    }

    /// Stores the sample's cells: logit and rank of each set, 8 bytes each, little-endian.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&self, sample: usize, cells: &[Cell]) -> Result<()> {
        file::write_atomic(&self.paths[sample], |out| {
            for Cell { logit, rank } in cells {
                out.write_all(&logit.to_le_bytes())?;
                out.write_all(&rank.to_le_bytes())?;
            }
            Ok(())
        })
    }
}
