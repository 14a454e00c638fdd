//! What the tests of the program share.

use std::sync::RwLock;

/// The Ctrl-C flag belongs to the whole process: a test that raises it runs while no other fetches.
pub static CTRL_C: RwLock<()> = RwLock::new(());
