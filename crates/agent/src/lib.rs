//! The node agent: makes the pods that are bound to one node real, and says how they are.
//!
//! [`run`] registers the node, renews its Lease, watches the pods whose `spec.nodeName` it is, and gives each a worker: a task
//! that asks [`plan::pod_sync`] what to do next and does it with [`runtime`]. It sees the cluster only through the Kubernetes
//! API, and dials out only: logs and exec come back over the connection that it opened ([`Dialer`]).
//!
//! Invariants:
//! - Everything on disk is a cache or belongs to a running pod. A new agent adopts the pods whose shims live; what the API does
//!   not know is stopped, but only after one consistent list.
//! - The agent's end leaves containers running ([`run`] just returns); [`stop_all`] is the other way to end, for a node that
//!   ends with its process.
//! - While the API server is away, pods run on, are probed and restarted; an agent that starts then works with what the last one kept of what it
//!   was told.
//!
//! Not here: ephemeral containers, device plugins, volumes of storage drivers, eviction under node pressure, in-place resizes.

mod addresses;
mod admission;
mod api_client;
mod apparmor;
mod calls;
mod cluster;
mod container;
mod credential;
mod disk;
mod events;
mod hold;
mod hooks;
mod join;
mod kept;
mod kubelet_dir;
mod log_files;
mod mirror;
mod names;
mod network;
mod node;
mod options;
mod pods;
mod policy;
mod probes;
mod progress;
mod servers;
mod services;
mod sources;
mod stop;
mod streams;
mod tunnel;
mod volumes;
mod worker;

pub use api_client::api_client;
pub use credential::CredentialError;
pub use join::{Join, JoinError, Membership, has_joined, no_client};
pub use mirror::kept_service;
pub use options::{Error, KUBELET_DIR, NetworkOptions, Options, POD_LOGS_DIR, PodRanges};
pub use pods::{Ended, run};
pub use policy::{POD_MAX_PIDS, PodPolicy, SysctlPattern};
pub use progress::STALLED_AFTER;
pub use servers::{Dialer, Identity, ServerAddress};
pub use stop::{remove_shared_folders, stop_all};

/// The Kubernetes release whose behaviour this agent has; peers compare it with their own.
pub const KUBELET_VERSION: &str = "v1.36.0+everynode";
/// Prefix of container ids in pod statuses, and the runtime's name in the node's.
pub const RUNTIME_NAME: &str = "everynode";

/// Between half and all of a wait, so that the nodes of a restarted server do not come all at once.
pub(crate) fn jitter(wait: std::time::Duration) -> std::time::Duration {
    let noise = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    let share = f64::from(noise % 1000) / 2000.0;
    wait.mul_f64(0.5 + share)
}
