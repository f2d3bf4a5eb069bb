//! How the writes of [`plan::endpoints`] are sent, and what their answers mean.

use std::time::Duration;

use http::Method;
use plan::endpoints::{Action, Answer, Write};
use reflector::request::{Api, DeleteOptions, Failure, MERGE};
use serde::Deserialize;

use crate::resource::Resource;

/// Writes under way at once, for all Services together. Each may carry a hundred endpoints.
pub(crate) const IN_FLIGHT: usize = 64;

/// A write without an answer after this is given up: what became of it, the watch tells.
const UNANSWERED_AFTER: Duration = Duration::from_secs(60);

/// A write and how it went.
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
            // A conflict is an object that changed meanwhile, or one that is there already and not seen yet.
            if !failure.is_conflict() && !failure.is_not_found() {
                tracing::warn!(%failure, service = %action.service.name, "writing a Service's endpoints");
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
                // A conflict may be any change at that moment: if it is another object by now, the watch tells.
                Err(failure) if failure.is_not_found() => Ok(Answer::Deleted),
                Err(failure) => Err(failure),
            };
        }
    };
    let version = written.metadata.resource_version.parse();
    Ok(version.map_or(Answer::Failed, Answer::Written))
}
