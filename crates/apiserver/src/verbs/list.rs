//! list: the objects that match the selectors at one revision, at once or in pages.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::status::Status;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{ListError, Revision, Snapshot};

use crate::body::{Body, BoxError};
use crate::limits::FRAME_BYTES;
use crate::negotiate::JSON;
use crate::objects::{Entry, INDEX_NODE, Object};
use crate::request::Request;
use crate::respond::{self, Presenter};
use crate::shared::Shared;
use crate::verbs::converted_list;
use crate::verbs::list_options::{self, ListOptions, Match, Selection};

/// Where the next page of a list begins.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    v: String,
    /// The revision of the list. -1 continues at the current revision, after the list's own
    /// revision was compacted.
    rv: i64,
    /// The key of the last object of the page before, without the list's prefix.
    start: String,
}

const CONTINUE_VERSION: &str = "meta.k8s.io/v1";
const ANY_REVISION: i64 = -1;

impl Continue {
    fn encode(rv: i64, start: &str) -> Result<String, Status> {
        let token = Continue {
            v: CONTINUE_VERSION.to_owned(),
            rv,
            start: start.to_owned(),
        };
        let json = serde_json::to_vec(&token).map_err(Status::internal)?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(json))
    }

    fn decode(token: &str) -> Result<Continue, Status> {
        let invalid = || Status::bad_request("continue key is not valid");
        let json = BASE64_URL_SAFE_NO_PAD
            .decode(token.trim_end_matches('='))
            .map_err(|_| invalid())?;
        let decoded: Continue = serde_json::from_slice(&json).map_err(|_| invalid())?;
        match decoded.v == CONTINUE_VERSION && decoded.rv >= ANY_REVISION {
            true => Ok(decoded),
            false => Err(invalid()),
        }
    }
}

/// Lists the objects of the path that match the selectors.
pub(crate) async fn list(
    shared: &Shared,
    request: Request,
    options: ListOptions,
) -> Result<Response<Body>, Status> {
    let prefix = options.selection.prefix(&request.target.namespace);
    let (snapshot, start) = match &options.continued {
        None => (snapshot(shared, &prefix, &options).await?, None),
        Some(token) => {
            if options.revision.is_some_and(|revision| revision.0 != 0) {
                let why = "specifying resource version is not allowed when using continue";
                return Err(Status::bad_request(why));
            }
            let token = Continue::decode(token)?;
            match continued_snapshot(shared, &prefix, &token) {
                Ok(snapshot) => (snapshot, Some(format!("{prefix}{}", token.start))),
                Err(ListError::Compacted { .. }) => return expired(&token),
                Err(error) => return Err(list_failed(error)),
            }
        }
    };
    let page = Page::of(&snapshot, &options.selection, start.as_deref(), options.limit);
    let mut list_meta = json!({"resourceVersion": snapshot.revision().to_string()});
    if let Some(last) = &page.more_after {
        let start = last.strip_prefix(prefix.as_str()).unwrap_or(last);
        list_meta["continue"] = Continue::encode(rv_of(snapshot.revision()), start)?.into();
        // With selectors, the count would have to examine every remaining object.
        if options.selection.is_everything() {
            list_meta["remainingItemCount"] = snapshot.after(last).len().into();
        }
    }
    let presenter = Presenter::of(request.target.kind, request.answer, &request.query, request.now)?;
    let mut response = match presenter.is_plain() {
        true => shared_bytes(&presenter, &list_meta, page.objects),
        false => converted_list::answer(presenter, list_meta, page.objects)?,
    };
    respond::add_warnings(&mut response, &request.warnings);
    Ok(response)
}

fn rv_of(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// Returns the objects at the revision that the parameters request.
async fn snapshot(shared: &Shared, prefix: &str, options: &ListOptions) -> Result<Snapshot<Entry>, Status> {
    let Some(revision) = options.revision.filter(|revision| revision.0 != 0) else {
        return Ok(current(shared, prefix, &options.selection));
    };
    list_options::reach(shared, revision).await?;
    // Without `resourceVersionMatch`, a limit means exactly this revision, as in Kubernetes.
    let exact = match options.matching {
        Some(matching) => matching == Match::Exact,
        None => options.limit > 0,
    };
    match exact {
        true => shared.objects.list_at(prefix, revision).map_err(list_failed),
        false => Ok(current(shared, prefix, &options.selection)),
    }
}

fn current(shared: &Shared, prefix: &str, selection: &Selection) -> Snapshot<Entry> {
    match selection.node() {
        Some(node) => shared.objects.list_where(prefix, INDEX_NODE, node),
        None => shared.objects.list(prefix),
    }
}

fn continued_snapshot(shared: &Shared, prefix: &str, token: &Continue) -> Result<Snapshot<Entry>, ListError> {
    match u64::try_from(token.rv) {
        Ok(revision) => shared.objects.list_at(prefix, Revision(revision)),
        Err(_) => Ok(shared.objects.list(prefix)),
    }
}

fn list_failed(error: ListError) -> Status {
    match error {
        ListError::Compacted { .. } => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        ListError::Future { asked, current } => Status::too_large_resource_version(asked.0, current.0),
    }
}

/// Returns 410 with a token that continues after the same key, at the current revision.
fn expired(token: &Continue) -> Result<Response<Body>, Status> {
    let mut value = Status::continue_expired().to_value();
    value["metadata"]["continue"] = Continue::encode(ANY_REVISION, &token.start)?.into();
    Ok(respond::json(StatusCode::GONE, &value))
}

/// One page of a list.
struct Page {
    objects: Vec<Arc<Object>>,
    /// The key of the last object, when more objects follow.
    more_after: Option<String>,
}

impl Page {
    /// Returns at most `limit` selected objects after the key `start`. 0 means no limit.
    fn of(snapshot: &Snapshot<Entry>, selection: &Selection, start: Option<&str>, limit: usize) -> Page {
        let all = snapshot.after(start.unwrap_or_default());
        let mut selected = all.filter(|object| selection.matches(&object.attributes));
        if limit == 0 {
            return Page {
                objects: selected.cloned().collect(),
                more_after: None,
            };
        }
        let objects: Vec<Arc<Object>> = selected.by_ref().take(limit).cloned().collect();
        let more = selected.next().is_some();
        let last = objects.last().map(|object| object.key.as_str().to_owned());
        Page {
            objects,
            more_after: last.filter(|_| more),
        }
    }
}

/// Returns a list that concatenates the stored bytes.
fn shared_bytes(presenter: &Presenter, list_meta: &Value, objects: Vec<Arc<Object>>) -> Response<Body> {
    let head = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{list_meta},\"items\":[",
        presenter.kind.kind,
        presenter.kind.api_version(),
    );
    let commas = objects.len().saturating_sub(1);
    let bytes: usize = objects.iter().map(|object| object.body.len()).sum();
    let left = head.len() + bytes + commas + ListBody::TAIL.len();
    let body = ListBody {
        head: Some(head),
        objects: objects.into(),
        left,
    };
    let mut response = respond::bytes_response(StatusCode::OK, JSON, Bytes::new());
    *response.body_mut() = Body::stream(body);
    response
}

/// Body of a list. It copies the objects into frames while the client reads.
struct ListBody {
    head: Option<String>,
    objects: VecDeque<Arc<Object>>,
    /// Bytes that are not sent yet.
    left: usize,
}

impl ListBody {
    const TAIL: &'static [u8] = b"]}";
}

impl http_body::Body for ListBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut frame = BytesMut::with_capacity(self.left.min(FRAME_BYTES));
        let mut first = false;
        if let Some(head) = self.head.take() {
            frame.extend_from_slice(head.as_bytes());
            first = true;
        }
        while frame.len() < FRAME_BYTES {
            let Some(object) = self.objects.pop_front() else {
                frame.extend_from_slice(Self::TAIL);
                break;
            };
            if !first {
                frame.extend_from_slice(b",");
            }
            first = false;
            frame.extend_from_slice(&object.body);
        }
        self.left = self.left.saturating_sub(frame.len());
        Poll::Ready(Some(Ok(Frame::data(frame.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}
