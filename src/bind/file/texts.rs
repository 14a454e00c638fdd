//! The texts of a corpus in scripts, read one after the other.

use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, ImmutableString, Map};

use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::data::texts::{Selection, Texts};
use crate::error::{Error, Result};

/// Registers the functions and the iterator.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Files, exported_manifest!(functions));
    engine.register_iterator_result::<TextsHandle, ImmutableString>();
}

/// The script's handle of texts in files.
#[derive(Debug, Clone)]
pub struct TextsHandle(Rc<Texts>);

impl Handle for TextsHandle {
    const NAME: &'static str = "texts";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        match self.0.file_count() {
            1 => "texts of 1 file".to_owned(),
            count => format!("texts of {count} files"),
        }
    }
}

impl IntoIterator for TextsHandle {
    type Item = ScriptResult<ImmutableString>;
    type IntoIter = Box<dyn Iterator<Item = Self::Item>>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.0.iter().map(|text| Ok(text?.into())))
    }
}

/// Texts as a script gives them.
pub struct GivenTexts {
    /// The texts. One may be an error: an item that is no string, a file that cannot be read.
    pub texts: Box<dyn Iterator<Item = Result<String>>>,
    /// Their number, if it is known before they are read.
    pub count: Option<usize>,
}

/// Texts from an array of strings, or from what `read_texts` gives.
///
/// # Errors
/// A value of another kind.
pub fn given_texts(given: &Dynamic) -> Result<GivenTexts> {
    if let Some(texts) = given.read_lock::<TextsHandle>() {
        return Ok(GivenTexts { texts: Box::new(texts.0.iter()), count: None });
    }
    let wanted = || expected("`texts`", "an array of strings or what `read_texts` gives", given);
    let array = given.read_lock::<Array>().ok_or_else(wanted)?.clone();
    let text = |(place, text): (usize, Dynamic)| {
        text.clone().into_string().map_err(|_| expected(&format!("text {place}"), "a string", &text))
    };
    let count = Some(array.len());
    Ok(GivenTexts { texts: Box::new(array.into_iter().enumerate().map(text)), count })
}

fn count(what: &str, given: Option<i64>) -> Result<Option<usize>> {
    let convert = |count: i64| {
        usize::try_from(count).map_err(|_| Error::new(format!("option `{what}` of `read_texts` must not be negative")))
    };
    given.map(convert).transpose()
}

#[export_module(manifest)]
mod functions {
    /// The texts in files, for `for`, `corpus::pack` and the like. They are read one after the other where they are used,
    /// so files may be larger than the memory.
    ///
    /// `path` is a file, a folder (with all below it, in the order of their paths), or a pattern such as
    /// `pile/*.jsonl`. A `.txt`, `.text` or `.md` file is one text. In `.jsonl`, `.json`, `.parquet`, `.csv` and `.tsv`
    /// files, each row has one.
    ///
    /// Options: `field` ("text": the field or column that holds the text), `skip` (0: texts left out at the start),
    /// `limit` (the number of texts at most).
    ///
    /// # Errors
    /// No file, one of another kind; where a text is read, a row without the field or with no text in it, text that is not
    /// UTF-8, a damaged file. The message names file and row.
    ///
    /// # Example
    /// ```rhai
    /// write_text("rows.jsonl", `{"text": "one two"}` + "\n" + `{"text": "three"}`);
    /// for text in read_texts("rows.jsonl") { print(text); }
    /// assert_eq(read_texts("*.jsonl", #{ skip: 1, limit: 5 }).to_array(), ["three"]);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn read_texts(path: &str, options: Map) -> ScriptResult<TextsHandle> {
        let selection = Options::read("read_texts", options, |options| {
            Ok(Selection {
                field: options.string("field")?,
                skip: count("skip", options.integer("skip")?)?.unwrap_or(0),
                limit: count("limit", options.integer("limit")?)?,
            })
        })?;
        Ok(TextsHandle(Rc::new(Texts::find(path, selection)?)))
    }

    /// The texts of files, all read, as an array.
    #[rhai_fn(name = "to_array", return_raw, pure)]
    pub fn texts_to_array(texts: &mut TextsHandle) -> ScriptResult<Array> {
        texts.0.iter().map(|text| Ok(Dynamic::from(text?))).collect()
    }
}
