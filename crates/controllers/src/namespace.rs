//! Empties namespaces that are being deleted, as [`plan::namespaces`] decides.

use std::collections::HashSet;
use std::sync::Arc;

use api::view::{NamespaceView, ObjectView};
use plan::namespaces::{Content, KUBERNETES_FINALIZER, LOOK_AGAIN, Step, conditions, step};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Context;
use crate::discovery::{self, Deletable};
use crate::driver::TaskError;
use crate::flight::Flight;
use crate::reflector::{Event, METADATA_ONLY_LIST};
use crate::request::{DeleteOptions, Failure, STRATEGIC};
use crate::resource::Resource;

/// Namespaces emptied at the same time; the others wait their turn.
const IN_FLIGHT: usize = 10;

/// Objects of a kind that are counted; more are "at least".
const COUNTED: usize = 500;

/// Passes over one namespace in a row. A second one sees at once that everything without a finalizer went with the first.
const PASSES: usize = 3;

/// Empties until it is dropped.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let mut namespaces = context.namespaces.subscribe();
    let mut waiting: Vec<Arc<NamespaceView>> = Vec::new();
    let mut under_way: HashSet<Arc<str>> = HashSet::new();
    let mut flight: Flight<Arc<str>> = Flight::new(IN_FLIGHT);
    loop {
        tokio::select! {
            Some(batch) = namespaces.recv() => for event in batch.iter() {
                match event {
                    Event::Put(namespace) if namespace.meta.is_terminating() => waiting.push(namespace.clone()),
                    _ => {}
                }
            },
            uid = flight.next() => {
                under_way.remove(&uid);
                // It may have been worth another pass, and no event need come for that.
                waiting.extend(context.namespaces.all().into_iter().filter(|n| n.meta.uid == uid && n.meta.is_terminating()));
            }
            else => return Err("its reflector ended".into()),
        }
        let room = flight.room().min(waiting.len());
        for namespace in waiting.drain(..room) {
            if under_way.insert(namespace.meta.uid.clone()) {
                flight.launch(empty(context.clone(), namespace));
            }
        }
        // What is under way looks again by itself.
        waiting.retain(|n| !under_way.contains(&n.meta.uid));
    }
}

/// Looks, acts, and looks again until the namespace is gone or takes its time.
async fn empty(context: Context, namespace: Arc<NamespaceView>) -> Arc<str> {
    let name = &namespace.meta.name;
    for _ in 0..PASSES {
        match pass(&context, &namespace).await {
            Ok(Step::Nothing | Step::Finalize) => break,
            Ok(Step::DeletePods | Step::DeleteAll) => {}
            Err(failure) if failure.is_not_found() => break,
            Err(failure) => {
                tracing::warn!(namespace = %name, %failure, "emptying a namespace");
                break;
            }
        }
    }
    tokio::time::sleep(LOOK_AGAIN).await;
    namespace.meta.uid.clone()
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
    let patch = json!({"status": {"conditions": stamped(conditions(&content))}});
    context
        .api
        .patch(
            &Resource::namespaces().subresource("", name, "status"),
            STRATEGIC,
            &patch,
        )
        .await?;
    Ok(next)
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
    let word = match resource.group.as_str() {
        "" => resource.plural.clone(),
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

/// Takes our finalizer out of the namespace as it is now.
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

fn stamped(mut conditions: Vec<Value>) -> Vec<Value> {
    let now = crate::clock::seconds(jiff::Timestamp::now());
    conditions
        .iter_mut()
        .for_each(|c| c["lastTransitionTime"] = now.clone().into());
    conditions
}
