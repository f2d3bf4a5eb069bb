//! Deletes what lost its owners, as [`plan::garbage::Graph`] decides.
//!
//! The kinds that other controllers watch anyway come from their reflectors; of every other kind that the server has, metadata alone is
//! watched. Events own nothing and are owned by nothing, and there are many: they are left out.

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

/// Writes under way.
const IN_FLIGHT: usize = 128;

/// How often the server's kinds are read again, and owners that no watch feeds are looked for again.
const PERIOD: Duration = Duration::from_secs(30);

/// Batches of all kinds that wait for the collector; the reflectors wait behind it.
const QUEUE: usize = 64;

/// How long a failed action holds its place before it is decided anew.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Groups and kinds whose objects come from the reflectors that all controllers share.
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

/// A change of any kind's object.
enum Heard {
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

/// Collects until it is dropped.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let (heard, mut changes) = mpsc::channel(QUEUE);
    let mut feeds = JoinSet::new();
    share(&context, &heard, &mut feeds);
    let mut graph = Graph::new();
    let mut flight: Flight<Outcome> = Flight::new(IN_FLIGHT);
    let mut kinds = Kinds::default();
    // Without the kinds nothing can be looked for and nothing deleted: this must work once before anything is decided.
    kinds.read(&context, &heard, &mut feeds).await?;
    let mut period = tokio::time::interval_at(Instant::now() + PERIOD, PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = period.tick() => {
                graph.recheck_unwatched();
                if let Err(failure) = kinds.read(&context, &heard, &mut feeds).await {
                    tracing::warn!(%failure, "reading the server's kinds");
                }
            }
            Some(batch) = changes.recv() => hear(&mut graph, batch),
            outcome = flight.next() => settle(&mut graph, outcome),
            Some(ended) = feeds.join_next() => {
                return Err(format!("a feed ended: {:?}", ended.err()).into());
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

/// The server's kinds, by what references call them, and those that are watched here.
#[derive(Default)]
struct Kinds {
    resources: HashMap<(Arc<str>, Arc<str>), Resource>,
    watched: HashSet<String>,
}

impl Kinds {
    /// Learns the server's kinds, and begins to watch those that nobody watches.
    async fn read(
        &mut self,
        context: &Context,
        heard: &mpsc::Sender<Vec<Heard>>,
        feeds: &mut JoinSet<()>,
    ) -> Result<(), Failure> {
        for kind in discovery::deletable(&context.api).await? {
            let name = (kind.resource.api_version().into(), (&*kind.resource.kind).into());
            self.resources.insert(name, kind.resource.clone());
            if !is_shared(&kind) && self.watched.insert(kind.resource.path()) {
                watch(context, kind.resource, heard.clone(), feeds);
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

fn share(context: &Context, heard: &mpsc::Sender<Vec<Heard>>, feeds: &mut JoinSet<()>) {
    feeds.spawn(feed(context.pods.subscribe(), &Resource::pods(), heard.clone()));
    feeds.spawn(feed(context.nodes.subscribe(), &Resource::nodes(), heard.clone()));
    feeds.spawn(feed(
        context.daemon_sets.subscribe(),
        &Resource::daemon_sets(),
        heard.clone(),
    ));
    feeds.spawn(feed(
        context.revisions.subscribe(),
        &Resource::controller_revisions(),
        heard.clone(),
    ));
    feeds.spawn(feed(
        context.leases.subscribe(),
        &Resource::leases(),
        heard.clone(),
    ));
    feeds.spawn(feed(
        context.namespaces.subscribe(),
        &Resource::namespaces(),
        heard.clone(),
    ));
    feeds.spawn(feed(
        context.budgets.subscribe(),
        &Resource::pod_disruption_budgets(),
        heard.clone(),
    ));
    feeds.spawn(feed(
        context.services.subscribe(),
        &Resource::services(),
        heard.clone(),
    ));
    feeds.spawn(feed(
        context.endpoint_slices.subscribe(),
        &Resource::endpoint_slices(),
        heard.clone(),
    ));
    feeds.spawn(feed(
        context.endpoints.subscribe(),
        &Resource::endpoints(),
        heard.clone(),
    ));
}

/// Watches the metadata of a kind that nobody else watches.
fn watch(context: &Context, resource: Resource, heard: mpsc::Sender<Vec<Heard>>, feeds: &mut JoinSet<()>) {
    let reflector: Reflector<ObjectView> = Reflector::new();
    feeds.spawn(feed(reflector.subscribe(), &resource, heard));
    let path = resource.path();
    feeds.spawn(reflector.run(context.api.clone(), path, Some(METADATA_ONLY)));
}

/// Turns one kind's events into the collector's.
fn feed<V: Watched>(
    mut events: mpsc::Receiver<Batch<V>>,
    resource: &Resource,
    heard: mpsc::Sender<Vec<Heard>>,
) -> impl Future<Output = ()> + use<V> {
    let (api_version, kind): (Arc<str>, Arc<str>) = (resource.api_version().into(), (&*resource.kind).into());
    async move {
        while let Some(batch) = events.recv().await {
            let object = |meta: &ObjectMetaView| Object::of(&api_version, &kind, meta);
            let changes = batch.iter().filter_map(|event| match event {
                Event::Put(v) => Some(Heard::Put(object(v.meta()))),
                Event::Delete(v) => Some(Heard::Delete(v.meta().uid.clone())),
                Event::Synced(_) | Event::Bookmark(_) => None,
            });
            if heard.send(changes.collect()).await.is_err() {
                return;
            }
        }
    }
}

fn hear(graph: &mut Graph, batch: Vec<Heard>) {
    for change in batch {
        match change {
            Heard::Put(object) => graph.put(object),
            Heard::Delete(uid) => graph.delete(&uid),
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
            tracing::warn!(%failure, "looking for an owner");
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
            // A conflict is an object that changed meanwhile: decide about what it is now.
            if !failure.is_conflict() {
                tracing::warn!(%failure, "collecting garbage");
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
            context.recorder.tell(Record {
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

/// Whether the owner is there, of the uid that the reference says.
async fn look(
    context: Context,
    resource: Option<Resource>,
    owner: OwnerView,
    namespace: Arc<str>,
) -> Outcome {
    let uid = owner.uid.clone();
    let Some(resource) = resource else {
        // A kind that the server does not have, or whose version is no longer preferred: nothing can be said, so nothing is deleted.
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
