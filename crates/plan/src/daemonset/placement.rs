//! Decides whether a node should run the set's pod, and whether an existing pod may stay.

use std::fmt;
use std::sync::Arc;

use api::affinity::{NodeAffinity, NodeSelector};
use api::taint::{Effect, Taint, Toleration, merge_tolerations, untolerated};
use api::view::{Labels, NodeView};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// The template's requirements on a node, compiled. Resources, ports, readiness and
/// `spec.unschedulable` do not count: the pod is created anyway, and waits for the scheduler or the
/// node.
#[derive(Clone, PartialEq, Debug)]
pub struct Placement {
    node_name: Option<Arc<str>>,
    node_selector: Labels,
    required: Option<NodeSelector>,
    tolerations: Box<[Toleration]>,
}

/// Result for one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// It should run there.
    Runs,
    /// It should not start there, but a running pod may stay: a NoSchedule taint is not tolerated.
    Stays,
    /// It must not run there.
    Not,
}

impl Fit {
    /// Whether the node should run the pod.
    pub fn should_run(self) -> bool {
        self == Fit::Runs
    }

    /// Returns whether an existing pod may stay.
    pub fn should_continue(self) -> bool {
        self != Fit::Not
    }
}

/// Why a node does not run the pod.
#[derive(Clone, PartialEq, Debug)]
pub enum Misfit {
    /// The template names another node.
    NodeName(Arc<str>),
    /// A pair of the template's nodeSelector that the labels do not match.
    NodeSelector(Box<str>, Box<str>),
    /// The node matches no term of the required node affinity.
    Affinity,
    /// A taint that the pod does not tolerate.
    Taint(Taint),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::NodeName(name) => write!(f, "the template names the node {name}"),
            Misfit::NodeSelector(key, value) => write!(f, "nodeSelector {key}={value} does not match"),
            Misfit::Affinity => write!(f, "the required node affinity does not match"),
            Misfit::Taint(taint) => write!(f, "taint {taint} is not tolerated"),
        }
    }
}

/// Problem of a whole node, according to its taints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The node reports that it is not ready.
    NotReady,
    /// The node does not renew its lease, so requests to it have to wait.
    Unreachable,
}

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

impl Trouble {
    /// Reads the taints of `node`.
    pub fn of(node: &NodeView) -> Option<Trouble> {
        let tainted = |key: &str| node.taints.iter().any(|taint| *taint.key == *key);
        if tainted(UNREACHABLE) {
            Some(Trouble::Unreachable)
        } else if tainted(NOT_READY) {
            Some(Trouble::NotReady)
        } else {
            None
        }
    }

    /// Since when `node` has this problem.
    pub fn since(self, node: &NodeView) -> Option<Timestamp> {
        let key = match self {
            Trouble::NotReady => NOT_READY,
            Trouble::Unreachable => UNREACHABLE,
        };
        let tainted = node.taints.iter().filter(|taint| *taint.key == *key);
        let reported = node
            .condition("Ready")
            .and_then(|ready| ready.last_transition_time);
        tainted.filter_map(|taint| taint.time_added).min().or(reported)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::NotReady => "is not ready",
            Trouble::Unreachable => "does not answer",
        })
    }
}

/// Taints that every daemon tolerates without a time limit: problems of its node, which it may be
/// there to repair.
const TOLERATED: [(&str, Effect); 6] = [
    (NOT_READY, Effect::NoExecute),
    (UNREACHABLE, Effect::NoExecute),
    ("node.kubernetes.io/disk-pressure", Effect::NoSchedule),
    ("node.kubernetes.io/memory-pressure", Effect::NoSchedule),
    ("node.kubernetes.io/pid-pressure", Effect::NoSchedule),
    ("node.kubernetes.io/unschedulable", Effect::NoSchedule),
];

/// Only pods on the host's network can run without the pod network.
const TOLERATED_ON_HOST_NETWORK: (&str, Effect) =
    ("node.kubernetes.io/network-unavailable", Effect::NoSchedule);

/// The tolerations that a daemon gets in addition to its own, in this order.
pub(super) fn automatic_tolerations(host_network: bool) -> impl Iterator<Item = Toleration> {
    let on_host_network = host_network.then_some(TOLERATED_ON_HOST_NETWORK);
    TOLERATED
        .into_iter()
        .chain(on_host_network)
        .map(|(key, effect)| Toleration::exists(key, effect))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct TemplateSpec {
    node_name: Option<String>,
    node_selector: Labels,
    affinity: Option<TemplateAffinity>,
    tolerations: Option<Vec<Toleration>>,
    host_network: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct TemplateAffinity {
    node_affinity: Option<NodeAffinity>,
}

impl Placement {
    /// Compiles a pod template's `spec`. A spec that cannot be decoded requires nothing.
    pub fn compile(template: &Value) -> Placement {
        let spec = template
            .get("spec")
            .and_then(|spec| TemplateSpec::deserialize(spec).ok())
            .unwrap_or_default();
        let mut tolerations = spec.tolerations.unwrap_or_default();
        merge_tolerations(
            &mut tolerations,
            automatic_tolerations(spec.host_network.unwrap_or(false)),
        );
        Placement {
            node_name: spec.node_name.filter(|name| !name.is_empty()).map(Into::into),
            node_selector: spec.node_selector,
            required: spec
                .affinity
                .and_then(|affinity| affinity.node_affinity?.required),
            tolerations: tolerations.into(),
        }
    }

    /// Returns whether the pod belongs on `node`.
    pub fn fit(&self, node: &NodeView) -> Fit {
        match self.misfit(node) {
            None => Fit::Runs,
            Some(Misfit::Taint(taint)) if taint.effect != Effect::NoExecute => Fit::Stays,
            Some(_) => Fit::Not,
        }
    }

    /// Why the pod does not belong on `node`; the most severe reason.
    pub fn misfit(&self, node: &NodeView) -> Option<Misfit> {
        if let Some(name) = &self.node_name
            && *name != node.meta.name
        {
            return Some(Misfit::NodeName(name.clone()));
        }
        if let Some((key, value)) = self
            .node_selector
            .iter()
            .find(|(key, value)| node.meta.labels.get(key) != Some(value))
        {
            return Some(Misfit::NodeSelector(key.into(), value.into()));
        }
        if self
            .required
            .as_ref()
            .is_some_and(|required| !required.matches(node))
        {
            return Some(Misfit::Affinity);
        }
        let leaves = |taint: &Taint| taint.effect == Effect::NoExecute;
        untolerated(&node.taints, &self.tolerations, leaves)
            .or_else(|| untolerated(&node.taints, &self.tolerations, Taint::repels))
            .map(|taint| Misfit::Taint(taint.clone()))
    }
}
