//! Single requirements of a pod's required node affinity, to report which of them a node does not
//! meet.

use api::affinity::NodeSelector;
use api::view::NodeView;
use serde::Deserialize;
use serde_json::{Value, json};

/// A requirement of a term.
pub(crate) struct Requirement<'a> {
    /// Number of its term, from 1. All requirements of one term must hold.
    pub(crate) term: usize,
    /// What it compares.
    pub(crate) about: About,
    pub(crate) key: &'a str,
    pub(crate) operator: &'a str,
    pub(crate) values: Vec<&'a str>,
    /// A selector with only this requirement; `None` if Kubernetes does not have such a
    /// requirement.
    alone: Option<NodeSelector>,
}

/// Part of a node that a requirement compares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    Labels,
    Fields,
}

impl About {
    fn field(self) -> &'static str {
        match self {
            About::Labels => "matchExpressions",
            About::Fields => "matchFields",
        }
    }
}

/// Returns the required node affinity of a pod's `spec`.
pub(crate) fn required(spec: &Value) -> &Value {
    &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
}

/// Returns the terms of [`required`].
pub(crate) fn terms(spec: &Value) -> &[Value] {
    required(spec)["nodeSelectorTerms"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

/// Returns the requirements of all terms, in order.
pub(crate) fn requirements(spec: &Value) -> Vec<Requirement<'_>> {
    let mut found = Vec::new();
    for (number, term) in terms(spec).iter().enumerate() {
        for about in [About::Labels, About::Fields] {
            let written = term[about.field()].as_array().into_iter().flatten();
            found.extend(written.map(|written| Requirement::new(number + 1, about, written)));
        }
    }
    found
}

impl<'a> Requirement<'a> {
    fn new(term: usize, about: About, written: &'a Value) -> Self {
        let text = |name: &str| written[name].as_str().unwrap_or_default();
        let values = written["values"].as_array().into_iter().flatten();
        // A selector with only this requirement evaluates it with the planner's own rules.
        let alone = json!({"nodeSelectorTerms": [{about.field(): [written]}]});
        Requirement {
            term,
            about,
            key: text("key"),
            operator: text("operator"),
            values: values.filter_map(Value::as_str).collect(),
            alone: NodeSelector::deserialize(&alone).ok(),
        }
    }

    /// Returns whether the requirement can be evaluated.
    pub(crate) fn is_known(&self) -> bool {
        self.alone.is_some()
    }

    /// Returns whether the node meets the requirement.
    pub(crate) fn holds(&self, node: &NodeView) -> bool {
        self.alone.as_ref().is_some_and(|alone| alone.matches(node))
    }
}
