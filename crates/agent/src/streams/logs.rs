//! `GET /containerLogs/<namespace>/<pod>/<container>`.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use super::{Body, Query, Wanted, refuse};
use crate::calls::STREAMS;
use crate::container::run_id;
use crate::log_files::{self, Selection};
use crate::worker::Shared;

/// Pieces of a log that wait for a slow reader.
const PIECES: usize = 8;

pub(super) async fn answer(shared: Arc<Shared>, wanted: Wanted, query: &Query) -> Response<Body> {
    let selection = match selection(query, Timestamp::now()) {
        Ok(selection) => selection,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, &message),
    };
    let logs = shared.logs.pod(&wanted.namespace, &wanted.pod, &wanted.uid);
    let Some(newest) = logs.newest(&wanted.container) else {
        let pod = shared.cluster.pod(&wanted.namespace, &wanted.pod).await;
        let reason = match &pod {
            Ok(pod) => waiting_reason(pod, &wanted.container),
            Err(error) => {
                tracing::debug!(pod = wanted.pod, %error, "read why a container waits");
                None
            }
        };
        return refuse(StatusCode::BAD_REQUEST, &not_started(&wanted, reason));
    };
    let attempt = if query.is("previous") {
        // While a container waits to be started again, its newest run is already the previous one.
        match if ended(&shared, &wanted, newest).await {
            Some(newest)
        } else {
            newest.checked_sub(1)
        } {
            Some(attempt) if logs.run(&wanted.container, attempt).inode().is_some() => attempt,
            _ => {
                let Wanted { pod, container, .. } = &wanted;
                let message = format!("previous terminated container {container:?} in pod {pod:?} not found");
                return refuse(StatusCode::BAD_REQUEST, &message);
            }
        }
    } else {
        newest
    };
    let log = logs.run(&wanted.container, attempt);
    let (out, pieces) = mpsc::channel(PIECES);
    // The task ends when the reader leaves or the log ends.
    tokio::spawn(async move {
        let ended = || ended(&shared, &wanted, attempt);
        if let Err(error) = log_files::copy(log.clone(), selection, ended, out).await {
            tracing::warn!(log = %log.path().display(), %error, "cannot read a container's log");
        }
    });
    let pieces = futures::stream::unfold(pieces, |mut pieces: mpsc::Receiver<Bytes>| async move {
        let piece = pieces.recv().await?;
        Some((piece, pieces))
    });
    let body = BodyExt::boxed(StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))));
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("Content-Type", http::HeaderValue::from_static("text/plain"));
    response
}

/// The reason that the status of a container gives for its waiting.
fn waiting_reason<'a>(pod: &'a Pod, container: &str) -> Option<&'a str> {
    let status = pod.status.as_ref()?;
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let mut statuses = lists.into_iter().flatten().flatten();
    let status = statuses.find(|status| status.name == container)?;
    status.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

/// Why there is no log yet, in the kubelet's words.
fn not_started(Wanted { pod, container, .. }: &Wanted, reason: Option<&str>) -> String {
    let why = match reason {
        Some("ErrImagePull") => "image can't be pulled",
        Some("ImagePullBackOff") => "trying and failing to pull image",
        Some(reason) => reason,
        None => "ContainerCreating",
    };
    format!("container {container:?} in pod {pod:?} is waiting to start: {why}")
}

fn selection(query: &Query, now: Timestamp) -> Result<Selection, String> {
    let number = |name: &str| -> Result<Option<u64>, String> {
        let value = query.get(name);
        value
            .map(|value| {
                value
                    .parse()
                    .map_err(|_| format!("{name}: {value:?} is not a number"))
            })
            .transpose()
    };
    let since = match (query.get("sinceTime"), number("sinceSeconds")?) {
        (Some(time), _) => Some(
            time.parse()
                .map_err(|_| format!("sinceTime: {time:?} is not a time"))?,
        ),
        (None, Some(seconds)) => {
            let ago = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            Some(now.saturating_sub(ago).unwrap_or(Timestamp::MIN))
        }
        (None, None) => None,
    };
    Ok(Selection {
        follow: query.is("follow"),
        timestamps: query.is("timestamps"),
        tail_lines: number("tailLines")?,
        since,
        limit_bytes: number("limitBytes")?,
    })
}

/// Whether a run writes nothing any more.
async fn ended(shared: &Shared, wanted: &Wanted, attempt: u32) -> bool {
    let Some(sandbox) = shared.runtime.pod(&wanted.uid) else {
        return true;
    };
    let id = run_id(&wanted.container, attempt);
    let status = STREAMS.run(&wanted.uid, move || sandbox.container(&id)).await;
    !status.is_ok_and(|status| status.is_some_and(|status| status.state.is_running()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_never_ran_is_said_to_wait_for_what_its_status_says() {
        let status = |name: &str, reason: &str| {
            serde_json::json!({"name": name, "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"waiting": {"reason": reason}}})
        };
        let statuses = [
            status("a", "ImagePullBackOff"),
            status("b", "CreateContainerConfigError"),
        ];
        let pod = serde_json::json!({"metadata": {}, "status": {"containerStatuses": statuses}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let said = |container: &str| {
            let wanted = Wanted {
                namespace: "n".into(),
                pod: "p".into(),
                container: container.into(),
                uid: String::new(),
            };
            not_started(&wanted, waiting_reason(&pod, container))
        };
        let waits = |container: &str, why: &str| {
            format!("container {container:?} in pod \"p\" is waiting to start: {why}")
        };
        assert_eq!(said("a"), waits("a", "trying and failing to pull image"));
        assert_eq!(said("b"), waits("b", "CreateContainerConfigError"));
        assert_eq!(said("c"), waits("c", "ContainerCreating"));
    }

    #[test]
    fn the_query_selects() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let query = Query::parse("follow=true&tailLines=5&sinceSeconds=60&limitBytes=9&timestamps=1");
        let expected = Selection {
            follow: true,
            timestamps: true,
            tail_lines: Some(5),
            since: "2026-01-01T00:00:00Z".parse().ok(),
            limit_bytes: Some(9),
        };
        assert_eq!(selection(&query, now), Ok(expected));
        let query = Query::parse("sinceSeconds=99999999999999999999");
        assert!(selection(&query, now).is_err());
        let query = Query::parse("sinceSeconds=999999999999999");
        assert!(selection(&query, now).is_ok());
    }
}
