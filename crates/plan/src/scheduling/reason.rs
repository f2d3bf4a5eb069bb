//! Why a node does not fit a pod, in the words of Kubernetes' scheduler.

use std::fmt;
use std::sync::Arc;

/// A reason. Its text is that of the scheduler plugin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// The pod requires other nodes, so this one was not checked.
    NotNamed,
    /// The pod requires several node names at once.
    TermsConflict,
    /// The node is cordoned.
    Cordoned,
    /// It has a NoSchedule or NoExecute taint that the pod does not tolerate.
    Tainted,
    /// It does not match the pod's node selector or affinity.
    NotSelected,
    /// A host port of the pod is taken.
    PortTaken,
    /// It has its maximum number of pods.
    TooManyPods,
    /// A resource has less left than the pod requests.
    Insufficient(Arc<str>),
    /// It lacks the label of a spread constraint.
    NoPlace,
    /// Its domain would exceed the maximum skew.
    Skewed,
    /// No pod that the pod's affinity requires is in its domain.
    NoCompany,
    /// A pod that the pod's anti-affinity excludes is in its domain.
    Avoided,
    /// A pod whose anti-affinity excludes this pod is in its domain.
    Unwelcome,
    /// Removing pods would not help.
    NotHelpful,
    /// There is no pod of a lower priority.
    NoVictims,
}

impl Reason {
    /// Returns whether it depends on neighbouring pods, so that a change on any node may remove it.
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

/// The reasons of one filter. A preemption may help only if `resolvable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) reasons: Vec<Reason>,
    pub(super) resolvable: bool,
}

impl Rejection {
    /// A preemption cannot help.
    pub(super) fn lasting(reason: Reason) -> Self {
        Rejection {
            reasons: vec![reason],
            resolvable: false,
        }
    }

    /// A preemption may help.
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
