//! Shared with the other tests.

#[path = "../support/fixture.rs"]
mod fixture;
#[path = "../support/session.rs"]
mod session;

pub use fixture::fixture;
pub use session::session;
