//! Maintains the status of PodDisruptionBudgets, as [`plan::disruption`] decides.

use std::time::Duration;

use api::time::rfc3339;
use plan::disruption::{Action, BudgetKey, Budgets};
use plan::scheduling::PodKey;
use reflector::Event;
use reflector::request::{Failure, MERGE, STRATEGIC};
use serde_json::json;

use crate::Context;
use crate::driver::TaskError;
use crate::flight::Flight;
use crate::recorder::{Involved, Record};
use crate::resource::Resource;

/// Most writes in flight. Budgets are few.
const IN_FLIGHT: usize = 32;

/// Backoff after a failure, which keeps its place in the flight.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Source of the events.
const COMPONENT: &str = "controllermanager";

enum Subject {
    Budget(BudgetKey),
    Pod(PodKey),
}

struct Outcome {
    subject: Subject,
    result: Result<(), Failure>,
}

/// Runs until it is dropped.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let mut budgets = context.budgets.subscribe();
    let mut sets = context.daemon_sets.subscribe();
    let mut pods = context.pods.subscribe();
    let mut known = Budgets::new();
    let mut flight: Flight<Outcome> = Flight::new(IN_FLIGHT);
    let mut synced = [false; 3];
    loop {
        let next = if synced == [true; 3] && flight.room() > 0 {
            known.next_look()
        } else {
            None
        };
        tokio::select! {
            biased;
            Some(batch) = budgets.recv() => for event in batch.iter() {
                match event {
                    Event::Put(budget) => known.put_budget(budget),
                    Event::Delete(budget) => known.delete_budget(&BudgetKey::of(budget)),
                    Event::Synced(_) => synced[0] = true,
                    Event::Bookmark(_) => {}
                }
            },
            Some(batch) = sets.recv() => for event in batch.iter() {
                match event {
                    Event::Put(set) => known.put_set(set),
                    Event::Delete(set) => known.delete_set(set),
                    Event::Synced(_) => synced[1] = true,
                    Event::Bookmark(_) => {}
                }
            },
            Some(batch) = pods.recv() => for event in batch.iter() {
                match event {
                    Event::Put(pod) => known.put_pod(pod),
                    Event::Delete(pod) => known.delete_pod(&PodKey::of(pod)),
                    Event::Synced(_) => synced[2] = true,
                    Event::Bookmark(_) => {}
                }
            },
            outcome = flight.next() => settle(&context, &mut known, outcome),
            () = context.clock.until(next) => {}
            else => return Err("its reflectors ended".into()),
        }
        while let Some(outcome) = flight.ready() {
            settle(&context, &mut known, outcome);
        }
        while synced == [true; 3] && flight.room() > 0 {
            for action in known.plan(context.clock.now(), flight.room()) {
                perform(&context, &mut flight, action);
            }
            if !known.has_work() {
                break;
            }
            tokio::task::consume_budget().await;
        }
    }
}

fn settle(context: &Context, known: &mut Budgets, Outcome { subject, result }: Outcome) {
    let Err(failure) = result else { return };
    if failure.is_not_found() {
        return;
    }
    // A conflict means that the object changed meanwhile: decide again with its new state.
    if !failure.is_conflict() {
        tracing::warn!(%failure, "cannot update a disruption budget or its pods");
    }
    match subject {
        Subject::Budget(key) => known.retry_budget(&key),
        Subject::Pod(key) => known.retry_pod(&key, context.clock.now()),
    }
}

fn perform(context: &Context, flight: &mut Flight<Outcome>, action: Action) {
    match action {
        Action::RecordBudgetEvent {
            budget,
            uid,
            warning,
            reason,
            message,
        } => {
            let involved = Involved {
                api_version: "policy/v1".into(),
                kind: "PodDisruptionBudget".into(),
                namespace: budget.namespace,
                name: budget.name,
                uid,
                resource_version: 0,
            };
            record(context, involved, warning, reason, message);
        }
        Action::RecordPodWarning {
            pod,
            uid,
            reason,
            message,
        } => record(context, Involved::pod_key(&pod, &uid), true, reason, message),
        Action::SetStatus { .. } | Action::ClearDisruption { .. } => {
            flight.launch(execute(context.clone(), action));
        }
    }
}

async fn execute(context: Context, action: Action) -> Outcome {
    let api = &context.api;
    let (subject, result) = match action {
        Action::SetStatus { budget, patch } => {
            let budgets = Resource::pod_disruption_budgets();
            let path = budgets.subresource(&budget.namespace, &budget.name, "status");
            (Subject::Budget(budget), api.patch(&path, MERGE, &patch).await)
        }
        Action::ClearDisruption { pod, uid } => {
            let patch = json!({"metadata": {"uid": &*uid}, "status": {"conditions": [{
                "type": "DisruptionTarget", "status": "False", "reason": null, "message": null,
                "lastTransitionTime": rfc3339(context.clock.now()),
            }]}});
            let path = Resource::pods().subresource(&pod.namespace, &pod.name, "status");
            (Subject::Pod(pod), api.patch(&path, STRATEGIC, &patch).await)
        }
        Action::RecordBudgetEvent { budget, .. } => (Subject::Budget(budget), Ok(())),
        Action::RecordPodWarning { pod, .. } => (Subject::Pod(pod), Ok(())),
    };
    // After a conflict too, because the same write would conflict until the watch shows the new
    // state.
    if result.as_ref().is_err_and(|failure| !failure.is_not_found()) {
        tokio::time::sleep(AFTER_FAILURE).await;
    }
    Outcome { subject, result }
}

fn record(context: &Context, involved: Involved, warning: bool, reason: &'static str, message: String) {
    context.recorder.record(Record {
        involved,
        component: COMPONENT,
        warning,
        reason,
        message,
    });
}
