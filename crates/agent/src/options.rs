//! How an agent is started.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::join::Membership;
use crate::policy::PodPolicy;
use crate::servers::Dialer;

/// How an agent is started.
#[derive(Clone)]
pub struct Options {
    /// The Kubernetes API, as user `system:node:<name>`.
    pub client: kube::Client,
    /// Where logs and exec are served; `None` serves them to nobody.
    pub tunnel: Option<Dialer>,
    /// For a machine that joined: its certificate, which the agent renews.
    pub membership: Option<Membership>,
    /// The API server as this machine reaches it; it may listen on loopback.
    pub api_address: SocketAddr,
    /// Address and port of the Service `kubernetes`: pods reach the API server there, and are led to `api_address`. `None`, or an
    /// `api_address` to which none of that family is led, leaves pods with `api_address` itself.
    pub api_service: Option<SocketAddr>,
    /// Where pods ask for names: the addresses of the Service `kube-dns`, its first one first, at which each node answers itself. None
    /// leaves pods with the machine's resolvers.
    pub cluster_dns: Vec<IpAddr>,
    /// The domain of the cluster's names, `cluster.local`.
    pub cluster_domain: String,
    /// Images, shims and pod files live below it. It names what the agent makes on the machine.
    pub data_dir: PathBuf,
    /// Logs of containers lie below it, `/var/log/pods`; the links to them in `containers` beside it. Several agents may share it.
    pub pod_logs_dir: PathBuf,
    /// The folder that pods know as the kubelet's, `/var/lib/kubelet`: folders are made in it that pods mount. Several agents may share it.
    pub kubelet_dir: PathBuf,
    /// What an image may take of the disk.
    pub image_limits: runtime::ImageLimits,
    /// Keep the Secrets that pods use on the disk, so that a machine that boots without a server starts those pods, too. Else they are kept in
    /// memory, which a boot empties.
    pub keep_secrets: bool,
    /// Name of the Node object.
    pub node_name: String,
    /// Addresses of the node, at most one of each family, the main one first; empty is the one of the machine's way out.
    pub node_ips: Vec<IpAddr>,
    /// The pods' network.
    pub network: NetworkOptions,
    /// What pods are granted of the machine's kernel.
    pub policy: PodPolicy,
    /// After how long without an answer of a pod's shim the node says that it is not ready: [`crate::STALLED_AFTER`].
    pub stalled_after: Duration,
    /// How pods' shims are started.
    pub shim: runtime::ShimCommand,
    /// Labels of the node besides Kubernetes' own.
    pub labels: BTreeMap<String, String>,
    /// Taints that the node registers with.
    pub taints: Vec<k8s_openapi::api::core::v1::Taint>,
}

/// Where Kubernetes has the logs of pods; log collectors look there.
pub const POD_LOGS_DIR: &str = "/var/log/pods";
/// Where Kubernetes has the kubelet's folder; pods of drivers and plugins mount folders of it.
pub const KUBELET_DIR: &str = "/var/lib/kubelet";

/// How the pods of a node get addresses and reach those of other nodes.
#[derive(Clone, Debug, Default)]
pub struct NetworkOptions {
    /// Who says which ranges are the node's.
    pub ranges: PodRanges,
    /// The port of tunnels (VXLAN), the same on all nodes; 0 is [`runtime::TUNNEL_PORT`].
    pub tunnel_port: u16,
    /// Go through tunnels to nodes on a common link, too.
    pub always_wrap: bool,
    /// The network is that of plugins: they connect pods, and lead them to those of other nodes.
    pub cni: Option<runtime::Cni>,
}

/// Who says which ranges are a node's.
#[derive(Clone, Debug, Default)]
pub enum PodRanges {
    /// The Node's `spec.podCIDRs`, which the cluster gives it.
    #[default]
    Given,
    /// The node itself, unless its Node has some already: it registers with them.
    Own(runtime::Ranges),
}

impl Options {
    /// How the Service's address leads to the API server.
    pub(crate) fn api_redirect(&self) -> Option<runtime::Redirect> {
        let (from, to) = (self.api_service?, self.api_address);
        // IPv6 leads nobody from outside to loopback.
        let is_led = from.is_ipv4() == to.is_ipv4() && (to.is_ipv4() || !to.ip().is_loopback());
        is_led.then_some(runtime::Redirect {
            protocol: runtime::Protocol::Tcp,
            from,
            to: runtime::RedirectTo::Address(to),
        })
    }
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
    /// What is reserved for the machine leaves nothing for pods.
    #[error("{0}")]
    Policy(String),
    /// The cluster's domain is not a DNS name.
    #[error("{0}")]
    Domain(String),
    /// The folder of the pods' logs could not be made.
    #[error("{0}; --pod-logs-dir names another folder")]
    PodLogs(runtime::Error),
    /// The kubelet's folder could not be made.
    #[error("create {path}; --root-dir names another folder than {KUBELET_DIR}")]
    KubeletDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The data directory could not be made.
    #[error("create {path}")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
