//! Assigns pod ranges to nodes, as [`plan::node_ipam`] decides.

use std::sync::Arc;
use std::time::Duration;

use plan::node_ipam::{Action, ClusterRange, Ipam, NONE_LEFT};
use reflector::Event;
use reflector::request::{Failure, STRATEGIC};
use serde_json::json;

use crate::Context;
use crate::driver::TaskError;
use crate::flight::Flight;
use crate::recorder::{Involved, Record};
use crate::resource::Resource;

/// Most writes in flight.
const IN_FLIGHT: usize = 64;

/// Backoff after a failure, which keeps its place in the flight.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// The source of the events.
const COMPONENT: &str = "cidrAllocator";

struct Outcome {
    node: Arc<str>,
    result: Result<(), Failure>,
}

/// Runs until it is dropped. It assigns nothing before the first list of nodes is complete, so that
/// all existing ranges are known.
pub(crate) async fn run(context: Context, cluster: Vec<ClusterRange>) -> Result<(), TaskError> {
    let mut nodes = context.nodes.subscribe();
    let mut ipam = Ipam::new(&cluster);
    let mut flight: Flight<Outcome> = Flight::new(IN_FLIGHT);
    let mut synced = false;
    loop {
        tokio::select! {
            biased;
            Some(batch) = nodes.recv() => for event in batch.iter() {
                match event {
                    Event::Put(node) => ipam.put_node(node),
                    Event::Delete(node) => ipam.delete_node(&node.meta.name),
                    Event::Synced(_) => synced = true,
                    Event::Bookmark(_) => {}
                }
            },
            outcome = flight.next() => settle(&mut ipam, outcome),
            else => return Err("its reflectors ended".into()),
        }
        while let Some(outcome) = flight.ready() {
            settle(&mut ipam, outcome);
        }
        while synced && flight.room() > 0 && ipam.has_work() {
            for action in ipam.plan(flight.room()) {
                match action {
                    Action::Assign { node, uid, ranges } => {
                        let ranges = ranges.iter().map(ToString::to_string).collect();
                        flight.launch(assign(context.clone(), node, uid, ranges));
                    }
                    Action::NoneLeft { node, uid, message } => {
                        flight.launch(mark(context.clone(), node, uid, message));
                    }
                    Action::Unmark { node, uid } => flight.launch(unmark(context.clone(), node, uid)),
                }
            }
            tokio::task::consume_budget().await;
        }
    }
}

fn settle(ipam: &mut Ipam, Outcome { node, result }: Outcome) {
    let Err(failure) = result else { return };
    // The node was deleted; the watch shows it.
    if failure.is_not_found() {
        return;
    }
    // The node was created again, or another client assigned a range: the watch shows it, and a
    // retry is harmless.
    if !failure.is_conflict() {
        tracing::warn!(node = %node, %failure, "cannot assign the node's pod range");
    }
    ipam.retry(&node);
}

async fn assign(context: Context, node: Arc<str>, uid: Arc<str>, ranges: Vec<String>) -> Outcome {
    let patch = json!({
        "metadata": {"uid": &*uid},
        "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges},
    });
    let path = Resource::nodes().object("", &node);
    let result = context.api.patch(&path, STRATEGIC, &patch).await;
    settled(node, result).await
}

/// Records on the node that it has no pod range, why, and the remedy.
async fn mark(context: Context, node: Arc<str>, uid: Arc<str>, message: String) -> Outcome {
    tracing::warn!(node = %node, message, "cannot assign a pod range: none is left");
    context.recorder.record(Record {
        involved: Involved::node(&node, &uid),
        component: COMPONENT,
        warning: true,
        reason: NONE_LEFT,
        message: message.clone(),
    });
    let result = set_condition(&context, &node, &uid, "True", NONE_LEFT, &message).await;
    settled(node, result).await
}

async fn unmark(context: Context, node: Arc<str>, uid: Arc<str>) -> Outcome {
    let message = "the node has a pod range";
    let result = set_condition(&context, &node, &uid, "False", "CIDRAssigned", message).await;
    settled(node, result).await
}

async fn set_condition(
    context: &Context,
    node: &str,
    uid: &str,
    status: &str,
    reason: &str,
    message: &str,
) -> Result<(), Failure> {
    let now = api::time::rfc3339(context.clock.now());
    let patch = json!({"metadata": {"uid": uid}, "status": {"conditions": [{
        "type": "NetworkUnavailable", "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }]}});
    let path = Resource::nodes().subresource("", node, "status");
    context.api.patch(&path, STRATEGIC, &patch).await
}

/// The outcome of a write, after a backoff if it failed.
async fn settled(node: Arc<str>, result: Result<(), Failure>) -> Outcome {
    if result.as_ref().is_err_and(|failure| !failure.is_not_found()) {
        tokio::time::sleep(AFTER_FAILURE).await;
    }
    Outcome { node, result }
}
