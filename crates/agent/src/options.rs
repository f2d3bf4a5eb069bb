//! How an agent is started.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// How an agent is started.
#[derive(Clone)]
pub struct Options {
    /// The Kubernetes API, as user `system:node:<name>`.
    pub client: kube::Client,
    /// Where logs and exec are served; `None` serves them to nobody.
    pub tunnel: Option<Tunnel>,
    /// The API server's host and port as pods reach it: `KUBERNETES_SERVICE_HOST` and `_PORT`.
    pub api_address: (String, u16),
    /// Images, shims and pod files live below it. It names what the agent makes on the machine.
    pub data_dir: PathBuf,
    /// Name of the Node object.
    pub node_name: String,
    /// Address of the node; `None` is the machine's first address that is not loopback.
    pub node_ip: Option<IpAddr>,
    /// Addresses of the node's pods.
    pub pod_range: runtime::Range,
    /// How pods' shims are started.
    pub shim: runtime::ShimCommand,
    /// Labels of the node besides Kubernetes' own.
    pub labels: BTreeMap<String, String>,
    /// Taints that the node registers with.
    pub taints: Vec<k8s_openapi::api::core::v1::Taint>,
}

/// The connection over which the API server reaches this node.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// `host:port` of the API server.
    pub address: String,
    /// The name in the server's certificate.
    pub server_name: String,
    /// The cluster's CA certificates, PEM.
    pub ca_pem: Vec<u8>,
    /// The node's client certificate, PEM.
    pub certificate_pem: Vec<u8>,
    /// Its key, PEM.
    pub key_pem: Vec<u8>,
}

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container runtime could not be opened.
    #[error("open the container runtime in {data_dir}")]
    Runtime {
        /// The data directory.
        data_dir: PathBuf,
        /// Why.
        source: runtime::Error,
    },
    /// The certificate, key or CA of the tunnel is unusable.
    #[error("use the node's TLS identity: {0}")]
    Identity(String),
    /// The data directory could not be made.
    #[error("create {path}")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
