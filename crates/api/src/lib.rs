//! The Kubernetes kinds: their registry, defaults, validation and printing. Also the parts of the
//! API that servers and deciders share: Status errors, Tables, selectors, taints and encodings.
//! Pure: no clock, no I/O.

pub mod admission;
pub mod affinity;
pub mod attributes;
pub mod authorization;
pub mod bootstrap_token;
pub mod certificates;
pub(crate) mod default;
pub mod encode;
pub mod eviction;
pub mod field_error;
pub mod kinds;
pub mod meta;
pub mod node_credential;
pub mod pod_security;
mod print;
pub mod selector;
pub mod status;
pub mod sysctl;
pub mod table;
pub mod taint;
pub mod time;
pub mod validate;
pub mod view;
