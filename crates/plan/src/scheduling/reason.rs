//! Why a node does not take a pod, in the words of Kubernetes' scheduler.

use std::fmt;
use std::sync::Arc;

/// One reason. Its text is that of the scheduler plugin which gives it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// The pod names other nodes: it is not even asked.
    NotNamed,
    /// No node can have all the names that the pod asks for.
    TermsConflict,
    /// The node is cordoned.
    Cordoned,
    /// It has a NoSchedule or NoExecute taint that the pod does not tolerate.
    Tainted,
    /// It is not what the pod's node selector and affinity ask for.
    NotSelected,
    /// Another pod has a host port of this one.
    PortTaken,
    /// It has as many pods as it takes.
    TooManyPods,
    /// Less than the pod requests is left of a resource.
    Insufficient(Arc<str>),
    /// It lacks a label that the pod is to be spread over.
    NoPlace,
    /// Its place is too far ahead of the others.
    Skewed,
    /// None of the pods that the pod asks for is in its place.
    NoCompany,
    /// A pod that the pod avoids is in its place.
    Avoided,
    /// A pod that avoids this one is in its place.
    Unwelcome,
    /// Removing pods would not help.
    NotHelpful,
    /// There is no pod of a lower priority.
    NoVictims,
}

impl Reason {
    /// Whether the pods around decide it: then a change anywhere may cure it, not one of the node alone.
    pub(super) fn is_topology(&self) -> bool {
        matches!(
            self,
            Reason::NoPlace | Reason::Skewed | Reason::NoCompany | Reason::Avoided | Reason::Unwelcome
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NotNamed => "node(s) didn't satisfy plugin(s) [NodeAffinity]",
            Reason::TermsConflict => "pod affinity terms conflict",
            Reason::Cordoned => "node(s) were unschedulable",
            Reason::Tainted => "node(s) had untolerated taint(s)",
            Reason::NotSelected => "node(s) didn't match Pod's node affinity/selector",
            Reason::PortTaken => "node(s) didn't have free ports for the requested pod ports",
            Reason::TooManyPods => "Too many pods",
            Reason::Insufficient(resource) => return write!(f, "Insufficient {resource}"),
            Reason::NoPlace => {
                "node(s) didn't match pod topology spread constraints (missing required label)"
            }
            Reason::Skewed => "node(s) didn't match pod topology spread constraints",
            Reason::NoCompany => "node(s) didn't match pod affinity rules",
            Reason::Avoided => "node(s) didn't match pod anti-affinity rules",
            Reason::Unwelcome => "node(s) didn't satisfy existing pods anti-affinity rules",
            Reason::NotHelpful => "Preemption is not helpful for scheduling",
            Reason::NoVictims => "No preemption victims found for incoming pod",
        })
    }
}

/// Why a node does not take a pod: all that one filter says. Removing pods may help only where `resolvable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) reasons: Vec<Reason>,
    pub(super) resolvable: bool,
}

impl Rejection {
    /// Whatever pods are removed, the node stays as it is.
    pub(super) fn lasting(reason: Reason) -> Self {
        Rejection {
            reasons: vec![reason],
            resolvable: false,
        }
    }

    /// Pods are in the way.
    pub(super) fn resolvable(reason: Reason) -> Self {
        Rejection {
            reasons: vec![reason],
            resolvable: true,
        }
    }

    pub(super) fn is_topology(&self) -> bool {
        self.reasons.iter().any(Reason::is_topology)
    }
}
