//! The kinds of the core group, `v1`.

pub mod config_map;
pub mod endpoints;
pub mod event;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod secret;
pub mod service;
pub mod service_account;

/// Most bytes of all data in a ConfigMap or Secret.
const DATA_SIZE: usize = 1024 * 1024;
