//! Deletes objects without owners, as [`plan::garbage::Graph`] decides.
//!
//! Kinds that other controllers also watch come from shared reflectors. For all other kinds of the
//! server, only the metadata is watched. Events have no owners and no dependents, and are numerous,
//! so they are not watched.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::view::{ObjectMetaView, ObjectView, OwnerView};
use plan::garbage::{Action, Graph, Object, Uid, strip_owners_patch, unblock_patch};
use reflector::request::{DeleteOptions, Failure, STRATEGIC};
use reflector::{Batch, Event, METADATA_ONLY, Reflector, Watched};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::Context;
use crate::discovery::{self, Deletable};
use crate::driver::TaskError;
use crate::flight::Flight;
use crate::recorder::{Involved, Record};
use crate::resource::Resource;

/// Most actions in flight.
const IN_FLIGHT: usize = 128;

/// How often the server's kinds are read again, and owners that no watch covers are checked again.
const PERIOD: Duration = Duration::from_secs(30);

/// Batches of all kinds that wait for the collector. Reflectors wait when it is full.
const QUEUE: usize = 64;

/// Backoff after a failure, which keeps its place in the flight.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Groups and resources whose objects come from shared reflectors.
const SHARED: [(&str, &str); 10] = [
    ("", "pods"),
    ("", "nodes"),
    ("", "namespaces"),
    ("", "services"),
    ("", "endpoints"),
    ("apps", "daemonsets"),
    ("apps", "controllerrevisions"),
    ("coordination.k8s.io", "leases"),
    ("discovery.k8s.io", "endpointslices"),
    ("policy", "poddisruptionbudgets"),
];

/// A change of an object of any kind.
enum ObjectChange {
    Put(Object),
    Delete(Uid),
}

enum Outcome {
    Owner {
        uid: Uid,
        there: Result<bool, Failure>,
    },
    Object {
        uids: Vec<Uid>,
        result: Result<(), Failure>,
    },
}

/// Runs until it is dropped.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let (sender, mut changes) = mpsc::channel(QUEUE);
    let mut feeds = JoinSet::new();
    share(&context, &sender, &mut feeds);
    let mut graph = Graph::new();
    let mut flight: Flight<Outcome> = Flight::new(IN_FLIGHT);
    let mut kinds = Kinds::default();
    // Without the kinds, owners cannot be read and objects cannot be deleted, so this must succeed
    // before any decision.
    kinds.read(&context, &sender, &mut feeds).await?;
    let mut period = tokio::time::interval_at(Instant::now() + PERIOD, PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = period.tick() => {
                graph.recheck_unwatched();
                if let Err(failure) = kinds.read(&context, &sender, &mut feeds).await {
                    tracing::warn!(%failure, "cannot read the server's kinds");
                }
            }
            Some(batch) = changes.recv() => receive(&mut graph, batch),
            outcome = flight.next() => settle(&mut graph, outcome),
            Some(ended) = feeds.join_next() => {
                return Err(format!("a reflector or its feed ended: {:?}", ended.err()).into());
            }
        }
        while let Some(outcome) = flight.ready() {
            settle(&mut graph, outcome);
        }
        while flight.room() > 0 && graph.has_work() {
            for action in graph.plan(flight.room()) {
                launch(&context, &kinds, &mut flight, action);
            }
            tokio::task::consume_budget().await;
        }
    }
}

/// The server's kinds, by apiVersion and kind, and those that this controller watches.
#[derive(Default)]
struct Kinds {
    resources: HashMap<(Arc<str>, Arc<str>), Resource>,
    watched: HashSet<String>,
}

impl Kinds {
    /// Reads the server's kinds, and starts to watch those that are not watched yet.
    async fn read(
        &mut self,
        context: &Context,
        sender: &mpsc::Sender<Vec<ObjectChange>>,
        feeds: &mut JoinSet<()>,
    ) -> Result<(), Failure> {
        for kind in discovery::deletable(&context.api).await? {
            let name = (kind.resource.api_version().into(), (&*kind.resource.kind).into());
            self.resources.insert(name, kind.resource.clone());
            if !is_shared(&kind) && self.watched.insert(kind.resource.path()) {
                watch(context, kind.resource, sender.clone(), feeds);
            }
        }
        Ok(())
    }

    fn get(&self, api_version: &Arc<str>, kind: &Arc<str>) -> Option<Resource> {
        self.resources.get(&(api_version.clone(), kind.clone())).cloned()
    }
}

fn is_shared(kind: &Deletable) -> bool {
    let Resource { group, plural, .. } = &kind.resource;
    let events = plural == "events" && (group.is_empty() || group == "events.k8s.io");
    events || SHARED.contains(&(&**group, &**plural))
}

fn share(context: &Context, sender: &mpsc::Sender<Vec<ObjectChange>>, feeds: &mut JoinSet<()>) {
    feeds.spawn(feed(context.pods.subscribe(), &Resource::pods(), sender.clone()));
    feeds.spawn(feed(
        context.nodes.subscribe(),
        &Resource::nodes(),
        sender.clone(),
    ));
    feeds.spawn(feed(
        context.daemon_sets.subscribe(),
        &Resource::daemon_sets(),
        sender.clone(),
    ));
    feeds.spawn(feed(
        context.revisions.subscribe(),
        &Resource::controller_revisions(),
        sender.clone(),
    ));
    feeds.spawn(feed(
        context.leases.subscribe(),
        &Resource::leases(),
        sender.clone(),
    ));
    feeds.spawn(feed(
        context.namespaces.subscribe(),
        &Resource::namespaces(),
        sender.clone(),
    ));
    feeds.spawn(feed(
        context.budgets.subscribe(),
        &Resource::pod_disruption_budgets(),
        sender.clone(),
    ));
    feeds.spawn(feed(
        context.services.subscribe(),
        &Resource::services(),
        sender.clone(),
    ));
    feeds.spawn(feed(
        context.endpoint_slices.subscribe(),
        &Resource::endpoint_slices(),
        sender.clone(),
    ));
    feeds.spawn(feed(
        context.endpoints.subscribe(),
        &Resource::endpoints(),
        sender.clone(),
    ));
}

/// Watches the metadata of a kind without a shared reflector.
fn watch(
    context: &Context,
    resource: Resource,
    sender: mpsc::Sender<Vec<ObjectChange>>,
    feeds: &mut JoinSet<()>,
) {
    let reflector: Reflector<ObjectView> = Reflector::new();
    feeds.spawn(feed(reflector.subscribe(), &resource, sender));
    let path = resource.path();
    feeds.spawn(reflector.run(context.api.clone(), path, Some(METADATA_ONLY)));
}

/// Converts the events of one kind to changes for the collector.
fn feed<V: Watched>(
    mut events: mpsc::Receiver<Batch<V>>,
    resource: &Resource,
    sender: mpsc::Sender<Vec<ObjectChange>>,
) -> impl Future<Output = ()> + use<V> {
    let (api_version, kind): (Arc<str>, Arc<str>) = (resource.api_version().into(), (&*resource.kind).into());
    async move {
        while let Some(batch) = events.recv().await {
            let object = |meta: &ObjectMetaView| Object::of(&api_version, &kind, meta);
            let changes = batch.iter().filter_map(|event| match event {
                Event::Put(v) => Some(ObjectChange::Put(object(v.meta()))),
                Event::Delete(v) => Some(ObjectChange::Delete(v.meta().uid.clone())),
                Event::Synced(_) | Event::Bookmark(_) => None,
            });
            if sender.send(changes.collect()).await.is_err() {
                return;
            }
        }
    }
}

fn receive(graph: &mut Graph, batch: Vec<ObjectChange>) {
    for change in batch {
        match change {
            ObjectChange::Put(object) => graph.put(object),
            ObjectChange::Delete(uid) => graph.delete(&uid),
        }
    }
}

fn settle(graph: &mut Graph, outcome: Outcome) {
    match outcome {
        Outcome::Owner {
            uid,
            there: Ok(there),
        } => graph.owner_is(&uid, there),
        Outcome::Owner {
            uid,
            there: Err(failure),
        } => {
            tracing::warn!(%failure, "cannot check whether an owner exists");
            graph.retry(&uid);
        }
        Outcome::Object { result: Ok(()), .. } => {}
        Outcome::Object {
            result: Err(failure), ..
        } if failure.is_not_found() => {}
        Outcome::Object {
            uids,
            result: Err(failure),
        } => {
            // A conflict means that the object changed meanwhile: decide again with its new state.
            if !failure.is_conflict() {
                tracing::warn!(%failure, "cannot collect an object");
            }
            uids.iter().for_each(|uid| graph.retry(uid));
        }
    }
}

fn launch(context: &Context, kinds: &Kinds, flight: &mut Flight<Outcome>, action: Action) {
    match action {
        Action::Look { owner, namespace } => {
            let resource = kinds.get(&owner.api_version, &owner.kind);
            flight.launch(look(context.clone(), resource, owner, namespace));
        }
        Action::Warn { object, owner } => {
            let message = format!(
                "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
                owner.api_version, owner.kind, object.namespace, owner.name, owner.uid, &*object.namespace
            );
            let involved = Involved::object(&object);
            let reason = "OwnerRefInvalidNamespace";
            context.recorder.record(Record {
                involved,
                component: "garbage-collector-controller",
                warning: true,
                reason,
                message,
            });
        }
        other => {
            if let Some(resource) = resource_of(&other, kinds) {
                flight.launch(execute(context.clone(), resource, other));
            }
        }
    }
}

fn resource_of(action: &Action, kinds: &Kinds) -> Option<Resource> {
    let object = match action {
        Action::Delete { object, .. }
        | Action::StripOwners { object, .. }
        | Action::Unblock { object, .. }
        | Action::RemoveFinalizer { object, .. }
        | Action::Warn { object, .. } => object,
        Action::Look { .. } => return None,
    };
    kinds.get(&object.api_version, &object.kind)
}

/// Reads whether the owner exists, with the uid of the reference.
async fn look(
    context: Context,
    resource: Option<Resource>,
    owner: OwnerView,
    namespace: Arc<str>,
) -> Outcome {
    let uid = owner.uid.clone();
    let Some(resource) = resource else {
        // The server does not have the kind, or not in this version any more. The owner may exist,
        // so nothing is deleted.
        return Outcome::Owner { uid, there: Ok(true) };
    };
    let path = resource.object(&namespace, &owner.name);
    let there = match context.api.get_as::<ObjectView>(&path, METADATA_ONLY).await {
        Ok(found) => Ok(found.meta.uid == owner.uid),
        Err(failure) if failure.is_not_found() => Ok(false),
        Err(failure) => {
            tokio::time::sleep(AFTER_FAILURE).await;
            Err(failure)
        }
    };
    Outcome::Owner { uid, there }
}

async fn execute(context: Context, resource: Resource, action: Action) -> Outcome {
    let api = &context.api;
    let (uids, result) = match action {
        Action::Delete {
            object,
            resource_version,
            propagation,
        } => {
            let version = resource_version.to_string();
            let options = DeleteOptions {
                uid: Some(&object.uid),
                resource_version: Some(&version),
                propagation: Some(propagation.as_str()),
                ..DeleteOptions::default()
            };
            let result = api
                .delete(&resource.object(&object.namespace, &object.name), options)
                .await;
            (vec![object.uid], result)
        }
        Action::StripOwners { object, owners } => {
            let patch = strip_owners_patch(&object, &owners);
            let result = api
                .patch(
                    &resource.object(&object.namespace, &object.name),
                    STRATEGIC,
                    &patch,
                )
                .await;
            (std::iter::once(object.uid).chain(owners).collect(), result)
        }
        Action::Unblock { object, owners } => {
            let patch = unblock_patch(&object, &owners);
            let result = api
                .patch(
                    &resource.object(&object.namespace, &object.name),
                    STRATEGIC,
                    &patch,
                )
                .await;
            (vec![object.uid], result)
        }
        Action::RemoveFinalizer { object, finalizer } => {
            let patch = json!({"metadata": {
                "uid": &*object.uid,
                "$deleteFromPrimitiveList/finalizers": [finalizer],
            }});
            let result = api
                .patch(
                    &resource.object(&object.namespace, &object.name),
                    STRATEGIC,
                    &patch,
                )
                .await;
            (vec![object.uid], result)
        }
        Action::Look { .. } | Action::Warn { .. } => (Vec::new(), Ok(())),
    };
    if result.as_ref().is_err_and(|f| !f.is_not_found()) {
        tokio::time::sleep(AFTER_FAILURE).await;
    }
    Outcome::Object { uids, result }
}
