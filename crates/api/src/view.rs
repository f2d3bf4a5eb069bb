//! Views: structs of the few fields of an object that decisions need.
//!
//! A watch over 100,000 nodes or pods parses views, not objects: a view is read straight from the full object's JSON
//! in a few microseconds, ignores what it does not name, and takes some hundred bytes. What many objects have in
//! common (all pods of a DaemonSet share one specification, one set of labels, one owner) is parsed, compared with
//! what was lately seen, and shared.
//!
//! Reading is lenient. An absent or null field is its default, an unreadable time is no time, an unreadable quantity is
//! nothing: objects come from a server that validated them, and one odd object must not stop a watch.

mod cluster;
mod daemon_set;
mod endpoints;
mod labels;
mod meta;
mod node;
mod pod;
mod resources;
mod service;
mod share;
mod topology;
mod written;

pub use cluster::{
    LeaseView, NamespaceView, ObjectView, PodDisruptionBudgetStatusView, PodDisruptionBudgetView,
    PriorityClassView,
};
pub use daemon_set::{
    ControllerRevisionView, DaemonSetConditionView, DaemonSetStatusView, DaemonSetView, UpdateStrategyView,
};
pub use endpoints::{
    AddressType, EndpointAddressView, EndpointPortView, EndpointSliceView, EndpointView, EndpointsView,
    SubsetView, TargetView,
};
pub use labels::Labels;
pub use meta::{ObjectMetaView, OwnerView};
pub use node::{NodeConditionView, NodeNetworkView, NodeView};
pub use pod::{
    DisruptionView, HostPortView, NamedPortView, PhaseView, PodScheduledView, PodSpecView, PodView, ReadyView,
};
pub use resources::Resources;
pub use service::{IpFamily, ServicePortView, ServiceType, ServiceView, TargetPortView, TrafficDistribution};
pub use share::shared;
pub use topology::{PodTermView, PreferredPodTermView, SpreadConstraintView, TopologyView};
pub use written::Written;

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

/// A view of one kind: what a generic reflector needs to list, watch and index it.
pub trait View:
    serde::de::DeserializeOwned + Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static
{
    /// The API group; empty for the core group.
    const GROUP: &'static str;
    /// The API version, such as `v1`.
    const VERSION: &'static str;
    /// The kind, such as `Pod`.
    const KIND: &'static str;
    /// The resource name in paths, such as `pods`.
    const PLURAL: &'static str;
    /// Whether objects of this kind live in a namespace.
    const NAMESPACED: bool;

    /// The object's metadata.
    fn meta(&self) -> &ObjectMetaView;

    /// The path that lists and watches this kind in all namespaces, such as `/apis/apps/v1/daemonsets`.
    fn collection_path() -> String {
        match Self::GROUP {
            "" => format!("/api/{}/{}", Self::VERSION, Self::PLURAL),
            group => format!("/apis/{group}/{}/{}", Self::VERSION, Self::PLURAL),
        }
    }
}

/// Reads `null` as the default, which Go writes for nil slices and maps.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a string, borrowed where the input allows it; null is the empty string.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, str>, D::Error> {
    struct Text;
    impl<'de> serde::de::Visitor<'de> for Text {
        type Value = Cow<'de, str>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string")
        }

        fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(text))
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Cow::Owned(text.to_owned()))
        }

        fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
            Ok(Cow::Owned(text))
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(""))
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(""))
        }
    }
    deserializer.deserialize_any(Text)
}

/// Reads an RFC 3339 time; null or anything unreadable is no time.
pub(crate) fn lenient_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    Ok(text(deserializer)?.parse().ok())
}

#[cfg(test)]
mod tests;
