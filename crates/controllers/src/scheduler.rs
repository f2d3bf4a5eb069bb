//! Binds pods to nodes, as [`plan::scheduling`] decides.

use std::sync::Arc;
use std::time::Duration;

use api::time::rfc3339;
use api::view::PodView;
use plan::scheduling::{Decision, PodKey, Preemption, Scheduler, Verdict};
use reflector::request::{DeleteOptions, Failure, STRATEGIC};
use reflector::{Batch, Event};
use serde_json::{Value, json};

use crate::Context;
use crate::driver::TaskError;
use crate::flight::Flight;
use crate::recorder::{Involved, Record};
use crate::resource::Resource;

/// Source of the events.
const COMPONENT: &str = "default-scheduler";

/// Most writes in flight. The server commits waiting writes together, so more in flight are fewer
/// commits.
const IN_FLIGHT: usize = 256;

/// Most decisions between two reads of the events, so that a long queue does not delay them.
const TURNS: usize = 64;

/// Backoff after a failure, which keeps its place in the flight: the server is busy, or the pod
/// changed.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Result of a write.
struct Outcome {
    pod: Arc<PodView>,
    write: Write,
    result: Result<(), Failure>,
}

enum Write {
    /// Binds the pod.
    Bind,
    /// Writes the verdict to the pod's status.
    Status,
    /// Deletes this other pod, to make room for the pod.
    Evict(Arc<PodView>),
}

/// The kinds whose first list is complete. Decisions need all of them.
#[derive(Default)]
struct Known {
    nodes: bool,
    pods: bool,
    namespaces: bool,
    budgets: bool,
}

impl Known {
    fn all(&self) -> bool {
        self.nodes && self.pods && self.namespaces && self.budgets
    }
}

/// Runs until it is dropped.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let mut nodes = context.nodes.subscribe();
    let mut pods = context.pods.subscribe();
    let mut namespaces = context.namespaces.subscribe();
    let mut budgets = context.budgets.subscribe();
    let mut scheduler = Scheduler::new();
    let mut flight: Flight<Outcome> = Flight::new(IN_FLIGHT);
    let mut known = Known::default();
    loop {
        let next = if known.all() && flight.room() > 0 {
            scheduler.next_turn()
        } else {
            None
        };
        tokio::select! {
            biased;
            Some(batch) = nodes.recv() => known.nodes |= receive(&batch, |event| match event {
                Event::Put(node) => scheduler.put_node(node),
                Event::Delete(node) => scheduler.delete_node(&node.meta.name),
                _ => {}
            }),
            Some(batch) = namespaces.recv() => known.namespaces |= receive(&batch, |event| match event {
                Event::Put(namespace) => scheduler.put_namespace(namespace),
                Event::Delete(namespace) => scheduler.delete_namespace(&namespace.meta.name),
                _ => {}
            }),
            Some(batch) = budgets.recv() => known.budgets |= receive(&batch, |event| match event {
                Event::Put(budget) => scheduler.put_budget(budget),
                Event::Delete(budget) => scheduler.delete_budget(budget),
                _ => {}
            }),
            Some(batch) = pods.recv() => known.pods |= receive(&batch, |event| match event {
                Event::Put(pod) => scheduler.put_pod(pod),
                Event::Delete(pod) => scheduler.delete_pod(&PodKey::of(pod)),
                _ => {}
            }),
            outcome = flight.next() => settle(&context, &mut scheduler, outcome),
            () = context.clock.until(next) => {}
            else => return Err("its reflectors ended".into()),
        }
        if !known.all() {
            continue;
        }
        while let Some(outcome) = flight.ready() {
            settle(&context, &mut scheduler, outcome);
        }
        for _ in 0..flight.room().min(TURNS) {
            let Some((decision, pod)) = scheduler.next(context.clock.now()) else {
                break;
            };
            execute(&context, &mut flight, decision, pod);
        }
    }
}

/// Applies a batch. Returns whether it completes the first list.
fn receive<V>(batch: &Batch<V>, mut apply: impl FnMut(&Event<V>)) -> bool {
    let mut synced = false;
    for event in batch.iter() {
        synced |= matches!(event, Event::Synced(_));
        apply(event);
    }
    synced
}

fn settle(context: &Context, scheduler: &mut Scheduler, outcome: Outcome) {
    let Outcome { pod, write, result } = outcome;
    let Err(failure) = result else { return };
    // The pod was deleted: the watch shows it. After a conflict, it may only have changed.
    let gone = failure.is_not_found();
    if !gone && !failure.is_conflict() {
        tracing::warn!(pod = %pod.meta.name, %failure, "cannot write the scheduling decision");
    }
    match write {
        Write::Bind => {
            scheduler.bind_failed(&PodKey::of(&pod), &pod, context.clock.now());
            let message = format!("binding rejected: {}", failure.message());
            context
                .recorder
                .record(record(&pod, true, "FailedScheduling", message));
        }
        Write::Evict(victim) if !gone => scheduler.preemption_failed(&PodKey::of(&pod), &victim),
        Write::Evict(_) | Write::Status => {}
    }
}

/// Carries out the decision.
fn execute(context: &Context, flight: &mut Flight<Outcome>, decision: Decision, pod: Arc<PodView>) {
    let Decision { verdict, known, .. } = decision;
    match verdict {
        Verdict::Bind { node } => {
            let (context, pod) = (context.clone(), pod);
            flight.launch(async move {
                let result = held(bind(&context, &pod, &node).await).await;
                outcome(pod, Write::Bind, result)
            });
        }
        Verdict::Unschedulable {
            message,
            nominated,
            preemption,
        } => {
            context
                .recorder
                .record(record(&pod, true, "FailedScheduling", message.clone()));
            if !known {
                let (context, pod) = (context.clone(), pod.clone());
                flight.launch(async move {
                    let result = write_unschedulable(&context, &pod, &message, nominated.as_deref()).await;
                    outcome(pod, Write::Status, held(result).await)
                });
            }
            if let Some(preemption) = preemption {
                preempt(context, flight, &pod, preemption);
            }
        }
    }
}

fn preempt(context: &Context, flight: &mut Flight<Outcome>, pod: &Arc<PodView>, preemption: Preemption) {
    let Preemption {
        node,
        victims,
        unseated,
    } = preemption;
    for victim in victims {
        let (context, pod, node) = (context.clone(), pod.clone(), node.clone());
        flight.launch(async move {
            let result = held(evict(&context, &pod, &victim, &node).await).await;
            outcome(pod, Write::Evict(victim), result)
        });
    }
    for other in unseated {
        let context = context.clone();
        flight.launch(async move {
            let result = held(end_nomination(&context, &other).await).await;
            outcome(other, Write::Status, result)
        });
    }
}

fn outcome(pod: Arc<PodView>, write: Write, result: Result<(), Failure>) -> Outcome {
    Outcome { pod, write, result }
}

/// Delays a failure, so that it keeps its place in the flight.
async fn held(result: Result<(), Failure>) -> Result<(), Failure> {
    if result.is_err() {
        tokio::time::sleep(AFTER_FAILURE).await;
    }
    result
}

async fn bind(context: &Context, pod: &PodView, node: &str) -> Result<(), Failure> {
    let (namespace, name) = (&*pod.meta.namespace, &*pod.meta.name);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": name, "namespace": namespace, "uid": &*pod.meta.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let path = Resource::pods().subresource(namespace, name, "binding");
    context.api.create(&path, &binding).await?;
    let message = format!("Successfully assigned {namespace}/{name} to {node}");
    context.recorder.record(record(pod, false, "Scheduled", message));
    Ok(())
}

async fn write_unschedulable(
    context: &Context,
    pod: &PodView,
    message: &str,
    nominated: Option<&str>,
) -> Result<(), Failure> {
    let mut condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "observedGeneration": pod.meta.generation,
    });
    if pod.unscheduled.is_none() {
        condition["lastTransitionTime"] = rfc3339(context.clock.now()).into();
    }
    patch_status(
        context,
        pod,
        json!({"conditions": [condition], "nominatedNodeName": nominated}),
    )
    .await
}

/// Ends the nomination of a pod, because a pod of higher priority got the node.
async fn end_nomination(context: &Context, pod: &PodView) -> Result<(), Failure> {
    patch_status(context, pod, json!({"nominatedNodeName": null})).await
}

/// Deletes a pod with its grace period, for one of a higher priority.
async fn evict(context: &Context, pod: &PodView, victim: &PodView, node: &str) -> Result<(), Failure> {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": format!("{COMPONENT}: preempting to accommodate a higher priority pod"),
        "lastTransitionTime": rfc3339(context.clock.now()),
    });
    patch_status(context, victim, json!({"conditions": [condition]})).await?;
    let options = DeleteOptions {
        uid: Some(&victim.meta.uid),
        ..DeleteOptions::default()
    };
    let path = Resource::pods().object(&victim.meta.namespace, &victim.meta.name);
    context.api.delete(&path, options).await?;
    let message = format!("Preempted by pod {} on node {node}", pod.meta.uid);
    context
        .recorder
        .record(record(victim, false, "Preempted", message));
    Ok(())
}

async fn patch_status(context: &Context, pod: &PodView, status: Value) -> Result<(), Failure> {
    let patch = json!({"metadata": {"uid": &*pod.meta.uid}, "status": status});
    let path = Resource::pods().subresource(&pod.meta.namespace, &pod.meta.name, "status");
    context.api.patch(&path, STRATEGIC, &patch).await
}

fn record(pod: &PodView, warning: bool, reason: &'static str, message: String) -> Record {
    Record {
        involved: Involved::pod(pod),
        component: COMPONENT,
        warning,
        reason,
        message,
    }
}
