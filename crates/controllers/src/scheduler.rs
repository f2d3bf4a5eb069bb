//! Binds pods to nodes, as [`plan::scheduling`] decides.

use std::sync::Arc;
use std::time::Duration;

use api::time::rfc3339;
use api::view::{NodeView, PodView};
use plan::scheduling::{Decision, PodKey, Scheduler, Verdict};
use serde_json::json;

use crate::Context;
use crate::driver::TaskError;
use crate::flight::Flight;
use crate::recorder::{Involved, Record};
use crate::reflector::{Batch, Event};
use crate::request::{Failure, STRATEGIC};
use crate::resource::Resource;

/// Bindings under way. Each is one write; the server commits those that wait together, so more in flight is fewer commits.
const IN_FLIGHT: usize = 256;

/// Turns taken between two looks at what has arrived, so that a long queue does not make the picture old.
const TURNS: usize = 64;

/// How long a failed write holds its place: the server is busy, or the pod changed under it.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

struct Outcome {
    pod: Arc<PodView>,
    bound: bool,
    result: Result<(), Failure>,
}

/// Schedules until it is dropped.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let mut nodes = context.nodes.subscribe();
    let mut pods = context.pods.subscribe();
    let mut scheduler = Scheduler::new();
    let mut flight: Flight<Outcome> = Flight::new(IN_FLIGHT);
    let (mut nodes_known, mut pods_known) = (false, false);
    loop {
        let known = nodes_known && pods_known;
        let next = if known && flight.room() > 0 {
            scheduler.next_turn()
        } else {
            None
        };
        tokio::select! {
            biased;
            Some(batch) = nodes.recv() => nodes_known |= hear_nodes(&mut scheduler, &batch),
            Some(batch) = pods.recv() => pods_known |= hear_pods(&mut scheduler, &batch),
            outcome = flight.next() => settle(&context, &mut scheduler, outcome),
            () = context.clock.until(next) => {}
            else => return Err("its reflectors ended".into()),
        }
        if !(nodes_known && pods_known) {
            continue;
        }
        while let Some(outcome) = flight.ready() {
            settle(&context, &mut scheduler, outcome);
        }
        for _ in 0..flight.room().min(TURNS) {
            let Some((decision, pod)) = scheduler.next(context.clock.now()) else {
                break;
            };
            flight.launch(execute(context.clone(), decision, pod));
        }
    }
}

fn hear_nodes(scheduler: &mut Scheduler, batch: &Batch<NodeView>) -> bool {
    let mut synced = false;
    for event in batch.iter() {
        match event {
            Event::Put(node) => scheduler.put_node(node),
            Event::Delete(node) => scheduler.delete_node(&node.meta.name),
            Event::Synced(_) => synced = true,
            Event::Bookmark(_) => {}
        }
    }
    synced
}

fn hear_pods(scheduler: &mut Scheduler, batch: &Batch<PodView>) -> bool {
    let mut synced = false;
    for event in batch.iter() {
        match event {
            Event::Put(pod) => scheduler.put_pod(pod),
            Event::Delete(pod) => scheduler.delete_pod(&PodKey::of(pod)),
            Event::Synced(_) => synced = true,
            Event::Bookmark(_) => {}
        }
    }
    synced
}

fn settle(context: &Context, scheduler: &mut Scheduler, outcome: Outcome) {
    let Err(failure) = &outcome.result else { return };
    // The pod went or was bound by someone else: the watch tells.
    if !failure.is_not_found() && !failure.is_conflict() {
        tracing::warn!(pod = %outcome.pod.meta.name, %failure, "scheduling");
    }
    if outcome.bound {
        scheduler.bind_failed(&PodKey::of(&outcome.pod), &outcome.pod, context.clock.now());
        let message = format!("binding rejected: {}", failure.message());
        context
            .recorder
            .tell(record(&outcome.pod, true, "FailedScheduling", message));
    }
}

async fn execute(context: Context, decision: Decision, pod: Arc<PodView>) -> Outcome {
    let PodKey { namespace, name } = &decision.pod;
    let (bound, result) = match &decision.verdict {
        Verdict::Bind { node } => {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": {"name": &**name, "namespace": &**namespace, "uid": &*decision.uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": &**node},
            });
            let path = Resource::pods().subresource(namespace, name, "binding");
            let result = context.api.create(&path, &binding).await;
            if result.is_ok() {
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                context.recorder.tell(record(&pod, false, "Scheduled", message));
            }
            (true, result)
        }
        Verdict::Unschedulable { message } => {
            context
                .recorder
                .tell(record(&pod, true, "FailedScheduling", message.clone()));
            let result = if decision.known {
                Ok(())
            } else {
                say_unschedulable(&context, &decision, &pod, message).await
            };
            (false, result)
        }
    };
    if result.is_err() {
        tokio::time::sleep(AFTER_FAILURE).await;
    }
    Outcome { pod, bound, result }
}

async fn say_unschedulable(
    context: &Context,
    decision: &Decision,
    pod: &PodView,
    message: &str,
) -> Result<(), Failure> {
    let mut condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
    });
    if pod.unscheduled.is_none() {
        condition["lastTransitionTime"] = rfc3339(context.clock.now()).into();
    }
    let patch = json!({"metadata": {"uid": &*decision.uid}, "status": {"conditions": [condition]}});
    let path = Resource::pods().subresource(&decision.pod.namespace, &decision.pod.name, "status");
    context.api.patch(&path, STRATEGIC, &patch).await
}

fn record(pod: &PodView, warning: bool, reason: &'static str, message: String) -> Record {
    Record {
        involved: Involved::pod(pod),
        component: "default-scheduler",
        warning,
        reason,
        message,
    }
}
