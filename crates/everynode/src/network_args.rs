//! Flags of every role that is a node: its addresses and those of its pods.

use std::net::IpAddr;
use std::path::PathBuf;

use agent::{NetworkOptions, PodRanges};
use clap::{Args, ValueEnum};
use plan::node_ipam::ClusterRange;
use runtime::{Cni, Range, Ranges};

/// Flags of the network of a node.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "The node")]
pub(crate) struct NetworkArgs {
    /// Addresses of the node, at most one of each family (default: that of this machine's default route)
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) node_ip: Vec<IpAddr>,

    /// Addresses for the pods of this machine, at most one range of each family (default: the cluster's choice; with `up` the first
    /// part of the cluster's range that is free here)
    #[arg(long, value_name = "RANGE", value_delimiter = ',')]
    pod_cidr: Vec<Range>,

    /// How packets for pods of other nodes travel: as they are where there is a common link and wrapped elsewhere, or always wrapped
    #[arg(long, value_name = "WAY", default_value = "host-gw")]
    pod_network: Way,

    /// UDP port at which wrapped packets arrive, the same on all nodes
    #[arg(long, value_name = "PORT", default_value_t = runtime::TUNNEL_PORT)]
    vxlan_port: u16,

    /// Leave the pods' network to the CNI plugins that are installed on this machine
    #[arg(long, conflicts_with_all = ["pod_network", "vxlan_port"])]
    cni: bool,

    /// Folder of the plugins' configuration: the first file in it is the network
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/etc/cni/net.d",
        requires = "cni"
    )]
    cni_conf_dir: PathBuf,

    /// Folders of the plugins
    #[arg(long, value_name = "FOLDER", value_delimiter = ',', default_values = BIN_DIRS, requires = "cni")]
    cni_bin_dir: Vec<PathBuf>,
}

/// Where networks install their plugins, and where Debian and Fedora have the common ones.
const BIN_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// How packets for pods of other nodes travel.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
enum Way {
    /// Through the node on a common link, by VXLAN where there is none.
    HostGw,
    /// By VXLAN to every node.
    Vxlan,
}

impl NetworkArgs {
    /// How the agent makes the network. A node beside its control plane (`cluster`) chooses its range itself, because another
    /// instance may run on this machine; what plugins do with ranges is theirs.
    pub(crate) fn options(&self, cluster: Option<&[ClusterRange]>) -> NetworkOptions {
        let ranges = match (self.pod_cidr.as_slice(), cluster.filter(|_| !self.cni)) {
            ([], None) => PodRanges::Given,
            ([], Some(cluster)) => PodRanges::Own(Ranges::Free {
                of: cluster
                    .iter()
                    .map(|part| (part.range(), part.node_prefix()))
                    .collect(),
                except: Vec::new(),
            }),
            (named, _) => PodRanges::Own(Ranges::Given(named.to_vec())),
        };
        NetworkOptions {
            ranges,
            tunnel_port: self.vxlan_port,
            always_wrap: self.pod_network == Way::Vxlan,
            cni: self.cni.then(|| Cni {
                conf_dir: self.cni_conf_dir.clone(),
                bin_dirs: self.cni_bin_dir.clone(),
            }),
        }
    }
}
