//! The program around the scripts: command line, prompt, doctor, set-up and its downloads.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod fake_hub;
mod support;

mod access;
mod adapter;
mod audit;
mod checkpoint;
mod command_line;
mod dataset;
mod dist;
mod doctor;
mod hub;
mod limits;
mod repl;
mod setup;
mod shipped;
mod source;
mod study;
mod threads;
mod transfer;
