//! What all client verbs share: a connection, the server's resources, manifests, printing.
//!
//! The verbs are an ordinary client of the Kubernetes API without special privileges. They work
//! with any API server that a kubeconfig names.

pub(crate) mod cluster_info;
pub(crate) mod connection;
pub(crate) mod dry_run;
pub(crate) mod duration;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod fleet;
pub(crate) mod kubeconfig;
pub(crate) mod manifest;
pub(crate) mod node_affinity;
pub(crate) mod output;
pub(crate) mod pod_state;
pub(crate) mod resources;
pub(crate) mod secret;
pub(crate) mod selection;
pub(crate) mod sheet;
pub(crate) mod suggest;
pub(crate) mod table;
pub(crate) mod unreachable;
pub(crate) mod whereabouts;
