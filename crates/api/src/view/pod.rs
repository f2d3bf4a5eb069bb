//! The view of a Pod.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::share::{shared, shared_spec};
use super::topology::{self, TopologyView, WirePodAffinity, WireSpread};
use super::{Labels, ObjectMetaView, Resources, View, lenient_time, nullable};
use crate::affinity::NodeAffinity;
use crate::taint::Toleration;

/// The fields of a Pod that decisions need.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PodView {
    /// Metadata.
    pub meta: ObjectMetaView,
    /// The part of the specification that the pods of one set share.
    pub spec: Arc<PodSpecView>,
    /// `spec.nodeName`: the node of the pod.
    pub node_name: Option<Arc<str>>,
    /// The node in the pod's required node affinity (`metadata.name In [x]`): the target of a
    /// daemon pod before it is bound.
    pub pinned_node: Option<Arc<str>>,
    /// `status.phase`.
    pub phase: PhaseView,
    /// The Ready condition.
    pub ready: ReadyView,
    /// The PodScheduled condition while it is False, with the reason why the pod has no node.
    pub unscheduled: Option<Box<PodScheduledView>>,
    /// `status.reason`: why the pod failed (`Evicted`, `NodeAffinity`, `OutOfcpu`, …).
    pub reason: Option<Arc<str>>,
    /// `status.nominatedNodeName`: the node on which the scheduler preempts pods for this one.
    pub nominated_node: Option<Arc<str>>,
    /// Whether a pod of higher priority preempted it: the condition DisruptionTarget has the reason
    /// `PreemptionByScheduler`.
    pub preempted: bool,
    /// The condition DisruptionTarget while it is True: the pod is about to be terminated.
    pub disruption: Option<Box<DisruptionView>>,
    /// `status.podIPs`, one for each family, without invalid ones.
    pub pod_ips: Box<[IpAddr]>,
}

/// The fields of a Pod's specification that decisions need and that the pods of one set share.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct PodSpecView {
    /// `tolerations`.
    pub tolerations: Box<[Toleration]>,
    /// `nodeSelector`.
    pub node_selector: Labels,
    /// `affinity.nodeAffinity`. A required part with only a node's name is moved to
    /// [`PodView::pinned_node`], and `required` is `None` here.
    pub node_affinity: Option<Box<NodeAffinity>>,
    /// Pod affinity, pod anti-affinity and topology spread constraints.
    pub topology: Option<Box<TopologyView>>,
    /// The requests of the pod: the sum of the containers or the largest init container, plus
    /// overhead.
    pub requests: Resources,
    /// The host ports.
    pub host_ports: Box<[HostPortView]>,
    /// `schedulerName`.
    pub scheduler_name: Arc<str>,
    /// `priority`, 0 when absent.
    pub priority: i32,
    /// `priorityClassName`.
    pub priority_class_name: Arc<str>,
    /// Whether `preemptionPolicy` is `Never`.
    pub never_preempts: bool,
    /// Whether the pod has `schedulingGates`.
    pub gated: bool,
    /// `hostNetwork`.
    pub host_network: bool,
    /// `serviceAccountName`.
    pub service_account_name: Arc<str>,
    /// `hostname`; empty when absent.
    pub hostname: Arc<str>,
    /// `subdomain`; empty when absent.
    pub subdomain: Arc<str>,
    /// The named ports of containers, then of sidecars.
    pub named_ports: Box<[NamedPortView]>,
}

/// A named port of a container, which Services can refer to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NamedPortView {
    /// The name.
    pub name: Arc<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Arc<str>,
    /// `containerPort`.
    pub port: u16,
}

/// A host port, as the scheduler compares it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostPortView {
    /// The host's address; `0.0.0.0` (all) when absent.
    pub ip: Arc<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Arc<str>,
    /// The port.
    pub port: i32,
}

impl HostPortView {
    /// Returns whether one node cannot have both: equal port and protocol, and equal addresses or
    /// one that means all.
    pub fn conflicts(&self, other: &HostPortView) -> bool {
        let any = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

/// `status.phase`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PhaseView {
    /// Not all containers have started; also when the phase is absent.
    #[default]
    Pending,
    /// Running.
    Running,
    /// All containers succeeded and will not be restarted.
    Succeeded,
    /// A container failed and will not be restarted, or the node rejected the pod.
    Failed,
    /// The state is unknown, because the node does not answer.
    Unknown,
}

/// The Ready condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadyView {
    /// Whether it is True.
    pub status: bool,
    /// When it last changed.
    pub since: Option<Timestamp>,
}

/// The condition DisruptionTarget of a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DisruptionView {
    /// Cause of the disruption: `EvictionByEvictionAPI`, `DeletionByTaintManager`, …
    pub reason: Arc<str>,
    /// When it became True.
    pub since: Option<Timestamp>,
}

/// The PodScheduled condition of a pod that has no node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodScheduledView {
    /// `Unschedulable` or `SchedulingGated`.
    pub reason: Arc<str>,
    /// The scheduler's explanation.
    pub message: Box<str>,
}

impl PodView {
    /// Returns whether the pod has failed or succeeded, so it will not run again.
    pub fn is_terminal(&self) -> bool {
        matches!(self.phase, PhaseView::Failed | PhaseView::Succeeded)
    }

    /// Returns whether the pod is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.meta.is_terminating()
    }

    /// Returns the node of a daemon pod: the one that it is bound to, or else the target of its
    /// affinity.
    pub fn target_node(&self) -> Option<&Arc<str>> {
        self.node_name.as_ref().or(self.pinned_node.as_ref())
    }
}

impl View for PodView {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";
    const NAMESPACED: bool = true;

    fn meta(&self) -> &ObjectMetaView {
        &self.meta
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WirePod<'a> {
    metadata: ObjectMetaView,
    #[serde(borrow, deserialize_with = "nullable")]
    spec: WireSpec<'a>,
    #[serde(borrow, deserialize_with = "nullable")]
    status: WireStatus<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireSpec<'a> {
    #[serde(borrow, deserialize_with = "crate::view::text")]
    node_name: Cow<'a, str>,
    #[serde(deserialize_with = "nullable")]
    tolerations: Vec<Toleration>,
    node_selector: Labels,
    #[serde(borrow, deserialize_with = "nullable")]
    affinity: WireAffinity<'a>,
    #[serde(borrow, deserialize_with = "nullable")]
    topology_spread_constraints: Vec<WireSpread<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    containers: Vec<WireContainer<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    init_containers: Vec<WireContainer<'a>>,
    #[serde(deserialize_with = "nullable")]
    resources: WireRequests,
    overhead: Resources,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    scheduler_name: Cow<'a, str>,
    #[serde(deserialize_with = "nullable")]
    priority: i32,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    priority_class_name: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    preemption_policy: Cow<'a, str>,
    #[serde(deserialize_with = "nullable")]
    scheduling_gates: Vec<serde::de::IgnoredAny>,
    #[serde(deserialize_with = "nullable")]
    host_network: bool,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    service_account_name: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    hostname: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    subdomain: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireAffinity<'a> {
    node_affinity: Option<NodeAffinity>,
    #[serde(borrow, deserialize_with = "nullable")]
    pod_affinity: WirePodAffinity<'a>,
    #[serde(borrow, deserialize_with = "nullable")]
    pod_anti_affinity: WirePodAffinity<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireContainer<'a> {
    #[serde(deserialize_with = "nullable")]
    resources: WireRequests,
    #[serde(borrow, deserialize_with = "nullable")]
    ports: Vec<WirePort<'a>>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    restart_policy: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireRequests {
    requests: Resources,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WirePort<'a> {
    #[serde(borrow, deserialize_with = "crate::view::text")]
    name: Cow<'a, str>,
    #[serde(deserialize_with = "nullable")]
    container_port: i32,
    #[serde(deserialize_with = "nullable")]
    host_port: i32,
    #[serde(rename = "hostIP", borrow, deserialize_with = "crate::view::text")]
    host_ip: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    protocol: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireStatus<'a> {
    #[serde(borrow, deserialize_with = "crate::view::text")]
    phase: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    reason: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    nominated_node_name: Cow<'a, str>,
    #[serde(borrow, rename = "podIP", deserialize_with = "crate::view::text")]
    pod_ip: Cow<'a, str>,
    #[serde(borrow, rename = "podIPs", deserialize_with = "nullable")]
    pod_ips: Vec<WireIp<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    conditions: Vec<WireCondition<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireIp<'a> {
    #[serde(borrow, deserialize_with = "crate::view::text")]
    ip: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireCondition<'a> {
    #[serde(borrow, rename = "type", deserialize_with = "crate::view::text")]
    kind: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    status: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    reason: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    message: Cow<'a, str>,
    #[serde(deserialize_with = "lenient_time")]
    last_transition_time: Option<Timestamp>,
}

/// Returns the pod's requests as the scheduler computes them: the sum of containers and sidecars,
/// or the highest sum during initialization (an init container and the sidecars before it), plus
/// overhead. Requests of the pod itself replace those of the containers.
fn requests(spec: &WireSpec<'_>) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running = running.plus(&container.resources.requests);
    }
    let mut sidecars = Resources::default();
    let mut initializing = Resources::default();
    for container in &spec.init_containers {
        let own = &container.resources.requests;
        if container.restart_policy == "Always" {
            sidecars = sidecars.plus(own);
            initializing = initializing.max(&sidecars);
        } else {
            initializing = initializing.max(&sidecars.plus(own));
        }
    }
    running
        .plus(&sidecars)
        .max(&initializing)
        .overridden_by(&spec.resources.requests)
        .plus(&spec.overhead)
}

/// Returns the ports of containers, then of sidecars.
fn ports<'w>(spec: &'w WireSpec<'_>) -> impl Iterator<Item = &'w WirePort<'w>> {
    let sidecars = spec
        .init_containers
        .iter()
        .filter(|container| container.restart_policy == "Always");
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| &container.ports)
}

fn protocol(port: &WirePort<'_>) -> Arc<str> {
    match &*port.protocol {
        "" => shared("TCP"),
        given => shared(given),
    }
}

fn named_ports(spec: &WireSpec<'_>) -> Box<[NamedPortView]> {
    ports(spec)
        .filter(|port| !port.name.is_empty())
        .filter_map(|port| {
            Some(NamedPortView {
                name: shared(&port.name),
                protocol: protocol(port),
                port: u16::try_from(port.container_port).ok()?,
            })
        })
        .collect()
}

/// Returns `podIPs`, or `podIP` if `podIPs` is empty.
fn pod_ips(status: &WireStatus<'_>) -> Box<[IpAddr]> {
    let all = status.pod_ips.iter().map(|ip| &ip.ip);
    let one = [&status.pod_ip];
    let one = one.into_iter().filter(|_| status.pod_ips.is_empty());
    all.chain(one).filter_map(|ip| ip.parse().ok()).collect()
}

fn host_ports(spec: &WireSpec<'_>) -> Box<[HostPortView]> {
    ports(spec)
        .filter(|port| port.host_port > 0)
        .map(|port| HostPortView {
            ip: shared(if port.host_ip.is_empty() {
                "0.0.0.0"
            } else {
                &port.host_ip
            }),
            protocol: protocol(port),
            port: port.host_port,
        })
        .collect()
}

/// Returns the node's name in the affinity, and removes it if nothing else is required, so that the
/// pods of a set have equal affinities.
fn take_pin(affinity: &mut NodeAffinity) -> Option<Arc<str>> {
    let required = affinity.required.as_ref()?;
    let node = required.named_node().cloned();
    if required.only_names_a_node() {
        affinity.required = None;
    }
    node
}

fn phase(name: &str) -> PhaseView {
    match name {
        "Running" => PhaseView::Running,
        "Succeeded" => PhaseView::Succeeded,
        "Failed" => PhaseView::Failed,
        "Unknown" => PhaseView::Unknown,
        _ => PhaseView::Pending,
    }
}

fn name(text: &str) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}

impl<'de> Deserialize<'de> for PodView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WirePod {
            metadata,
            spec,
            status,
        } = WirePod::deserialize(deserializer)?;
        let requests = requests(&spec);
        let host_ports = host_ports(&spec);
        let named_ports = named_ports(&spec);
        let topology = topology::read(
            &spec.affinity.pod_affinity,
            &spec.affinity.pod_anti_affinity,
            &spec.topology_spread_constraints,
            &metadata.labels,
        );
        let mut affinity = spec.affinity.node_affinity.unwrap_or_default();
        let pinned_node = take_pin(&mut affinity);
        let condition = |kind: &str| status.conditions.iter().find(|condition| condition.kind == kind);
        let ready = condition("Ready").map_or(ReadyView::default(), |condition| ReadyView {
            status: condition.status == "True",
            since: condition.last_transition_time,
        });
        let unscheduled = condition("PodScheduled")
            .filter(|condition| condition.status == "False")
            .map(|condition| {
                Box::new(PodScheduledView {
                    reason: shared(&condition.reason),
                    message: (&*condition.message).into(),
                })
            });
        let preempted = condition("DisruptionTarget").is_some_and(|condition| {
            condition.status == "True" && condition.reason == "PreemptionByScheduler"
        });
        let disruption = condition("DisruptionTarget")
            .filter(|condition| condition.status == "True")
            .map(|condition| {
                Box::new(DisruptionView {
                    reason: shared(&condition.reason),
                    since: condition.last_transition_time,
                })
            });
        Ok(PodView {
            meta: metadata,
            spec: shared_spec(PodSpecView {
                tolerations: spec.tolerations.into(),
                node_selector: spec.node_selector,
                node_affinity: (affinity != NodeAffinity::default()).then(|| Box::new(affinity)),
                topology,
                requests,
                host_ports,
                scheduler_name: shared(&spec.scheduler_name),
                priority: spec.priority,
                priority_class_name: shared(&spec.priority_class_name),
                never_preempts: spec.preemption_policy == "Never",
                gated: !spec.scheduling_gates.is_empty(),
                host_network: spec.host_network,
                service_account_name: shared(&spec.service_account_name),
                hostname: shared(&spec.hostname),
                subdomain: shared(&spec.subdomain),
                named_ports,
            }),
            node_name: name(&spec.node_name),
            pinned_node,
            phase: phase(&status.phase),
            ready,
            unscheduled,
            reason: (!status.reason.is_empty()).then(|| shared(&status.reason)),
            nominated_node: name(&status.nominated_node_name),
            preempted,
            disruption,
            pod_ips: pod_ips(&status),
        })
    }
}
