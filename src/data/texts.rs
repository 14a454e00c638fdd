//! The texts of a corpus, from one file or several, read one after the other.

use std::path::{Path, PathBuf};

use globset::GlobBuilder;
use serde_json::Value;
use walkdir::WalkDir;

use super::record::{self, Record};
use crate::error::{Error, Result};
use crate::{access, file, interrupt};

/// The extensions of files that are one text.
const PLAIN: [&str; 3] = ["txt", "text", "md"];

/// The field that holds the text, by default.
const FIELD: &str = "text";

/// Where the texts are.
#[derive(Debug, Clone)]
pub struct Texts {
    files: Vec<PathBuf>,
    field: String,
    skip: usize,
    limit: Option<usize>,
}

/// Which texts of the files are read.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The field or column that holds the text; `text` if absent.
    pub field: Option<String>,
    /// How many texts are left out at the start.
    pub skip: usize,
    /// How many are read at most.
    pub limit: Option<usize>,
}

impl Texts {
    /// The texts at `place`: a file, a folder with all below it, or a pattern such as `pile/*.jsonl`. Files come in the
    /// order of their paths, without those whose names begin with a dot.
    ///
    /// # Errors
    /// Nothing there, a folder that cannot or may not be read, a pattern that is none.
    pub fn find(place: &str, selection: Selection) -> Result<Self> {
        let path = Path::new(place);
        let files = if path.is_dir() {
            below(path, usize::MAX, |_| true)?
        } else if place.contains(['*', '?', '[', '{']) && !path.exists() {
            matching(place)?
        } else {
            vec![path.to_path_buf()]
        };
        if files.is_empty() {
            return Err(Error::new(format!("`{place}` has no files")));
        }
        if let Some(other) = files.iter().find(|path| !is_plain(path) && !record::is_known(path)) {
            return Err(Error::new(format!("`{}`: unknown file extension", other.display())).hint(
                "texts are read from .txt, .text, .md, .jsonl, .json, .parquet, .csv and .tsv files; unpack others, or \
                 choose files by a pattern, such as `folder/*.jsonl`",
            ));
        }
        let Selection { field, skip, limit } = selection;
        Ok(Self { files, field: field.unwrap_or_else(|| FIELD.into()), skip, limit })
    }

    /// The number of files.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// The texts; none follows an error.
    pub fn iter(&self) -> impl Iterator<Item = Result<String>> + use<> {
        let field = self.field.clone();
        let files = self.files.clone().into_iter();
        let all = files.flat_map(move |path| match texts_of(&path, &field) {
            Ok(texts) => texts,
            Err(error) => Box::new(std::iter::once(Err(error))),
        });
        let mut failed = false;
        let whole = all.take_while(move |text| !std::mem::replace(&mut failed, text.is_err()));
        // An error among the texts that are left out is not left out.
        let mut to_skip = self.skip;
        let is_wanted = move |text: &Result<String>| {
            let is_skipped = text.is_ok() && to_skip > 0;
            to_skip -= usize::from(is_skipped);
            !is_skipped
        };
        whole.filter(is_wanted).take(self.limit.unwrap_or(usize::MAX))
    }
}

/// The files that are `wanted`, up to `depth` levels below a folder.
fn below(folder: &Path, depth: usize, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let is_visible =
        |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.');
    let walk = WalkDir::new(folder).max_depth(depth).follow_links(true).sort_by_file_name();
    for entry in walk.into_iter().filter_entry(is_visible) {
        interrupt::check()?;
        let entry = entry.map_err(|error| match (error.path(), error.io_error()) {
            (Some(path), Some(failed)) => Error::io(path, failed),
            _ => Error::new(error.to_string()),
        })?;
        access::check_read(entry.path())?;
        if entry.file_type().is_file() && wanted(entry.path()) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// The files whose paths a pattern matches.
fn matching(pattern: &str) -> Result<Vec<PathBuf>> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    let glob = glob.map_err(|error| Error::new(format!("`{pattern}` is no pattern: {}", error.kind())))?;
    let matcher = glob.compile_matcher();
    // The folder in front of the first part that is a pattern.
    let fixed = pattern.split(['*', '?', '[', '{']).next().unwrap_or_default();
    let folder = fixed.rfind('/').map_or(".", |slash| if slash == 0 { "/" } else { &fixed[..slash] });
    let here = folder == "." && !pattern.starts_with("./");
    let is_match = |path: &Path| matcher.is_match(if here { path.strip_prefix(".").unwrap_or(path) } else { path });
    let levels = pattern.matches('/').count() - fixed.matches('/').count() + 1;
    below(Path::new(folder), if pattern.contains("**") { usize::MAX } else { levels }, is_match)
}

/// Whether a file is one text.
fn is_plain(path: &Path) -> bool {
    path.extension().is_some_and(|extension| PLAIN.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

fn texts_of(path: &Path, field: &str) -> Result<Box<dyn Iterator<Item = Result<String>>>> {
    let (path, field) = (path.to_path_buf(), field.to_owned());
    if is_plain(&path) {
        return Ok(Box::new(std::iter::once_with(move || file::read_text(&path))));
    }
    Ok(Box::new(record::open(&path)?.map(move |record| text(record?, &field))))
}

fn text(mut record: Record, field: &str) -> Result<String> {
    match record.fields.remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Null) => Err(record.error(format!("`{field}` is empty"))),
        Some(_) => Err(record.error(format!("`{field}` is not a text"))),
        None => Err(record
            .error(format!("there is no field `{field}`"))
            .hint(format!("the fields are {}; the option `field` says which holds the text", record.names()))),
    }
}
