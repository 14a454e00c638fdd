//! A content on its way into the hub's cache: goes on where an earlier attempt stopped, and counts only once the whole
//! has the right checksum.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap};

use super::checksum::Checksum;
use super::remote::{Remote, Stated};
use crate::error::{Error, Result};
use crate::file;
use crate::http::Content;

/// A file whose content is wanted.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) remote: &'a Remote<'a>,
    pub(super) name: &'a str,
    pub(super) stated: &'a Stated,
}

/// The file that holds what has arrived of a content, beside the blob that it will be.
pub(super) struct Part<'a> {
    source: Source<'a>,
    blob: &'a Path,
    path: PathBuf,
    file: File,
    bar: &'a ProgressBar,
}

impl<'a> Part<'a> {
    /// The part of `blob`, as an earlier attempt left it.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn open(source: Source<'a>, blob: &'a Path, bar: &'a ProgressBar) -> Result<Self> {
        let path = blob.with_file_name(format!("{}.part", source.stated.etag));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| file::failure(&path, error))?;
        Ok(Self { source, blob, path, file, bar })
    }

    /// Fetches what is missing, and gives the whole its name. What an earlier attempt kept is thrown away if the whole
    /// comes out wrong.
    ///
    /// # Errors
    /// A hub that cannot be reached, refuses, or sends something else than it says; a full disk; Ctrl-C.
    pub(super) fn complete(mut self) -> Result<()> {
        let is_right = match self.kept()? {
            Some((start, checksum)) => self.resume(start, checksum)? || self.restart()?,
            None => self.restart()?,
        };
        self.bar.finish_and_clear();
        if !is_right {
            return Err(self.refuse("does not have the content that the hub says"));
        }
        let named = self.file.sync_all().and_then(|()| fs::rename(&self.path, self.blob));
        named.map_err(|error| file::failure(self.blob, error))
    }

    /// The length of what an earlier attempt kept, with its checksum so far; `None` if that is of no use: it is too long
    /// or cannot be checked.
    fn kept(&mut self) -> Result<Option<(u64, Checksum)>> {
        let kept = self.file.metadata().map_err(|error| Error::io(&self.path, &error))?.len();
        let Some(length) = self.source.stated.length.filter(|length| (1..=*length).contains(&kept)) else {
            return Ok(None);
        };
        let Some(mut checksum) = Checksum::named(&self.source.stated.etag, length) else { return Ok(None) };
        checksum.read(&self.path, &mut self.file)?;
        Ok(Some((kept, checksum)))
    }

    /// Fetches the bytes from `start` on. Returns whether the whole is right.
    fn resume(&mut self, start: u64, checksum: Checksum) -> Result<bool> {
        if self.source.stated.length == Some(start) {
            return Ok(checksum.matches());
        }
        let Source { remote, name, stated } = self.source;
        let response = match remote.open(stated, start)? {
            Err(ureq::Error::StatusCode(416)) => return Ok(false),
            response => response.map_err(|error| remote.explain(error, Some(name)))?,
        };
        match (stated.length, range_start(response.headers())) {
            (Some(length), Some(first)) if response.status() == 206 && first == start => {
                self.receive(Content::new(response)?, start, length, Some(checksum))
            }
            _ => Ok(false),
        }
    }

    /// Fetches all bytes. Returns whether the whole is right, as far as the hub says what it should be.
    fn restart(&mut self) -> Result<bool> {
        let Source { remote, name, stated } = self.source;
        let response = remote.open(stated, 0)?.map_err(|error| remote.explain(error, Some(name)))?;
        if response.status() != 200 {
            return Err(remote.explain(ureq::Error::StatusCode(response.status().as_u16()), Some(name)));
        }
        let sent = || response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        let Some(length) = stated.length.or_else(sent) else {
            return Err(Error::new(format!("the hub does not say how long {} is", self.what())));
        };
        self.receive(Content::new(response)?, 0, length, Checksum::named(&stated.etag, length))
    }

    /// Writes what arrives behind the first `start` bytes. Returns whether the whole is right.
    fn receive(
        &mut self,
        mut content: Content,
        start: u64,
        length: u64,
        mut checksum: Option<Checksum>,
    ) -> Result<bool> {
        self.show(start, length);
        let cut = self.file.set_len(start).and_then(|()| self.file.seek(SeekFrom::Start(start)));
        cut.map_err(|error| file::failure(&self.path, error))?;
        let mut block = vec![0; 1 << 18];
        let mut received = start;
        while received <= length {
            let piece = match content.read(&mut block) {
                Ok(0) => break,
                Ok(size) => &block[..size],
                Err(error) => {
                    self.bar.abandon();
                    return Err(self.source.remote.explain(error.into(), Some(self.source.name)));
                }
            };
            self.file.write_all(piece).map_err(|error| file::failure(&self.path, error))?;
            if let Some(checksum) = &mut checksum {
                checksum.update(piece);
            }
            received += piece.len() as u64;
            self.bar.set_position(received);
        }
        if received == length {
            return Ok(checksum.is_none_or(Checksum::matches));
        }
        self.bar.abandon();
        let size = if received > length { format!("more than {length}") } else { received.to_string() };
        Err(self.refuse(&format!("came with {size} bytes instead of {length}")))
    }

    /// Shows how far the download is, on a terminal only.
    fn show(&self, start: u64, length: u64) {
        self.bar.set_message(self.source.name.to_owned());
        self.bar.set_length(length);
        self.bar.set_position(start);
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        if let Ok(style) = style {
            self.bar.set_style(style);
        }
    }

    fn what(&self) -> String {
        self.source.remote.what(Some(self.source.name))
    }

    /// Throws away what arrived.
    fn refuse(&self, problem: &str) -> Error {
        match fs::remove_file(&self.path) {
            Ok(()) => Error::new(format!("{} {problem}", self.what())).hint("nothing of it was kept; run it again"),
            Err(error) => Error::io(&self.path, &error),
        }
    }
}

/// The first byte of the range that a response holds.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}
