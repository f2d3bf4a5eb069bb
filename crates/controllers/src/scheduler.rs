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

/// Whose events and conditions these are.
const COMPONENT: &str = "default-scheduler";

/// Bindings under way. Each is one write; the server commits those that wait together, so more in flight is fewer commits.
const IN_FLIGHT: usize = 256;

/// Turns taken between two looks at what has arrived, so that a long queue does not make the picture old.
const TURNS: usize = 64;

/// How long a failed write holds its place: the server is busy, or the pod changed under it.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// What became of a write.
struct Outcome {
    pod: Arc<PodView>,
    write: Write,
    result: Result<(), Failure>,
}

enum Write {
    /// The pod is bound.
    Bind,
    /// What the scheduler has to say stands in the pod's status.
    Tell,
    /// This other pod is deleted, so that the pod has room.
    Evict(Arc<PodView>),
}

/// Which kinds are known whole. Before all are, nothing is decided.
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

/// Schedules until it is dropped.
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
            Some(batch) = nodes.recv() => known.nodes |= hear(&batch, |event| match event {
                Event::Put(node) => scheduler.put_node(node),
                Event::Delete(node) => scheduler.delete_node(&node.meta.name),
                _ => {}
            }),
            Some(batch) = namespaces.recv() => known.namespaces |= hear(&batch, |event| match event {
                Event::Put(namespace) => scheduler.put_namespace(namespace),
                Event::Delete(namespace) => scheduler.delete_namespace(&namespace.meta.name),
                _ => {}
            }),
            Some(batch) = budgets.recv() => known.budgets |= hear(&batch, |event| match event {
                Event::Put(budget) => scheduler.put_budget(budget),
                Event::Delete(budget) => scheduler.delete_budget(budget),
                _ => {}
            }),
            Some(batch) = pods.recv() => known.pods |= hear(&batch, |event| match event {
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

/// Whether the kind is known whole with this batch.
fn hear<V>(batch: &Batch<V>, mut tell: impl FnMut(&Event<V>)) -> bool {
    let mut synced = false;
    for event in batch.iter() {
        synced |= matches!(event, Event::Synced(_));
        tell(event);
    }
    synced
}

fn settle(context: &Context, scheduler: &mut Scheduler, outcome: Outcome) {
    let Outcome { pod, write, result } = outcome;
    let Err(failure) = result else { return };
    // The pod went: the watch tells. After a conflict it may as well be there, only changed.
    let gone = failure.is_not_found();
    if !gone && !failure.is_conflict() {
        tracing::warn!(pod = %pod.meta.name, %failure, "scheduling");
    }
    match write {
        Write::Bind => {
            scheduler.bind_failed(&PodKey::of(&pod), &pod, context.clock.now());
            let message = format!("binding rejected: {}", failure.message());
            context
                .recorder
                .tell(record(&pod, true, "FailedScheduling", message));
        }
        Write::Evict(victim) if !gone => scheduler.preemption_failed(&PodKey::of(&pod), &victim),
        Write::Evict(_) | Write::Tell => {}
    }
}

/// Sends what the decision asks for.
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
                .tell(record(&pod, true, "FailedScheduling", message.clone()));
            if !known {
                let (context, pod) = (context.clone(), pod.clone());
                flight.launch(async move {
                    let said = say_unschedulable(&context, &pod, &message, nominated.as_deref()).await;
                    outcome(pod, Write::Tell, held(said).await)
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
            let result = held(unseat(&context, &other).await).await;
            outcome(other, Write::Tell, result)
        });
    }
}

fn outcome(pod: Arc<PodView>, write: Write, result: Result<(), Failure>) -> Outcome {
    Outcome { pod, write, result }
}

/// A failure holds its place in the flight for a while.
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
    context.recorder.tell(record(pod, false, "Scheduled", message));
    Ok(())
}

async fn say_unschedulable(
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

/// The node that was being emptied for the pod is another's.
async fn unseat(context: &Context, pod: &PodView) -> Result<(), Failure> {
    patch_status(context, pod, json!({"nominatedNodeName": null})).await
}

/// Deletes a pod, in its own time, for one of a higher priority.
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
    context.recorder.tell(record(victim, false, "Preempted", message));
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
