//! Flags for the addresses of a node and of its pods, for every role that is a node.

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
    /// Addresses of the node, at most one IPv4 and one IPv6 (default: the address of the default
    /// route)
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) node_ip: Vec<IpAddr>,

    /// Address range for the pods of this machine, at most one IPv4 and one IPv6 (default: the
    /// server assigns it; with `up`, the first free part of the cluster's range)
    #[arg(long, value_name = "RANGE", value_delimiter = ',')]
    pod_cidr: Vec<Range>,

    /// How nodes reach pods on other nodes (host-gw: plain routes on the same link, VXLAN across
    /// routers; vxlan: always VXLAN)
    #[arg(long, value_name = "WAY", default_value = "host-gw")]
    pod_network: Way,

    /// UDP port of VXLAN; it must be the same on all nodes
    #[arg(long, value_name = "PORT", default_value_t = runtime::TUNNEL_PORT)]
    vxlan_port: u16,

    /// Connect pods by the CNI plugins that are installed on this machine
    #[arg(long, conflicts_with_all = ["pod_network", "vxlan_port"])]
    cni: bool,

    /// Folder of the CNI configuration; the first file in it is used
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/etc/cni/net.d",
        requires = "cni"
    )]
    cni_conf_dir: PathBuf,

    /// Folders of the CNI plugins
    #[arg(long, value_name = "FOLDER", value_delimiter = ',', default_values = BIN_DIRS, requires = "cni")]
    cni_bin_dir: Vec<PathBuf>,
}

/// Directories where network plugins are installed, and the directories of Debian's and Fedora's
/// packages.
const BIN_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// How packets for pods of other nodes travel.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
enum Way {
    /// Plain routes to nodes on the same link, VXLAN to the others
    HostGw,
    /// VXLAN to every node
    Vxlan,
}

impl NetworkArgs {
    /// Returns the network options of the agent. A node in the process of its control plane
    /// (`cluster`) chooses its range itself, because another instance may run on this machine. With
    /// CNI, the plugins manage the ranges.
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
