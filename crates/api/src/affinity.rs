//! Node selectors and node affinity: which nodes a pod accepts.
//!
//! A selector is compiled once and matched against many nodes. It reads a node through
//! [`NodeFacts`], so it works with any view of a node.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;

/// The fields of a node that node selectors read.
pub trait NodeFacts {
    /// Returns the node's `metadata.name`.
    fn node_name(&self) -> &str;
    /// Returns the value of a label of the node.
    fn label(&self, key: &str) -> Option<&str>;
}

/// The comparison of a requirement.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Test {
    In(Box<[Arc<str>]>),
    NotIn(Box<[Arc<str>]>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
}

impl Test {
    /// Returns `None` when the operator is unknown or does not allow these values.
    fn compile(operator: &str, values: &[Cow<'_, str>]) -> Option<Test> {
        let all = || {
            values
                .iter()
                .map(|value| crate::view::shared(value))
                .collect::<Box<[_]>>()
        };
        let number = || match values {
            [one] => one.parse().ok(),
            _ => None,
        };
        match operator {
            "In" if !values.is_empty() => Some(Test::In(all())),
            "NotIn" if !values.is_empty() => Some(Test::NotIn(all())),
            "Exists" if values.is_empty() => Some(Test::Exists),
            "DoesNotExist" if values.is_empty() => Some(Test::DoesNotExist),
            "Gt" => number().map(Test::Gt),
            "Lt" => number().map(Test::Lt),
            _ => None,
        }
    }

    fn passes(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|wanted| **wanted == *value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|wanted| **wanted != *value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Gt(bound) => number().is_some_and(|value| value > *bound),
            Test::Lt(bound) => number().is_some_and(|value| value < *bound),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Requirement {
    key: Arc<str>,
    test: Test,
}

/// One term: all its requirements must match. An empty or invalid term matches no node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodeSelectorTerm {
    expressions: Box<[Requirement]>,
    fields: Box<[Requirement]>,
    broken: bool,
}

const NODE_NAME_FIELD: &str = "metadata.name";

impl NodeSelectorTerm {
    /// Returns whether `node` matches the whole term.
    pub fn matches(&self, node: &impl NodeFacts) -> bool {
        if self.broken || (self.expressions.is_empty() && self.fields.is_empty()) {
            return false;
        }
        let field = |key: &str| (key == NODE_NAME_FIELD).then(|| node.node_name());
        self.expressions
            .iter()
            .all(|requirement| requirement.test.passes(node.label(&requirement.key)))
            && self
                .fields
                .iter()
                .all(|requirement| requirement.test.passes(field(&requirement.key)))
    }

    /// Returns the node that a field requirement `metadata.name In [x]` names.
    pub fn named_node(&self) -> Option<&Arc<str>> {
        self.node_names().next()
    }

    fn node_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.fields
            .iter()
            .filter_map(|requirement| match &requirement.test {
                Test::In(values) if &*requirement.key == NODE_NAME_FIELD && values.len() == 1 => {
                    values.first()
                }
                _ => None,
            })
    }

    /// Returns whether the term has a requirement for the node's name and no other.
    fn only_names_a_node(&self) -> bool {
        !self.broken && self.expressions.is_empty() && self.fields.len() == 1 && self.named_node().is_some()
    }
}

/// Required node affinity: one of the terms must match. Without terms, no node matches.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodeSelector {
    /// The alternatives.
    pub terms: Box<[NodeSelectorTerm]>,
}

impl NodeSelector {
    /// Returns whether `node` matches one of the terms.
    pub fn matches(&self, node: &impl NodeFacts) -> bool {
        self.terms.iter().any(|term| term.matches(node))
    }

    /// Returns the target node of a daemon pod: the first `metadata.name In [x]` of any term, as
    /// the DaemonSet controller reads it.
    pub fn named_node(&self) -> Option<&Arc<str>> {
        self.terms.iter().find_map(NodeSelectorTerm::named_node)
    }

    /// Returns the nodes that the terms name, when every term names a node (`metadata.name In
    /// [x]`): no other node can match. A term with two different nodes matches none, so the set may
    /// be empty.
    pub fn named_nodes(&self) -> Option<BTreeSet<Arc<str>>> {
        let mut nodes = BTreeSet::new();
        for term in &self.terms {
            let first = term.named_node()?;
            if term.node_names().all(|name| name == first) {
                nodes.insert(first.clone());
            }
        }
        (!self.terms.is_empty()).then_some(nodes)
    }

    /// Returns whether the selector has a requirement for the node's name and no other.
    pub fn only_names_a_node(&self) -> bool {
        matches!(&*self.terms, [term] if term.only_names_a_node())
    }
}

/// A preferred term and its weight (1 to 100).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PreferredTerm {
    /// The weight, which is added to the score of a matching node.
    pub weight: i32,
    /// The term.
    pub term: NodeSelectorTerm,
}

/// `spec.affinity.nodeAffinity`, compiled.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct NodeAffinity {
    /// `requiredDuringSchedulingIgnoredDuringExecution`.
    pub required: Option<NodeSelector>,
    /// `preferredDuringSchedulingIgnoredDuringExecution`.
    pub preferred: Box<[PreferredTerm]>,
}

#[derive(Deserialize)]
struct WireRequirement<'a> {
    #[serde(borrow, default, deserialize_with = "crate::view::text")]
    key: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "crate::view::text")]
    operator: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "crate::view::nullable")]
    values: Vec<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireTerm<'a> {
    #[serde(borrow, deserialize_with = "crate::view::nullable")]
    match_expressions: Vec<WireRequirement<'a>>,
    #[serde(borrow, deserialize_with = "crate::view::nullable")]
    match_fields: Vec<WireRequirement<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireSelector<'a> {
    #[serde(borrow, deserialize_with = "crate::view::nullable")]
    node_selector_terms: Vec<WireTerm<'a>>,
}

#[derive(Deserialize)]
struct WirePreferred<'a> {
    #[serde(default)]
    weight: i32,
    #[serde(borrow, default, deserialize_with = "crate::view::nullable")]
    preference: WireTerm<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireNodeAffinity<'a> {
    #[serde(borrow)]
    required_during_scheduling_ignored_during_execution: Option<WireSelector<'a>>,
    #[serde(borrow, deserialize_with = "crate::view::nullable")]
    preferred_during_scheduling_ignored_during_execution: Vec<WirePreferred<'a>>,
}

fn compile(
    requirements: &[WireRequirement<'_>],
    allowed: impl Fn(&Test) -> bool,
) -> Option<Box<[Requirement]>> {
    requirements
        .iter()
        .map(|requirement| {
            let test = Test::compile(&requirement.operator, &requirement.values).filter(&allowed)?;
            Some(Requirement {
                key: crate::view::shared(&requirement.key),
                test,
            })
        })
        .collect()
}

/// Returns whether a field requirement is valid: In or NotIn with one value.
fn is_field_test(test: &Test) -> bool {
    matches!(test, Test::In(values) | Test::NotIn(values) if values.len() == 1)
}

impl From<WireTerm<'_>> for NodeSelectorTerm {
    fn from(wire: WireTerm<'_>) -> Self {
        let expressions = compile(&wire.match_expressions, |_| true);
        let fields = compile(&wire.match_fields, is_field_test);
        NodeSelectorTerm {
            broken: expressions.is_none() || fields.is_none(),
            expressions: expressions.unwrap_or_default(),
            fields: fields.unwrap_or_default(),
        }
    }
}

impl<'de> Deserialize<'de> for NodeSelector {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireSelector::deserialize(deserializer)?;
        Ok(NodeSelector {
            terms: wire.node_selector_terms.into_iter().map(Into::into).collect(),
        })
    }
}

impl<'de> Deserialize<'de> for NodeAffinity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireNodeAffinity::deserialize(deserializer)?;
        Ok(NodeAffinity {
            required: wire
                .required_during_scheduling_ignored_during_execution
                .map(|selector| NodeSelector {
                    terms: selector.node_selector_terms.into_iter().map(Into::into).collect(),
                }),
            preferred: wire
                .preferred_during_scheduling_ignored_during_execution
                .into_iter()
                .map(|preferred| PreferredTerm {
                    weight: preferred.weight,
                    term: preferred.preference.into(),
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests;
