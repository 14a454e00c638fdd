//! Many texts to token ids at once, on all cores.

use rayon::prelude::*;

use super::tokenizer::Tokenizer;
use crate::error::Result;
use crate::interrupt;

/// How many texts are encoded from one look for Ctrl-C to the next.
const PIECE: usize = 256;

impl Tokenizer {
    /// The token ids of each text; see [`Tokenizer::encode`].
    ///
    /// # Errors
    /// An error of the tokenizers library, Ctrl-C.
    pub fn encode_all<T: AsRef<str> + Sync>(&self, texts: &[T], add_special: bool) -> Result<Vec<Vec<i64>>> {
        let mut all = Vec::with_capacity(texts.len());
        for piece in texts.chunks(PIECE) {
            interrupt::check()?;
            let mut found: Vec<Result<Vec<i64>>> =
                piece.par_iter().map(|text| self.encode(text.as_ref(), add_special)).collect();
            if let Some(place) = found.iter().position(Result::is_err) {
                found.swap_remove(place)?;
            }
            all.extend(found.iter().flatten().cloned());
            // Where they were allocated: each thread counts what it holds.
            rayon::spawn(move || drop(found));
        }
        Ok(all)
    }
}

/// The ids of all texts, one after the other, with `separator` between two of them. Reading ends once there are
/// `enough` ids.
///
/// # Errors
/// An error of the texts or of the tokenizers library, Ctrl-C.
pub fn concatenate(
    tokenizer: &Tokenizer,
    mut texts: impl Iterator<Item = Result<String>>,
    separator: Option<i64>,
    enough: usize,
) -> Result<Vec<i64>> {
    let mut all = Vec::new();
    let mut is_first = true;
    while all.len() < enough {
        let piece = texts.by_ref().take(PIECE).collect::<Result<Vec<String>>>()?;
        if piece.is_empty() {
            break;
        }
        for ids in tokenizer.encode_all(&piece, false)? {
            if !std::mem::take(&mut is_first) {
                all.extend(separator);
            }
            all.extend(ids);
        }
    }
    Ok(all)
}
