//! ClusterRoles that are the sum of others (`aggregationRule`) get the rules of their parts.

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

/// How long a failed look waits for the next.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct List {
    items: Vec<Value>,
}

/// Sums up until it is dropped. There are some hundred ClusterRoles and they change seldom, so each change is a look at all of them.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let roles: Reflector<ObjectView> = Reflector::new();
    let mut told = roles.subscribe();
    let path = Resource::cluster_roles().path();
    let fed = roles.clone().run(context.api.clone(), path, Some(METADATA_ONLY));
    tokio::pin!(fed);
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
            () = &mut fed => return Err("its reflector ended".into()),
            Some(batch) = told.recv() => {
                if batch.iter().any(|event| !matches!(event, Event::Bookmark(_))) {
                    due.get_or_insert_with(Instant::now);
                }
            }
            () = look => {
                due = match settle(&context).await {
                    Ok(()) => None,
                    // It changed meanwhile, which the watch tells, too.
                    Err(failure) if failure.is_conflict() || failure.is_not_found() => Some(Instant::now() + AFTER_FAILURE),
                    Err(failure) => {
                        tracing::warn!(%failure, "summing up cluster roles");
                        Some(Instant::now() + AFTER_FAILURE)
                    }
                };
            }
        }
    }
}

/// Gives each sum its rules. What it writes comes back by the watch, and with it the next look: for sums of sums.
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
