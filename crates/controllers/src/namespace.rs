//! Deletes the content of terminating namespaces, as [`plan::namespaces`] decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::view::{NamespaceView, ObjectView};
use jiff::Timestamp;
use plan::namespaces::{Content, KUBERNETES_FINALIZER, LOOK_AGAIN, Step, changed, conditions, step};
use reflector::backoff::Backoff;
use reflector::request::{DeleteOptions, Failure, STRATEGIC};
use reflector::{Event, METADATA_ONLY_LIST};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Context;
use crate::discovery::{self, Deletable};
use crate::driver::TaskError;
use crate::flight::Flight;
use crate::resource::Resource;

/// Namespaces that are emptied at a time. Others wait.
const IN_FLIGHT: usize = 10;

/// Most objects of a kind that are counted.
const COUNTED: usize = 500;

/// Most passes over one namespace in a row. The second one usually shows that all objects without
/// finalizers are deleted.
const PASSES: usize = 3;

/// Longest delay between two passes. A finalizer may keep a namespace for days.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Runs until it is dropped.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let mut namespaces = context.namespaces.subscribe();
    let mut terminating: HashMap<Arc<str>, Terminating> = HashMap::new();
    let mut flight: Flight<(Arc<str>, bool)> = Flight::new(IN_FLIGHT);
    loop {
        let next = match flight.room() {
            0 => None,
            _ => terminating
                .values()
                .filter(|t| !t.in_flight)
                .map(|t| t.look_at)
                .min(),
        };
        tokio::select! {
            biased;
            Some(batch) = namespaces.recv() => for event in batch.iter() {
                match event {
                    Event::Put(namespace) if namespace.meta.is_terminating() => {
                        let known = terminating.entry(namespace.meta.uid.clone()).or_insert_with(|| Terminating::new(namespace));
                        known.namespace = namespace.clone();
                    }
                    Event::Delete(namespace) => {
                        terminating.remove(&namespace.meta.uid);
                    }
                    _ => {}
                }
            },
            (uid, again) = flight.next() => {
                if !again {
                    terminating.remove(&uid);
                } else if let Some(known) = terminating.get_mut(&uid) {
                    known.in_flight = false;
                    known.look_at = context.clock.now() + known.wait.next_wait();
                }
            }
            () = context.clock.until(next) => {}
            else => return Err("its reflector ended".into()),
        }
        let now = context.clock.now();
        for known in terminating
            .values_mut()
            .filter(|t| !t.in_flight && t.look_at <= now)
            .take(flight.room())
        {
            known.in_flight = true;
            flight.launch(empty(context.clone(), known.namespace.clone()));
        }
    }
}

/// A terminating namespace.
struct Terminating {
    namespace: Arc<NamespaceView>,
    in_flight: bool,
    look_at: Timestamp,
    wait: Backoff,
}

impl Terminating {
    fn new(namespace: &Arc<NamespaceView>) -> Self {
        let wait = Backoff::new(LOOK_AGAIN, LONGEST_WAIT);
        Self {
            namespace: namespace.clone(),
            in_flight: false,
            look_at: Timestamp::MIN,
            wait,
        }
    }
}

/// Makes passes until the namespace is finished or takes longer. Returns whether another pass is
/// needed later.
async fn empty(context: Context, namespace: Arc<NamespaceView>) -> (Arc<str>, bool) {
    let uid = namespace.meta.uid.clone();
    for _ in 0..PASSES {
        match pass(&context, &namespace).await {
            // Other controllers must remove what remains. The namespace's next event triggers
            // another pass.
            Ok(Step::Nothing | Step::Finalize) => return (uid, false),
            Ok(Step::DeletePods | Step::DeleteAll) => {}
            Err(failure) if failure.is_not_found() => return (uid, false),
            Err(failure) => {
                tracing::warn!(namespace = %namespace.meta.name, %failure, "cannot empty the namespace");
                break;
            }
        }
    }
    (uid, true)
}

async fn pass(context: &Context, namespace: &NamespaceView) -> Result<Step, Failure> {
    let name = &namespace.meta.name;
    let kinds: Vec<_> = discovery::deletable(&context.api)
        .await?
        .into_iter()
        .filter(|k| k.resource.namespaced && (k.resource.plural != "events" || k.resource.group.is_empty()))
        .collect();
    let mut content = Content::default();
    let mut holding = Vec::new();
    for kind in &kinds {
        let before = content.objects.len();
        count(context, &kind.resource, name, &mut content).await?;
        if content.objects.len() > before {
            holding.push(kind);
        }
    }
    let next = step(namespace.meta.is_terminating(), &namespace.finalizers, &content);
    match next {
        Step::Nothing => {}
        Step::DeletePods => {
            let pods = holding
                .iter()
                .filter(|k| k.resource.group.is_empty() && k.resource.plural == "pods");
            delete(context, name, pods.copied(), &mut content).await;
        }
        Step::DeleteAll => delete(context, name, holding.iter().copied(), &mut content).await,
        Step::Finalize => return finalize(context, name).await.map(|()| next),
    }
    write_conditions(context, name, conditions(&content)).await?;
    Ok(next)
}

/// Writes the changed conditions, which show what the deletion waits for.
async fn write_conditions(context: &Context, name: &str, conditions: Vec<Value>) -> Result<(), Failure> {
    let known: Value = context.api.get(&Resource::namespaces().object("", name)).await?;
    let known = known["status"]["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let changes = changed(known, conditions, context.clock.now());
    if changes.is_empty() {
        return Ok(());
    }
    let path = Resource::namespaces().subresource("", name, "status");
    let patch = json!({"status": {"conditions": changes}});
    context.api.patch(&path, STRATEGIC, &patch).await
}

#[derive(Deserialize)]
struct List {
    items: Vec<ObjectView>,
}

async fn count(
    context: &Context,
    resource: &Resource,
    namespace: &str,
    content: &mut Content,
) -> Result<(), Failure> {
    let path = format!("{}?limit={COUNTED}", resource.collection(namespace));
    let list: List = context.api.get_as(&path, METADATA_ONLY_LIST).await?;
    let word = match &*resource.group {
        "" => resource.plural.to_string(),
        group => format!("{}.{group}", resource.plural),
    };
    for item in &list.items {
        content.add(&word, item.meta.finalizers().iter().map(|f| f.to_string()));
    }
    Ok(())
}

async fn delete<'a>(
    context: &Context,
    namespace: &str,
    kinds: impl Iterator<Item = &'a Deletable>,
    content: &mut Content,
) {
    for kind in kinds {
        let path = kind.resource.collection(namespace);
        let options = DeleteOptions {
            propagation: Some("Background"),
            ..DeleteOptions::default()
        };
        let result = match kind.collection {
            true => context.api.delete(&path, options).await,
            false => delete_one_by_one(context, &kind.resource, namespace).await,
        };
        if let Err(failure) = result {
            content.failures.push(failure.message());
        }
    }
}

async fn delete_one_by_one(context: &Context, resource: &Resource, namespace: &str) -> Result<(), Failure> {
    let path = format!("{}?limit={COUNTED}", resource.collection(namespace));
    let list: List = context.api.get_as(&path, METADATA_ONLY_LIST).await?;
    for item in &list.items {
        let options = DeleteOptions {
            propagation: Some("Background"),
            ..DeleteOptions::default()
        };
        context
            .api
            .delete(&resource.object(namespace, &item.meta.name), options)
            .await?;
    }
    Ok(())
}

/// Removes our finalizer from the current state of the namespace.
async fn finalize(context: &Context, name: &str) -> Result<(), Failure> {
    let mut namespace: Value = context.api.get(&Resource::namespaces().object("", name)).await?;
    if let Some(finalizers) = namespace["spec"]["finalizers"].as_array_mut() {
        finalizers.retain(|f| f != KUBERNETES_FINALIZER);
    }
    context
        .api
        .replace(
            &Resource::namespaces().subresource("", name, "finalize"),
            &namespace,
        )
        .await
}
