//! Deletes pods that no node will finish, as [`plan::garbage::Pods`] decides.

use std::sync::Arc;
use std::time::Duration;

use api::time::rfc3339;
use plan::garbage::{PodAction, PodReason, Pods};
use plan::scheduling::PodKey;
use reflector::Event;
use reflector::request::{DeleteOptions, Failure, STRATEGIC};
use serde_json::json;

use crate::Context;
use crate::driver::TaskError;
use crate::flight::Flight;
use crate::resource::Resource;

/// Most actions in flight. A deletion is up to two writes.
const IN_FLIGHT: usize = 128;

/// Backoff after a failure, which keeps its place in the flight.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

enum Outcome {
    Node {
        name: Arc<str>,
        there: Result<bool, Failure>,
    },
    Pod {
        pod: PodKey,
        result: Result<(), Failure>,
    },
}

/// Runs until it is dropped.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let mut nodes = context.nodes.subscribe();
    let mut pods = context.pods.subscribe();
    let mut garbage = Pods::new();
    let mut flight: Flight<Outcome> = Flight::new(IN_FLIGHT);
    let (mut nodes_known, mut pods_known) = (false, false);
    loop {
        tokio::select! {
            biased;
            Some(batch) = nodes.recv() => for event in batch.iter() {
                match event {
                    Event::Put(node) => garbage.put_node(node),
                    Event::Delete(node) => garbage.delete_node(&node.meta.name),
                    Event::Synced(_) => nodes_known = true,
                    Event::Bookmark(_) => {}
                }
            },
            Some(batch) = pods.recv() => for event in batch.iter() {
                match event {
                    Event::Put(pod) => garbage.put_pod(pod),
                    Event::Delete(pod) => garbage.delete_pod(&PodKey::of(pod)),
                    Event::Synced(_) => pods_known = true,
                    Event::Bookmark(_) => {}
                }
            },
            outcome = flight.next() => settle(&mut garbage, outcome),
            else => return Err("its reflectors ended".into()),
        }
        if nodes_known && pods_known {
            garbage.synced();
        }
        while let Some(outcome) = flight.ready() {
            settle(&mut garbage, outcome);
        }
        while flight.room() > 0 && garbage.has_work() {
            for action in garbage.plan(flight.room()) {
                flight.launch(execute(context.clone(), action));
            }
            tokio::task::consume_budget().await;
        }
    }
}

fn settle(garbage: &mut Pods, outcome: Outcome) {
    match outcome {
        Outcome::Node {
            name,
            there: Ok(there),
        } => garbage.node_is(&name, there),
        Outcome::Node {
            name,
            there: Err(failure),
        } => {
            tracing::warn!(node = %name, %failure, "cannot check whether a node exists");
            garbage.retry_node(&name);
        }
        Outcome::Pod { result: Ok(()), .. } => {}
        // The watch shows the deletion.
        Outcome::Pod {
            result: Err(failure), ..
        } if failure.is_not_found() => {}
        Outcome::Pod {
            pod,
            result: Err(failure),
        } => {
            tracing::warn!(pod = %pod.name, %failure, "cannot collect the pod");
            garbage.retry_pod(&pod);
        }
    }
}

async fn execute(context: Context, action: PodAction) -> Outcome {
    match action {
        PodAction::Look { node } => {
            let found = context
                .api
                .get::<serde::de::IgnoredAny>(&Resource::nodes().object("", &node))
                .await;
            let there = match found {
                Ok(_) => Ok(true),
                Err(failure) if failure.is_not_found() => Ok(false),
                Err(failure) => {
                    tokio::time::sleep(AFTER_FAILURE).await;
                    Err(failure)
                }
            };
            Outcome::Node { name: node, there }
        }
        PodAction::Delete {
            pod,
            uid,
            reason,
            fail_first,
        } => {
            let result = collect(&context, &pod, &uid, reason, fail_first).await;
            // The pod was changed or created again meanwhile: the watch shows it during the
            // backoff, and it is decided again.
            if result.as_ref().is_err_and(|failure| !failure.is_not_found()) {
                tokio::time::sleep(AFTER_FAILURE).await;
            }
            Outcome::Pod { pod, result }
        }
    }
}

async fn collect(
    context: &Context,
    pod: &PodKey,
    uid: &str,
    reason: PodReason,
    fail_first: bool,
) -> Result<(), Failure> {
    let pods = Resource::pods();
    if fail_first {
        let mut patch = json!({"metadata": {"uid": uid}, "status": {"phase": "Failed"}});
        if reason == PodReason::NodeGone {
            patch["status"]["conditions"] = json!([{
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists",
                "lastTransitionTime": rfc3339(context.clock.now()),
            }]);
        }
        context
            .api
            .patch(
                &pods.subresource(&pod.namespace, &pod.name, "status"),
                STRATEGIC,
                &patch,
            )
            .await?;
    }
    let options = DeleteOptions {
        uid: Some(uid),
        grace_seconds: Some(0),
        ..DeleteOptions::default()
    };
    context
        .api
        .delete(&pods.object(&pod.namespace, &pod.name), options)
        .await
}
