//! Taints and tolerations: what a node repels, and what a pod puts up with.
//!
//! The matching rules are those of the scheduler's TaintToleration plugin and of the DaemonSet controller, which share
//! them. Whether a list of them is *valid* is validation's business, not this module's: here anything is accepted, and
//! what is not understood (an operator behind a feature gate, a new effect) simply never matches.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Effect {
    /// New pods are kept away, running ones stay.
    NoSchedule,
    /// New pods go elsewhere if they can; it never keeps a daemon away.
    PreferNoSchedule,
    /// New pods are kept away and running ones must leave.
    NoExecute,
    /// An effect that this version does not know; it repels nothing and nothing tolerates it by name.
    Unknown,
}

impl Effect {
    /// The effect's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::NoSchedule => "NoSchedule",
            Effect::PreferNoSchedule => "PreferNoSchedule",
            Effect::NoExecute => "NoExecute",
            Effect::Unknown => "Unknown",
        }
    }

    /// Reads the wire name. The empty string (a toleration's "all effects") gives `None`.
    pub fn parse(name: &str) -> Option<Effect> {
        match name {
            "" => None,
            "NoSchedule" => Some(Effect::NoSchedule),
            "PreferNoSchedule" => Some(Effect::PreferNoSchedule),
            "NoExecute" => Some(Effect::NoExecute),
            _ => Some(Effect::Unknown),
        }
    }
}

/// One entry of a Node's `spec.taints`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Taint {
    /// The taint's key, such as `node.kubernetes.io/not-ready`.
    pub key: Arc<str>,
    /// Its value, often empty.
    pub value: Arc<str>,
    /// What it does.
    pub effect: Effect,
    /// When it was put there; node lifecycle counts `tolerationSeconds` from it.
    pub time_added: Option<Timestamp>,
}

impl Taint {
    /// A taint without a value and without a time.
    pub fn new(key: &str, value: &str, effect: Effect) -> Taint {
        Taint {
            key: key.into(),
            value: value.into(),
            effect,
            time_added: None,
        }
    }

    /// Whether it keeps pods that do not tolerate it from starting (PreferNoSchedule does not).
    pub fn repels(&self) -> bool {
        matches!(self.effect, Effect::NoSchedule | Effect::NoExecute)
    }

    /// Whether two taints are the same one to a pod: the time that one was added says nothing.
    pub fn same(&self, other: &Taint) -> bool {
        self.key == other.key && self.value == other.value && self.effect == other.effect
    }
}

/// As kubectl writes it: `key=value:Effect`, or `key:Effect` without a value.
impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.value {
            "" => write!(f, "{}:{}", self.key, self.effect.as_str()),
            value => write!(f, "{}={}:{}", self.key, value, self.effect.as_str()),
        }
    }
}

/// How a toleration compares values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TolerationOperator {
    /// The values are equal (also when the operator is empty).
    Equal,
    /// Any value.
    Exists,
    /// An operator that this version does not know (`Lt`, `Gt` are behind a gate); it tolerates nothing.
    Unknown,
}

/// One entry of a Pod's `spec.tolerations`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Toleration {
    /// The key it covers; empty is every key.
    pub key: Arc<str>,
    /// How values compare.
    pub operator: TolerationOperator,
    /// The value it covers, under [`TolerationOperator::Equal`].
    pub value: Arc<str>,
    /// The effect it covers; `None` is every effect.
    pub effect: Option<Effect>,
    /// How long a NoExecute taint is put up with; `None` is forever.
    pub toleration_seconds: Option<i64>,
}

impl Toleration {
    /// `key` with `effect`, whatever the value, forever: the form of a daemon's automatic tolerations.
    pub fn exists(key: &str, effect: Effect) -> Toleration {
        Toleration {
            key: key.into(),
            operator: TolerationOperator::Exists,
            value: "".into(),
            effect: Some(effect),
            toleration_seconds: None,
        }
    }

    /// Whether it covers `taint`. An empty effect covers all effects, an empty key all keys; `Exists` ignores the value.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if self
            .effect
            .is_some_and(|effect| effect != taint.effect || effect == Effect::Unknown)
        {
            return false;
        }
        if !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        match self.operator {
            TolerationOperator::Equal => self.value == taint.value,
            TolerationOperator::Exists => true,
            TolerationOperator::Unknown => false,
        }
    }

    /// Whether two tolerations have one identity (key, effect, operator, value): merging overwrites the one by the other.
    pub fn same_identity(&self, other: &Toleration) -> bool {
        self.key == other.key
            && self.effect == other.effect
            && self.operator == other.operator
            && self.value == other.value
    }
}

/// Whether any of `tolerations` covers `taint`.
pub fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

/// The first of `taints` that `which` selects and that none of `tolerations` covers.
pub fn untolerated<'t>(
    taints: &'t [Taint],
    tolerations: &[Toleration],
    which: impl Fn(&Taint) -> bool,
) -> Option<&'t Taint> {
    taints
        .iter()
        .find(|taint| which(taint) && !tolerated(taint, tolerations))
}

/// Adds `extra` to `tolerations` as the DaemonSet controller does: one that differs only in its seconds is overwritten
/// in place (so it becomes infinite), an equal one is left, any other is appended.
pub fn merge_tolerations(tolerations: &mut Vec<Toleration>, extra: impl IntoIterator<Item = Toleration>) {
    for toleration in extra {
        match tolerations
            .iter_mut()
            .find(|present| present.same_identity(&toleration))
        {
            Some(present) => *present = toleration,
            None => tolerations.push(toleration),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTaint<'a> {
    #[serde(borrow, default, deserialize_with = "crate::view::text")]
    key: std::borrow::Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "crate::view::text")]
    value: std::borrow::Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "crate::view::text")]
    effect: std::borrow::Cow<'a, str>,
    #[serde(default, deserialize_with = "crate::view::lenient_time")]
    time_added: Option<Timestamp>,
}

impl<'de> Deserialize<'de> for Taint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireTaint::deserialize(deserializer)?;
        Ok(Taint {
            key: crate::view::shared(&wire.key),
            value: crate::view::shared(&wire.value),
            effect: Effect::parse(&wire.effect).unwrap_or(Effect::Unknown),
            time_added: wire.time_added,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireToleration<'a> {
    #[serde(borrow, default, deserialize_with = "crate::view::text")]
    key: std::borrow::Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "crate::view::text")]
    operator: std::borrow::Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "crate::view::text")]
    value: std::borrow::Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "crate::view::text")]
    effect: std::borrow::Cow<'a, str>,
    #[serde(default)]
    toleration_seconds: Option<i64>,
}

impl<'de> Deserialize<'de> for Toleration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireToleration::deserialize(deserializer)?;
        Ok(Toleration {
            key: crate::view::shared(&wire.key),
            operator: match &*wire.operator {
                "" | "Equal" => TolerationOperator::Equal,
                "Exists" => TolerationOperator::Exists,
                _ => TolerationOperator::Unknown,
            },
            value: crate::view::shared(&wire.value),
            effect: Effect::parse(&wire.effect),
            toleration_seconds: wire.toleration_seconds,
        })
    }
}

#[cfg(test)]
mod tests;
