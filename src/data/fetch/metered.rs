//! A download that counts its bytes on a progress bar.

use std::io::{self, Read};

use super::index::Download;
use crate::http::Content;
use crate::interrupt;
use crate::progress::Progress;

const MEGABYTE: u64 = 1_000_000;

/// Counts the bytes read, and stops after Ctrl-C. Dropping it ends the bar.
pub struct Metered {
    content: Content,
    bar: Progress,
    left_over: u64,
}

impl Metered {
    /// The content of a download, of about `bytes` bytes if the server does not state how many.
    pub fn new(download: Download, bytes: u64) -> Self {
        let bar = Progress::new(download.length.unwrap_or(bytes) / MEGABYTE, "MB");
        Self { content: download.content, bar, left_over: 0 }
    }
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        interrupt::check().map_err(io::Error::other)?;
        let length = self.content.read(buffer)?;
        self.left_over += length as u64;
        self.bar.tick(self.left_over / MEGABYTE);
        self.left_over %= MEGABYTE;
        Ok(length)
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.bar.finish();
    }
}
