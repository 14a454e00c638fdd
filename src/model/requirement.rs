//! What a task needs of a model that not every model has: attention that looks back only, outputs that are tokens.

use super::config::Config;
use crate::error::{Error, Result};

impl Config {
    /// Fails where attention also looks ahead; `what` needs positions that do not change with what follows them.
    ///
    /// # Errors
    /// A bidirectional model.
    pub fn check_causal(&self, what: &str) -> Result<()> {
        if self.causal {
            return Ok(());
        }
        Err(Error::new(format!("{what} needs a causal model, and this one's attention is bidirectional"))
            .hint("every position sees all others, so what is added after a text changes all of it: run whole texts"))
    }

    /// Fails where logits are not those of the next token.
    ///
    /// # Errors
    /// A bidirectional model, or one whose outputs are not tokens.
    pub fn check_predicts_next(&self, what: &str) -> Result<()> {
        self.check_causal(what)?;
        self.check_outputs_are_tokens(what)
    }

    /// Fails where logits are not of tokens.
    ///
    /// # Errors
    /// A model with other outputs than tokens.
    pub fn check_outputs_are_tokens(&self, what: &str) -> Result<()> {
        if self.outputs_are_tokens {
            return Ok(());
        }
        Err(Error::new(format!(
            "{what} needs outputs that are tokens, and this model's {} outputs are something else",
            self.d_vocab_out
        ))
        .hint("give an output's number instead of a text, and read its logits yourself"))
    }
}
