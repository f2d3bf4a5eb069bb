//! One local copy for each kind, fed by one watch and shared by all readers of the process:
//! controllers, or the parts of a node's agent.
//!
//! A [`Reflector`] parses objects into views with the few fields that decisions need, stores them
//! by namespace and name, and sends every change to its subscribers in order. A subscriber first
//! gets all objects as [`Event::Put`], then [`Event::Synced`] when the first list is complete, then
//! changes. After a gap in the watch the reflector lists again and sends only the difference, so
//! subscribers need not handle gaps.
//!
//! The states are:
//! - *Listing*: a watch that begins with the current state if the server supports it, otherwise a
//!   paged list. *Watching* follows, from the resource version at which the list ended.
//! - *Watching*: when the stream ends, the reflector watches again from the last version that it
//!   received. After 410, or any other error that makes the version useless, it lists again.
//!
//! The backoff after errors doubles from 100 ms to 10 s.
//!
//! Bounds: a subscriber's queue holds [`QUEUE`] batches. When it is full, the reflector waits. The
//! server then ends the watch because of its own bound on slow watchers, and the reflector lists
//! again. Memory is proportional to the views of the kind.

pub mod backoff;
mod changes;
mod lines;
pub mod request;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use api::view::{
    ControllerRevisionView, DaemonSetView, EndpointSliceView, EndpointsView, LeaseView, NamespaceView,
    NodeNetworkView, NodeView, ObjectMetaView, ObjectView, PodDisruptionBudgetView, PodView, ServiceView,
};
use http::{Method, StatusCode};
use kube::client::Body;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use self::backoff::Backoff;
pub use self::changes::Changes;
use self::changes::Pending;
use self::lines::{Line, LineError, Lines, Type};
use self::request::{Api, Failure, status_failure};

/// Batches that wait for one subscriber. A batch holds what arrived together, so a few are enough
/// for a burst. A longer queue would only hide a subscriber that is too slow.
const QUEUE: usize = 32;

/// Objects on a page of a list: the default of Kubernetes' clients.
const PAGE: usize = 500;

/// Requested timeout of a watch, in seconds. It is below kube's read timeout of 295 s, so that a
/// dead connection is noticed.
const WATCH_SECONDS: u32 = 270;

/// Media type that requests only the metadata of an object.
pub const METADATA_ONLY: &str =
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json";
/// Media type that requests only the metadata of the objects of a list.
pub const METADATA_ONLY_LIST: &str =
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";

/// Object that a reflector can hold.
pub trait Watched: DeserializeOwned + Send + Sync + 'static {
    /// Returns `metadata`.
    fn meta(&self) -> &ObjectMetaView;

    /// Returns whether the object equals `other`, an earlier state of it, except for the resource
    /// version. [`Changes`] does not report such a change: for example, a node's heartbeat changes
    /// no route.
    fn says_the_same(&self, other: &Self) -> bool;
}

macro_rules! watched {
    ($($view:ty),* $(,)?) => {$(
        impl Watched for $view {
            fn meta(&self) -> &ObjectMetaView {
                &self.meta
            }

            fn says_the_same(&self, other: &Self) -> bool {
                let mut now = self.clone();
                now.meta.resource_version = other.meta.resource_version;
                now.meta.generation = other.meta.generation;
                now == *other
            }
        }
    )*};
}

watched!(
    ControllerRevisionView,
    DaemonSetView,
    EndpointSliceView,
    EndpointsView,
    LeaseView,
    NamespaceView,
    NodeNetworkView,
    NodeView,
    ObjectView,
    PodDisruptionBudgetView,
    PodView,
    ServiceView,
);

/// Namespace and name.
pub type Key = (Arc<str>, Arc<str>);

/// Change of the local copy, as sent to a subscriber.
#[derive(Debug)]
pub enum Event<V> {
    /// Added or changed; holds the current state.
    Put(Arc<V>),
    /// Deleted; holds the last state.
    Delete(Arc<V>),
    /// The events so far make the complete state at this version. Sent after every list.
    Synced(u64),
    /// All events up to this version have been sent.
    Bookmark(u64),
}

impl<V> Clone for Event<V> {
    fn clone(&self) -> Self {
        match self {
            Event::Put(v) => Event::Put(v.clone()),
            Event::Delete(v) => Event::Delete(v.clone()),
            Event::Synced(version) => Event::Synced(*version),
            Event::Bookmark(version) => Event::Bookmark(*version),
        }
    }
}

/// Changes that arrived together, shared between subscribers.
pub type Batch<V> = Arc<[Event<V>]>;

/// A handle on the local copy of a kind. Cheap to clone.
pub struct Reflector<V> {
    shared: Arc<Mutex<Shared<V>>>,
}

impl<V> Clone for Reflector<V> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

struct Shared<V> {
    objects: HashMap<Key, Arc<V>>,
    subscribers: Vec<mpsc::Sender<Batch<V>>>,
    /// Readers of [`Changes`]. A dropped one is removed at the next change.
    followers: Vec<Weak<Pending>>,
    /// Resource version of the copy; `None` until the first list is complete.
    version: Option<u64>,
    /// State that an earlier process saved.
    before: Option<Vec<V>>,
}

impl<V: Watched> Default for Reflector<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Watched> Reflector<V> {
    /// Returns an empty copy. [`Reflector::run`] fills it.
    pub fn new() -> Self {
        let shared = Shared {
            objects: HashMap::new(),
            subscribers: Vec::new(),
            followers: Vec::new(),
            version: None,
            before: None,
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// Sets the state to use if the first list fails: the complete state that an earlier process
    /// saved. Subscribers then get this state, and after the first successful list the difference.
    pub fn fall_back_to(&self, before: Vec<V>) {
        self.lock().before = Some(before);
    }

    /// Returns the object as last received.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<V>> {
        self.at(&(namespace.into(), name.into()))
    }

    /// Returns the object of this key as last received.
    pub fn at(&self, key: &Key) -> Option<Arc<V>> {
        self.lock().objects.get(key).cloned()
    }

    /// Returns whether a list was ever complete. If so, the copy was complete at the time of the
    /// last contact with the server.
    pub fn is_complete(&self) -> bool {
        self.lock().version.is_some()
    }

    /// Returns all objects as last received, in no order.
    pub fn all(&self) -> Vec<Arc<V>> {
        self.lock().objects.values().cloned().collect()
    }

    /// Returns the number of objects.
    pub fn len(&self) -> usize {
        self.lock().objects.len()
    }

    /// Returns whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns all objects, then all changes from now on. The objects come in the order of their
    /// names, so that runs are reproducible.
    pub fn subscribe(&self) -> mpsc::Receiver<Batch<V>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut shared = self.lock();
        let mut known: Vec<Event<V>> = in_order(shared.objects.values()).map(Event::Put).collect();
        known.extend(shared.version.map(Event::Synced));
        if !known.is_empty() {
            // The queue is new and empty, so there is room.
            sender.try_send(known.into()).unwrap_or_default();
        }
        shared.subscribers.push(sender);
        receiver
    }

    /// Returns which objects changed: first all objects, then changes from now on. For readers that
    /// act on the current state. They never block the reflector or each other.
    pub fn changes(&self) -> Changes<V> {
        let mut shared = self.lock();
        let pending = Arc::new(Pending::default());
        let known: Vec<Key> = shared.objects.keys().cloned().collect();
        pending.add(&known, shared.version.is_some());
        shared.followers.push(Arc::downgrade(&pending));
        drop(shared);
        Changes::new(self.clone(), pending)
    }

    /// Feeds the copy from the collection at `path`, which may end in a query with selectors. It
    /// retries after errors, and ends only when it is dropped.
    pub async fn run(self, api: Api, path: String, accept: Option<&'static str>) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let mut feed = Feed {
            api,
            path,
            accept,
            into: self,
            initial_events: true,
        };
        let mut step = Step::List;
        loop {
            let result = match step {
                Step::List => feed.list().await,
                Step::Watch(version) => feed.watch(version).await,
                Step::Follow(version, lines) => feed.follow(version, lines).await,
            };
            step = match result {
                Ok(next) => {
                    backoff.reset();
                    next
                }
                Err(Trouble { error, resume }) => {
                    tracing::warn!(
                        path = feed.path,
                        error = chain(&*error),
                        "the watch was interrupted"
                    );
                    feed.fall_back().await;
                    tokio::time::sleep(backoff.next_wait()).await;
                    resume.map_or(Step::List, Step::Watch)
                }
            };
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared<V>> {
        // No code panics while it holds the lock; a poisoned copy would still be complete.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores `events` and sends them to the subscribers. Cancel-safe only at its start, because a
    /// feed is dropped as a whole.
    async fn tell(&self, events: Vec<Event<V>>) {
        if events.is_empty() {
            return;
        }
        let batch: Batch<V> = events.into();
        let subscribers = {
            let mut shared = self.lock();
            shared.followers.retain(|follower| follower.strong_count() > 0);
            let mut changed = Vec::new();
            for event in batch.iter() {
                changed.extend(shared.keep(event));
            }
            let complete = shared.version.is_some();
            for follower in shared.followers.iter().filter_map(Weak::upgrade) {
                follower.add(&changed, complete);
            }
            shared.subscribers.retain(|s| !s.is_closed());
            shared.subscribers.clone()
        };
        for subscriber in subscribers {
            // A closed channel is removed at the next change.
            subscriber.send(batch.clone()).await.unwrap_or_default();
        }
    }

    /// Returns the events that change the copy to `now`.
    fn difference(&self, now: Vec<Arc<V>>) -> Vec<Event<V>> {
        let shared = self.lock();
        let present: HashSet<Key> = now.iter().map(|v| key(&**v)).collect();
        let gone = shared
            .objects
            .iter()
            .filter(|(k, _)| !present.contains(*k))
            .map(|(_, v)| v);
        let mut events: Vec<_> = in_order(gone).map(Event::Delete).collect();
        for v in now {
            match shared.objects.get(&key(&*v)) {
                Some(old) if old.meta().uid != v.meta().uid => {
                    events.extend([Event::Delete(old.clone()), Event::Put(v)])
                }
                Some(old) if old.meta().resource_version == v.meta().resource_version => {}
                _ => events.push(Event::Put(v)),
            }
        }
        events
    }
}

impl<V: Watched> Shared<V> {
    /// Stores an event. Returns the key if the object changed in more than its version.
    fn keep(&mut self, event: &Event<V>) -> Option<Key> {
        match event {
            Event::Put(now) => {
                let key = key(&**now);
                let before = self.objects.insert(key.clone(), now.clone());
                let heard = !self.followers.is_empty();
                let same = || before.is_some_and(|before| now.says_the_same(&before));
                (heard && !same()).then_some(key)
            }
            Event::Delete(last) => {
                let key = key(&**last);
                self.objects.remove(&key);
                Some(key)
            }
            Event::Synced(version) | Event::Bookmark(version) => {
                self.version = Some(*version);
                self.before = None;
                None
            }
        }
    }
}

/// Returns the objects sorted by namespace and name.
fn in_order<'a, V: Watched>(objects: impl Iterator<Item = &'a Arc<V>>) -> impl Iterator<Item = Arc<V>> {
    let mut objects: Vec<_> = objects.cloned().collect();
    objects.sort_by(|a, b| {
        let (a, b) = (a.meta(), b.meta());
        (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name))
    });
    objects.into_iter()
}

fn key<V: Watched>(v: &V) -> Key {
    (v.meta().namespace.clone(), v.meta().name.clone())
}

/// State of the feed.
enum Step {
    /// There is no copy, or its version is too old to watch from.
    List,
    /// The copy has this version; the next step requests the changes after it.
    Watch(u64),
    /// The copy has this version; changes arrive on an open watch.
    Follow(u64, Lines<Body>),
}

/// An error, and the version to continue from.
struct Trouble {
    error: Box<dyn std::error::Error + Send + Sync>,
    /// Version to watch from, if one is still valid.
    resume: Option<u64>,
}

/// Returns whether the API server rejects the version as too old.
fn is_gone(failure: &Failure) -> bool {
    matches!(failure.code(), 410 | 504)
}

struct Feed<V> {
    api: Api,
    path: String,
    accept: Option<&'static str>,
    into: Reflector<V>,
    /// Whether the server is assumed to support watches that begin with the current state.
    initial_events: bool,
}

impl<V: Watched> Feed<V> {
    /// Sends the saved state, unless newer events were sent or this was done before.
    async fn fall_back(&mut self) {
        let before = {
            let mut shared = self.into.lock();
            shared.before.take().filter(|_| shared.version.is_none())
        };
        if let Some(before) = before {
            let mut events = self.into.difference(before.into_iter().map(Arc::new).collect());
            events.push(Event::Synced(0));
            self.into.tell(events).await;
        }
    }

    /// Reads the current state.
    async fn list(&mut self) -> Result<Step, Trouble> {
        if self.initial_events {
            match self.list_by_watch().await {
                Ok(step) => return Ok(step),
                Err(Refusal::Unsupported) => self.initial_events = false,
                Err(Refusal::Failed(error)) => return Err(Trouble { error, resume: None }),
            }
        }
        self.list_by_pages()
            .await
            .map(Step::Watch)
            .map_err(|error| Trouble { error, resume: None })
    }

    /// Reads the current state as the beginning of a watch. Its memory is bounded on both sides,
    /// for any number of objects.
    async fn list_by_watch(&mut self) -> Result<Step, Refusal> {
        let path = format!(
            "{}watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}",
            self.query()
        );
        let body = match self.api.open(&path, self.accept).await {
            Ok(body) => body,
            Err(failure) if matches!(failure.code(), 400 | 422) => return Err(Refusal::Unsupported),
            Err(failure) => return Err(Refusal::Failed(failure.into())),
        };
        let mut lines = Lines::new(body);
        let mut now: BTreeMap<Key, Arc<V>> = BTreeMap::new();
        while let Some(batch) = lines.next().await? {
            let mut parsed = lines::parse(&batch);
            for line in parsed.by_ref() {
                let line = line?;
                match line.kind {
                    Type::Added | Type::Modified => {
                        let v = self.view(&line)?;
                        now.insert(key(&*v), v);
                    }
                    Type::Deleted => {
                        now.remove(&key(&*self.view(&line)?));
                    }
                    Type::Error => return Err(Refusal::Failed(self.refused(&line).into())),
                    Type::Bookmark => {
                        let Bookmark { metadata } = bookmark(&line)?;
                        if !metadata.annotations.contains_key("k8s.io/initial-events-end") {
                            continue;
                        }
                        let mut events = self.into.difference(now.into_values().collect());
                        let mut version = metadata.resource_version;
                        events.push(Event::Synced(version));
                        // Changes may have arrived in the same batch as the end of the list.
                        let ended = self.read(parsed, &mut version, &mut events);
                        self.into.tell(events).await;
                        return ended.map(|()| Step::Follow(version, lines));
                    }
                }
            }
        }
        Err(Refusal::Failed(
            "the watch ended before the present state was whole".into(),
        ))
    }

    /// Reads the current state as pages, for servers that do not support a list by watch.
    async fn list_by_pages(&mut self) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        let mut now = Vec::new();
        let mut token = String::new();
        loop {
            let mut path = format!("{}limit={PAGE}", self.query());
            if !token.is_empty() {
                path.push_str("&continue=");
                path.push_str(&token);
            }
            let accept = if self.accept.is_some() {
                METADATA_ONLY_LIST
            } else {
                "application/json"
            };
            let page: Page<V> = self.api.get_as(&path, accept).await?;
            now.extend(page.items.into_iter().map(Arc::new));
            token = page.metadata.next;
            if token.is_empty() {
                let mut events = self.into.difference(now);
                events.push(Event::Synced(page.metadata.resource_version));
                self.into.tell(events).await;
                return Ok(page.metadata.resource_version);
            }
        }
    }

    /// Requests the changes after `version`.
    async fn watch(&mut self, version: u64) -> Result<Step, Trouble> {
        let path = format!(
            "{}watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}",
            self.query()
        );
        match self.api.open(&path, self.accept).await {
            Ok(body) => Ok(Step::Follow(version, Lines::new(body))),
            Err(failure) if is_gone(&failure) => Ok(Step::List),
            Err(failure) => Err(Trouble {
                error: failure.into(),
                resume: Some(version),
            }),
        }
    }

    /// Sends the events of an open watch until it ends.
    async fn follow(&mut self, mut version: u64, mut lines: Lines<Body>) -> Result<Step, Trouble> {
        loop {
            let batch = match lines.next().await {
                Ok(Some(batch)) => batch,
                Ok(None) => return Ok(Step::Watch(version)),
                Err(error) => {
                    return Err(Trouble {
                        error: error.into(),
                        resume: Some(version),
                    });
                }
            };
            let mut events = Vec::new();
            let ended = self.read(lines::parse(&batch), &mut version, &mut events);
            self.into.tell(events).await;
            match ended {
                Ok(()) => {}
                Err(Refusal::Unsupported) => return Ok(Step::List),
                Err(Refusal::Failed(error)) => return Err(Trouble { error, resume: None }),
            }
        }
    }

    /// Parses a batch of a watch. `Unsupported` means here that the version is too old.
    fn read<'a>(
        &self,
        lines: impl Iterator<Item = Result<Line<'a>, LineError>>,
        version: &mut u64,
        events: &mut Vec<Event<V>>,
    ) -> Result<(), Refusal> {
        for line in lines {
            let line = line?;
            match line.kind {
                Type::Added | Type::Modified => {
                    let v = self.view(&line)?;
                    *version = v.meta().resource_version;
                    events.push(Event::Put(v));
                }
                Type::Deleted => {
                    let v = self.view(&line)?;
                    *version = v.meta().resource_version;
                    events.push(Event::Delete(v));
                }
                Type::Bookmark => {
                    *version = bookmark(&line)?.metadata.resource_version;
                    events.push(Event::Bookmark(*version));
                }
                Type::Error => {
                    let failure = self.refused(&line);
                    return Err(if is_gone(&failure) {
                        Refusal::Unsupported
                    } else {
                        Refusal::Failed(failure.into())
                    });
                }
            }
        }
        Ok(())
    }

    /// Returns the path with `?` or `&` at the end.
    fn query(&self) -> String {
        let joint = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{joint}", self.path)
    }

    fn view(&self, line: &Line<'_>) -> Result<Arc<V>, LineError> {
        serde_json::from_str(line.object.get())
            .map(Arc::new)
            .map_err(LineError::NotAnEvent)
    }

    fn refused(&self, line: &Line<'_>) -> Failure {
        status_failure(
            &Method::GET,
            &self.path,
            line.object.get().as_bytes(),
            StatusCode::INTERNAL_SERVER_ERROR,
        )
    }
}

/// Reason why a step failed.
enum Refusal {
    /// The server does not support this kind of request; another kind may succeed.
    Unsupported,
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl From<LineError> for Refusal {
    fn from(error: LineError) -> Self {
        Refusal::Failed(error.into())
    }
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    #[serde(deserialize_with = "decimal")]
    resource_version: u64,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(bound = "V: DeserializeOwned")]
struct Page<V> {
    metadata: PageMeta,
    items: Vec<V>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    #[serde(deserialize_with = "decimal")]
    resource_version: u64,
    #[serde(default, rename = "continue")]
    next: String,
}

fn bookmark(line: &Line<'_>) -> Result<Bookmark, LineError> {
    serde_json::from_str(line.object.get()).map_err(LineError::NotAnEvent)
}

/// Parses a resource version. Since Kubernetes 1.35, clients may rely on versions being growing
/// decimal numbers.
fn decimal<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// Formats an error and all its causes on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
