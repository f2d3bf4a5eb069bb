//! Services with addresses outside the server's ranges, from an earlier configuration.
//!
//! They keep their addresses and work as before, as with Kubernetes' ServiceCIDRs. An event on each
//! one asks its owner to recreate it.

use std::net::IpAddr;

use api::kinds::core::service::families;
use api::meta;
use http::StatusCode;
use serde_json::{Value, json};

use crate::bootstrap;
use crate::client::InProcess;
use crate::objects;
use crate::shared::Shared;
use crate::user::User;

/// Largest number of Services that get an event when a server starts. The log has the total.
const EVENTS_MAX: usize = 100;

/// Returns the addresses of the Service `kubernetes`: the one in the range, and its current ones.
pub(crate) fn kubernetes_addresses(shared: &Shared) -> Vec<IpAddr> {
    let mut addresses = vec![shared.service_ranges.kubernetes()];
    if let Some(kind) = objects::core("Service")
        && let Ok(found) = objects::get(&shared.objects, kind, "default", "kubernetes")
        && let Ok(service) = objects::value(kind, &found.body)
    {
        addresses.extend(families::addresses(&service["spec"]));
    }
    addresses
}

/// Reports Services with addresses outside the ranges, by events and a log line.
pub(crate) async fn tell_outside(shared: &std::sync::Arc<Shared>) {
    let outside = outside(shared);
    if outside.is_empty() {
        return;
    }
    tracing::warn!(
        services = outside.len(),
        range = %shared.service_ranges,
        "Services have addresses outside --service-cluster-ip-range; they keep them until they are created again"
    );
    let client = InProcess::new(shared.clone(), User::admin());
    for (service, addresses) in outside.iter().take(EVENTS_MAX) {
        let event = event(shared, service, addresses);
        let collection = format!("/api/v1/namespaces/{}/events", meta::namespace(service));
        let (code, message) = bootstrap::send(&client, http::Method::POST, &collection, &event).await;
        if code != StatusCode::CREATED {
            tracing::warn!(service = meta::name(service), message, "cannot write an event");
        }
    }
}

/// Returns the Services that have addresses outside the ranges, with these addresses.
fn outside(shared: &Shared) -> Vec<(Value, Vec<IpAddr>)> {
    let Some(kind) = objects::core("Service") else {
        return Vec::new();
    };
    let all = shared.objects.list(&objects::prefix(kind, ""));
    let outside = all.iter().filter_map(|object| {
        let service = objects::value(kind, &object.body).ok()?;
        let mut addresses = families::addresses(&service["spec"]);
        addresses.retain(|address| !shared.service_ranges.contain(*address));
        (!addresses.is_empty()).then_some((service, addresses))
    });
    outside.collect()
}

/// Returns the event that Kubernetes' Service repair controller writes.
fn event(shared: &Shared, service: &Value, addresses: &[IpAddr]) -> Value {
    let now = shared.clock.now();
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let (name, ranges) = (meta::name(service), &shared.service_ranges);
    json!({
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {"name": format!("{name}.{:x}", now.as_nanosecond())},
        "involvedObject": {
            "kind": "Service", "apiVersion": "v1", "namespace": meta::namespace(service), "name": name,
            "uid": meta::uid(service),
        },
        "type": "Warning",
        "reason": "ClusterIPOutOfRange",
        "message": format!(
            "Cluster IP {} is not within the service CIDR {ranges}; please recreate service",
            texts.join(",")
        ),
        "source": {"component": "ipallocator-repair-controller"},
        "count": 1,
        "firstTimestamp": api::time::rfc3339(now),
        "lastTimestamp": api::time::rfc3339(now),
    })
}
