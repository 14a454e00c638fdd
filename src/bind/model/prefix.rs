//! Text that a model has read once, from which runs go on.

use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Dynamic, Map, NativeCallContext};

use super::hooks::with_hooks;
use super::{Model, tokens};
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::model::forward::Start;
use crate::model::key_value::KeyValueCache;
use crate::model::run::Hooks;

/// The script's handle of the keys and values of a text.
#[derive(Debug, Clone)]
pub struct Prefix {
    cache: Rc<KeyValueCache>,
    model: Model,
}

impl Handle for Prefix {
    const NAME: &'static str = "prefix";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        format!("prefix of {} tokens", self.cache.seen())
    }
}

impl Prefix {
    /// The option `prefix` of a run.
    ///
    /// # Errors
    /// A value of another type.
    pub fn read(options: &mut Options) -> Result<Option<Self>> {
        let given = options.any("prefix");
        let prefix = |given: Dynamic| {
            let wanted = Error::new("option `prefix` must be what `model.prefix(tokens)` gives");
            given.try_cast::<Self>().ok_or(wanted)
        };
        given.map(prefix).transpose()
    }

    /// The keys and values.
    ///
    /// # Errors
    /// They are another model's.
    pub fn of(&self, model: &Model) -> Result<&KeyValueCache> {
        if std::ptr::eq(self.model.get(), model.get()) {
            return Ok(&self.cache);
        }
        Err(Error::new("the prefix was made by another model").hint("make one with this model's `prefix`"))
    }

    /// A copy to go on from with `input`, [batch, pos] or [batch, pos, d_model].
    ///
    /// # Errors
    /// Another model's prefix, another number of samples, a text that is too long.
    pub fn continued(&self, model: &Model, input: &tch::Tensor) -> Result<KeyValueCache> {
        self.of(model)?.continued(&model.get().decoder, (input.size()[0], input.size()[1]))
    }
}

#[export_module(manifest)]
pub mod functions {
    /// Reads a text once, so that runs can go on from it without reading it again: give the result as option `prefix` to
    /// `forward`, `run_with_hooks`, `run_with_cache` or `generate`.
    ///
    /// Such a run takes the tokens that follow. Its activations, and its hooks, are those of the new positions only. A
    /// position in a hook counts from the beginning of the whole text, a negative one from its end. One text can be
    /// continued by several prompts at once.
    ///
    /// Options: `hooks` (as in `run_with_hooks`, for the text itself), `positions`.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let prefix = model.prefix("The capital of France");
    /// let logits = model.forward(" is", #{ prefix: prefix });
    /// assert_eq(model.to_string(logits[0, -1].argmax()), " Paris");
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn prefix(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        options: Map,
    ) -> ScriptResult<Prefix> {
        let (entries, positions) = Options::read("prefix", options, |options| {
            Ok((options.array("hooks")?.unwrap_or_default(), options.map("positions")?.unwrap_or_default()))
        })?;
        with_hooks(&context, |caller| {
            let decoder = &model.get().decoder;
            let input = decoder.tokens(&tokens::prompts(model.get(), &tokens)?)?;
            let mut hooks = Hooks::none();
            caller.add(&mut hooks, &entries, &decoder.config, &positions, None)?;
            let mut cache = KeyValueCache::new(decoder);
            let _residual =
                decoder.run_layers(Start::Tokens(&input), decoder.blocks.len(), &mut hooks, Some(&mut cache))?;
            hooks.finish()?;
            Ok(Prefix { cache: Rc::new(cache), model: model.clone() })
        })
    }

    /// The number of tokens of a prefix.
    #[rhai_fn(name = "len", pure)]
    pub fn prefix_len(prefix: &mut Prefix) -> i64 {
        prefix.cache.seen()
    }
}
