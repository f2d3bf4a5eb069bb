//! Label selectors and field selectors.
//!
//! Both are compiled once, from the query string of a request or from an object's `selector`, and
//! then matched against many objects. They read values by a function from name to value, so they
//! work with any representation.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

mod field;
mod label_query;

pub use field::{FieldRequirement, FieldSelector};

use crate::view::Labels;

/// A selector that cannot be parsed, with the message of the 400 response.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(crate) String);

/// The comparison of a label requirement.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Test {
    In(Box<[Box<str>]>),
    NotIn(Box<[Box<str>]>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Requirement {
    pub(crate) key: Box<str>,
    pub(crate) test: Test,
}

/// Approximate bytes of an allocation in addition to its content.
const ALLOCATION: usize = 24;

fn boxed(text: &str) -> usize {
    text.len() + ALLOCATION
}

impl Requirement {
    fn size(&self) -> usize {
        let values: usize = match &self.test {
            Test::In(values) | Test::NotIn(values) => {
                values.iter().map(|value| size_of_val(value) + boxed(value)).sum()
            }
            Test::Exists | Test::DoesNotExist | Test::Gt(_) | Test::Lt(_) => 0,
        };
        size_of_val(self) + boxed(&self.key) + values
    }

    fn passes(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|wanted| **wanted == *value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|wanted| **wanted != *value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Gt(bound) => number().is_some_and(|value| value > *bound),
            Test::Lt(bound) => number().is_some_and(|value| value < *bound),
        }
    }
}

/// A compiled label selector: every requirement must match.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct LabelSelector {
    requirements: Box<[Requirement]>,
    nothing: bool,
}

impl LabelSelector {
    /// Parses the `labelSelector` parameter: `a=b,c!=d,e in (f,g),h notin (i),j,!k`. Empty selects
    /// everything.
    pub fn parse(query: &str) -> Result<LabelSelector, SelectorError> {
        Ok(LabelSelector {
            requirements: label_query::parse(query)?.into(),
            nothing: false,
        })
    }

    /// Compiles a LabelSelector object (`matchLabels`, `matchExpressions`). Null selects nothing,
    /// an empty object everything. `None` when an operator is unknown or does not allow the values.
    pub fn from_value(value: &serde_json::Value) -> Option<LabelSelector> {
        if value.is_null() {
            return Some(LabelSelector::nothing());
        }
        WireSelector::deserialize(value).ok()?.compile()
    }

    /// Returns the selector that matches nothing.
    pub fn nothing() -> LabelSelector {
        LabelSelector {
            requirements: Box::default(),
            nothing: true,
        }
    }

    /// Returns whether it selects everything, which is invalid for a DaemonSet.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Returns the approximate size in memory, in bytes. It is several times the size of the text
    /// for a list of short names.
    pub fn size(&self) -> usize {
        self.requirements.iter().map(Requirement::size).sum()
    }

    /// Returns whether labels, read by `label`, match every requirement.
    pub fn matches<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.passes(label(&requirement.key)))
    }

    /// Returns whether the labels of a view match every requirement.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(|key| labels.get(key))
    }

    /// Returns the selector with these labels required too.
    pub fn and_with<'l>(self, labels: impl IntoIterator<Item = (&'l str, &'l str)>) -> LabelSelector {
        self.and(labels, Test::In)
    }

    /// Returns the selector with these labels forbidden too.
    pub fn and_without<'l>(self, labels: impl IntoIterator<Item = (&'l str, &'l str)>) -> LabelSelector {
        self.and(labels, Test::NotIn)
    }

    fn and<'l>(
        self,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        test: fn(Box<[Box<str>]>) -> Test,
    ) -> LabelSelector {
        let added = labels.into_iter().map(|(key, value)| Requirement {
            key: key.into(),
            test: test([value.into()].into()),
        });
        LabelSelector {
            requirements: self.requirements.into_iter().chain(added).collect(),
            nothing: self.nothing,
        }
    }

    /// Returns the value that `key` must have, when the selector allows exactly one. Indexes use
    /// it.
    pub fn exact(&self, key: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find_map(|requirement| match &requirement.test {
                Test::In(values) if *requirement.key == *key && values.len() == 1 => {
                    values.first().map(|value| &**value)
                }
                _ => None,
            })
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireSelector<'a> {
    #[serde(borrow, deserialize_with = "crate::view::nullable")]
    match_labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "crate::view::nullable")]
    match_expressions: Vec<WireExpression<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireExpression<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    operator: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::nullable")]
    values: Vec<Cow<'a, str>>,
}

impl WireSelector<'_> {
    fn compile(self) -> Option<LabelSelector> {
        let equalities = self.match_labels.iter().map(|(key, value)| {
            Some(Requirement {
                key: (&**key).into(),
                test: Test::In(Box::new([(&**value).into()])),
            })
        });
        let expressions = self.match_expressions.iter().map(|expression| {
            let values = || {
                expression
                    .values
                    .iter()
                    .map(|value| Box::from(&**value))
                    .collect::<Box<[_]>>()
            };
            let test = match &*expression.operator {
                "In" if !expression.values.is_empty() => Test::In(values()),
                "NotIn" if !expression.values.is_empty() => Test::NotIn(values()),
                "Exists" if expression.values.is_empty() => Test::Exists,
                "DoesNotExist" if expression.values.is_empty() => Test::DoesNotExist,
                _ => return None,
            };
            Some(Requirement {
                key: (&*expression.key).into(),
                test,
            })
        });
        let requirements = equalities.chain(expressions).collect::<Option<_>>()?;
        Some(LabelSelector {
            requirements,
            nothing: false,
        })
    }
}

/// An invalid selector selects nothing, because matching too little does no harm.
impl<'de> Deserialize<'de> for LabelSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire: Option<WireSelector<'de>> = Option::deserialize(deserializer)?;
        Ok(wire
            .and_then(WireSelector::compile)
            .unwrap_or_else(LabelSelector::nothing))
    }
}

#[cfg(test)]
mod tests;
