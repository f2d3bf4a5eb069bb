//! Writes Events of controllers, at a bounded cost.
//!
//! An Event is an object and costs as much as a pod, so Events are dropped first. They wait in a
//! queue, one request is in flight at a time, and Events that do not fit into the queue are counted
//! and dropped. The limits are those of Kubernetes' recorder: for one source and object a burst of
//! [`BURST`], then one every [`REFILL`]. A repetition raises the count of the first Event. More
//! than [`SIMILAR`] Events that differ only in their message are combined.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::time::rfc3339;
use api::view::PodView;
use clock::Clock;
use jiff::Timestamp;
use plan::garbage::Identity;
use plan::scheduling::PodKey;
use reflector::request::{Api, STRATEGIC};
use serde_json::json;
use tokio::sync::{Mutex, mpsc};

use crate::resource::Resource;

/// Events that wait to be written: some seconds of work. Later ones would come too late to be
/// useful.
const QUEUE: usize = 1000;
/// Burst of Events for one source and object.
const BURST: u32 = 25;
/// Interval at which one more Event is allowed after the burst.
const REFILL: Duration = Duration::from_secs(300);
/// Events that differ only in their message before they are combined.
const SIMILAR: usize = 10;
/// The period in which those are counted.
const SIMILAR_WITHIN: Duration = Duration::from_secs(600);
/// Most entries in the cache. When it is full, it is cleared, which only loses counts.
const CACHED: usize = 4096;

/// The object of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Involved {
    /// `v1`, `apps/v1`
    pub api_version: Arc<str>,
    /// `Pod`, `DaemonSet`
    pub kind: Arc<str>,
    /// Empty if cluster-scoped.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
    /// The object's uid.
    pub uid: Arc<str>,
    /// Its resourceVersion; 0 is omitted.
    pub resource_version: u64,
}

impl Involved {
    /// A pod.
    pub fn pod(pod: &PodView) -> Self {
        let resource_version = pod.meta.resource_version;
        Self {
            resource_version,
            ..Self::pod_key(&PodKey::of(pod), &pod.meta.uid)
        }
    }

    /// A pod, by its key.
    pub fn pod_key(pod: &PodKey, uid: &Arc<str>) -> Self {
        Self {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: uid.clone(),
            resource_version: 0,
        }
    }

    /// A node.
    pub fn node(name: &Arc<str>, uid: &Arc<str>) -> Self {
        Self {
            api_version: "v1".into(),
            kind: "Node".into(),
            namespace: "".into(),
            name: name.clone(),
            uid: uid.clone(),
            resource_version: 0,
        }
    }

    /// Any object.
    pub fn object(identity: &Identity) -> Self {
        Self {
            api_version: identity.api_version.clone(),
            kind: identity.kind.clone(),
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
            uid: identity.uid.clone(),
            resource_version: 0,
        }
    }
}

/// An event to write.
#[derive(Clone, Debug)]
pub struct Record {
    /// The object of the event.
    pub involved: Involved,
    /// The reporting component: `daemonset-controller`.
    pub component: &'static str,
    /// Whether it is a Warning; otherwise it is Normal.
    pub warning: bool,
    /// Reason in CamelCase.
    pub reason: &'static str,
    /// Message for users.
    pub message: String,
}

/// Queues events without waiting. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Record>,
    dropped: Arc<AtomicU64>,
}

/// Writes the queued events.
#[derive(Clone)]
pub struct Writer {
    queue: Arc<Mutex<mpsc::Receiver<Record>>>,
}

/// A recorder and the writer behind it.
pub fn recorder() -> (Recorder, Writer) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let recorder = Recorder {
        queue: sender,
        dropped: Arc::new(AtomicU64::new(0)),
    };
    (
        recorder,
        Writer {
            queue: Arc::new(Mutex::new(receiver)),
        },
    )
}

impl Recorder {
    /// Queues an event, or drops it if the queue is full.
    pub fn record(&self, record: Record) {
        if self.queue.try_send(record).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Number of dropped events.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Writer {
    /// Writes until every recorder is dropped. An event whose write fails is lost.
    pub async fn run(self, api: Api, clock: Clock) {
        let mut queue = self.queue.lock().await;
        let mut cache = Cache::default();
        while let Some(record) = queue.recv().await {
            let Some(write) = cache.admit(record, clock.now()) else {
                continue;
            };
            if let Err(failure) = write.write(&api).await {
                tracing::debug!(%failure, "cannot write the event");
            }
        }
    }
}

/// Component, uid, reason and type: events with the same key are similar.
type Similarity = (&'static str, Arc<str>, &'static str, bool);

#[derive(Default)]
struct Cache {
    budgets: HashMap<(&'static str, Arc<str>), (f64, Timestamp)>,
    similar: HashMap<Similarity, (HashSet<String>, Timestamp)>,
    written: HashMap<(Similarity, String), (String, u32)>,
    last_name: u64,
}

/// A request: a new event, or the new count of an old one.
struct EventWrite {
    record: Record,
    name: String,
    count: u32,
    at: Timestamp,
}

impl Cache {
    fn admit(&mut self, mut record: Record, now: Timestamp) -> Option<EventWrite> {
        if self.budgets.len() + self.similar.len() + self.written.len() > CACHED {
            (self.budgets, self.similar, self.written) = Default::default();
        }
        let uid = record.involved.uid.clone();
        let key: Similarity = (record.component, uid.clone(), record.reason, record.warning);
        let mut text = record.message.clone();
        let (messages, since) = self
            .similar
            .entry(key.clone())
            .or_insert_with(|| (HashSet::new(), now));
        if now.duration_since(*since).unsigned_abs() > SIMILAR_WITHIN {
            messages.clear();
            *since = now;
        }
        if messages.len() < SIMILAR {
            messages.insert(text.clone());
        } else if !messages.contains(&text) {
            record.message = format!("(combined from similar events): {text}");
            text = String::new();
        }
        let (left, refilled) = self
            .budgets
            .entry((record.component, uid))
            .or_insert((f64::from(BURST), now));
        let earned = now.duration_since(*refilled).as_secs_f64().max(0.0) / REFILL.as_secs_f64();
        (*left, *refilled) = ((*left + earned).min(f64::from(BURST)), now);
        if *left < 1.0 {
            return None;
        }
        *left -= 1.0;
        // Unique in this process and after a restart, because it is the time.
        let nanos = u64::try_from(now.as_nanosecond()).unwrap_or(0);
        self.last_name = nanos.max(self.last_name + 1);
        let fresh = format!("{}.{:016x}", record.involved.name, self.last_name);
        let (name, count) = self.written.entry((key, text)).or_insert((fresh, 0));
        *count += 1;
        Some(EventWrite {
            record,
            name: name.clone(),
            count: *count,
            at: now,
        })
    }
}

impl EventWrite {
    async fn write(&self, api: &Api) -> Result<(), reflector::request::Failure> {
        let namespace = self.namespace();
        if self.count > 1 {
            let patch = json!({"count": self.count, "lastTimestamp": rfc3339(self.at), "message": self.record.message});
            let path = Resource::events().object(namespace, &self.name);
            match api.patch(&path, STRATEGIC, &patch).await {
                Err(failure) if failure.is_not_found() => {}
                other => return other,
            }
        }
        api.create(&Resource::events().collection(namespace), &self.object())
            .await
    }

    /// Events about cluster-scoped objects are in the namespace `default`.
    fn namespace(&self) -> &str {
        match &*self.record.involved.namespace {
            "" => "default",
            namespace => namespace,
        }
    }

    fn object(&self) -> serde_json::Value {
        let Record {
            involved,
            component,
            warning,
            reason,
            message,
        } = &self.record;
        let mut about = json!({
            "apiVersion": &*involved.api_version, "kind": &*involved.kind, "name": &*involved.name, "uid": &*involved.uid,
        });
        if !involved.namespace.is_empty() {
            about["namespace"] = (&*involved.namespace).into();
        }
        if involved.resource_version != 0 {
            about["resourceVersion"] = involved.resource_version.to_string().into();
        }
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": self.name, "namespace": self.namespace()},
            "involvedObject": about, "reason": reason, "message": message,
            "source": {"component": component}, "reportingComponent": component, "reportingInstance": "",
            "type": if *warning { "Warning" } else { "Normal" },
            "firstTimestamp": rfc3339(self.at), "lastTimestamp": rfc3339(self.at), "count": self.count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str) -> Record {
        Record {
            involved: Involved {
                api_version: "v1".into(),
                kind: "Pod".into(),
                namespace: "default".into(),
                name: "p".into(),
                uid: "u".into(),
                resource_version: 0,
            },
            component: "tests",
            warning: false,
            reason: "Reason",
            message: message.into(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn a_repetition_counts_on_the_same_event() {
        let mut cache = Cache::default();
        let first = cache.admit(record("again"), at(0)).expect("room");
        let second = cache.admit(record("again"), at(1)).expect("room");
        assert_eq!((first.count, second.count), (1, 2));
        assert_eq!(first.name, second.name);
    }

    #[test]
    fn the_eleventh_similar_event_is_combined() {
        let mut cache = Cache::default();
        let written: Vec<_> = (0..12)
            .filter_map(|i| cache.admit(record(&format!("{i}")), at(0)))
            .collect();
        assert_eq!(written[9].record.message, "9");
        assert_eq!(written[10].record.message, "(combined from similar events): 10");
        assert_eq!((&written[11].name, written[11].count), (&written[10].name, 2));
    }

    #[test]
    fn source_records_25_events_then_one_every_five_minutes() {
        let mut cache = Cache::default();
        let written = (0..100)
            .filter_map(|_| cache.admit(record("noise"), at(0)))
            .count();
        assert_eq!(written, 25);
        assert!(cache.admit(record("noise"), at(299)).is_none());
        assert!(cache.admit(record("noise"), at(301)).is_some());
    }

    #[test]
    fn cache_is_bounded() {
        let mut cache = Cache::default();
        for i in 0..3 * CACHED {
            let mut about = record("hello");
            about.involved.uid = format!("{i}").into();
            cache.admit(about, at(0)).expect("room");
        }
        assert!(cache.written.len() <= CACHED);
    }
}
