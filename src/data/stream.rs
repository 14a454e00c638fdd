//! Text files read piece by piece: Ctrl-C and the limit on memory are heard within large ones.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::{file, interrupt, limits};

/// A file that looks for Ctrl-C and the limit on memory before each piece.
#[derive(Debug)]
pub struct Watched(File);

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        interrupt::check().map_err(io::Error::other)?;
        // A line, or a cell of a table, may have no end.
        if limits::is_memory_full() {
            return Err(io::Error::other(limits::memory_error(None)));
        }
        self.0.read(buffer)
    }
}

/// The bytes of a text file, without a byte order mark.
pub type Bytes = Chain<Cursor<Vec<u8>>, BufReader<Watched>>;

/// Opens a text file, which should be UTF-8.
///
/// # Errors
/// A file that the running script may not read or that cannot be read, UTF-16; the message names the file.
pub fn open(path: &Path) -> Result<Bytes> {
    let mut rest = BufReader::with_capacity(1 << 16, Watched(file::open(path)?));
    let mut start = Vec::new();
    rest.by_ref().take(3).read_to_end(&mut start).map_err(|error| failure(path, error))?;
    if start.starts_with(&[0xFF, 0xFE]) || start.starts_with(&[0xFE, 0xFF]) {
        return Err(file::utf16_error(path));
    }
    if start == "\u{FEFF}".as_bytes() {
        start.clear();
    }
    Ok(Cursor::new(start).chain(rest))
}

/// The error for a file that cannot be read: one of ours, passed on by a reader, or the system's.
pub fn failure(path: &Path, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours.context(format!("`{}`", path.display())),
        Err(error) => Error::io(path, &error),
    }
}

/// The lines of a text file with their numbers, from 1.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    bytes: Bytes,
    number: usize,
}

/// Opens a text file to read it line by line.
///
/// # Errors
/// As for [`open`].
pub fn lines(path: &Path) -> Result<Lines> {
    Ok(Lines { path: path.to_path_buf(), bytes: open(path)?, number: 0 })
}

impl Iterator for Lines {
    type Item = Result<(usize, String)>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match self.bytes.read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(failure(&self.path, error))),
        }
        self.number += 1;
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
        }
        Some(String::from_utf8(line).map(|line| (self.number, line)).map_err(|error| {
            let byte = error.utf8_error().valid_up_to();
            Error::new(format!("`{}:{}` is not UTF-8 text: byte {byte} is wrong", self.path.display(), self.number))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_whole_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.txt");
        for text in ["", "\n", "a", "a\r\nb\n\nc", "a\rb\r\n", "\u{FEFF}ä\n", "\u{FEFF}", "é"] {
            std::fs::write(&path, text).unwrap();
            let whole = file::read_text(&path).unwrap();
            let expected: Vec<(usize, String)> =
                whole.lines().enumerate().map(|(place, line)| (place + 1, line.to_owned())).collect();
            assert_eq!(lines(&path).unwrap().collect::<Result<Vec<_>>>().unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_line_of_another_encoding_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.txt");
        std::fs::write(&path, b"one\ntw\xFFo\n").unwrap();
        let error = lines(&path).unwrap().collect::<Result<Vec<_>>>().unwrap_err().to_string();
        assert!(error.contains("lines.txt:2`") && error.contains("byte 2"), "{error}");
    }
}
