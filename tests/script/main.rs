//! Scripts: the shipped ones, the examples of the help, what errors say, and the functions beside those on models.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

mod book;
mod catalog;
mod chat_client;
mod error;
mod experiment;
mod plot;
mod task;
mod tensor;
