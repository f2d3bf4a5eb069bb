//! watch: streams the changes of the objects that match the selectors.

use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::json;
use store::{Event, EventKind, Revision, Snapshot, WatchError, Watcher};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::body::{Body, BoxError};
use crate::connections::{Connection, Progress};
use crate::flow::Ticket;
use crate::limits::{BOOKMARK_BEFORE_END, BOOKMARK_PERIOD, FRAME_BYTES, WATCH_BATCH_MAX, WATCH_LIFE_MIN};
use crate::metrics::WatchGauge;
use crate::negotiate::{Answer, Encoding, JSON, Shape};
use crate::objects::{self, Entry, INDEX_NODE, Object};
use crate::request::Request;
use crate::respond::{self, Presenter};
use crate::shared::Shared;
use crate::verbs::list_options::{self, ListOptions, Selection};

/// Ticket of a watch. The watch holds a seat until its initial objects are sent, because they are
/// in memory, and the client must read them in time.
pub(crate) struct Seat {
    ticket: Ticket,
    connection: Arc<Connection>,
    /// None after the watch has left the seat.
    progress: Option<Arc<Progress>>,
}

impl Seat {
    pub(crate) fn new(ticket: Ticket, connection: Arc<Connection>) -> Seat {
        let progress = Some(connection.watch_over());
        Seat {
            ticket,
            connection,
            progress,
        }
    }

    /// Records that the client took a frame.
    fn took(&self, bytes: usize) {
        if let Some(progress) = &self.progress {
            self.connection.took(progress, bytes);
        }
    }

    fn leave(&mut self) {
        self.progress = None;
        self.ticket.leave_seat();
    }
}

/// Starts a watch, which keeps `seat`. A watch that cannot start, because of compaction or a future
/// revision, returns an HTTP error. A later failure is an ERROR event.
pub(crate) async fn watch(
    shared: &Arc<Shared>,
    request: Request,
    options: ListOptions,
    seat: Option<Seat>,
) -> Result<Response<Body>, Status> {
    let prefix = options.selection.prefix(&request.target.namespace);
    let interest = options.selection.interest();
    let revision = options.revision.filter(|revision| revision.0 != 0);
    let (initial, watcher) = match (options.send_initial_events, revision) {
        // The client has a list at this revision and wants what comes after it.
        (None | Some(false), Some(revision)) => (
            None,
            shared
                .objects
                .watch(&prefix, revision, interest)
                .map_err(watch_failed)?,
        ),
        (Some(false), None) => {
            let now = shared.objects.revision();
            (
                None,
                shared
                    .objects
                    .watch(&prefix, now, interest)
                    .map_err(watch_failed)?,
            )
        }
        (None | Some(true), revision) => {
            if let Some(revision) = revision {
                list_options::reach(shared, revision).await?;
            }
            let snapshot = match options.selection.node() {
                Some(node) => shared.objects.list_where(&prefix, INDEX_NODE, node),
                None => shared.objects.list(&prefix),
            };
            let watcher = shared
                .objects
                .watch(&prefix, snapshot.revision(), interest)
                .map_err(watch_failed)?;
            (Some(snapshot), watcher)
        }
    };
    // Each event is one line, and YAML needs several.
    let answer = Answer {
        encoding: Encoding::Json,
        ..request.answer
    };
    let presenter = Presenter::of(request.target.kind, answer, &request.query, request.now)?;
    let now = Instant::now();
    let end = now + life(shared, options.timeout_seconds)?;
    let state = Watch {
        initial: initial.map(|snapshot| Initial::of(&snapshot, &options.selection)),
        marks_initial_end: options.send_initial_events == Some(true) && options.bookmarks,
        watcher,
        presenter,
        headers_sent: false,
        selection: options.selection,
        next_bookmark: if options.bookmarks {
            bookmark_after(now, end)
        } else {
            None
        },
        end,
        stopping: shared.stopping.clone(),
        over: false,
        seat,
        _gauge: shared.metrics.watch_began(),
    };
    let frames = stream::unfold(state, |mut state| async move {
        let frame = state.next_frame().await?;
        Some((Ok::<_, BoxError>(Frame::data(frame)), state))
    });
    let mut response = respond::bytes_response(StatusCode::OK, JSON, Bytes::new());
    *response.body_mut() = Body::stream(StreamBody::new(frames));
    Ok(response)
}

fn watch_failed(error: WatchError) -> Status {
    match error {
        WatchError::Compacted { from, oldest } => Status::too_old_resource_version(from.0, oldest.0),
        WatchError::Closed => Status::unavailable("the server is shutting down"),
    }
}

/// Returns the duration of a watch.
fn life(shared: &Shared, seconds: Option<u64>) -> Result<Duration, Status> {
    if let Some(seconds) = seconds {
        return Ok(Duration::from_secs(seconds));
    }
    let random = u32::from_le_bytes(shared.random()?);
    Ok(WATCH_LIFE_MIN + WATCH_LIFE_MIN.mul_f64(f64::from(random) / f64::from(u32::MAX)))
}

/// Objects that exist when a watch begins.
struct Initial {
    objects: std::vec::IntoIter<Arc<Object>>,
    revision: Revision,
}

impl Initial {
    fn of(snapshot: &Snapshot<Entry>, selection: &Selection) -> Initial {
        let selected = snapshot
            .iter()
            .filter(|object| selection.matches(&object.attributes));
        Initial {
            objects: selected.cloned().collect::<Vec<_>>().into_iter(),
            revision: snapshot.revision(),
        }
    }
}

struct Watch {
    initial: Option<Initial>,
    /// Whether a bookmark marks the end of the initial objects.
    marks_initial_end: bool,
    watcher: Watcher<Entry>,
    presenter: Presenter,
    /// Whether a Table with column definitions was sent.
    headers_sent: bool,
    selection: Selection,
    next_bookmark: Option<Instant>,
    end: Instant,
    stopping: CancellationToken,
    over: bool,
    /// None for a component of this process.
    seat: Option<Seat>,
    _gauge: WatchGauge,
}

enum Happening {
    Events(Result<Vec<Event<Entry>>, WatchError>),
    Bookmark,
    End,
    Stopping,
}

impl Watch {
    /// Returns the next bytes for the client. None at the end.
    async fn next_frame(&mut self) -> Option<Bytes> {
        if let Some(frame) = self.initial_frame() {
            if let Some(seat) = &self.seat {
                seat.took(frame.len());
            }
            return Some(frame);
        }
        if let Some(seat) = &mut self.seat {
            seat.leave();
        }
        while !self.over {
            let frame = match self.next_happening().await {
                Happening::Events(Ok(events)) => self.events_frame(&events),
                Happening::Events(Err(error)) => self.last_frame(Some(watch_failed(error))),
                Happening::Bookmark => {
                    self.next_bookmark = bookmark_after(Instant::now(), self.end);
                    self.bookmark(self.watcher.position(), false)
                }
                Happening::End => self.last_frame(None),
                Happening::Stopping => return None,
            };
            if !frame.is_empty() {
                return Some(frame);
            }
        }
        None
    }

    async fn next_happening(&mut self) -> Happening {
        let alarm = self.next_bookmark.unwrap_or(self.end);
        let bookmark_due = self.next_bookmark.is_some();
        tokio::select! {
            // Stopping comes first: the store closes next, and the client must not get an error for
            // that. Then the clock, because a stream of events must not delay it.
            biased;
            () = self.stopping.cancelled() => Happening::Stopping,
            () = tokio::time::sleep_until(alarm) => if bookmark_due { Happening::Bookmark } else { Happening::End },
            // `next_batch` is cancel safe: it takes events only when it returns them.
            events = self.watcher.next_batch(WATCH_BATCH_MAX) => Happening::Events(events),
        }
    }

    /// Returns the next initial objects. None when all are sent.
    fn initial_frame(&mut self) -> Option<Bytes> {
        let initial = self.initial.as_mut()?;
        let revision = initial.revision;
        let mut frame = BytesMut::new();
        while frame.len() < FRAME_BYTES {
            let Some(object) = initial.objects.next() else {
                self.initial = None;
                if self.marks_initial_end {
                    frame.unsplit(BytesMut::from(self.bookmark(revision, true)));
                }
                break;
            };
            let shown = self.presenter.object(&object.body, !self.headers_sent);
            self.headers_sent = true;
            match shown {
                Ok(bytes) => write_event(&mut frame, "ADDED", &bytes),
                Err(status) => {
                    self.initial = None;
                    return Some(self.last_frame(Some(status)));
                }
            }
        }
        (!frame.is_empty()).then(|| frame.freeze())
    }

    fn events_frame(&mut self, events: &[Event<Entry>]) -> Bytes {
        let mut frame = BytesMut::new();
        for event in events {
            let Some((kind, body)) = self.seen(event) else {
                continue;
            };
            let shown = self.presenter.object(&body, !self.headers_sent);
            self.headers_sent = true;
            match shown {
                Ok(bytes) => write_event(&mut frame, kind, &bytes),
                Err(status) => {
                    frame.unsplit(BytesMut::from(self.last_frame(Some(status))));
                    break;
                }
            }
        }
        frame.freeze()
    }

    /// Returns the event that the selectors make of a change. An object that starts to match is
    /// ADDED. An object that stops matching is DELETED, in its last matching state.
    fn seen(&self, event: &Event<Entry>) -> Option<(&'static str, Bytes)> {
        let object = &event.object;
        let selects = |object: &Object| self.selection.matches(&object.attributes);
        let before = event.previous.as_ref().filter(|previous| selects(previous));
        match event.kind {
            EventKind::Put if selects(object) => Some((
                if before.is_some() { "MODIFIED" } else { "ADDED" },
                object.body.clone(),
            )),
            EventKind::Put => {
                let last = &before?.body;
                Some(("DELETED", objects::at_revision(last, object.revision.0)))
            }
            EventKind::Delete => before.map(|_| ("DELETED", object.body.clone())),
        }
    }

    /// Returns a bookmark: an object of the kind with only a resource version.
    fn bookmark(&self, revision: Revision, initial_end: bool) -> Bytes {
        let mut object = match self.presenter.answer.shape {
            Shape::Object => json!({
                "kind": self.presenter.kind.kind,
                "apiVersion": self.presenter.kind.api_version(),
            }),
            Shape::Metadata(version) => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": format!("meta.k8s.io/{version}"),
            }),
            Shape::Table(version) => json!({
                "kind": "Table",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "columnDefinitions": null,
                "rows": [],
            }),
        };
        object["metadata"] = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let mut frame = BytesMut::new();
        write_event(&mut frame, "BOOKMARK", object.to_string().as_bytes());
        frame.freeze()
    }

    /// Ends the watch, with an ERROR event when something went wrong.
    fn last_frame(&mut self, failure: Option<Status>) -> Bytes {
        self.over = true;
        let mut frame = BytesMut::new();
        if let Some(status) = failure {
            write_event(&mut frame, "ERROR", status.to_value().to_string().as_bytes());
        }
        frame.freeze()
    }
}

/// Returns when the next bookmark is due: after [`BOOKMARK_PERIOD`], and once shortly before the
/// end, so that a client that reconnects does not need a list.
fn bookmark_after(now: Instant, end: Instant) -> Option<Instant> {
    let last = end.checked_sub(BOOKMARK_BEFORE_END).filter(|last| *last > now)?;
    Some(last.min(now + BOOKMARK_PERIOD))
}

fn write_event(frame: &mut BytesMut, kind: &str, object: &[u8]) {
    frame.reserve(object.len() + kind.len() + 24);
    frame.put_slice(b"{\"type\":\"");
    frame.put_slice(kind.as_bytes());
    frame.put_slice(b"\",\"object\":");
    frame.put_slice(object);
    frame.put_slice(b"}\n");
}
