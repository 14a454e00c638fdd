//! Shared by the tests of the program.

use std::sync::RwLock;

/// The Ctrl-C flag belongs to the whole process: a test that sets it runs while no other test fetches.
pub static CTRL_C: RwLock<()> = RwLock::new(());
