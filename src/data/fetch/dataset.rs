//! The data sets that can be fetched, and how their files are extracted from an archive and checked.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use super::index::Index;
use super::metered::Metered;
use super::pip;
use crate::cache::{self, Cache};
use crate::data::record;
use crate::error::{Error, Result, nearest};
use crate::file::{checksum, is_plain, write_atomic};
use crate::interrupt;

/// Files of a source archive of the Python package index.
#[derive(Debug)]
pub struct Dataset {
    /// The name to fetch it by.
    pub name: &'static str,
    /// One line on what it is.
    pub summary: &'static str,
    /// The package.
    pub package: &'static str,
    /// The name of the package's archive, a `.tar.gz`.
    pub archive: &'static str,
    /// The archive's length in bytes.
    pub bytes: u64,
    /// The files that are extracted.
    pub files: &'static [DataFile],
}

/// A file of a data set.
#[derive(Debug)]
pub struct DataFile {
    /// Its name here.
    pub name: &'static str,
    /// Its path in the archive, below the archive's one folder.
    pub member: &'static str,
    /// Its SHA-256 in hexadecimal.
    pub sha256: &'static str,
}

/// The data sets that can be fetched.
pub const DATASETS: &[Dataset] = &[Dataset {
    name: "bigbench",
    summary: "four tasks of BIG-bench (Apache-2.0), for `--task bigbench/snarks` and the like",
    package: "bigbench",
    archive: "bigbench-1.0.0.tar.gz",
    bytes: 358_249_635,
    files: &[
        DataFile {
            name: "metaphor_boolean.json",
            member: "bigbench/benchmark_tasks/metaphor_boolean/task.json",
            sha256: "7d997585da8d50db8a8fddf6a715a034777434623643df937909d39c1a5c5a61",
        },
        DataFile {
            name: "implicatures.json",
            member: "bigbench/benchmark_tasks/implicatures/task.json",
            sha256: "cd3dcb575f3e189ad8a7b5b32364521f569fb4136dea88542d8dc240cd5b3e7d",
        },
        DataFile {
            name: "object_counting.json",
            member: "bigbench/benchmark_tasks/object_counting/task.json",
            sha256: "ec6371b4d9078a871ef6962d4991d2318db0b399cca78a0c90678972bdb115d6",
        },
        DataFile {
            name: "snarks.json",
            member: "bigbench/benchmark_tasks/snarks/task.json",
            sha256: "bf78ad6f611db889d1e3cd092a5187c33aee87aa64281c9209809569e8c3dea9",
        },
    ],
}];

/// Largest file extracted, in bytes.
const LONGEST_FILE: u64 = 64 << 20;

/// The data set of this name.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn named(name: &str) -> Result<&'static Dataset> {
    let names = || DATASETS.iter().map(|dataset| dataset.name);
    DATASETS.iter().find(|dataset| dataset.name == name).ok_or_else(|| {
        let error = Error::new(format!("there is no data set `{name}`"));
        match nearest(name, names()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("there is {}", names().collect::<Vec<_>>().join(", "))),
        }
    })
}

/// The path of a data set's file, named `dataset/file`, whether fetched or not.
///
/// # Errors
/// A path that leads elsewhere, or no folder for caches.
pub fn find(name: &str) -> Result<PathBuf> {
    if !is_plain(name) {
        return Err(Error::new(format!("`{name}` is not the file of a data set")).hint("such as bigbench/snarks.json"));
    }
    Ok(Cache::from_env()?.data().join(name))
}

/// The data sets on this machine, and where the missing ones come from.
#[derive(Debug, Clone)]
pub struct Datasets {
    /// One folder per data set.
    pub folder: PathBuf,
    /// Whether downloads are forbidden.
    pub offline: bool,
    index: pip::Settings,
}

impl Datasets {
    /// Reads the variables of [`Cache::from_env`], `HF_HUB_OFFLINE`, `PIP_INDEX_URL` and those of pip's configuration
    /// files.
    ///
    /// # Errors
    /// No variable and no home folder for caches.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same, with variables from `lookup`.
    ///
    /// # Errors
    /// As for [`Datasets::from_env`].
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        Ok(Self {
            folder: Cache::from_variables(&lookup)?.data(),
            offline: cache::is_offline(&lookup),
            index: pip::Settings::from_variables(&lookup),
        })
    }

    /// Lists the data sets and which of their files are fetched.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn list(&self, out: &mut dyn Write) -> io::Result<()> {
        for dataset in DATASETS {
            writeln!(out, "{}: {}", dataset.name, dataset.summary)?;
            for file in dataset.files {
                writeln!(out, "  {:<22} {}", file.name, self.state(dataset, file))?;
            }
            let all = dataset.files.iter().all(|file| self.has(dataset, file));
            let folder = self.folder.join(dataset.name);
            if all {
                writeln!(out, "  in {}", folder.display())?;
            } else {
                let megabytes = dataset.bytes / 1_000_000;
                writeln!(out, "  `lancet data {}` fetches it ({megabytes} MB to download)", dataset.name)?;
            }
        }
        Ok(())
    }

    fn state(&self, dataset: &Dataset, file: &DataFile) -> String {
        let path = self.folder.join(dataset.name).join(file.name);
        match (path.is_file(), self.has(dataset, file)) {
            (false, _) => "not fetched".to_owned(),
            (true, false) => "broken".to_owned(),
            (true, true) => match record::read(&path) {
                Ok(records) => format!("fetched, {} examples", records.len()),
                Err(error) => error.to_string(),
            },
        }
    }

    fn has(&self, dataset: &Dataset, file: &DataFile) -> bool {
        let path = self.folder.join(dataset.name).join(file.name);
        checksum(&path).is_ok_and(|found| found == file.sha256)
    }

    /// Fetches the missing files of a data set and returns its folder. The archive is read as it arrives; only the
    /// listed files are extracted, and they are written once all of them have passed their check.
    ///
    /// # Errors
    /// Downloads that are forbidden or fail, files that are not the expected ones, Ctrl-C.
    pub fn fetch(&self, dataset: &Dataset) -> Result<PathBuf> {
        let folder = self.folder.join(dataset.name);
        if dataset.files.iter().all(|file| self.has(dataset, file)) {
            return Ok(folder);
        }
        if self.offline {
            return Err(Error::new(format!("`{}` has not been fetched", dataset.name))
                .hint("downloads are off: unset `HF_HUB_OFFLINE` or leave out `--offline` to fetch it"));
        }
        let index = Index::new(&self.index.index_url()?)?;
        let download = index.open(&index.find(dataset.package, dataset.archive)?)?;
        let content = Metered::new(download, dataset.bytes);
        for (file, bytes) in extract(content, dataset)? {
            write_atomic(&folder.join(file.name), |out| out.write_all(&bytes))?;
        }
        Ok(folder)
    }
}

/// Reads an archive until all files of the data set are found, and checks them.
fn extract(archive: impl Read, dataset: &Dataset) -> Result<Vec<(&DataFile, Vec<u8>)>> {
    let broken = |error: io::Error| match interrupt::check() {
        Err(interrupted) => interrupted,
        Ok(()) => Error::new(format!("the download of `{}` broke off: {error}", dataset.archive))
            .hint("nothing was written; run it again"),
    };
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let mut found: Vec<(&DataFile, Vec<u8>)> = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let below: PathBuf = path.components().skip(1).collect();
        let Some(file) = dataset.files.iter().find(|file| below == Path::new(file.member)) else { continue };
        let mut bytes = Vec::new();
        entry.by_ref().take(LONGEST_FILE).read_to_end(&mut bytes).map_err(broken)?;
        if format!("{:x}", Sha256::digest(&bytes)) != file.sha256 {
            return Err(Error::new(format!(
                "`{}` of `{}` does not have the expected content",
                file.member, dataset.archive
            ))
            .hint("its SHA-256 differs; nothing was written"));
        }
        found.push((file, bytes));
        if found.len() == dataset.files.len() {
            return Ok(found);
        }
    }
    let missing = dataset.files.iter().find(|file| !found.iter().any(|(known, _)| known.name == file.name));
    let missing = missing.map_or("a file", |file| file.member);
    Err(Error::new(format!("`{}` has no `{missing}`; nothing was written", dataset.archive)))
}
