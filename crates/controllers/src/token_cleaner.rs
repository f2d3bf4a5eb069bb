//! Removes bootstrap tokens that have expired. They admit nobody from the moment on, but lists of them would grow.
//!
//! Stateless: there is a handful of them, and all are read now and then.

use std::time::Duration;

use api::bootstrap_token::{NAMESPACE, SECRET_TYPE, StoredToken};
use serde_json::Value;

use crate::Context;
use crate::driver::TaskError;
use crate::request::DeleteOptions;
use crate::resource::Resource;

/// How often tokens are read.
const PERIOD: Duration = Duration::from_secs(10);

/// Removes until it is dropped.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let secrets = Resource::secrets();
    let path = format!(
        "{}?fieldSelector=type%3D{}",
        secrets.collection(NAMESPACE),
        SECRET_TYPE.replace('/', "%2F")
    );
    loop {
        let list: Value = context.api.get(&path).await?;
        let now = context.clock.now();
        for secret in list["items"].as_array().into_iter().flatten() {
            // A list's items do not say what they are; the selector does.
            let Some(token) = StoredToken::of_secret(secret).filter(|token| token.has_expired(now)) else {
                continue;
            };
            let options = DeleteOptions {
                uid: secret["metadata"]["uid"].as_str(),
                resource_version: secret["metadata"]["resourceVersion"].as_str(),
                ..DeleteOptions::default()
            };
            let path = secrets.object(NAMESPACE, api::meta::name(secret));
            match context.api.delete(&path, options).await {
                Ok(()) => tracing::info!(id = token.id, "a bootstrap token has expired and is removed"),
                // Somebody prolonged it, or was faster.
                Err(failure) if failure.is_not_found() || failure.is_conflict() => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}
