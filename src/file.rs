//! Reads and writes files, where the running script may. A file is either written completely or left as it was.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::access;
use crate::error::{Error, Result};
use crate::{interrupt, limits, noted};

/// Bytes of a large file that are read or written from one look for Ctrl-C to the next.
const PIECE: usize = 16 << 20;

/// Writes a file through `write`. The bytes go to a temporary file in the same folder, which replaces `path` once they
/// are on disk. Missing folders are created. If `path` is a device or a pipe, the bytes go straight to it.
///
/// # Errors
/// A place that the running script may not write, a failure to write; the message names the path.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    access::check_write(path)?;
    // A link stays a link: the file it leads to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let outcome = match fs::metadata(&target) {
        Ok(metadata) if metadata.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        Ok(metadata) if !metadata.is_file() => write_through(&target, write),
        _ => Draft::beside(&target).and_then(|mut draft| {
            write(&mut draft)?;
            draft.finish()
        }),
    };
    outcome.map_err(|error| failure(path, error))?;
    noted::written(path);
    Ok(())
}

/// A file that is written piece by piece to a temporary file in the same folder. [`commit`](Self::commit) gives it its
/// name; dropped before that, it leaves nothing behind.
#[derive(Debug)]
pub struct Draft {
    target: PathBuf,
    permissions: Option<Permissions>,
    buffer: BufWriter<NamedTempFile>,
    /// The bytes since the file was last brought to the disk.
    unsaved: usize,
}

impl Draft {
    /// Starts a file; missing folders are created.
    ///
    /// # Errors
    /// A folder or device at `path`, or a place that cannot or may not be written; the message names the path.
    pub fn create(path: &Path) -> Result<Self> {
        access::check_write(path)?;
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        if fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(Error::new(format!("`{}` is not a plain file", path.display())).hint("choose another path"));
        }
        Self::beside(&target).map_err(|error| failure(path, error))
    }

    /// Gives the finished file its name.
    ///
    /// # Errors
    /// A failure to write; the message names the path.
    pub fn commit(self) -> Result<()> {
        let path = self.target.clone();
        self.finish().map_err(|error| failure(&path, error))?;
        noted::written(&path);
        Ok(())
    }

    fn beside(target: &Path) -> io::Result<Self> {
        let folder = folder_of(target);
        fs::create_dir_all(&folder)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".lancet-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(Permissions::from_mode(0o666));
        }
        Ok(Self {
            target: target.to_path_buf(),
            permissions: fs::metadata(target).ok().map(|metadata| metadata.permissions()),
            buffer: BufWriter::new(builder.tempfile_in(&folder)?),
            unsaved: 0,
        })
    }

    fn finish(self) -> io::Result<()> {
        let temporary = self.buffer.into_inner().map_err(io::IntoInnerError::into_error)?;
        if let Some(permissions) = self.permissions {
            temporary.as_file().set_permissions(permissions)?;
        }
        temporary.as_file().sync_all()?;
        temporary.persist(&self.target).map_err(|error| error.error)?;
        // The new name itself must reach the disk too; not every file system offers that.
        if let Ok(folder) = File::open(folder_of(&self.target)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Write for Draft {
    /// Writes a piece, and now and then brings those before it to the disk: all at the end would take long, and Ctrl-C
    /// would wait.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unsaved >= PIECE {
            interrupt::check().map_err(io::Error::other)?;
            self.buffer.flush()?;
            self.buffer.get_ref().as_file().sync_data()?;
            self.unsaved = 0;
        }
        let written = self.buffer.write(&bytes[..bytes.len().min(PIECE)])?;
        self.unsaved += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.buffer.flush()
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// The SHA-256 of a file in hexadecimal.
///
/// # Errors
/// The file cannot be read; the message names it.
pub fn checksum(path: &Path) -> Result<String> {
    let mut file = open(path)?;
    let mut digest = || -> io::Result<String> {
        let mut digest = Sha256::new();
        let mut block = vec![0; 1 << 20];
        loop {
            interrupt::check().map_err(io::Error::other)?;
            match file.read(&mut block)? {
                0 => return Ok(format!("{:x}", digest.finalize())),
                length => digest.update(block.get(..length).unwrap_or_default()),
            }
        }
    };
    digest().map_err(|error| failure(path, error))
}

/// The SHA-256 of a text in hexadecimal.
pub fn text_checksum(text: &str) -> String {
    format!("{:x}", Sha256::digest(text))
}

fn write_through(target: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = BufWriter::new(OpenOptions::new().write(true).open(target)?);
    write(&mut buffer)?;
    buffer.flush()
}

/// The error for a file that cannot be written: one of ours, passed on by a writer, or the system's with a hint.
pub fn failure(path: &Path, error: io::Error) -> Error {
    let kind = error.kind();
    match error.downcast::<Error>() {
        Ok(ours) => ours.context(format!("`{}`", path.display())),
        Err(error) => {
            let error = Error::io(path, &error);
            match kind {
                io::ErrorKind::StorageFull => error.hint("free some space or write somewhere else"),
                io::ErrorKind::PermissionDenied => error.hint("write to a folder of your own"),
                _ => error,
            }
        }
    }
}

/// Writes a text file; see [`write_atomic`].
///
/// # Errors
/// A failure to write; the message names the path.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomic(path, |file| file.write_all(text.as_bytes()))
}

/// Opens a file for reading.
///
/// # Errors
/// A file that the running script may not read or that cannot be opened; the message names it.
pub fn open(path: &Path) -> Result<File> {
    access::check_read(path)?;
    let file = File::open(path).map_err(|error| Error::io(path, &error))?;
    noted::read(path);
    Ok(file)
}

/// The bytes of a file.
///
/// # Errors
/// A file that the running script may not read or that cannot be read; the message names it.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |error| Error::io(path, &error);
    let mut file = open(path)?;
    let mut bytes = Vec::new();
    while Read::by_ref(&mut file).take(PIECE as u64).read_to_end(&mut bytes).map_err(failed)? > 0 {
        interrupt::check()?;
        // A device such as /dev/zero has no end.
        if limits::is_memory_full() {
            return Err(limits::memory_error(None).context(format!("`{}`", path.display())));
        }
    }
    Ok(bytes)
}

/// Maps a file into memory.
///
/// # Errors
/// A file that the running script may not read or that cannot be mapped; the message names it.
pub fn map(path: &Path) -> Result<Mmap> {
    let file = open(path)?;
    // SAFETY: the map is only read; nothing can guard against another process that shortens the file meanwhile.
    unsafe { Mmap::map(&file) }.map_err(|error| Error::io(path, &error))
}

/// The text of a file, without a byte order mark.
///
/// # Errors
/// A file that cannot be read, or whose bytes are not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let mut bytes = read(path)?;
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(utf16_error(path));
    }
    if bytes.starts_with("\u{FEFF}".as_bytes()) {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|error| {
        Error::new(format!(
            "`{}` is not UTF-8 text: byte {} is wrong",
            path.display(),
            error.utf8_error().valid_up_to()
        ))
    })
}

/// The error for a text file in UTF-16.
pub fn utf16_error(path: &Path) -> Error {
    Error::new(format!("`{}` is UTF-16 text", path.display())).hint("convert it to UTF-8")
}

/// The format of the file extension of `path`, in upper or lower case; `formats` pairs extensions with formats.
///
/// # Errors
/// No extension, or one that is not in `formats`; the hint lists those that are.
pub fn format_of<F: Copy>(path: &Path, formats: &[(&str, F)]) -> Result<F> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let found = formats.iter().find(|(known, _)| extension.as_deref() == Some(known));
    if let Some((_, format)) = found {
        return Ok(*format);
    }
    let problem = match extension {
        Some(other) => format!("`.{}` is not one of its formats", other.escape_debug()),
        None => "its name has no extension".to_owned(),
    };
    let known: Vec<String> = formats.iter().map(|(known, _)| format!(".{known}")).collect();
    let known = match known.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    };
    Err(Error::new(format!("cannot write `{}`: {problem}", path.display())).hint(format!("end the name in {known}")))
}

/// Whether a path from outside stays inside the folder it is joined to.
pub fn is_plain(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Creates a folder and those above it, if they do not exist.
///
/// # Errors
/// A folder that cannot be created; the message names the path.
pub fn make_dir(path: &Path) -> Result<()> {
    access::check_write(path)?;
    fs::create_dir_all(path).map_err(|error| failure(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_another_encoding_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.csv");
        for bytes in [b"\xFF\xFEa\0".as_slice(), b"\xFE\xFF\0a"] {
            fs::write(&path, bytes).unwrap();
            assert!(read_text(&path).unwrap_err().to_string().contains("UTF-16"));
            assert!(crate::data::csv::read(&path, b',').unwrap_err().to_string().contains("UTF-16"));
            assert!(crate::data::json::lines(&path).err().unwrap().to_string().contains("UTF-16"));
        }
        fs::write(&path, b"a\xFF").unwrap();
        assert!(read_text(&path).unwrap_err().to_string().contains("byte 1"));
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.txt");
        fs::write(&path, "old").unwrap();
        let error = write_atomic(&path, |file| {
            file.write_all(&[b'x'; 100_000])?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert!(error.to_string().contains("old.txt"), "{error}");
        assert!(error.hint_text().unwrap().contains("space"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["old.txt"]);
    }

    #[test]
    fn a_draft_appears_when_it_is_committed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/rows.txt");
        let mut draft = Draft::create(&path).unwrap();
        draft.write_all(b"half").unwrap();
        drop(draft);
        assert!(names(&folder.path().join("new")).is_empty());
        let mut draft = Draft::create(&path).unwrap();
        draft.write_all(b"whole").unwrap();
        assert!(!path.exists());
        draft.commit().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        assert!(Draft::create(folder.path()).unwrap_err().to_string().contains("not a plain file"));
    }

    #[test]
    fn the_extension_names_the_format() {
        let formats = [("csv", 1), ("parquet", 2), ("pq", 2)];
        assert_eq!(format_of(Path::new("a.b/rows.CSV"), &formats).unwrap(), 1);
        assert_eq!(format_of(Path::new("rows.csv.pq"), &formats).unwrap(), 2);
        for (name, problem) in [("rows.txt", "`.txt` is not one of its formats"), ("csv", "no extension")] {
            let error = format_of(Path::new(name), &formats).unwrap_err();
            assert!(error.to_string().contains(problem) && error.to_string().contains(name), "{error}");
            assert_eq!(error.hint_text(), Some("end the name in .csv, .parquet or .pq"));
        }
    }

    #[test]
    fn an_interrupted_write_stays_an_interruption() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.txt");
        let error = write_atomic(&path, |_| Err(io::Error::other(Error::Interrupted))).unwrap_err();
        assert!(matches!(error, Error::Interrupted));
        assert!(names(folder.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn permissions_and_links_stay() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        write_text(&path, "one").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_text(&link, "two").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_has_the_usual_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, usual) = (folder.path().join("ours"), folder.path().join("usual"));
        write_text(&ours, "").unwrap();
        fs::write(&usual, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&usual));
    }
}
