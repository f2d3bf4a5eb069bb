//! The node's part of the cluster's pod network: opened with the ranges that the Node has, kept in step with the other Nodes.
//!
//! The Node says which ranges are its (`spec.podCIDRs`). Until it does, the node is not ready and pods on a network of their own
//! wait; those on the machine's network run. A restart opens what was open before at once, without a server. When the ranges change,
//! because the Node was deleted and made again, new pods get addresses of the new ones; pods that live keep theirs, which other
//! nodes reach no longer, so that is said.
//!
//! Where plugins make the network, all that is looked at is whether they can: their configuration may come later than the agent, and go.
//!
//! The ways to other nodes' pods follow from the Nodes as [`plan::node_routes`] says. They are looked at in intervals, too: what
//! somebody removed on the machine comes back.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::view::NodeNetworkView;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use plan::node_routes::{self, Here, Way};
use runtime::{NetworkConfig, Range, Ranges, Route, Runtime, TunnelEnd, Via};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::calls::blocking;
use crate::cluster::{Cluster, message};
use crate::events::Recorder;
use crate::mirror::Mirror;
use crate::options::{NetworkOptions, PodRanges};

/// How often the machine's routes are compared with what they should be.
const LOOK: Duration = Duration::from_secs(10);
/// How often it is looked for plugins that are not there yet: who installs them waits for the node.
const LOOK_FOR_PLUGINS: Duration = Duration::from_secs(1);
/// How often it is looked whether other rules drop packets of pods: a look is a start of nft.
const LOOK_AT_FIREWALL: Duration = Duration::from_secs(60);
/// Wait after a failed call, doubling up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What the node says of its network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The ranges that pods get addresses of; none while the network is not open.
    pub(crate) ranges: Vec<Range>,
    /// Why it is not open.
    pub(crate) not_ready: Option<String>,
    /// Whether the ways to the other nodes stand, once that is known; else what is wrong.
    pub(crate) routes: Option<Result<(), String>>,
}

/// Keeps the network.
pub(crate) struct Network {
    runtime: Runtime,
    recorder: Recorder,
    node: String,
    addresses: watch::Receiver<Vec<IpAddr>>,
    options: NetworkOptions,
    state: watch::Sender<State>,
    nodes: BTreeMap<Arc<str>, Arc<NodeNetworkView>>,
    /// What was wrong last, so that it is said once.
    complained: Vec<String>,
    /// What drops packets of pods, said once as well, and when that was looked at.
    dropped: Vec<String>,
    firewall_seen: Option<tokio::time::Instant>,
}

impl Network {
    /// The network of a node as it is on the machine now.
    pub(crate) fn new(
        runtime: Runtime,
        recorder: Recorder,
        node: &str,
        addresses: watch::Receiver<Vec<IpAddr>>,
        options: &NetworkOptions,
    ) -> (Self, watch::Receiver<State>) {
        let ranges = runtime.ranges();
        let state = State {
            ranges,
            not_ready: runtime.check_network().err().map(|error| error.message),
            routes: None,
        };
        let (state, told) = watch::channel(state);
        let network = Self {
            runtime,
            recorder,
            node: node.to_owned(),
            addresses,
            options: options.clone(),
            state,
            nodes: BTreeMap::new(),
            complained: Vec::new(),
            dropped: Vec::new(),
            firewall_seen: None,
        };
        (network, told)
    }

    /// Opens the network before the node registers, when it is the node that chooses its ranges: it registers with them. Those that
    /// its Node has already are taken instead. Without a server, what was open last stays.
    pub(crate) async fn choose(
        &mut self,
        cluster: &Cluster,
        stop: &CancellationToken,
    ) -> Result<(), runtime::Error> {
        let PodRanges::Own(own) = self.options.ranges.clone() else {
            return Ok(());
        };
        let mut wait = RETRY.0;
        loop {
            match self.wanted(cluster, &own).await {
                Ok(ranges) => return self.open(ranges).await,
                Err(_) if !self.runtime.ranges().is_empty() => return Ok(()),
                Err(error) => tracing::warn!(
                    node = self.node,
                    error = message(&error),
                    "cannot choose a pod range"
                ),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    async fn wanted(&self, cluster: &Cluster, own: &Ranges) -> Result<Ranges, kube::Error> {
        let nodes = cluster.nodes().list(&ListParams::default()).await?.items;
        let (this, others): (Vec<Node>, Vec<Node>) = nodes
            .into_iter()
            .partition(|node| node.metadata.name.as_deref() == Some(&self.node));
        let has: Vec<Range> = this.iter().flat_map(ranges_of).collect();
        if !has.is_empty() {
            return Ok(Ranges::Given(has));
        }
        Ok(match own.clone() {
            Ranges::Free { of, mut except } => {
                except.extend(others.iter().flat_map(ranges_of::<IpNet>));
                Ranges::Free { of, except }
            }
            given @ Ranges::Given(_) => given,
        })
    }

    /// Keeps it open and its routes true until `stop`.
    pub(crate) async fn run(mut self, mirror: Mirror, stop: CancellationToken) {
        let mut changes = mirror.nodes.changes();
        let mut known = false;
        loop {
            let waits = self.options.cni.is_some() && self.state.borrow().not_ready.is_some();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = changes.next() => {
                    known = true;
                    for ((_, name), node) in changed {
                        match node {
                            Some(node) => self.nodes.insert(name, node),
                            None => self.nodes.remove(&name),
                        };
                    }
                }
                // Its keeper ends with this one, unless there is nothing to follow.
                Ok(()) = self.addresses.changed() => self.reopen().await,
                () = tokio::time::sleep(if waits { LOOK_FOR_PLUGINS } else { LOOK }) => {
                    self.remove_left_overs().await;
                    self.check_plugins().await;
                    self.check_firewall().await;
                }
            }
            // Before the first whole list nobody knows which nodes there are not: what stands is left alone.
            if known {
                self.step().await;
            }
        }
    }

    /// Pods that went while no agent ran may have left what plugins did not take back at once.
    async fn remove_left_overs(&mut self) {
        let runtime = self.runtime.clone();
        if let Err(error) = blocking(move || runtime.remove_left_overs()).await {
            self.complain(vec![error.message]);
        }
    }

    /// Brings what is open to the node's new addresses.
    async fn reopen(&mut self) {
        let ranges = self.state.borrow().ranges.clone();
        if !ranges.is_empty() {
            self.open(Ranges::Given(ranges)).await.ok();
        }
    }

    /// Looks whether other rules of the machine drop what pods send and get, and has those of iptables let it through.
    async fn check_firewall(&mut self) {
        let fresh = self
            .firewall_seen
            .is_some_and(|at| at.elapsed() < LOOK_AT_FIREWALL);
        if fresh || self.options.cni.is_some() || self.state.borrow().ranges.is_empty() {
            return;
        }
        self.firewall_seen = Some(tokio::time::Instant::now());
        let runtime = self.runtime.clone();
        let dropped = match blocking(move || runtime.let_through()).await {
            Ok(dropped) => dropped,
            Err(error) => {
                tracing::debug!(node = self.node, %error, "look at the machine's other rules");
                return;
            }
        };
        for what in dropped.iter().filter(|what| !self.dropped.contains(what)) {
            tracing::warn!(node = self.node, "{what}");
            self.recorder
                .node(&self.node, true, "ForwardingDenied", what.clone());
        }
        self.dropped = dropped;
    }

    /// Looks whether plugins can connect pods, where that is theirs to do.
    async fn check_plugins(&mut self) {
        if self.options.cni.is_none() {
            return;
        }
        let runtime = self.runtime.clone();
        let not_ready = blocking(move || runtime.check_network()).await.err();
        let not_ready = not_ready.map(|error| error.message);
        let changed = self.state.send_if_modified(|state| {
            let changed = state.not_ready != not_ready;
            state.not_ready = not_ready.clone();
            changed
        });
        match not_ready {
            Some(why) if changed => tracing::warn!(node = self.node, why, "pods have no network"),
            None if changed => tracing::info!(node = self.node, "CNI plugins connect the pods"),
            _ => {}
        }
    }

    async fn step(&mut self) {
        let own = self.nodes.get(&*self.node);
        let has: Vec<Range> = own
            .iter()
            .flat_map(|node| node.pod_cidrs.iter())
            .filter_map(|text| text.parse().ok())
            .collect();
        if !has.is_empty() && has != self.state.borrow().ranges {
            // What is wrong is in the state, and tried again.
            self.open(Ranges::Given(has)).await.ok();
        }
        if self.options.cni.is_none() && !self.state.borrow().ranges.is_empty() {
            self.route().await;
        }
    }

    /// Opens the network, or brings it to other ranges.
    async fn open(&mut self, ranges: Ranges) -> Result<(), runtime::Error> {
        let config = NetworkConfig {
            ranges,
            node_addresses: self.addresses.borrow_and_update().clone(),
            tunnel_port: self.options.tunnel_port,
        };
        let runtime = self.runtime.clone();
        let opened = blocking(move || runtime.open_network(config)).await;
        match opened {
            Ok(ranges) => {
                let before = self.state.borrow().ranges.clone();
                tracing::info!(node = self.node, ?ranges, "opened the pod network");
                let plugged = self.options.cni.is_some();
                if !plugged && !before.is_empty() && before != ranges {
                    self.tell_change(&before, &ranges);
                }
                self.state.send_modify(|state| {
                    state.ranges = ranges;
                    // Plugins may not be ready for all that.
                    if !plugged {
                        state.not_ready = None;
                    }
                });
                Ok(())
            }
            Err(error) => {
                self.complain(vec![format!("open the pods' network: {error}")]);
                let why = error.message.clone();
                self.state.send_if_modified(|state| {
                    let changed = state.not_ready.as_ref() != Some(&why);
                    state.not_ready = Some(why);
                    changed
                });
                Err(error)
            }
        }
    }

    fn tell_change(&self, before: &[Range], after: &[Range]) {
        let text = |ranges: &[Range]| {
            let texts: Vec<String> = ranges.iter().map(Range::to_string).collect();
            texts.join(",")
        };
        let message = format!(
            "The node's pod range is {} now and was {}: pods with addresses of the old one are not reached from other nodes; delete them",
            text(after),
            text(before)
        );
        tracing::warn!(node = self.node, "{message}");
        self.recorder.node(&self.node, true, "PodCIDRChanged", message);
    }

    async fn route(&mut self) {
        let runtime = self.runtime.clone();
        let own: Vec<IpNet> = self.state.borrow().ranges.iter().map(Range::net).collect();
        let (node, always_wrap) = (self.node.clone(), self.options.always_wrap);
        let nodes: Vec<Arc<NodeNetworkView>> = self.nodes.values().cloned().collect();
        let routed = blocking(move || -> Result<Vec<String>, runtime::Error> {
            let here = Here {
                name: &node,
                ranges: &own,
                links: &runtime.links()?,
                always_wrap,
            };
            let ways = node_routes::ways(&here, nodes.iter().map(|node| &**node));
            let mut wrong = ways.odd;
            let routes: Vec<Route> = ways
                .routes
                .iter()
                .filter_map(|(range, way)| route(range, way))
                .collect();
            let failures = runtime.route(&routes, &ways.untranslated)?;
            wrong.extend(failures.into_values().map(|error| error.message));
            Ok(wrong)
        });
        let routes = match routed.await {
            Ok(wrong) => {
                self.complain(wrong);
                Ok(())
            }
            Err(error) => {
                self.complain(vec![error.message.clone()]);
                Err(error.message)
            }
        };
        self.state.send_if_modified(|state| {
            let changed = state.routes.as_ref() != Some(&routes);
            state.routes = Some(routes);
            changed
        });
    }

    /// Says what is wrong when that is news.
    fn complain(&mut self, wrong: Vec<String>) {
        for what in wrong.iter().filter(|what| !self.complained.contains(what)) {
            tracing::warn!(node = self.node, "{what}");
        }
        self.complained = wrong;
    }
}

/// That pods get no network, as the kubelet says it of its node and of each pod.
pub(crate) fn not_ready(why: &str) -> String {
    format!(
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: {why}"
    )
}

/// `spec.podCIDRs` of a node, without what cannot be read.
fn ranges_of<T: std::str::FromStr>(node: &Node) -> Vec<T> {
    let spec = node.spec.clone().unwrap_or_default();
    let texts = spec.pod_cidrs.or_else(|| spec.pod_cidr.map(|one| vec![one]));
    texts
        .iter()
        .flatten()
        .filter_map(|text| text.parse().ok())
        .collect()
}

fn route(range: &IpNet, way: &Way) -> Option<Route> {
    let range: Range = range.to_string().parse().ok()?;
    let via = match way {
        Way::Link(gateway) => Via::Link(*gateway),
        Way::Tunnel(outer, first) => Via::Tunnel(*outer, TunnelEnd::of(&first.to_string().parse().ok()?)),
    };
    Some(Route { range, via })
}
