//! Where Services lead: the EndpointSlices and the Endpoints of every Service that selects pods.
//!
//! [`Slices`] keeps a Service's slices as Kubernetes' reconciler does: at most [`SLICE_ENDPOINTS`] endpoints each, one family of addresses
//! and one set of ports a slice; an endpoint stays in its slice, gaps are filled before slices are made, a slice is made only
//! when no other has room, and a Service without endpoints has an empty one. [`Endpoints`] keeps the older form beside it.
//!
//! The cost of a change is its size: a pod that changes is looked up in the Services that select it ([`index`]), and of each of those
//! one slice is written. What changes while a write is under way, or before the watch has shown it, waits and is written together; a
//! Service with many endpoints also waits between its writes ([`pause`]), because all its consumers read each of them.
//!
//! The names of slices are computed, so a creation whose answer was lost is not repeated under another name.

mod endpoint;
mod index;
mod legacy;
mod packing;
mod queue;
mod slices;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use api::view::ObjectMetaView;
use serde_json::Value;

pub use self::legacy::Endpoints;
pub use self::slices::Slices;

/// How many endpoints a slice holds (`--max-endpoints-per-slice`).
pub const SLICE_ENDPOINTS: usize = 100;

/// How many addresses Endpoints hold; what is more is left out, and an annotation says so.
pub const ENDPOINTS_CAPACITY: usize = 1000;

/// The label that says whose a slice is.
pub const SLICE_MANAGED_BY: (&str, &str) = (
    "endpointslice.kubernetes.io/managed-by",
    "endpointslice-controller.k8s.io",
);

/// The label that says whose Endpoints are.
pub const ENDPOINTS_MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");

/// The label of a slice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The label that marks what belongs to a headless Service.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The annotation that says when the change happened that was written last.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The annotation of Endpoints that lack some.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// The longest pause between two writes of one Service.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Namespace and name of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl ServiceKey {
    fn of(meta: &ObjectMetaView) -> Self {
        Self {
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
        }
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// For which Service.
    pub service: ServiceKey,
    /// What.
    pub write: Write,
}

/// A write of a slice, or of Endpoints, in the Service's namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Create this object.
    Create(Value),
    /// Merge this patch; it holds at one version alone.
    Update {
        /// The object's name.
        name: Arc<str>,
        /// A JSON merge patch.
        patch: Value,
    },
    /// Delete it, if its uid is still this.
    Delete {
        /// The object's name.
        name: Arc<str>,
        /// Its uid.
        uid: Arc<str>,
    },
}

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The object has this version now.
    Written(u64),
    /// It is gone.
    Deleted,
    /// Nothing can be made here any more: the namespace is being deleted.
    NoPlace,
    /// Anything else: decide anew, later.
    Failed,
}

/// How long a Service with so many endpoints waits between writes: 100 µs for each, at most a second. Ten thousand endpoints are
/// three megabytes in slices; when all change, as in a roll-out, they are sent once a second instead of ten thousand times.
fn pause(endpoints: usize) -> Duration {
    let micros = u64::try_from(endpoints).unwrap_or(u64::MAX).saturating_mul(100);
    Duration::from_micros(micros).min(LONGEST_PAUSE)
}
