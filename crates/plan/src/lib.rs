//! Decisions: synchronous functions of observed state and time. They return what to do.

pub mod certificates;
pub mod daemonset;
pub mod disruption;
pub mod dns_records;
pub mod endpoints;
pub mod fleet;
pub mod garbage;
pub mod history;
pub mod namespaces;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod node_routes;
pub mod pod_sync;
pub mod rollout;
pub mod scheduling;
pub mod services;
