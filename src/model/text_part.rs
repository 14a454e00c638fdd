//! The text part of a multimodal checkpoint, by the names that the text model's own checkpoints have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::family::multimodal::{Multimodal, Place};
use super::source::{Checkpoint, WeightSource};
use crate::error::{Error, Result};

/// A checkpoint whose other parts are left out.
#[derive(Debug)]
pub struct TextPart {
    checkpoint: Checkpoint,
    /// The stored name of every tensor of the text part
    stored: BTreeMap<String, String>,
    /// How many tensors of each other part are left out
    left_out: BTreeMap<&'static str, usize>,
}

impl TextPart {
    /// Opens the weights of a checkpoint folder and sorts them.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; two tensors that would be the same one of the text part.
    pub fn open(directory: &Path, kind: &Multimodal) -> Result<Self> {
        let checkpoint = Checkpoint::open(directory)?;
        let (mut stored, mut left_out) = (BTreeMap::new(), BTreeMap::new());
        for name in checkpoint.names() {
            match kind.place(name) {
                Place::Other(part) => *left_out.entry(part).or_insert(0) += 1,
                Place::Text(text) => {
                    if let Some(other) = stored.insert(text, name.clone()) {
                        return Err(Error::new(format!("the checkpoint has both `{other}` and `{name}`"))
                            .hint("they are two names of one tensor"));
                    }
                }
            }
        }
        Ok(Self { checkpoint, stored, left_out })
    }

    /// What is left out, as text.
    pub fn left_out(&self) -> String {
        let parts: Vec<String> =
            self.left_out.iter().map(|(part, count)| format!("{part} ({count} tensors)")).collect();
        if parts.is_empty() { "other parts, which it does not have".to_owned() } else { parts.join(" and ") }
    }
}

impl WeightSource for TextPart {
    fn contains(&self, name: &str) -> bool {
        self.stored.contains_key(name)
    }

    fn load(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
        self.checkpoint.load(self.stored.get(name).map_or(name, String::as_str), shape, kind, device)
    }

    fn stored(&self, name: &str) -> Result<Tensor> {
        self.checkpoint.stored(name)
    }

    fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        self.stored.iter().filter(|(name, _)| !used.contains(*name)).map(|(_, stored)| stored.clone()).collect()
    }
}
