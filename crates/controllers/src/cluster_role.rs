//! Aggregates the rules of ClusterRoles (`aggregationRule`).

use std::time::Duration;

use api::authorization::aggregated;
use api::view::ObjectView;
use reflector::request::{Failure, MERGE};
use reflector::{Event, METADATA_ONLY, Reflector};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Context;
use crate::driver::TaskError;
use crate::resource::Resource;

/// Backoff after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct List {
    items: Vec<Value>,
}

/// Runs until it is dropped. There are about a hundred ClusterRoles and they rarely change, so each
/// change reads all of them.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let roles: Reflector<ObjectView> = Reflector::new();
    let mut batches = roles.subscribe();
    let path = Resource::cluster_roles().path();
    let reflecting = roles.clone().run(context.api.clone(), path, Some(METADATA_ONLY));
    tokio::pin!(reflecting);
    let mut due: Option<Instant> = None;
    loop {
        let at = due;
        let look = async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = &mut reflecting => return Err("its reflector ended".into()),
            Some(batch) = batches.recv() => {
                if batch.iter().any(|event| !matches!(event, Event::Bookmark(_))) {
                    due.get_or_insert_with(Instant::now);
                }
            }
            () = look => {
                due = match settle(&context).await {
                    Ok(()) => None,
                    // It changed meanwhile, which the watch shows too.
                    Err(failure) if failure.is_conflict() || failure.is_not_found() => Some(Instant::now() + AFTER_FAILURE),
                    Err(failure) => {
                        tracing::warn!(%failure, "cannot aggregate cluster roles");
                        Some(Instant::now() + AFTER_FAILURE)
                    }
                };
            }
        }
    }
}

/// Writes the rules of each aggregated role. The watch shows the writes, which triggers another
/// pass for roles that aggregate aggregated ones.
async fn settle(context: &Context) -> Result<(), Failure> {
    let resource = Resource::cluster_roles();
    let List { items } = context.api.get(&resource.path()).await?;
    for (name, rules) in aggregated(&items) {
        let sum = items.iter().find(|role| api::meta::name(role) == name);
        let version = sum.map(api::meta::resource_version);
        let patch = json!({"metadata": {"resourceVersion": version}, "rules": rules});
        context
            .api
            .patch(&resource.object("", name), MERGE, &patch)
            .await?;
    }
    Ok(())
}
