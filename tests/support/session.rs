//! A session as the command line opens one.

use lancet::session::{Options, Session};

/// An interpreter for scripts.
pub fn session() -> Session {
    Session::new(Options::default()).unwrap_or_else(|error| panic!("no session: {error:?}"))
}
