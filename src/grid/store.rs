//! Caches computed cells, one file per batch of samples, so that an interrupted grid resumes where it stopped.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::measured::Cell;
use super::request::{Origin, Request, Sizes};
use super::sample::Sample;
use super::set::{self, Element};
use crate::error::Result;
use crate::identity::Identity;
use crate::model::language_model::LanguageModel;
use crate::tensor::{kind_name, raw};
use crate::{access, file, share};

/// Bytes of the hash before the cells.
const HASH: usize = 32;

/// A folder of finished batches. A file's name is the hash of everything its numbers depend on: also of the samples that
/// are computed together, since the last bits of a number depend on them.
pub struct Store {
    /// One file per batch
    paths: Vec<PathBuf>,
}

impl Store {
    /// The store of a request for batches of its samples, where it asks for one and its numbers have a name: functions
    /// have none. The `version` names the kind of cells, and changes whenever their numbers, the fields below or the
    /// layout of the files change.
    ///
    /// # Errors
    /// A folder that the running script may not write; the model's fingerprint cannot be computed.
    pub fn open(
        version: &str,
        model: &LanguageModel,
        request: &Request,
        samples: &[Sample],
        batches: &[&[usize]],
        has_closure: bool,
    ) -> Result<Option<Self>> {
        let Some(folder) = request.store.as_deref().filter(|_| !has_closure) else { return Ok(None) };
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
        common.optional("tokens_at_once", request.tokens_at_once);
        common.field("origin", request.origin.name());
        match &request.origin {
            Origin::Mean => samples.iter().for_each(|sample| common.list("mean", &sample.source)),
            Origin::Vectors(vectors) => {
                for vector in vectors.iter() {
                    let own = vector.f_to_kind(model.decoder.kind)?;
                    common.list("shape", own.size());
                    common.list("vector", raw::bit_sums(&own)?);
                }
            }
            Origin::Source(_) | Origin::Zero | Origin::Resample(_) => {}
        }
        let path = |batch: &&[usize]| {
            let mut identity = common.clone();
            for number in *batch {
                let sample = &samples[*number];
                identity.list("source", &sample.source);
                identity.list("prompt", &sample.prompt);
                identity.field("position", sample.position);
                identity.list("answer", &request.answers[*number]);
                identity.list("against", request.against.get(*number).into_iter().flatten());
                identity.list("reference", request.reference_run(*number, sample));
            }
            let name = identity.hex();
            folder.join(&name[..2]).join(format!("{name}.cells"))
        };
        Ok(Some(Self { paths: batches.iter().map(path).collect() }))
    }

    /// Whether this process computes a batch. (What is not stored reaches no other shard, so each computes it.)
    pub fn has_batch(&self, batch: usize) -> bool {
        share::has_unit(batch, self.paths.len(), &self.paths[batch])
    }

    /// The batch's cells, `count` of them for each of `samples`, if the file exists and is whole.
    pub fn get(&self, batch: usize, samples: usize, count: usize) -> Option<Vec<Vec<Cell>>> {
        let bytes = file::read(&self.paths[batch]).ok()?;
        let (hash, content) = bytes.split_at_checked(HASH)?;
        let (words, rest) = content.as_chunks::<8>();
        if words.len() != 6 * samples * count || !rest.is_empty() || hash != Sha256::digest(content).as_slice() {
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
        cells.iter().all(|cell| cell.is_measured()).then(|| cells.chunks(count).map(<[Cell]>::to_vec).collect())
    }

    /// Stores the batch's cells: the hash of the rest, then the numbers of each cell in order, but that of a function, 8
    /// bytes each, little-endian.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&self, batch: usize, cells: &[Vec<Cell>]) -> Result<()> {
        let mut content = Vec::new();
        for Cell { logit, rank, log_sum_exp, mean, against, kl, closure: _ } in cells.iter().flatten() {
            content.extend(logit.to_le_bytes());
            content.extend(rank.to_le_bytes());
            for number in [log_sum_exp, mean, against, kl] {
                content.extend(number.to_le_bytes());
            }
        }
        file::write_atomic(&self.paths[batch], |out| {
            out.write_all(&Sha256::digest(&content))?;
            out.write_all(&content)
        })
    }
}
