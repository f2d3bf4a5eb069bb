//! Removes bootstrap tokens that have expired. They admit nobody from the moment on, but lists of them would grow.
//!
//! There is a handful of them, so all are read when one has changed, and when the next one ends; between that nothing is asked.

use api::bootstrap_token::{NAMESPACE, SECRET_TYPE, StoredToken};
use api::view::ObjectView;
use jiff::Timestamp;
use reflector::request::{DeleteOptions, Failure};
use reflector::{Event, METADATA_ONLY, Reflector};
use serde_json::Value;

use crate::Context;
use crate::driver::TaskError;
use crate::resource::Resource;

/// Removes until it is dropped.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let path = format!(
        "{}?fieldSelector=type%3D{}",
        Resource::secrets().collection(NAMESPACE),
        SECRET_TYPE.replace('/', "%2F")
    );
    // When a token ends stands in its data, which no copy needs to hold: the watch says that one changed.
    let tokens: Reflector<ObjectView> = Reflector::new();
    let mut told = tokens.subscribe();
    let fed = tokens
        .clone()
        .run(context.api.clone(), path.clone(), Some(METADATA_ONLY));
    tokio::pin!(fed);
    let mut look_at: Option<Timestamp> = None;
    loop {
        tokio::select! {
            biased;
            () = &mut fed => return Err("its reflector ended".into()),
            Some(batch) = told.recv() => {
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

/// Removes the tokens that have ended. When the next one will.
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
            Ok(()) => tracing::info!(id = token.id, "a bootstrap token has expired and is removed"),
            // Somebody prolonged it, or was faster: the watch tells.
            Err(failure) if failure.is_not_found() || failure.is_conflict() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(next)
}
