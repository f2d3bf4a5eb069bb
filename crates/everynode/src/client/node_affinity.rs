//! The required node affinity of a pod, a requirement at a time: whoever asks why wants to know which one does not hold.

use api::affinity::NodeSelector;
use api::view::NodeView;
use serde::Deserialize;
use serde_json::{Value, json};

/// One requirement of one term.
pub(crate) struct Requirement<'a> {
    /// The number of its term, from 1. One term has to hold as a whole.
    pub(crate) term: usize,
    /// What it looks at.
    pub(crate) about: About,
    pub(crate) key: &'a str,
    pub(crate) operator: &'a str,
    pub(crate) values: Vec<&'a str>,
    /// It alone; `None` when it is none that Kubernetes knows.
    alone: Option<NodeSelector>,
}

/// What of a node a requirement looks at.
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

/// What `spec` (a pod's, as written) requires of its node.
pub(crate) fn required(spec: &Value) -> &Value {
    &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
}

/// The terms of what is [`required`].
pub(crate) fn terms(spec: &Value) -> &[Value] {
    required(spec)["nodeSelectorTerms"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

/// The requirements of all terms, in the order in which they stand.
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
        // The requirement as a selector of its own: the rules stay where they are.
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

    /// Whether anybody can say if it holds.
    pub(crate) fn is_known(&self) -> bool {
        self.alone.is_some()
    }

    /// Whether the node satisfies it.
    pub(crate) fn holds(&self, node: &NodeView) -> bool {
        self.alone.as_ref().is_some_and(|alone| alone.matches(node))
    }
}
