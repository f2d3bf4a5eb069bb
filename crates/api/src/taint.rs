//! Taints of nodes and tolerations of pods.
//!
//! The scheduler's TaintToleration plugin and the DaemonSet controller share these matching rules.
//! This module accepts any list; validation is elsewhere. Operators behind a feature gate and new
//! effects never match.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Effect {
    /// New pods are not placed on the node; running pods stay.
    NoSchedule,
    /// New pods are placed on other nodes if possible. Daemon pods ignore it.
    PreferNoSchedule,
    /// New pods are not placed on the node, and running pods are evicted.
    NoExecute,
    /// An effect that this version does not know. It repels no pod, and no toleration can name it.
    Unknown,
}

impl Effect {
    /// Returns the effect's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::NoSchedule => "NoSchedule",
            Effect::PreferNoSchedule => "PreferNoSchedule",
            Effect::NoExecute => "NoExecute",
            Effect::Unknown => "Unknown",
        }
    }

    /// Parses the name in the API. The empty string (all effects, in a toleration) gives `None`.
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
    /// The taint's value, often empty.
    pub value: Arc<str>,
    /// What it does.
    pub effect: Effect,
    /// When it was added. `tolerationSeconds` count from this time.
    pub time_added: Option<Timestamp>,
}

impl Taint {
    /// Returns a taint without a time.
    pub fn new(key: &str, value: &str, effect: Effect) -> Taint {
        Taint {
            key: key.into(),
            value: value.into(),
            effect,
            time_added: None,
        }
    }

    /// Returns whether pods that do not tolerate it cannot start (with PreferNoSchedule they can).
    pub fn repels(&self) -> bool {
        matches!(self.effect, Effect::NoSchedule | Effect::NoExecute)
    }

    /// Returns whether two taints are the same for pods, which ignore the time.
    pub fn same(&self, other: &Taint) -> bool {
        self.key == other.key && self.value == other.value && self.effect == other.effect
    }
}

/// In the form of kubectl: `key=value:Effect`, or `key:Effect` without a value.
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
    /// An operator that this version does not know. It tolerates nothing. (`Lt` and `Gt` are behind
    /// a feature gate.)
    Unknown,
}

/// One entry of a Pod's `spec.tolerations`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Toleration {
    /// The key of the tolerated taints; empty means every key.
    pub key: Arc<str>,
    /// How the values are compared.
    pub operator: TolerationOperator,
    /// The tolerated value, for [`TolerationOperator::Equal`].
    pub value: Arc<str>,
    /// The tolerated effect; `None` means every effect.
    pub effect: Option<Effect>,
    /// Seconds for which a NoExecute taint is tolerated; `None` means without end.
    pub toleration_seconds: Option<i64>,
}

impl Toleration {
    /// Returns a toleration of `key` with `effect` and any value, without end. The automatic
    /// tolerations of daemon pods have this form.
    pub fn exists(key: &str, effect: Effect) -> Toleration {
        Toleration {
            key: key.into(),
            operator: TolerationOperator::Exists,
            value: "".into(),
            effect: Some(effect),
            toleration_seconds: None,
        }
    }

    /// Returns whether it tolerates `taint`. An empty effect matches all effects, an empty key all
    /// keys; `Exists` ignores the value.
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

    /// Returns whether key, effect, operator and value are equal: merging then replaces one by the
    /// other.
    pub fn same_identity(&self, other: &Toleration) -> bool {
        self.key == other.key
            && self.effect == other.effect
            && self.operator == other.operator
            && self.value == other.value
    }
}

/// Returns whether one of `tolerations` tolerates `taint`.
pub fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

/// Returns the first of `taints` that `which` selects and that none of `tolerations` tolerates.
pub fn untolerated<'t>(
    taints: &'t [Taint],
    tolerations: &[Toleration],
    which: impl Fn(&Taint) -> bool,
) -> Option<&'t Taint> {
    taints
        .iter()
        .find(|taint| which(taint) && !tolerated(taint, tolerations))
}

/// Adds `extra` to `tolerations` as the DaemonSet controller does: it replaces one that differs
/// only in its seconds (which makes it unlimited), keeps an equal one, and appends any other.
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
