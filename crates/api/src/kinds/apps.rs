//! The kinds of `apps/v1`.

pub mod controller_revision;
pub mod daemon_set;
