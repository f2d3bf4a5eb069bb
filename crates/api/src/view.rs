//! Views: structs with the few fields of an object that decisions need.
//!
//! A watch of 100,000 nodes or pods parses views, not objects. A view is read directly from the
//! object's JSON in a few microseconds, ignores other fields, and takes a few hundred bytes. The
//! parts that many objects have in common (the specification, labels and owner of a DaemonSet's
//! pods) are compared with recently read ones, and shared.
//!
//! Reading is lenient: absent and null fields have their defaults, an invalid time is `None`, an
//! invalid quantity is 0. The server has validated the objects, and one invalid object must not
//! stop a watch.

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

/// A view of one kind, with what a generic reflector needs to list, watch and index it.
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
    /// Whether objects of this kind have a namespace.
    const NAMESPACED: bool;

    /// Returns the object's metadata.
    fn meta(&self) -> &ObjectMetaView;

    /// Returns the path to list and watch this kind in all namespaces, for example
    /// `/apis/apps/v1/daemonsets`.
    fn collection_path() -> String {
        match Self::GROUP {
            "" => format!("/api/{}/{}", Self::VERSION, Self::PLURAL),
            group => format!("/apis/{group}/{}/{}", Self::VERSION, Self::PLURAL),
        }
    }
}

/// Reads `null`, which Go writes for nil slices and maps, as the default.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a string, borrowed if possible; null is the empty string.
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

/// Reads an RFC 3339 time; null and invalid text are `None`.
pub(crate) fn lenient_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    Ok(text(deserializer)?.parse().ok())
}

#[cfg(test)]
mod tests;
