//! Reading and writing files: tensors, JSON, tables, tasks and text.

mod csv;
mod json;
mod parquet;
mod task;
mod tensors;
mod texts;

pub use json::{from_json, to_json};
pub use texts::{GivenTexts, TextsHandle, given_texts};

use std::path::{Path, PathBuf};

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, Map};

use super::error::ScriptResult;
use super::module;
use crate::access;
use crate::cache::Cache;
use crate::catalog::topic::Topic;
use crate::data::json as json_file;
use crate::file;

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Files, exported_manifest!(file_functions));
    module::register(engine, Topic::Files, exported_manifest!(tensors::functions));
    module::register(engine, Topic::Files, exported_manifest!(data_functions));
    texts::register(engine);
}

#[export_module(manifest)]
mod file_functions {
    /// The text of a file, which must be UTF-8; a byte order mark at its start is left out.
    #[rhai_fn(return_raw, volatile)]
    pub fn read_text(path: &str) -> ScriptResult<String> {
        Ok(file::read_text(Path::new(path))?)
    }

    /// Writes a text file; missing folders are made, and an older file stays as it was if writing fails.
    #[rhai_fn(return_raw, volatile)]
    pub fn write_text(path: &str, text: &str) -> ScriptResult<()> {
        Ok(file::write_text(Path::new(path), text)?)
    }

    /// Whether there is a file or folder at a path.
    ///
    /// # Errors
    /// A place that the script may not read.
    ///
    /// # Example
    /// ```rhai
    /// assert(path_exists("."));
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn path_exists(path: &str) -> ScriptResult<bool> {
        access::check_read(Path::new(path))?;
        Ok(Path::new(path).exists())
    }

    /// Makes a folder and those above it; one that is there already is fine.
    #[rhai_fn(return_raw, volatile)]
    pub fn make_dir(path: &str) -> ScriptResult<()> {
        Ok(file::make_dir(Path::new(path))?)
    }

    /// Two paths joined; an absolute second path stands for itself.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(join_path("results", "scores.csv"), "results/scores.csv");
    /// ```
    pub fn join_path(a: &str, b: &str) -> String {
        PathBuf::from(a).join(b).to_string_lossy().into_owned()
    }

    /// The SHA-256 of a file, in hexadecimal.
    #[rhai_fn(return_raw, volatile)]
    pub fn file_hash(path: &str) -> ScriptResult<String> {
        Ok(crate::file::checksum(Path::new(path))?)
    }

    /// The SHA-256 of a text, in hexadecimal.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(text_hash("abc").sub_string(0, 8), "ba7816bf");
    /// ```
    pub fn text_hash(text: &str) -> String {
        crate::file::text_checksum(text)
    }

    /// The folder where scripts cache values across runs (see `kept::value`): `values` below `LANCET_CACHE`, or below
    /// `lancet` in the user's cache folder.
    ///
    /// # Errors
    /// No variable and no home folder say where caches go.
    ///
    /// # Example
    /// ```rhai
    /// print(cache_dir());
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn cache_dir() -> ScriptResult<String> {
        Ok(Cache::from_env()?.values().display().to_string())
    }

    /// The folder of a path; "." for a bare file name.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(parent_dir("results/run.csv"), "results");
    /// ```
    pub fn parent_dir(path: &str) -> String {
        match Path::new(path).parent().map(|parent| parent.display().to_string()) {
            Some(parent) if !parent.is_empty() => parent,
            _ => ".".to_owned(),
        }
    }
}

#[export_module(manifest)]
mod data_functions {
    /// Writes a value as indented JSON: maps, arrays, strings, numbers, bools, `()` (as null) and tensors (as nested
    /// arrays).
    ///
    /// NaN and the infinities, which JSON does not have, are written as null. Missing folders are made, and an older
    /// file stays as it was if writing fails.
    #[rhai_fn(return_raw, volatile)]
    pub fn write_json(path: &str, value: Dynamic) -> ScriptResult<()> {
        let value = json::to_json(&value)?;
        Ok(file::write_atomic(Path::new(path), |out| {
            serde_json::to_writer_pretty(&mut *out, &value)?;
            out.write_all(b"\n")
        })?)
    }

    /// A value as JSON text in one line; what `write_json` writes. Keys of maps are in alphabetical order, so that
    /// equal values give equal texts.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(json_encode(#{ b: [1, 2.5], a: () }), `{"a":null,"b":[1,2.5]}`);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn json_encode(value: Dynamic) -> ScriptResult<String> {
        Ok(json::to_json(&value).map(|value| value.to_string())?)
    }

    /// The value of a JSON text; null becomes `()`, and a number is an integer if it is written as one.
    ///
    /// # Errors
    /// Text that is not JSON, a name that an object has twice, an integer beyond 64 bits.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(json_decode(`{"a": [1, null]}`), #{ a: [1, ()] });
    /// ```
    #[rhai_fn(return_raw)]
    pub fn json_decode(text: &str) -> ScriptResult<Dynamic> {
        Ok(json_file::decode(Path::new("the text"), text).and_then(json::from_json)?)
    }

    /// The value in a JSON file; null becomes `()`, and a number is an integer if it is written as one.
    ///
    /// # Errors
    /// A file that is not JSON, a name that an object has twice, an integer beyond 64 bits; the message names the line and
    /// the column.
    #[rhai_fn(return_raw, volatile)]
    pub fn read_json(path: &str) -> ScriptResult<Dynamic> {
        Ok(json_file::read(Path::new(path)).and_then(json::from_json)?)
    }

    /// The values in a file of JSON lines, one JSON value a line, as an array. Blank lines are passed over.
    ///
    /// # Errors
    /// A line that `read_json` would refuse; the message names the line and the column.
    ///
    /// # Example
    /// ```rhai
    /// write_text("rows.jsonl", `{"query": "big", "answer": "bigger"}` + "\n" + `{"query": "old", "answer": "older"}`);
    /// assert_eq(read_jsonl("rows.jsonl")[1].answer, "older");
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn read_jsonl(path: &str) -> ScriptResult<Array> {
        json_file::lines(Path::new(path))?.map(|line| Ok(json::from_json(line?.1)?)).collect()
    }

    /// The rows of a parquet file, an array of maps from column name to value. Lists are arrays, what is absent is
    /// `()`.
    ///
    /// # Errors
    /// A file that is not whole, a column that is there twice, an integer that takes more than 63 bits and a sign.
    ///
    /// # Example
    /// ```rhai
    /// write_parquet("tokens.parquet", #{ id: [1, 2], text: [" Paris", " Rome"], heads: [[0, 3], []] });
    /// assert_eq(read_parquet("tokens.parquet")[0], #{ id: 1, text: " Paris", heads: [0, 3] });
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn read_parquet(path: &str) -> ScriptResult<Array> {
        Ok(parquet::read_rows(path)?)
    }

    /// Writes a table to a parquet file: a map from column name to the column's values, compressed with Zstandard.
    ///
    /// A column is an array of integers, numbers, strings, arrays of integers or arrays of strings, or a tensor of one
    /// dimension; all have one length. The columns are in alphabetical order. Missing folders are made, and an older
    /// file stays as it was if writing fails.
    ///
    /// Option: `columns`, an array of the columns to write, in this order.
    ///
    /// # Example
    /// ```rhai
    /// write_parquet("effects.parquet", #{ layer: [0, 1], effect: tensor([0.25, 0.5]) });
    /// assert_eq(read_parquet("effects.parquet")[1].effect, 0.5);
    /// write_parquet("ordered.parquet", #{ a: [1], b: [2.5], c: ["x"] }, #{ columns: ["c", "a"] });
    /// assert_eq(read_parquet("ordered.parquet"), [#{ c: "x", a: 1 }]);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn write_parquet(path: &str, columns: Map, options: Map) -> ScriptResult<()> {
        Ok(parquet::write_columns(path, &columns, options)?)
    }

    /// A task file with its data, a map: the fields of the file and `rows`, its samples, each query once.
    ///
    /// The file is JSON. It needs `name`, `instruction`, `data` (a .csv, .tsv, .json, .jsonl or .parquet file beside
    /// it, or `{data}/NAME/FILE` for what `lancet data NAME` fetches), `column` (of the answers), `query_template`
    /// (with `{query}`), `example_template` (with `{query}` and `{answer}`) and `answer_prefix` (what stands between
    /// question and answer). It may have `title`; `query_column` (`query`); `examples` (queries shown as solved
    /// examples, or how many from the top); `one_token_column` (only rows whose text there is one token are used);
    /// `rephrasings` (a file whose column `instruction` has other wordings); `judge` (what an answer must be, in
    /// words); `responses` (all answers that fit); `replace` (an object from text to text, for the queries); `answers`
    /// (an object from answer to what is written for it, or `"number"`: of several right answers the one in digits);
    /// and `format`: `"bigbench"` instead of `column` for BIG-bench's `task.json` (`input`, `target`, `target_scores`)
    /// or the rows that the Hugging Face Hub has of it (`inputs`, `targets`, `multiple_choice_targets`,
    /// `multiple_choice_scores`).
    ///
    /// A row has `query`, `answer`, `place` (file and line) and the record's own values by column. `repeated` counts
    /// the records left out because they ask a query again. `rephrasings` is `()` or has `texts` and `file`.
    ///
    /// # Errors
    /// A field that is missing, unknown or of the wrong type, a missing column, an empty answer; the message names file
    /// and line.
    ///
    /// # Example
    /// ```rhai
    /// write_text("plural.csv", "word,plural\nmouse,mice\nfoot,feet\n");
    /// write_json("plural.json", #{
    ///     name: "plural", instruction: "Give the plural.", data: "plural.csv", query_column: "word", column: "plural",
    ///     query_template: "; {query},", example_template: "; {query}, {answer}", answer_prefix: " ",
    /// });
    /// assert_eq(read_task("plural.json").rows[1].answer, "feet");
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn read_task(path: &str) -> ScriptResult<Map> {
        Ok(task::read(path)?)
    }

    /// The rows of a CSV file, an array of maps from column name to string; the first line names the columns.
    ///
    /// Options: `numbers` (true turns cells that are written as numbers into numbers, but leaves integers beyond 64 bits
    /// as text), `delimiter` (`,`).
    ///
    /// # Errors
    /// No header line, a row with more or fewer cells than it, a quote that is not closed; the message names the line.
    #[rhai_fn(return_raw, volatile)]
    pub fn read_csv(path: &str, options: Map) -> ScriptResult<Array> {
        Ok(csv::read_rows(path, options)?)
    }

    /// Writes rows to a CSV file: maps, whose keys become the header line, or arrays of cells.
    ///
    /// Cells are strings, numbers, bools, tensors of one element, or `()` for an empty cell. The columns of maps are in
    /// alphabetical order; the option `columns` chooses others. Missing folders are made, and an older file stays as it
    /// was if writing fails.
    ///
    /// Options: `columns` (which keys of maps, in this order), `header` (the names of the columns, for rows that are
    /// arrays), `delimiter` (`,`).
    #[rhai_fn(return_raw, volatile)]
    pub fn write_csv(path: &str, rows: Array, options: Map) -> ScriptResult<()> {
        Ok(csv::write_rows(path, &rows, options)?)
    }
}
