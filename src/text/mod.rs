//! Text in and out of a model: tokenizers, from `tokenizer.json` or from a GGUF file's own vocabulary, and chat
//! templates.

pub mod chat;
pub mod python;
pub mod tokenizer;
mod vocabulary;
