//! The checksums that name the files of the hub's cache: SHA-256 for large files, git's SHA-1 for the others.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::{Digest, Sha256, digest::DynDigest};

use crate::error::{Error, Result};
use crate::interrupt;

/// The checksum of a content that is read piece by piece, and what it should be.
pub(super) struct Checksum {
    expected: String,
    digest: Box<dyn DynDigest>,
}

impl Checksum {
    /// The checksum that `name` states for a content of `length` bytes; `None` for a name that is no checksum.
    pub(super) fn named(name: &str, length: u64) -> Option<Self> {
        let digest: Box<dyn DynDigest> = match name.len() {
            _ if !name.bytes().all(|letter| letter.is_ascii_hexdigit()) => return None,
            64 => Box::new(Sha256::new()),
            40 => Box::new(Sha1::new_with_prefix(format!("blob {length}\0"))),
            _ => return None,
        };
        Some(Self { expected: name.to_ascii_lowercase(), digest })
    }

    /// Goes on with the next piece.
    pub(super) fn update(&mut self, piece: &[u8]) {
        self.digest.update(piece);
    }

    /// Whether the content so far is the stated one.
    pub(super) fn matches(self) -> bool {
        let found = self.digest.finalize();
        found.iter().map(|byte| format!("{byte:02x}")).collect::<String>() == self.expected
    }

    /// Goes on with the rest of a file.
    ///
    /// # Errors
    /// A file that cannot be read; Ctrl-C.
    pub(super) fn read(&mut self, path: &Path, file: &mut File) -> Result<()> {
        let mut block = vec![0; 1 << 20];
        loop {
            interrupt::check()?;
            match file.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(length) => self.update(&block[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(path, &error)),
            }
        }
    }
}

/// What a check of the cache found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The number of files that are what their names say.
    pub whole: usize,
    /// The files that are not.
    pub broken: Vec<PathBuf>,
    /// The files whose names are no checksums, and the incomplete ones.
    pub unknown: usize,
}

/// Compares every file of the hub's cache with the checksum in its name.
///
/// # Errors
/// A file or folder that cannot be read; Ctrl-C.
pub fn verify(cache: &Path) -> Result<Verified> {
    let mut verified = Verified::default();
    for repository in entries(cache)? {
        for path in entries(&repository.join("blobs"))? {
            let length = path.metadata().map_err(|error| Error::io(&path, &error))?.len();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(mut checksum) = Checksum::named(&name, length) else {
                verified.unknown += 1;
                continue;
            };
            let mut file = File::open(&path).map_err(|error| Error::io(&path, &error))?;
            checksum.read(&path, &mut file)?;
            if checksum.matches() {
                verified.whole += 1;
            } else {
                verified.broken.push(path);
            }
        }
    }
    Ok(verified)
}

/// The paths in a folder, in order; none where there is no folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let read = || folder.read_dir()?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = read().map_err(|error| Error::io(folder, &error))?;
    paths.sort();
    Ok(paths)
}
