//! The places where a run can be read and changed, and how users name them.

mod alias;
mod name;
mod site;

pub use name::{layer, matching, parse};
pub use site::{HookPoint, Site, points, usual};
