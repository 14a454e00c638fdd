//! The program around the scripts: command line, prompt, doctor, set-up, and what it fetches.

mod support;

mod command_line;
mod dataset;
mod doctor;
mod hub;
mod repl;
mod setup;
