//! The EndpointSlices and Endpoints of every Service that selects pods.
//!
//! [`Slices`] keeps a Service's slices like Kubernetes' reconciler: at most [`SLICE_ENDPOINTS`]
//! endpoints, one address family and one set of ports in each. An endpoint stays in its slice. Gaps
//! are filled before slices are created. A Service without endpoints has one empty slice.
//! [`Endpoints`] keeps the older objects.
//!
//! A change costs its size: for a changed pod, the Services that select it are looked up
//! ([`index`]), and one slice of each is written. Changes during a write, or before the watch has
//! shown it, are written together. A Service with many endpoints also pauses between writes
//! ([`pause`]), because all its consumers read each of them.
//!
//! Names of slices are computed, so a creation whose answer was lost is not repeated under another
//! name.

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

/// Most endpoints of a slice (`--max-endpoints-per-slice`).
pub const SLICE_ENDPOINTS: usize = 100;

/// Most addresses in Endpoints. The others are omitted, and an annotation reports it.
pub const ENDPOINTS_CAPACITY: usize = 1000;

/// Label with the controller of a slice.
pub const SLICE_MANAGED_BY: (&str, &str) = (
    "endpointslice.kubernetes.io/managed-by",
    "endpointslice-controller.k8s.io",
);

/// Label with the controller of Endpoints.
pub const ENDPOINTS_MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");

/// Label of a slice with the name of its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Label for objects of a headless Service.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Annotation with the time of the change that was written last.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Annotation of Endpoints with omitted addresses.
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

/// One action.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The Service that it is for.
    pub service: ServiceKey,
    /// What to write.
    pub write: Write,
}

/// A write of a slice, or of Endpoints, in the Service's namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Create this object.
    Create(Value),
    /// Merge this patch. It is valid for one resourceVersion only.
    Update {
        /// The object's name.
        name: Arc<str>,
        /// A JSON merge patch.
        patch: Value,
    },
    /// Delete the object if it still has this uid.
    Delete {
        /// The object's name.
        name: Arc<str>,
        /// Its uid.
        uid: Arc<str>,
    },
}

/// Result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The object now has this resourceVersion.
    Written(u64),
    /// The object does not exist any more.
    Deleted,
    /// Nothing can be created, because the namespace is terminating.
    NoPlace,
    /// Any other failure: decide again later.
    Failed,
}

/// Pause between two writes of a Service with this many endpoints: 100 µs for each, at most one
/// second. Ten thousand endpoints are three megabytes of slices. If all of them change, as in a
/// rollout, they are sent once a second instead of ten thousand times.
fn pause(endpoints: usize) -> Duration {
    let micros = u64::try_from(endpoints).unwrap_or(u64::MAX).saturating_mul(100);
    Duration::from_micros(micros).min(LONGEST_PAUSE)
}
