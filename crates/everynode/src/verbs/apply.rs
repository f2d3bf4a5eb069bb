//! `everynode apply -f`: creates or changes the objects of a manifest, and keeps fields that it
//! does not contain.
//!
//! It works like the client-side `kubectl apply`. An annotation holds the manifest that was applied
//! last. The patch is computed from that manifest, the new one, and the current object.

use anyhow::{Context, Result, bail};
use clap::Args;
use http::Method;
use serde_json::Value;

use super::create::{WriteArgs, create, each_document};
use crate::client::connection::{ConnectArgs, Connection, JSON, Payload};
use crate::client::dry_run::DryRun;
use crate::client::error::{CONFLICT_TRIES, is_conflict, is_not_found};
use crate::client::manifest::Document;
use crate::client::resources::{Resource, Resources};

/// Annotation with the manifest that was applied last. kubectl uses it too.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Create or update the objects of a manifest
#[derive(Args, Debug)]
pub(crate) struct Apply {
    #[command(flatten)]
    write: WriteArgs,
}

impl Apply {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        each_document(
            &self.write,
            &connection,
            &resources,
            "applying",
            async |document, resource, namespace| {
                let modified = annotated(document, namespace, resource.namespaced)?;
                let query = self.write.query("everynode-apply");
                let dry_run = self.write.dry_run.mode;
                let (object, done) =
                    apply(&connection, resource, namespace, &modified, &query, dry_run).await?;
                self.write.report(resource, &object, done)
            },
        )
        .await
    }
}

/// Creates or patches the object that `modified` describes. Returns the object and what was done.
/// `query` is the query of the request, with the dry run.
pub(super) async fn apply(
    connection: &Connection,
    resource: &Resource,
    namespace: &str,
    modified: &Value,
    query: &str,
    dry_run: DryRun,
) -> Result<(Value, &'static str)> {
    let name = modified["metadata"]["name"].as_str().unwrap_or_default();
    let path = resource.object(namespace, name);
    let mut tries = 0;
    loop {
        tries += 1;
        let current = match connection.get(&path).await {
            Err(error) if is_not_found(&error) && dry_run == DryRun::Client => {
                return Ok((modified.clone(), "created"));
            }
            Err(error) if is_not_found(&error) => {
                let created = create(connection, resource, namespace, modified, query).await?;
                return Ok((created, "created"));
            }
            current => current?,
        };
        let (content_type, patch) = patch(resource, modified, &current)?;
        if patch.as_object().is_none_or(serde_json::Map::is_empty) {
            return Ok((current, "unchanged"));
        }
        if dry_run == DryRun::Client {
            return Ok((modified.clone(), "configured"));
        }
        let payload = Payload::patch(content_type, &patch);
        let target = format!("{path}?{query}");
        match connection
            .request(Method::PATCH, &target, JSON, Some(payload))
            .await
        {
            Err(error) if is_conflict(&error) && tries < CONFLICT_TRIES => {}
            answer => {
                let answer = answer?;
                // A dry run does not change the resource version.
                let same = dry_run == DryRun::None
                    && answer["metadata"]["resourceVersion"] == current["metadata"]["resourceVersion"];
                return Ok((answer, if same { "unchanged" } else { "configured" }));
            }
        }
    }
}

/// Returns the object with its own JSON as annotation, for the next apply.
pub(super) fn annotated(document: &Document, namespace: &str, namespaced: bool) -> Result<Value> {
    let mut object = document.object.clone();
    if document.name().is_empty() {
        bail!(
            "from {}: cannot use generate name with apply",
            object["metadata"]["generateName"]
        );
    }
    let metadata = object
        .as_object_mut()
        .and_then(|object| object.get_mut("metadata"))
        .and_then(Value::as_object_mut);
    let metadata = metadata.context("metadata must be an object with a name")?;
    if namespaced {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let mut text = object.to_string();
    text.push('\n');
    object["metadata"]["annotations"][LAST_APPLIED] = text.into();
    Ok(object)
}

/// Returns the patch from `current` to `modified`: strategic for known kinds, else a JSON merge
/// patch.
fn patch(resource: &Resource, modified: &Value, current: &Value) -> Result<(&'static str, Value)> {
    let last = current["metadata"]["annotations"][LAST_APPLIED].as_str();
    let original: Option<Value> = match last {
        Some(text) => {
            Some(serde_json::from_str(text).with_context(|| format!("read the annotation {LAST_APPLIED}"))?)
        }
        None => None,
    };
    let ty = schema::lookup(&resource.group, &resource.version, &resource.kind);
    let patch = schema::patch::three_way(ty, original.as_ref(), modified, current);
    let content_type = if ty.is_some() {
        "application/strategic-merge-patch+json"
    } else {
        "application/merge-patch+json"
    };
    Ok((content_type, patch))
}
