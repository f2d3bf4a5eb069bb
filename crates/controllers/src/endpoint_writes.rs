//! Sends the writes of [`plan::endpoints`], and classifies the answers.

use std::time::Duration;

use http::Method;
use plan::endpoints::{Action, Answer, Write};
use reflector::request::{Api, DeleteOptions, Failure, MERGE};
use serde::Deserialize;

use crate::resource::Resource;

/// Most writes in flight, for all Services together. Each may contain a hundred endpoints.
pub(crate) const IN_FLIGHT: usize = 64;

/// Timeout of a write. The watch shows whether it took effect.
const UNANSWERED_AFTER: Duration = Duration::from_secs(60);

/// A write and its result.
pub(crate) struct Outcome {
    pub(crate) action: Action,
    pub(crate) answer: Answer,
}

#[derive(Deserialize)]
struct Written {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

/// Sends a write about an object of `resource`.
pub(crate) async fn execute(api: Api, resource: Resource, action: Action) -> Outcome {
    let sent = tokio::time::timeout(UNANSWERED_AFTER, send(&api, &resource, &action)).await;
    let answer = match sent {
        Ok(Ok(answer)) => answer,
        Ok(Err(failure)) if failure.namespace_terminating() => Answer::NoPlace,
        Ok(Err(failure)) => {
            // A conflict means that the object changed or was created meanwhile.
            if !failure.is_conflict() && !failure.is_not_found() {
                tracing::warn!(%failure, service = %action.service.name, "cannot write the endpoints of the Service");
            }
            Answer::Failed
        }
        Err(_) => Answer::Failed,
    };
    Outcome { action, answer }
}

async fn send(api: &Api, resource: &Resource, action: &Action) -> Result<Answer, Failure> {
    let namespace = &action.service.namespace;
    let written = match &action.write {
        Write::Create(object) => {
            api.write_and_read::<Written>(
                Method::POST,
                &resource.collection(namespace),
                "application/json",
                object,
            )
            .await?
        }
        Write::Update { name, patch } => {
            let path = resource.object(namespace, name);
            api.write_and_read(Method::PATCH, &path, MERGE, patch).await?
        }
        Write::Delete { name, uid } => {
            let options = DeleteOptions {
                uid: Some(uid),
                ..DeleteOptions::default()
            };
            return match api.delete(&resource.object(namespace, name), options).await {
                Ok(()) => Ok(Answer::Deleted),
                // A conflict may be a concurrent change. If it is another object now, the watch
                // shows it.
                Err(failure) if failure.is_not_found() => Ok(Answer::Deleted),
                Err(failure) => Err(failure),
            };
        }
    };
    let version = written.metadata.resource_version.parse();
    Ok(version.map_or(Answer::Failed, Answer::Written))
}
