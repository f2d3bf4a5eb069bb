//! Deletes expired bootstrap tokens. They are invalid already, but would accumulate.
//!
//! There are only a few, so all are read when one has changed and when the next one expires.

use api::bootstrap_token::{NAMESPACE, SECRET_TYPE, StoredToken};
use api::view::ObjectView;
use jiff::Timestamp;
use reflector::request::{DeleteOptions, Failure};
use reflector::{Event, METADATA_ONLY, Reflector};
use serde_json::Value;

use crate::Context;
use crate::driver::TaskError;
use crate::resource::Resource;

/// Runs until it is dropped.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let path = format!(
        "{}?fieldSelector=type%3D{}",
        Resource::secrets().collection(NAMESPACE),
        SECRET_TYPE.replace('/', "%2F")
    );
    // The expiry is in the token's data, which should not be cached. The watch only shows that a
    // token changed.
    let tokens: Reflector<ObjectView> = Reflector::new();
    let mut batches = tokens.subscribe();
    let reflecting = tokens
        .clone()
        .run(context.api.clone(), path.clone(), Some(METADATA_ONLY));
    tokio::pin!(reflecting);
    let mut look_at: Option<Timestamp> = None;
    loop {
        tokio::select! {
            biased;
            () = &mut reflecting => return Err("its reflector ended".into()),
            Some(batch) = batches.recv() => {
                if batch.iter().any(|event| matches!(event, Event::Put(_))) {
                    look_at = Some(Timestamp::MIN);
                }
            }
            () = context.clock.until(look_at) => {}
        }
        if look_at.is_some_and(|at| at <= context.clock.now()) {
            look_at = remove_expired(&context, &path).await?;
        }
    }
}

/// Deletes the expired tokens. Returns when the next one expires.
async fn remove_expired(context: &Context, path: &str) -> Result<Option<Timestamp>, Failure> {
    let list: Value = context.api.get(path).await?;
    let now = context.clock.now();
    let mut next: Option<Timestamp> = None;
    for secret in list["items"].as_array().into_iter().flatten() {
        let Some(token) = StoredToken::of_secret(secret) else {
            continue;
        };
        let Some(ends) = token.expiry() else { continue };
        if ends > now {
            next = Some(next.map_or(ends, |next| next.min(ends)));
            continue;
        }
        let options = DeleteOptions {
            uid: secret["metadata"]["uid"].as_str(),
            resource_version: secret["metadata"]["resourceVersion"].as_str(),
            ..DeleteOptions::default()
        };
        let object = Resource::secrets().object(NAMESPACE, api::meta::name(secret));
        match context.api.delete(&object, options).await {
            Ok(()) => tracing::info!(id = token.id, "deleted an expired bootstrap token"),
            // Another client extended or deleted it: the watch shows it.
            Err(failure) if failure.is_not_found() || failure.is_conflict() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(next)
}
