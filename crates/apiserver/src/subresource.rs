//! The subresources of objects, one file for each.

pub(crate) mod binding;
pub(crate) mod container;
pub(crate) mod eviction;
pub(crate) mod exec;
pub(crate) mod finalize;
pub(crate) mod log;
pub(crate) mod proxy;
pub(crate) mod token;
