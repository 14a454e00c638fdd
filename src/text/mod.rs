//! Text in and out of a model: tokenizers, from `tokenizer.json` or from a GGUF file's own vocabulary, and chat
//! templates.

pub mod batch;
pub mod chat;
mod post_processor;
pub mod python;
mod template_limit;
mod template_source;
pub mod tokenizer;
mod vocabulary;
