//! Brings the files of one commit into the hub's cache. The layout and the locks are those of the Python library: a
//! content is a blob named after its checksum, to which the name in the snapshot links.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::checksum::Checksum;
use super::part::{Part, Source};
use super::remote::{Remote, Stated};
use crate::error::{Error, Result};
use crate::file::{failure, make_dir};
use crate::interrupt::{self, GLANCE};

/// The transfers of one commit's files.
pub(super) struct Transfer<'a> {
    pub(super) remote: &'a Remote<'a>,
    pub(super) commit: &'a str,
    /// The folder of the contents.
    pub(super) blobs: PathBuf,
    /// The folder in which the commit's files have their names: two below that of the blobs.
    pub(super) snapshot: PathBuf,
    /// The folder of the locks.
    pub(super) locks: PathBuf,
}

impl Transfer<'_> {
    /// Fetches one file unless it is in the cache.
    ///
    /// # Errors
    /// As for [`Part::complete`].
    pub(super) fn file(&self, name: &str) -> Result<()> {
        interrupt::check()?;
        if self.snapshot.join(name).is_file() {
            return Ok(());
        }
        let stated = self.remote.stated(name, self.commit)?;
        let bar = ProgressBar::no_length();
        let _lock = self.lock(name, &stated.etag, &bar)?;
        make_dir(&self.blobs)?;
        let blob = self.blobs.join(&stated.etag);
        if !is_whole(&blob, &stated)? {
            Part::open(Source { remote: self.remote, name, stated: &stated }, &blob, &bar)?.complete()?;
        }
        self.link(name, &stated.etag)
    }

    /// Waits until no other process fetches the same content. The lock ends with the value.
    fn lock(&self, name: &str, etag: &str, bar: &ProgressBar) -> Result<File> {
        make_dir(&self.locks)?;
        let path = self.locks.join(format!("{etag}.lock"));
        let file = File::create(&path).map_err(|error| failure(&path, error))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {
                    bar.set_message(format!("{name}: another process downloads it"));
                    interrupt::check()?;
                    std::thread::sleep(GLANCE);
                }
                Err(TryLockError::Error(error)) => return Err(Error::io(&path, &error)),
            }
        }
    }

    /// Gives a blob its name in the snapshot, in place of a link that leads nowhere.
    fn link(&self, name: &str, etag: &str) -> Result<()> {
        let path = self.snapshot.join(name);
        make_dir(path.parent().unwrap_or(&self.snapshot))?;
        let up = "../".repeat(Path::new(name).components().count() + 1);
        let link = || std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), &path);
        let made = link().or_else(|error| match error.kind() {
            ErrorKind::AlreadyExists => fs::remove_file(&path).and_then(|()| link()),
            _ => Err(error),
        });
        made.map_err(|error| failure(&path, error))
    }
}

/// Whether a blob is there and is what its name says. Another tool may have put it there unchecked.
fn is_whole(blob: &Path, stated: &Stated) -> Result<bool> {
    let Ok(mut file) = File::open(blob) else { return Ok(false) };
    let length = file.metadata().map_err(|error| Error::io(blob, &error))?.len();
    if stated.length.is_some_and(|stated| stated != length) {
        return Ok(false);
    }
    match Checksum::named(&stated.etag, length) {
        Some(mut checksum) => {
            checksum.read(blob, &mut file)?;
            Ok(checksum.matches())
        }
        None => Ok(stated.length.is_some()),
    }
}
