//! Caches computed cells, one file per sample, so that an interrupted grid resumes where it stopped.

use std::path::PathBuf;

use super::measured::Cell;
use super::request::{Origin, Request, Sizes};
use super::sample::Sample;
use super::set::{self, Element};
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

impl Store {
    /// The store of a request for its samples, where it asks for one and its numbers have a name: given vectors and
    /// functions have none. The `version` names the kind of cells, and changes whenever their numbers, the fields below or
    /// the layout of the files change.
    ///
    /// # Errors
    /// A folder that the running script may not write; the model's fingerprint cannot be computed.
    pub fn open(
        version: &str,
        model: &LanguageModel,
        request: &Request,
        samples: &[Sample],
        has_closure: bool,
    ) -> Result<Option<Self>> {
        let is_named = !matches!(request.origin, Origin::Vectors(_)) && !has_closure;
        let Some(folder) = request.store.as_deref().filter(|_| is_named) else { return Ok(None) };
        access::check_write(folder)?;
        let mut common = Identity::new(version);
        common.field("model", model.fingerprint()?);
        common.field("dtype", kind_name(model.decoder.kind));
        common.field("site", request.site.name());
        match &request.sizes {
            Sizes::Of(sizes) => common.list("sizes", sizes),
            Sizes::Random { subsets, seed } => common.list("random", [*subsets as u64, *seed]),
        }
        let names = |elements: &Vec<Element>| set::name(elements);
        common.optional("elements", request.elements.as_ref().map(names));
        common.field("origin", request.origin.name());
        if matches!(request.origin, Origin::Mean) {
            samples.iter().for_each(|sample| common.list("mean", &sample.source));
        }
        let path = |(number, sample): (usize, &Sample)| {
            let mut identity = common.clone();
            identity.list("source", &sample.source);
            identity.list("prompt", &sample.prompt);
            identity.field("position", sample.position);
            identity.list("answer", &request.answers[number]);
            identity.list("against", request.against.get(number).into_iter().flatten());
            identity.list("reference", request.reference_run(number, sample));
            let name = identity.hex();
            folder.join(&name[..2]).join(format!("{name}.cells"))
        };
        Ok(Some(Self { paths: samples.iter().enumerate().map(path).collect() }))
    }

    /// The sample's cells, `count` of them, if the file exists and is complete.
    pub fn get(&self, sample: usize, count: usize) -> Option<Vec<Cell>> {
        let bytes = file::read(&self.paths[sample]).ok()?;
        let (words, rest) = bytes.as_chunks::<8>();
        if words.len() != 6 * count || !rest.is_empty() {
            return None;
        }
        let (rows, _) = words.as_chunks::<6>();
        let number = |bytes: &[u8; 8]| f64::from_le_bytes(*bytes);
        let cell = |[logit, rank, log_sum_exp, mean, against, kl]: &[[u8; 8]; 6]| Cell {
            logit: number(logit),
            rank: i64::from_le_bytes(*rank),
            log_sum_exp: number(log_sum_exp),
            mean: number(mean),
            against: number(against),
            kl: number(kl),
            closure: 0.0,
        };
        let cells: Vec<Cell> = rows.iter().map(cell).collect();
        cells.iter().all(|cell| cell.is_measured()).then_some(cells)
    }

    /// Stores the sample's cells: the numbers of each in order, but that of a function, 8 bytes each, little-endian.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&self, sample: usize, cells: &[Cell]) -> Result<()> {
        file::write_atomic(&self.paths[sample], |out| {
            for Cell { logit, rank, log_sum_exp, mean, against, kl, closure: _ } in cells {
                out.write_all(&logit.to_le_bytes())?;
                out.write_all(&rank.to_le_bytes())?;
                for number in [log_sum_exp, mean, against, kl] {
                    out.write_all(&number.to_le_bytes())?;
                }
            }
            Ok(())
        })
    }
}
