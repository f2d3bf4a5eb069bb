//! The view of an object's metadata.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::labels::Labels;
use super::share::{shared, shared_owners};
use super::{lenient_time, nullable};

/// An owner reference.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct OwnerView {
    /// The owner's group and version, such as `apps/v1`.
    pub api_version: Arc<str>,
    /// The owner's kind.
    pub kind: Arc<str>,
    /// The owner's name. The owner is cluster-scoped or in the namespace of the dependent.
    pub name: Arc<str>,
    /// The owner's uid. A reference with a wrong uid has no owner.
    pub uid: Arc<str>,
    /// Whether this owner is the managing controller; at most one is.
    pub controller: bool,
    /// Whether foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}

/// The metadata that decisions need.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ObjectMetaView {
    /// The object's name.
    pub name: Arc<str>,
    /// Its namespace; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// The revision of its last change; 0 when the resourceVersion is not a number.
    pub resource_version: u64,
    /// The server increments it when the specification changes.
    pub generation: i64,
    /// Its labels.
    pub labels: Labels,
    /// Its owners; `None` when there are none.
    pub owners: Option<Arc<[OwnerView]>>,
    /// Its finalizers; `None` when there are none.
    pub finalizers: Option<Arc<[Arc<str>]>>,
    /// When it was created.
    pub creation_timestamp: Option<Timestamp>,
    /// Set while the object is being deleted.
    pub deletion_timestamp: Option<Timestamp>,
    /// The grace period of a terminating pod, in seconds.
    pub deletion_grace_period_seconds: Option<i64>,
}

impl ObjectMetaView {
    /// Returns the managing controller.
    pub fn controller(&self) -> Option<&OwnerView> {
        self.owners().iter().find(|owner| owner.controller)
    }

    /// Returns all owners.
    pub fn owners(&self) -> &[OwnerView] {
        self.owners.as_deref().unwrap_or_default()
    }

    /// Returns all finalizers.
    pub fn finalizers(&self) -> &[Arc<str>] {
        self.finalizers.as_deref().unwrap_or_default()
    }

    /// Returns whether the object is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireOwner<'a> {
    #[serde(borrow, default, deserialize_with = "crate::view::text")]
    api_version: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "crate::view::text")]
    kind: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "crate::view::text")]
    name: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "crate::view::text")]
    uid: Cow<'a, str>,
    #[serde(default, deserialize_with = "nullable")]
    controller: bool,
    #[serde(default, deserialize_with = "nullable")]
    block_owner_deletion: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireMeta<'a> {
    #[serde(borrow, deserialize_with = "crate::view::text")]
    name: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    namespace: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    uid: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    resource_version: Cow<'a, str>,
    #[serde(deserialize_with = "nullable")]
    generation: i64,
    labels: Labels,
    #[serde(borrow, deserialize_with = "nullable")]
    owner_references: Vec<WireOwner<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    finalizers: Vec<Cow<'a, str>>,
    #[serde(deserialize_with = "lenient_time")]
    creation_timestamp: Option<Timestamp>,
    #[serde(deserialize_with = "lenient_time")]
    deletion_timestamp: Option<Timestamp>,
    deletion_grace_period_seconds: Option<i64>,
}

impl From<WireOwner<'_>> for OwnerView {
    fn from(wire: WireOwner<'_>) -> Self {
        OwnerView {
            api_version: shared(&wire.api_version),
            kind: shared(&wire.kind),
            name: shared(&wire.name),
            uid: shared(&wire.uid),
            controller: wire.controller,
            block_owner_deletion: wire.block_owner_deletion,
        }
    }
}

impl<'de> Deserialize<'de> for ObjectMetaView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireMeta::deserialize(deserializer)?;
        let owners: Vec<OwnerView> = wire.owner_references.into_iter().map(Into::into).collect();
        Ok(ObjectMetaView {
            name: (&*wire.name).into(),
            namespace: shared(&wire.namespace),
            uid: (&*wire.uid).into(),
            resource_version: wire.resource_version.parse().unwrap_or(0),
            generation: wire.generation,
            labels: wire.labels,
            owners: (!owners.is_empty()).then(|| shared_owners(owners)),
            finalizers: (!wire.finalizers.is_empty()).then(|| {
                wire.finalizers
                    .iter()
                    .map(|finalizer| shared(finalizer))
                    .collect()
            }),
            creation_timestamp: wire.creation_timestamp,
            deletion_timestamp: wire.deletion_timestamp,
            deletion_grace_period_seconds: wire.deletion_grace_period_seconds,
        })
    }
}
