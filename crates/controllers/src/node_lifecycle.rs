//! Reacts to nodes that stop reporting or are not ready, as [`plan::node_lifecycle`] decides.

use std::sync::Arc;
use std::time::Duration;

use api::time::rfc3339;
use plan::node_lifecycle::{Action, Limits, Nodes};
use plan::scheduling::PodKey;
use reflector::Event;
use reflector::request::{DeleteOptions, Failure, MERGE, STRATEGIC};
use serde_json::{Map, Value, json};
use tokio::time::MissedTickBehavior;

use crate::Context;
use crate::driver::TaskError;
use crate::flight::Flight;
use crate::recorder::{Involved, Record};
use crate::resource::Resource;

/// Most actions in flight.
const IN_FLIGHT: usize = 128;

/// Longest interval between two plans (`--node-monitor-period`). A longer gap means that reports
/// may have been missed.
const PERIOD: Duration = Duration::from_secs(5);

/// Backoff after a failure, which keeps its place in the flight.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Source of events about nodes.
const COMPONENT: &str = "node-controller";

/// Source of events about evicted pods.
const EVICTION: &str = "taint-eviction-controller";

enum Subject {
    Node(Arc<str>),
    Pod(PodKey),
}

struct Outcome {
    subject: Subject,
    result: Result<(), Failure>,
}

/// Runs until it is dropped.
pub(crate) async fn run(context: Context, limits: Limits) -> Result<(), TaskError> {
    let mut nodes = context.nodes.subscribe();
    let mut leases = context.leases.subscribe();
    let mut pods = context.pods.subscribe();
    let mut fleet = Nodes::new(limits);
    let mut flight: Flight<Outcome> = Flight::new(IN_FLIGHT);
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut synced = [false; 3];
    loop {
        let all = synced == [true; 3];
        let next = if all && flight.room() > 0 {
            fleet.next_look()
        } else {
            None
        };
        tokio::select! {
            biased;
            _ = period.tick() => {}
            Some(batch) = nodes.recv() => for event in batch.iter() {
                match event {
                    Event::Put(node) => fleet.put_node(node, context.clock.now()),
                    Event::Delete(node) => fleet.delete_node(&node.meta.name),
                    Event::Synced(_) => synced[0] = true,
                    Event::Bookmark(_) => {}
                }
            },
            Some(batch) = pods.recv() => for event in batch.iter() {
                match event {
                    Event::Put(pod) => fleet.put_pod(pod, context.clock.now()),
                    Event::Delete(pod) => fleet.delete_pod(&PodKey::of(pod)),
                    Event::Synced(_) => synced[2] = true,
                    Event::Bookmark(_) => {}
                }
            },
            Some(batch) = leases.recv() => {
                let now = context.clock.now();
                for event in batch.iter() {
                    match event {
                        Event::Put(lease) => fleet.put_lease(lease, now),
                        Event::Synced(_) => synced[1] = true,
                        Event::Delete(_) | Event::Bookmark(_) => {}
                    }
                }
            },
            outcome = flight.next() => settle(&mut fleet, outcome),
            () = context.clock.until(next) => {}
            else => return Err("its reflectors ended".into()),
        }
        while let Some(outcome) = flight.ready() {
            settle(&mut fleet, outcome);
        }
        if synced != [true; 3] {
            continue;
        }
        loop {
            for action in fleet.plan(context.clock.now(), flight.room()) {
                flight.launch(execute(context.clone(), action));
            }
            if flight.room() == 0 || !fleet.has_work() {
                break;
            }
            tokio::task::consume_budget().await;
        }
    }
}

fn settle(fleet: &mut Nodes, Outcome { subject, result }: Outcome) {
    let Err(failure) = result else { return };
    if failure.is_not_found() {
        return;
    }
    // A conflict means that the object changed meanwhile: its event triggers a new decision, and a
    // retry is harmless.
    if !failure.is_conflict() {
        tracing::warn!(%failure, "cannot update a node or one of its pods");
    }
    match subject {
        Subject::Node(name) => fleet.retry_node(&name),
        Subject::Pod(key) => fleet.retry_pod(&key),
    }
}

async fn execute(context: Context, action: Action) -> Outcome {
    let api = &context.api;
    let (subject, result) = match action {
        Action::SetConditions { node, conditions } => {
            let patch = json!({"status": {"conditions": conditions}});
            let result = api
                .patch(
                    &Resource::nodes().subresource("", &node, "status"),
                    STRATEGIC,
                    &patch,
                )
                .await;
            (Subject::Node(node), result)
        }
        Action::SetTaints {
            node,
            resource_version,
            taints,
        } => {
            let taints: Vec<Value> = taints.iter().map(taint).collect();
            let patch = json!({
                "metadata": {"resourceVersion": resource_version.to_string()},
                "spec": {"taints": if taints.is_empty() { Value::Null } else { taints.into() }},
            });
            let result = api
                .patch(&Resource::nodes().object("", &node), MERGE, &patch)
                .await;
            (Subject::Node(node), result)
        }
        Action::SetLabels { node, labels } => {
            let labels: Map<String, Value> = labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Value::from(&**value)))
                .collect();
            let patch = json!({"metadata": {"labels": labels}});
            let path = Resource::nodes().object("", &node);
            let result = api.patch(&path, MERGE, &patch).await;
            (Subject::Node(node), result)
        }
        Action::RecordEvent { node, uid, event } => {
            let involved = Involved::node(&node, &uid);
            record(
                &context,
                COMPONENT,
                involved,
                false,
                event.reason(),
                event.message(&node),
            );
            (Subject::Node(node), Ok(()))
        }
        Action::PodNotReady { pod, uid } => {
            record(
                &context,
                COMPONENT,
                Involved::pod_key(&pod, &uid),
                true,
                "NodeNotReady",
                "Node is not ready".into(),
            );
            let now = rfc3339(context.clock.now());
            let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": now});
            let patch = json!({"metadata": {"uid": &*uid}, "status": {"conditions": [condition]}});
            let path = Resource::pods().subresource(&pod.namespace, &pod.name, "status");
            let result = api.patch(&path, STRATEGIC, &patch).await;
            (Subject::Pod(pod), result)
        }
        Action::Evict { pod, uid } => {
            let message = format!("Marking for deletion Pod {}/{}", pod.namespace, pod.name);
            record(
                &context,
                EVICTION,
                Involved::pod_key(&pod, &uid),
                false,
                "TaintManagerEviction",
                message,
            );
            let result = evict(&context, &pod, &uid).await;
            (Subject::Pod(pod), result)
        }
        Action::CancelEviction { pod, uid } => {
            let message = format!("Cancelling deletion of Pod {}/{}", pod.namespace, pod.name);
            record(
                &context,
                EVICTION,
                Involved::pod_key(&pod, &uid),
                false,
                "TaintManagerEviction",
                message,
            );
            (Subject::Pod(pod), Ok(()))
        }
    };
    if result.as_ref().is_err_and(|f| !f.is_not_found()) {
        tokio::time::sleep(AFTER_FAILURE).await;
    }
    Outcome { subject, result }
}

async fn evict(context: &Context, pod: &PodKey, uid: &str) -> Result<(), Failure> {
    let pods = Resource::pods();
    let patch = json!({
        "metadata": {"uid": uid},
        "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": rfc3339(context.clock.now()),
        }]},
    });
    context
        .api
        .patch(
            &pods.subresource(&pod.namespace, &pod.name, "status"),
            STRATEGIC,
            &patch,
        )
        .await?;
    let options = DeleteOptions {
        uid: Some(uid),
        ..DeleteOptions::default()
    };
    context
        .api
        .delete(&pods.object(&pod.namespace, &pod.name), options)
        .await
}

fn taint(taint: &api::taint::Taint) -> Value {
    let mut value = json!({"key": &*taint.key, "effect": taint.effect.as_str()});
    if !taint.value.is_empty() {
        value["value"] = (&*taint.value).into();
    }
    if let Some(at) = taint.time_added {
        value["timeAdded"] = rfc3339(at).into();
    }
    value
}

fn record(
    context: &Context,
    component: &'static str,
    involved: Involved,
    warning: bool,
    reason: &'static str,
    message: String,
) {
    context.recorder.record(Record {
        involved,
        component,
        warning,
        reason,
        message,
    });
}
