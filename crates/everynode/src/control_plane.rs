//! Runs the control plane in this process: API server, controllers, scheduler. `server` and `up`
//! use it.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use api::view::IpFamily;
use apiserver::{Config, Server, ServiceRanges, User};
use clap::Args;
use ipnet::IpNet;
use plan::daemonset::Aim;
use plan::fleet;
use plan::node_ipam::ClusterRange;
use plan::node_lifecycle::Limits;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Parses `--listen`.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "give an address and a port, such as 0.0.0.0:6443 or [::]:6443".to_owned())
}

/// Flags of every role that runs the control plane.
#[derive(Args, Debug, Clone)]
pub(crate) struct ControlPlaneArgs {
    /// Data directory: store, keys and the administrator's kubeconfig
    #[arg(long, value_name = "DIR", default_value = crate::verbs::DATA_DIR)]
    pub(crate) data_dir: PathBuf,

    /// Address of the API server
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6443", value_parser = listen_address)]
    pub(crate) listen: SocketAddr,

    /// Address that other machines use to reach the API server (default: the --listen address; if
    /// that is 0.0.0.0, the address of the default route)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) advertise_address: Option<IpAddr>,

    /// Additional names or addresses in the server's certificate
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_san: Vec<String>,

    /// Run the scheduler, which binds pods to nodes
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) scheduler: bool,

    /// Let the scheduler place DaemonSet pods. With =false the DaemonSet controller sets
    /// spec.nodeName itself
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) schedule_daemonset_pods: bool,

    /// Pods of one DaemonSet that are created, and pods that are deleted, at a time
    #[arg(long, value_name = "PODS", default_value = "250")]
    pub(crate) daemonset_burst: NonZeroUsize,

    /// Address range for pods; each node gets a part of it (the default is enough for 4,096 nodes).
    /// At most one IPv4 and one IPv6 range
    #[arg(
        long,
        value_name = "RANGE",
        value_delimiter = ',',
        default_value = "10.240.0.0/12"
    )]
    pub(crate) cluster_cidr: Vec<IpNet>,

    /// Address range for Services, at most one IPv4 and one IPv6, the primary one first. The first
    /// address is the API server's, the tenth is DNS. If you change the range, existing Services
    /// keep their addresses (default: 10.96.0.0/12, and fd00:10:96::/112 if --cluster-cidr has an
    /// IPv6 range)
    #[arg(long, value_name = "RANGE[,RANGE]")]
    pub(crate) service_cluster_ip_range: Option<ServiceRanges>,

    /// Prefix length of each node's IPv4 range
    #[arg(
        long,
        value_name = "BITS",
        default_value = "24",
        alias = "node-cidr-mask-size-ipv4"
    )]
    pub(crate) node_cidr_mask_size: u8,

    /// Prefix length of each node's IPv6 range
    #[arg(long, value_name = "BITS", default_value = "64")]
    pub(crate) node_cidr_mask_size_ipv6: u8,

    /// Assign each node its pod range. Set =false if another controller does this
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) allocate_node_cidrs: bool,

    /// Longest validity of node certificates; agents renew them before they expire
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = crate::client::duration::parse)]
    pub(crate) node_certificate_ttl: Duration,

    /// Time without a heartbeat after which a node is unreachable; nodes send one every 10 seconds
    #[arg(long, value_name = "DURATION", default_value = "50s", value_parser = crate::client::duration::parse)]
    pub(crate) node_monitor_grace_period: Duration,
}

impl ControlPlaneArgs {
    /// Returns the ranges from which nodes get their pod ranges. Checks them before anything is
    /// created.
    pub(crate) fn cluster_ranges(&self) -> Result<Vec<ClusterRange>> {
        let ipv4 = |range: &&IpNet| range.addr().is_ipv4();
        let of_one_family = self.cluster_cidr.iter().filter(ipv4).count();
        if of_one_family > 1 || self.cluster_cidr.len() - of_one_family > 1 {
            return Err(anyhow!("--cluster-cidr takes one range of each family"));
        }
        let ranges = self.cluster_cidr.iter().map(|range| {
            let (flag, bits) = match range {
                IpNet::V4(_) => ("--node-cidr-mask-size", self.node_cidr_mask_size),
                IpNet::V6(_) => ("--node-cidr-mask-size-ipv6", self.node_cidr_mask_size_ipv6),
            };
            ClusterRange::new(*range, bits)
                .map_err(|why| anyhow!("--cluster-cidr {range}, {flag} {bits}: {why}"))
        });
        ranges.collect()
    }

    /// Returns a line with the number of nodes that can get pod ranges.
    pub(crate) fn pod_ranges(&self) -> Result<String> {
        if !self.allocate_node_cidrs {
            return Ok(
                "pod ranges: another controller assigns them (--allocate-node-cidrs=false)".to_owned(),
            );
        }
        let ranges = self.cluster_ranges()?;
        let nodes = ranges.iter().map(ClusterRange::blocks).min().unwrap_or(0);
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        Ok(format!(
            "pod ranges: {nodes} nodes get one, from {}",
            ranges.join(" and ")
        ))
    }

    /// Returns the address ranges of Services. Fails, before anything is created, if they overlap
    /// with those of pods.
    fn service_ranges(&self) -> Result<ServiceRanges> {
        let pods = &self.cluster_cidr;
        let families: Vec<IpFamily> = pods.iter().map(|range| IpFamily::of(range.addr())).collect();
        let services = match &self.service_cluster_ip_range {
            Some(given) => given.clone(),
            None => ServiceRanges::usual(&families),
        };
        for range in services.iter() {
            let overlaps = |other: &&IpNet| range.contains(*other) || other.contains(range);
            if let Some(pods) = pods.iter().find(overlaps) {
                return Err(anyhow!(
                    "--service-cluster-ip-range {range} and --cluster-cidr {pods} overlap: pods and Services need addresses of their own"
                ));
            }
        }
        Ok(services)
    }

    /// Returns the options of the DaemonSet controller.
    fn fleet(&self) -> fleet::Options {
        fleet::Options {
            burst: self.daemonset_burst.get(),
            aim: match self.schedule_daemonset_pods {
                true => Aim::Affinity,
                false => Aim::NodeName,
            },
        }
    }
}

/// A running control plane. It must be ended with [`ControlPlane::stop`].
pub(crate) struct ControlPlane {
    pub(crate) server: Server,
    controllers: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl ControlPlane {
    /// Starts the API server, then the controllers and the scheduler.
    pub(crate) async fn start(args: &ControlPlaneArgs) -> Result<Self> {
        let cluster_ranges = match args.allocate_node_cidrs {
            true => args.cluster_ranges()?,
            false => Vec::new(),
        };
        // The limit of open files bounds the number of connections.
        if let Err(error) = runtime::raise_open_files() {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
        let config = Config {
            data_dir: args.data_dir.clone(),
            listen: args.listen,
            advertise: args.advertise_address,
            names: args.tls_san.clone(),
            service_ranges: args.service_ranges()?,
        };
        let server = Server::start(config).await.context("start the API server")?;
        let shutdown = CancellationToken::new();
        let options = controllers::Options {
            fleet: args.fleet(),
            scheduler: args.scheduler,
            cluster_ranges,
            root_ca: Some(server.authority().into()),
            signer: Some(signer(&server, args.node_certificate_ttl)),
            node_lifecycle: Limits {
                grace: args.node_monitor_grace_period,
                ..Limits::default()
            },
            ..controllers::Options::default()
        };
        let client = server.client(User::component("system:kube-controller-manager"));
        let controllers = tokio::spawn(controllers::run(client, options, shutdown.clone()));
        Ok(Self {
            server,
            controllers,
            shutdown,
        })
    }

    /// Returns when the controllers end, which happens only after a fault.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match (&mut self.controllers).await {
            Ok(()) => anyhow!("the controllers ended by themselves"),
            Err(fault) => anyhow::Error::new(fault).context("run the controllers"),
        }
    }

    /// Stops the controllers, then the server. Every exit of a role must call it: a process that
    /// ends before its store is closed leaves recovery to the next start.
    ///
    /// # Errors
    /// When the store could not be closed properly.
    pub(crate) async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        // After a fault the task has been awaited already.
        if !self.controllers.is_finished()
            && let Err(fault) = self.controllers.await
        {
            tracing::error!(%fault, "the controllers failed while they stopped");
        }
        self.server.shutdown().await.context("stop the API server")
    }
}

/// Returns the signer that the controllers use for certificates.
fn signer(server: &Server, longest: Duration) -> controllers::Signer {
    let signer = server.signer();
    controllers::Signer {
        longest,
        sign: Arc::new(move |request, user, groups, life| {
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            let signed = signer.sign(request, &User::new(user, &groups), life);
            signed.map_err(|error| format!("{:#}", anyhow::Error::new(error)))
        }),
    }
}

/// Signals that stop a role properly. A closed terminal sends SIGHUP; `nohup` makes the process
/// ignore it.
pub(crate) struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl EndSignals {
    /// Installs the handlers. From now on the signals do not end the process themselves.
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: match ignores_hangup() {
                true => None,
                false => Some(listen(SignalKind::hangup())?),
            },
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hung_up(&mut self.hangup) => {}
        }
    }
}

async fn hung_up(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Returns whether this process was started with SIGHUP ignored.
fn ignores_hangup() -> bool {
    const HANGUP_BIT: u64 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & HANGUP_BIT != 0)
}
