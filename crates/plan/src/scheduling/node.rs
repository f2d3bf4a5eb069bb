//! One node and its use by pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::affinity::NodeFacts;
use api::taint::{Effect, Taint, tolerated, untolerated};
use api::view::{HostPortView, NodeView, PodSpecView, PodView, Resources};

use super::PodKey;
use super::reason::{Reason, Rejection};

/// The taint of a cordoned node. Pods that tolerate it may be scheduled there
/// (`node.kubernetes.io/unschedulable`).
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

/// What a pod without requests counts in scores, so that such pods also spread (Kubernetes'
/// `DefaultMilliCPURequest`, `DefaultMemoryRequest`).
const SCORED_CPU_MILLI: i64 = 100;
const SCORED_MEMORY: i64 = 200 << 20;

/// A node and its use by pods.
#[derive(Default)]
pub(super) struct NodeState {
    /// `None` if pods name the node but no Node object was seen.
    pub(super) node: Option<Arc<NodeView>>,
    /// The pods that count on it, with their priorities.
    pub(super) pods: Vec<(i32, PodKey)>,
    used: Used,
}

/// Use of a node by pods.
#[derive(Default)]
struct Used {
    pods: i64,
    cpu_milli: i64,
    memory: i64,
    ephemeral_storage: i64,
    other: BTreeMap<Arc<str>, i64>,
    /// Use for scores, where pods without requests count with a default.
    scored_cpu_milli: i64,
    scored_memory: i64,
    ports: Vec<HostPortView>,
}

impl NodeState {
    /// Adds (1) or removes (-1) a pod.
    pub(super) fn count(&mut self, spec: &PodSpecView, sign: i64) {
        let (used, requests) = (&mut self.used, &spec.requests);
        used.pods += sign;
        used.cpu_milli += sign * requests.cpu_milli;
        used.memory += sign * requests.memory;
        used.ephemeral_storage += sign * requests.ephemeral_storage;
        used.scored_cpu_milli += sign * or_default(requests.cpu_milli, SCORED_CPU_MILLI);
        used.scored_memory += sign * or_default(requests.memory, SCORED_MEMORY);
        for (name, amount) in &requests.other {
            *used.other.entry(name.clone()).or_default() += sign * amount;
        }
        for port in &spec.host_ports {
            if sign > 0 {
                used.ports.push(port.clone());
            } else if let Some(at) = used.ports.iter().position(|p| p == port) {
                used.ports.swap_remove(at);
            }
        }
    }

    /// Returns whether there is neither a Node object nor a pod.
    pub(super) fn is_unused(&self) -> bool {
        self.node.is_none() && self.pods.is_empty()
    }

    /// The filters that depend only on the node, in the scheduler's order (NodeUnschedulable,
    /// TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit). Returns the first rejection.
    pub(super) fn check(&self, pod: &PodView) -> Result<(), Rejection> {
        let Some(node) = &self.node else {
            return Err(Rejection::lasting(Reason::NotNamed));
        };
        if node.unschedulable && !tolerates_cordon(&pod.spec) {
            return Err(Rejection::lasting(Reason::Cordoned));
        }
        if repels(node, &pod.spec) {
            return Err(Rejection::lasting(Reason::Tainted));
        }
        if !selects(pod, node) {
            return Err(Rejection::lasting(Reason::NotSelected));
        }
        if self.port_taken(&pod.spec) {
            return Err(Rejection::resolvable(Reason::PortTaken));
        }
        self.fits(&pod.spec.requests, &node.allocatable)
    }

    fn port_taken(&self, spec: &PodSpecView) -> bool {
        spec.host_ports
            .iter()
            .any(|wanted| self.used.ports.iter().any(|taken| taken.conflicts(wanted)))
    }

    /// Reports every resource with too little left. If the node's capacity is too small, a
    /// preemption cannot help.
    fn fits(&self, wanted: &Resources, allocatable: &Resources) -> Result<(), Rejection> {
        let used = &self.used;
        let mut reasons = Vec::new();
        let mut resolvable = true;
        if used.pods + 1 > allocatable.pods {
            reasons.push(Reason::TooManyPods);
        }
        let mut check = |name: &str, wanted: i64, used: i64, has: i64| {
            if wanted > 0 && wanted > has - used {
                reasons.push(Reason::Insufficient(name.into()));
                resolvable &= wanted <= has;
            }
        };
        check("cpu", wanted.cpu_milli, used.cpu_milli, allocatable.cpu_milli);
        check("memory", wanted.memory, used.memory, allocatable.memory);
        check(
            "ephemeral-storage",
            wanted.ephemeral_storage,
            used.ephemeral_storage,
            allocatable.ephemeral_storage,
        );
        for (name, amount) in &wanted.other {
            let used = used.other.get(name).copied().unwrap_or(0);
            check(name, *amount, used, allocatable.get(name));
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(Rejection { reasons, resolvable })
        }
    }

    /// The shares of CPU and memory that are used if the pod is added, in thousandths. Scores use
    /// them.
    pub(super) fn shares_with(&self, spec: &PodSpecView) -> (i64, i64) {
        let Some(node) = &self.node else {
            return (1_000, 1_000);
        };
        let share = |used: i64, wanted: i64, has: i64| match has {
            0 => 1_000,
            has => ((used + wanted).saturating_mul(1_000) / has).clamp(0, 1_000),
        };
        let cpu = or_default(spec.requests.cpu_milli, SCORED_CPU_MILLI);
        let memory = or_default(spec.requests.memory, SCORED_MEMORY);
        (
            share(self.used.scored_cpu_milli, cpu, node.allocatable.cpu_milli),
            share(self.used.scored_memory, memory, node.allocatable.memory),
        )
    }
}

fn or_default(request: i64, default: i64) -> i64 {
    if request == 0 { default } else { request }
}

fn tolerates_cordon(spec: &PodSpecView) -> bool {
    let cordon = Taint::new(UNSCHEDULABLE_TAINT, "", Effect::NoSchedule);
    tolerated(&cordon, &spec.tolerations)
}

/// Returns whether a taint keeps the pod from being scheduled to the node.
pub(super) fn repels(node: &NodeView, spec: &PodSpecView) -> bool {
    untolerated(&node.taints, &spec.tolerations, Taint::repels).is_some()
}

/// Returns whether the node matches the pod's node selector and required node affinity.
pub(super) fn selects(pod: &PodView, node: &NodeView) -> bool {
    let wanted = pod
        .spec
        .node_selector
        .iter()
        .all(|(key, value)| node.label(key) == Some(value));
    let required = pod.spec.node_affinity.as_ref().and_then(|a| a.required.as_ref());
    let pinned_elsewhere = required.is_none()
        && pod
            .pinned_node
            .as_ref()
            .is_some_and(|name| *name != node.meta.name);
    wanted && !pinned_elsewhere && required.is_none_or(|selector| selector.matches(node))
}
