//! Runs DaemonSets, as [`plan::fleet`] decides.
//!
//! This shell contains no rule of DaemonSets: it passes watch events to the fleet, sends the
//! fleet's requests, and passes their answers back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use plan::fleet::{self, Action, Answer, Change, EventRecord, Fleet};
use reflector::{Batch, Event, Watched};
use tokio::sync::mpsc;

use crate::Context;
use crate::driver::{Status, TaskError};
use crate::flight::Flight;
use crate::recorder::{Involved, Record};

/// Most requests in flight for all DaemonSets together. The fleet bounds each set; this bounds the
/// queue of the server.
const IN_FLIGHT: usize = 512;

/// Timeout of a request. Its result is then unknown, and the fleet learns it from a watch or a
/// read.
const UNANSWERED_AFTER: Duration = Duration::from_secs(60);

struct Outcome {
    action: Arc<Action>,
    answer: Result<(u16, Vec<u8>), String>,
}

/// Runs until it is dropped.
pub(crate) async fn run(context: Context, options: fleet::Options, status: Status) -> Result<(), TaskError> {
    let mut nodes = context.nodes.subscribe();
    let mut pods = context.pods.subscribe();
    let mut sets = context.daemon_sets.subscribe();
    let mut revisions = context.revisions.subscribe();
    let (mut first_nodes, mut first_pods, mut first_sets, mut first_revisions) = Default::default();
    let mut fleet = Fleet::new(options);
    let mut waiting: VecDeque<Arc<Action>> = VecDeque::new();
    let mut flight: Flight<Outcome> = Flight::new(IN_FLIGHT);
    let mut look_again = None;
    loop {
        tokio::select! {
            biased;
            Some(batch) = nodes.recv() => receive(&batch, &mut first_nodes, |change| fleet.node(change)),
            Some(batch) = sets.recv() => receive(&batch, &mut first_sets, |change| fleet.daemon_set(change)),
            Some(batch) = revisions.recv() => receive(&batch, &mut first_revisions, |change| fleet.revision(change)),
            Some(batch) = pods.recv() => receive(&batch, &mut first_pods, |change| fleet.pod(change)),
            outcome = flight.next() => settle(&context, &mut fleet, outcome),
            () = context.clock.until(look_again) => {}
            else => return Err("its reflectors ended".into()),
        }
        // Plans with everything that has arrived, so that no node is judged by a state that a
        // waiting batch changes.
        receive_waiting(&mut nodes, &mut first_nodes, |change| fleet.node(change));
        receive_waiting(&mut sets, &mut first_sets, |change| fleet.daemon_set(change));
        receive_waiting(&mut revisions, &mut first_revisions, |change| {
            fleet.revision(change)
        });
        receive_waiting(&mut pods, &mut first_pods, |change| fleet.pod(change));
        while let Some(outcome) = flight.ready() {
            settle(&context, &mut fleet, outcome);
        }
        let plan = fleet.plan(context.clock.now());
        status.fleet_worked(fleet.work());
        plan.events
            .into_iter()
            .for_each(|event| context.recorder.record(record(event)));
        waiting.extend(plan.actions.into_iter().map(Arc::new));
        look_again = plan.look_again;
        let room = flight.room().min(waiting.len());
        for action in waiting.drain(..room) {
            flight.launch(execute(context.clone(), action));
        }
    }
}

/// Applies the batches that wait now. Later ones wait for the next iteration.
fn receive_waiting<V: Watched>(
    queue: &mut mpsc::Receiver<Batch<V>>,
    first: &mut Gathering<V>,
    mut apply: impl FnMut(Change<V>),
) {
    for _ in 0..queue.len() {
        if let Ok(batch) = queue.try_recv() {
            receive(&batch, first, &mut apply);
        }
    }
}

/// Applies a batch. The fleet needs the first list as one replacement, which `first` collects.
fn receive<V: Watched>(batch: &Batch<V>, first: &mut Gathering<V>, mut apply: impl FnMut(Change<V>)) {
    for event in batch.iter().cloned() {
        match (&mut *first, event) {
            (Gathering::Done, Event::Put(v)) => apply(Change::Upsert(v)),
            (Gathering::Done, Event::Delete(v)) => apply(Change::Delete(v)),
            (Gathering::Done, Event::Synced(revision) | Event::Bookmark(revision)) => {
                apply(Change::Bookmark(revision))
            }
            (Gathering::Items(items), Event::Put(v)) => items.push(v),
            (Gathering::Items(items), Event::Synced(revision)) => {
                apply(Change::Replace {
                    items: std::mem::take(items),
                    revision,
                });
                *first = Gathering::Done;
            }
            // There are no deletions before the first list is complete.
            (Gathering::Items(_), Event::Delete(_) | Event::Bookmark(_)) => {}
        }
    }
}

/// The first list, until it is complete.
enum Gathering<V> {
    Items(Vec<Arc<V>>),
    Done,
}

impl<V> Default for Gathering<V> {
    fn default() -> Self {
        Gathering::Items(Vec::new())
    }
}

fn settle(context: &Context, fleet: &mut Fleet, Outcome { action, answer }: Outcome) {
    let answer = match &answer {
        Ok((code, body)) => Answer::Response { code: *code, body },
        Err(reason) => Answer::Lost(reason),
    };
    if let Some(event) = fleet.answer(&action, answer, context.clock.now()) {
        context.recorder.record(record(event));
    }
}

async fn execute(context: Context, action: Arc<Action>) -> Outcome {
    let request = action.request();
    let method = match request.method {
        fleet::Method::Get => Method::GET,
        fleet::Method::Post => Method::POST,
        fleet::Method::Patch => Method::PATCH,
        fleet::Method::Delete => Method::DELETE,
    };
    let sent = context
        .api
        .answer(method, &request.path, request.content_type, request.body);
    let answer = match tokio::time::timeout(UNANSWERED_AFTER, sent).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(failure)) => Err(failure.message()),
        Err(_) => Err("no answer within 60 s".to_owned()),
    };
    Outcome { action, answer }
}

fn record(event: EventRecord) -> Record {
    let EventRecord {
        set,
        warning,
        reason,
        message,
    } = event;
    let involved = Involved {
        api_version: "apps/v1".into(),
        kind: "DaemonSet".into(),
        namespace: set.namespace.clone(),
        name: set.name.clone(),
        uid: set.uid.clone(),
        resource_version: set.resource_version,
    };
    Record {
        involved,
        component: "daemonset-controller",
        warning,
        reason,
        message,
    }
}
