//! Whether one node takes one pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::taint::{Effect, Taint, tolerated, untolerated};
use api::view::{HostPortView, NodeView, PodSpecView, PodView, Resources};

/// The taint that stands for a cordon: who tolerates it may run on a cordoned node (`node.kubernetes.io/unschedulable`).
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

/// What a request counts for in a score when the pod asks for nothing, so that pods without requests still spread (Kubernetes'
/// `DefaultMilliCPURequest`, `DefaultMemoryRequest`).
const SCORED_CPU_MILLI: i64 = 100;
const SCORED_MEMORY: i64 = 200 << 20;

/// Why a node does not take a pod. Removing pods may help only where `resolvable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    /// Each a sentence of the scheduler's.
    pub(super) reasons: Vec<String>,
    pub(super) resolvable: bool,
}

impl Rejection {
    fn final_for(reason: &str) -> Self {
        Rejection {
            reasons: vec![reason.to_owned()],
            resolvable: false,
        }
    }
}

/// A node and what its pods use of it.
#[derive(Default)]
pub(super) struct NodeState {
    /// `None` while only pods speak of the node.
    pub(super) node: Option<Arc<NodeView>>,
    pods: i64,
    cpu_milli: i64,
    memory: i64,
    ephemeral_storage: i64,
    other: BTreeMap<Arc<str>, i64>,
    /// What the pods count in scores, where a request of nothing counts as something.
    scored_cpu_milli: i64,
    scored_memory: i64,
    ports: Vec<HostPortView>,
}

impl NodeState {
    pub(super) fn add(&mut self, spec: &PodSpecView) {
        self.count(spec, 1);
        self.ports.extend(spec.host_ports.iter().cloned());
    }

    pub(super) fn remove(&mut self, spec: &PodSpecView) {
        self.count(spec, -1);
        for port in &spec.host_ports {
            if let Some(at) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(at);
            }
        }
    }

    pub(super) fn is_unused(&self) -> bool {
        self.pods == 0
    }

    fn count(&mut self, spec: &PodSpecView, sign: i64) {
        let requests = &spec.requests;
        self.pods += sign;
        self.cpu_milli += sign * requests.cpu_milli;
        self.memory += sign * requests.memory;
        self.ephemeral_storage += sign * requests.ephemeral_storage;
        self.scored_cpu_milli += sign * or_default(requests.cpu_milli, SCORED_CPU_MILLI);
        self.scored_memory += sign * or_default(requests.memory, SCORED_MEMORY);
        for (name, amount) in &requests.other {
            *self.other.entry(name.clone()).or_default() += sign * amount;
        }
    }

    /// The filters, in the scheduler's order; the first that rejects speaks for the node.
    pub(super) fn check(&self, pod: &PodView) -> Result<(), Rejection> {
        let Some(node) = &self.node else {
            return Err(Rejection::final_for(
                "node(s) didn't satisfy plugin(s) [NodeAffinity]",
            ));
        };
        let cordon = Taint::new(UNSCHEDULABLE_TAINT, "", Effect::NoSchedule);
        if node.unschedulable && !tolerated(&cordon, &pod.spec.tolerations) {
            return Err(Rejection::final_for("node(s) were unschedulable"));
        }
        if untolerated(&node.taints, &pod.spec.tolerations, Taint::repels).is_some() {
            return Err(Rejection::final_for("node(s) had untolerated taint(s)"));
        }
        if !super::selects(pod, node) {
            return Err(Rejection::final_for(
                "node(s) didn't match Pod's node affinity/selector",
            ));
        }
        if self.port_taken(&pod.spec) {
            return Err(Rejection {
                reasons: vec!["node(s) didn't have free ports for the requested pod ports".to_owned()],
                resolvable: true,
            });
        }
        self.fits(&pod.spec.requests, &node.allocatable)
    }

    fn port_taken(&self, spec: &PodSpecView) -> bool {
        spec.host_ports
            .iter()
            .any(|wanted| self.ports.iter().any(|taken| taken.conflicts(wanted)))
    }

    /// Every resource that is short is named; one of which the node never had enough cannot be won by removing pods.
    fn fits(&self, wanted: &Resources, allocatable: &Resources) -> Result<(), Rejection> {
        let mut reasons = Vec::new();
        let mut resolvable = true;
        if self.pods + 1 > allocatable.pods {
            reasons.push("Too many pods".to_owned());
        }
        let mut check = |name: &str, wanted: i64, used: i64, has: i64| {
            if wanted > 0 && wanted > has - used {
                reasons.push(format!("Insufficient {name}"));
                resolvable &= wanted <= has;
            }
        };
        check("cpu", wanted.cpu_milli, self.cpu_milli, allocatable.cpu_milli);
        check("memory", wanted.memory, self.memory, allocatable.memory);
        check(
            "ephemeral-storage",
            wanted.ephemeral_storage,
            self.ephemeral_storage,
            allocatable.ephemeral_storage,
        );
        for (name, amount) in &wanted.other {
            check(
                name,
                *amount,
                self.other.get(name).copied().unwrap_or(0),
                allocatable.get(name),
            );
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(Rejection { reasons, resolvable })
        }
    }

    /// The share of cpu and memory left when the pod is there, in thousandths each: 0 to 2,000.
    pub(super) fn room(&self, spec: &PodSpecView) -> i64 {
        let Some(node) = &self.node else { return 0 };
        let left = |has: i64, used: i64, wanted: i64| match has {
            0 => 0,
            has => ((has - used - wanted).max(0)).saturating_mul(1_000) / has,
        };
        let cpu = or_default(spec.requests.cpu_milli, SCORED_CPU_MILLI);
        let memory = or_default(spec.requests.memory, SCORED_MEMORY);
        left(node.allocatable.cpu_milli, self.scored_cpu_milli, cpu)
            + left(node.allocatable.memory, self.scored_memory, memory)
    }
}

fn or_default(request: i64, default: i64) -> i64 {
    if request == 0 { default } else { request }
}
