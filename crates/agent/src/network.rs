//! The node's part of the cluster's pod network: opened with the ranges that the Node has, kept in step with the other Nodes.
//!
//! The Node says which ranges are its (`spec.podCIDRs`). Until it does, the node is not ready and pods on a network of their own
//! wait; those on the machine's network run. A restart opens what was open before at once, without a server. When the ranges change,
//! because the Node was deleted and made again, new pods get addresses of the new ones; pods that live keep theirs, which other
//! nodes reach no longer, so that is said.
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

use crate::cluster::{Cluster, message};
use crate::events::Recorder;
use crate::mirror::Mirror;
use crate::options::{NetworkOptions, PodRanges};
use crate::worker::blocking;

/// How often the machine's routes are compared with what they should be.
const LOOK: Duration = Duration::from_secs(10);
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
    node_ips: Vec<IpAddr>,
    options: NetworkOptions,
    state: watch::Sender<State>,
    nodes: BTreeMap<Arc<str>, Arc<NodeNetworkView>>,
    /// What was wrong last, so that it is said once.
    complained: Vec<String>,
}

impl Network {
    /// The network of a node as it is on the machine now.
    pub(crate) fn new(
        runtime: Runtime,
        recorder: Recorder,
        node: &str,
        node_ips: &[IpAddr],
        options: &NetworkOptions,
    ) -> (Self, watch::Receiver<State>) {
        let ranges = runtime.ranges();
        let waits = ranges.is_empty();
        let state = State {
            ranges,
            not_ready: waits.then(|| "the node has no pod range (spec.podCIDR) yet".to_owned()),
            routes: None,
        };
        let (state, told) = watch::channel(state);
        let network = Self {
            runtime,
            recorder,
            node: node.to_owned(),
            node_ips: node_ips.to_vec(),
            options: options.clone(),
            state,
            nodes: BTreeMap::new(),
            complained: Vec::new(),
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
                Err(error) => tracing::warn!(node = self.node, "choose a pod range: {}", message(&error)),
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
        let mut timer = tokio::time::interval(LOOK);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut known = false;
        loop {
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
                _ = timer.tick() => {}
            }
            // Before the first whole list nobody knows which nodes there are not: what stands is left alone.
            if known {
                self.step().await;
            }
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
        if !self.state.borrow().ranges.is_empty() {
            self.route().await;
        }
    }

    /// Opens the network, or brings it to other ranges.
    async fn open(&mut self, ranges: Ranges) -> Result<(), runtime::Error> {
        let config = NetworkConfig {
            ranges,
            node_addresses: self.node_ips.clone(),
            tunnel_port: self.options.tunnel_port,
        };
        let runtime = self.runtime.clone();
        let opened = blocking(move || runtime.open_network(config)).await;
        match opened {
            Ok(ranges) => {
                let before = self.state.borrow().ranges.clone();
                tracing::info!(node = self.node, ?ranges, "the pods' network is open");
                if !before.is_empty() && before != ranges {
                    self.tell_change(&before, &ranges);
                }
                self.state.send_modify(|state| {
                    state.ranges = ranges;
                    state.not_ready = None;
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
