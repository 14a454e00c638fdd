//! Many texts as one list of token ids.

use rhai::plugin::*;
use rhai::{Dynamic, Map};

use super::{Model, tokens};
use crate::bind::error::ScriptResult;
use crate::bind::file::{GivenTexts, given_texts};
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::model::language_model::LanguageModel;
use crate::progress::Progress;
use crate::tensor::Tensor;
use crate::text::batch::concatenate;

/// The token between two texts: by default the one that ends a text, none for `false`.
fn separator(model: &LanguageModel, given: Option<Dynamic>) -> Result<Option<i64>> {
    match given {
        Some(given) if given.as_bool() == Ok(false) => Ok(None),
        Some(given) => tokens::single(model, &given).map(Some),
        None => model.tokenizer()?.eos().map(Some).ok_or_else(|| {
            Error::new("the tokenizer names no token that ends a text")
                .hint("say what stands between texts: `separator: id`, or `separator: false` for nothing")
        }),
    }
}

#[export_module(manifest)]
pub mod functions {
    /// The token ids of texts, one after the other, a tensor [token]: what `corpus::pack` cuts into rows. Texts are encoded
    /// on all cores, without special tokens.
    ///
    /// `texts` is an array of strings, or what `read_texts` gives.
    ///
    /// Options: `separator` (what stands between two texts, an id or the text of one token; by default the token that ends
    /// a text; `false` for nothing), `enough` (reading ends once there are as many ids), `quiet` (true shows no progress,
    /// which is shown for arrays).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let ids = model.concatenated_tokens(["one two", "three"], #{ separator: "<|endoftext|>" });
    /// assert_eq(model.to_string(ids), "one two<|endoftext|>three");
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn concatenated_tokens(model: &mut Model, texts: Dynamic, options: Map) -> ScriptResult<Tensor> {
        let model = model.get();
        let (separator, enough, quiet) = Options::read("concatenated_tokens", options, |options| {
            let separator = separator(model, options.any("separator"))?;
            Ok((separator, options.integer("enough")?, options.boolean("quiet")?.unwrap_or(false)))
        })?;
        let enough = enough.map_or(usize::MAX, |enough| usize::try_from(enough).unwrap_or(0));
        let GivenTexts { texts, count } = given_texts(&texts)?;
        let progress = count.filter(|_| !quiet).map(|count| Progress::new(count as u64, "texts"));
        let counted = texts.inspect(|_| progress.iter().for_each(|progress| progress.tick(1)));
        let ids = concatenate(model.tokenizer()?, counted, separator, enough)?;
        progress.iter().for_each(Progress::finish);
        Ok(tch::Tensor::f_from_slice(&ids).map(Tensor::new).map_err(Error::from)?)
    }
}
