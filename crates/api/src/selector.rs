//! Label selectors and field selectors.
//!
//! Both are compiled once, from the query string of a request or from an object's `selector`, and then asked for many
//! objects. What they look at comes in as a function from a name to a value, so they fit any representation.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

mod field;
mod label_query;

pub use field::{FieldRequirement, FieldSelector};

use crate::view::Labels;

/// A selector that cannot be parsed. Its text is what the server answers, with 400.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(crate) String);

/// How one label requirement compares.
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

/// What an allocation takes beside its bytes.
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

/// A compiled label selector: every requirement must hold.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct LabelSelector {
    requirements: Box<[Requirement]>,
    nothing: bool,
}

impl LabelSelector {
    /// Parses the `labelSelector` parameter: `a=b,c!=d,e in (f,g),h notin (i),j,!k`. Empty selects everything.
    pub fn parse(query: &str) -> Result<LabelSelector, SelectorError> {
        Ok(LabelSelector {
            requirements: label_query::parse(query)?.into(),
            nothing: false,
        })
    }

    /// Reads a LabelSelector object (`matchLabels`, `matchExpressions`). Null selects nothing, an empty object
    /// everything. `None` when an expression has an unknown operator, or values where there may be none.
    pub fn from_value(value: &serde_json::Value) -> Option<LabelSelector> {
        if value.is_null() {
            return Some(LabelSelector::nothing());
        }
        WireSelector::deserialize(value).ok()?.compile()
    }

    /// The selector that matches nothing.
    pub fn nothing() -> LabelSelector {
        LabelSelector {
            requirements: Box::default(),
            nothing: true,
        }
    }

    /// Whether it selects everything. A DaemonSet must not have such a one.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// What it takes in memory, about: several times its text when that is a list of short names.
    pub fn size(&self) -> usize {
        self.requirements.iter().map(Requirement::size).sum()
    }

    /// Whether labels, asked through `label`, satisfy every requirement.
    pub fn matches<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.passes(label(&requirement.key)))
    }

    /// Whether a view's labels satisfy every requirement.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(|key| labels.get(key))
    }

    /// The selector that demands these values as well.
    pub fn and_with<'l>(self, labels: impl IntoIterator<Item = (&'l str, &'l str)>) -> LabelSelector {
        self.and(labels, Test::In)
    }

    /// The selector that refuses these values as well.
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

    /// The value that `key` must have, when the selector demands exactly one: indexes look it up.
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

/// One that cannot be understood selects nothing: to match too little does no harm.
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
