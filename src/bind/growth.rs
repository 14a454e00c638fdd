//! The language's own functions whose results can be far larger than their arguments. These ask for memory first, and
//! stop after Ctrl-C.

use rhai::plugin::*;
use rhai::{Array, Blob, Dynamic, Engine, ImmutableString};

use super::error::ScriptResult;
use super::module;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::limits::{self, reserve};
use crate::{allocator, interrupt};

/// Registers the functions in place of the language's.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Utilities, exported_manifest!(strings));
    module::register(engine, Topic::Utilities, exported_manifest!(arrays));
}

/// A length as an argument; below zero it counts as zero.
fn length(given: i64) -> usize {
    usize::try_from(given).unwrap_or(0)
}

fn collect(items: impl Iterator<Item = impl Into<Dynamic>>) -> ScriptResult<Array> {
    let mut array = Array::new();
    for item in items {
        interrupt::check()?;
        if limits::is_memory_full() {
            return Err(limits::memory_error(None).into());
        }
        array.push(item.into());
    }
    Ok(array)
}

/// How many pieces a script may ask for; below 1 it counts as 1.
fn segments(given: i64) -> usize {
    length(given).max(1)
}

fn replaced(string: &ImmutableString, find: &str, substitute: &str) -> Result<ImmutableString> {
    if string.is_empty() {
        return Ok(string.clone());
    }
    let added = substitute.len().saturating_sub(find.len());
    reserve(string.matches(find).count().saturating_mul(added).saturating_add(string.len()))?;
    Ok(string.replace(find, substitute).into())
}

fn padded(string: &ImmutableString, len: i64, padding: &str) -> Result<ImmutableString> {
    let missing = length(len).saturating_sub(string.chars().count());
    if missing == 0 {
        return Ok(string.clone());
    }
    if padding.is_empty() {
        return Err(Error::new("`pad` cannot fill a string with an empty one").hint("give a space or a character"));
    }
    reserve(missing.saturating_mul(4).saturating_add(string.len()))?;
    let mut text = String::from(string.as_str());
    text.extend(padding.chars().cycle().take(missing));
    Ok(text.into())
}

fn filled(blob: Blob, len: i64, value: i64) -> Result<Blob> {
    let mut blob = blob;
    let len = length(len);
    if len > blob.len() {
        reserve(len)?;
        blob.resize(len, (value & 0xff) as u8);
    }
    Ok(blob)
}

#[export_module(manifest)]
mod strings {
    /// Replaces a text wherever it stands in a string, in place.
    ///
    /// # Example
    /// ```rhai
    /// let text = "hello, world! hello, moon!";
    /// text.replace("hello", "hey");
    /// assert_eq(text, "hey, world! hey, moon!");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn replace(string: &mut ImmutableString, find_string: &str, substitute_string: &str) -> ScriptResult<()> {
        *string = replaced(string, find_string, substitute_string)?;
        Ok(())
    }

    /// Replaces a character wherever it stands in a string, in place.
    #[rhai_fn(return_raw, name = "replace")]
    pub fn replace_character(
        string: &mut ImmutableString,
        find_character: char,
        substitute_string: &str,
    ) -> ScriptResult<()> {
        *string = replaced(string, find_character.encode_utf8(&mut [0; 4]), substitute_string)?;
        Ok(())
    }

    /// Makes a string at least `len` characters long, in place; the padding goes to its end.
    ///
    /// # Example
    /// ```rhai
    /// let text = "ab";
    /// text.pad(5, '.');
    /// assert_eq(text, "ab...");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn pad(string: &mut ImmutableString, len: i64, character: char) -> ScriptResult<()> {
        *string = padded(string, len, character.encode_utf8(&mut [0; 4]))?;
        Ok(())
    }

    /// Makes a string at least `len` characters long, in place; the padding is repeated at its end.
    ///
    /// # Errors
    /// Empty padding.
    #[rhai_fn(return_raw, name = "pad")]
    pub fn pad_with_text(string: &mut ImmutableString, len: i64, padding: &str) -> ScriptResult<()> {
        *string = padded(string, len, padding)?;
        Ok(())
    }

    /// The characters of a string.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq("aé".to_chars(), ['a', 'é']);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn to_chars(string: &str) -> ScriptResult<Array> {
        collect(string.chars())
    }

    /// The words of a string: what stands between white space.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(" a  b ".split(), ["a", "b"]);
    /// ```
    #[rhai_fn(return_raw, pure, name = "split")]
    pub fn split_words(string: &mut ImmutableString) -> ScriptResult<Array> {
        if string.is_empty() { collect([""].into_iter()) } else { collect(string.split_whitespace()) }
    }

    /// The pieces of a string between delimiters.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq("a, b".split(", "), ["a", "b"]);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn split(string: &mut ImmutableString, delimiter: &str) -> ScriptResult<Array> {
        if string.is_empty() { collect([""].into_iter()) } else { collect(string.split(delimiter)) }
    }

    /// The pieces of a string between delimiters, at most `segments` of them; the last one holds the rest.
    #[rhai_fn(return_raw, pure, name = "split")]
    pub fn split_some(string: &mut ImmutableString, delimiter: &str, segments: i64) -> ScriptResult<Array> {
        collect(string.splitn(super::segments(segments), delimiter))
    }

    /// The pieces of a string between the characters `delimiter`.
    #[rhai_fn(return_raw, pure, name = "split")]
    pub fn split_at_character(string: &mut ImmutableString, delimiter: char) -> ScriptResult<Array> {
        collect(string.split(delimiter))
    }

    /// The pieces of a string between the characters `delimiter`, at most `segments` of them.
    #[rhai_fn(return_raw, pure, name = "split")]
    pub fn split_some_at_character(
        string: &mut ImmutableString,
        delimiter: char,
        segments: i64,
    ) -> ScriptResult<Array> {
        collect(string.splitn(super::segments(segments), delimiter))
    }

    /// The pieces of a string between delimiters, the last one first.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq("a/b/c".split_rev("/"), ["c", "b", "a"]);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn split_rev(string: &mut ImmutableString, delimiter: &str) -> ScriptResult<Array> {
        if string.is_empty() { collect([""].into_iter()) } else { collect(string.rsplit(delimiter)) }
    }

    /// The pieces of a string between delimiters, the last one first, at most `segments` of them.
    #[rhai_fn(return_raw, pure, name = "split_rev")]
    pub fn split_some_rev(string: &mut ImmutableString, delimiter: &str, segments: i64) -> ScriptResult<Array> {
        collect(string.rsplitn(super::segments(segments), delimiter))
    }

    /// The pieces of a string between the characters `delimiter`, the last one first.
    #[rhai_fn(return_raw, pure, name = "split_rev")]
    pub fn split_rev_at_character(string: &mut ImmutableString, delimiter: char) -> ScriptResult<Array> {
        collect(string.rsplit(delimiter))
    }

    /// The pieces of a string between the characters `delimiter`, the last one first, at most `segments` of them.
    #[rhai_fn(return_raw, pure, name = "split_rev")]
    pub fn split_some_rev_at_character(
        string: &mut ImmutableString,
        delimiter: char,
        segments: i64,
    ) -> ScriptResult<Array> {
        collect(string.rsplitn(super::segments(segments), delimiter))
    }
}

#[export_module(manifest)]
mod arrays {
    /// Makes an array at least `len` items long, in place: copies of `item` go to its end.
    ///
    /// # Example
    /// ```rhai
    /// let counts = [1];
    /// counts.pad(3, 0);
    /// assert_eq(counts, [1, 0, 0]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn pad(array: &mut Array, len: i64, item: Dynamic) -> ScriptResult<()> {
        let missing = super::length(len).saturating_sub(array.len());
        if missing > 0 {
            let before = allocator::held();
            let copy = item.clone();
            let held = usize::try_from(allocator::held() - before).unwrap_or(0);
            drop(copy);
            reserve(missing.saturating_mul(held.saturating_add(size_of::<Dynamic>())))?;
            array.resize(super::length(len), item);
        }
        Ok(())
    }

    /// Bytes, all zero.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(blob(3).to_array(), [0, 0, 0]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn blob(len: i64) -> ScriptResult<Blob> {
        Ok(filled(Blob::new(), len, 0)?)
    }

    /// Bytes, all the lowest eight bits of `value`.
    #[rhai_fn(return_raw, name = "blob")]
    pub fn blob_of(len: i64, value: i64) -> ScriptResult<Blob> {
        Ok(filled(Blob::new(), len, value)?)
    }

    /// Makes bytes at least `len` long, in place: the lowest eight bits of `value` are repeated at the end.
    #[rhai_fn(return_raw, name = "pad")]
    pub fn pad_blob(blob: &mut Blob, len: i64, value: i64) -> ScriptResult<()> {
        *blob = filled(std::mem::take(blob), len, value)?;
        Ok(())
    }

    /// The bytes as integers.
    #[rhai_fn(return_raw, pure)]
    pub fn to_array(blob: &mut Blob) -> ScriptResult<Array> {
        collect(blob.iter().map(|byte| i64::from(*byte)))
    }
}
