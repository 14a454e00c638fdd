//! Scripts: the shipped ones, the examples of the help, error messages, and the functions that need no model.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

mod audit;
mod book;
mod catalog;
mod chain;
mod chat_client;
mod error;
mod experiment;
mod experiment_numbers;
mod job;
mod known_edges;
mod latex;
mod plot;
mod plot_cells;
mod plot_panels;
mod plot_views;
mod shards;
mod small_model;
mod study;
mod task;
mod tensor;
