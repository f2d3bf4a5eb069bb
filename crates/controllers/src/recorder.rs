//! Events: what controllers tell people, at a bounded price.
//!
//! An Event is an object and costs as much as a pod. So they are the first thing to give way: they queue here, one request at a time is
//! under way, and what does not fit in the queue is counted and dropped. The limits are those of Kubernetes' recorder: of one source
//! about one object a burst of [`BURST`], then one in [`REFILL`]; a repetition patches the count of the first; more than [`SIMILAR`] that
//! differ in their message alone become one.

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

/// Events that wait to be written. Some seconds of work; more would only tell late what nobody reads.
const QUEUE: usize = 1000;
/// Events of a source about an object before the limit sets in.
const BURST: u32 = 25;
/// One more event is allowed after this.
const REFILL: Duration = Duration::from_secs(300);
/// Events that differ in their message alone before they are told as one.
const SIMILAR: usize = 10;
/// The time in which those are counted.
const SIMILAR_WITHIN: Duration = Duration::from_secs(600);
/// Objects and events that are remembered. When there are more, the memory starts anew; what is lost is a count.
const REMEMBERED: usize = 4096;

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Involved {
    /// `v1`, `apps/v1`
    pub api_version: Arc<str>,
    /// `Pod`, `DaemonSet`
    pub kind: Arc<str>,
    /// Empty when cluster-scoped.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
    /// The object's uid.
    pub uid: Arc<str>,
    /// The version at which it was seen; 0 is left out.
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

/// An event to be written.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it is about.
    pub involved: Involved,
    /// The component that tells it: `daemonset-controller`.
    pub component: &'static str,
    /// Warning, or Normal.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// Takes events without waiting. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Record>,
    dropped: Arc<AtomicU64>,
}

/// Writes the events that recorders take.
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
    /// Tells an event, if there is room.
    pub fn tell(&self, record: Record) {
        if self.queue.try_send(record).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Writer {
    /// Writes until every recorder is gone. A failed write is a lost event.
    pub async fn run(self, api: Api, clock: Clock) {
        let mut queue = self.queue.lock().await;
        let mut memory = Memory::default();
        while let Some(record) = queue.recv().await {
            let Some(telling) = memory.admit(record, clock.now()) else {
                continue;
            };
            if let Err(failure) = telling.write(&api).await {
                tracing::debug!(%failure, "event lost");
            }
        }
    }
}

/// Who tells what about whom: the key under which events are alike.
type Theme = (&'static str, Arc<str>, &'static str, bool);

#[derive(Default)]
struct Memory {
    budgets: HashMap<(&'static str, Arc<str>), (f64, Timestamp)>,
    similar: HashMap<Theme, (HashSet<String>, Timestamp)>,
    told: HashMap<(Theme, String), (String, u32)>,
    last_name: u64,
}

/// One request: a new event, or the count of an old one.
struct Telling {
    record: Record,
    name: String,
    count: u32,
    at: Timestamp,
}

impl Memory {
    fn admit(&mut self, mut record: Record, now: Timestamp) -> Option<Telling> {
        if self.budgets.len() + self.similar.len() + self.told.len() > REMEMBERED {
            (self.budgets, self.similar, self.told) = Default::default();
        }
        let uid = record.involved.uid.clone();
        let theme: Theme = (record.component, uid.clone(), record.reason, record.warning);
        let mut text = record.message.clone();
        let (messages, since) = self
            .similar
            .entry(theme.clone())
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
        // Unique while this process lives, and after: it is the time.
        let nanos = u64::try_from(now.as_nanosecond()).unwrap_or(0);
        self.last_name = nanos.max(self.last_name + 1);
        let fresh = format!("{}.{:016x}", record.involved.name, self.last_name);
        let (name, count) = self.told.entry((theme, text)).or_insert((fresh, 0));
        *count += 1;
        Some(Telling {
            record,
            name: name.clone(),
            count: *count,
            at: now,
        })
    }
}

impl Telling {
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

    /// Events about cluster-scoped objects live in `default`.
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
        let mut memory = Memory::default();
        let first = memory.admit(record("again"), at(0)).expect("room");
        let second = memory.admit(record("again"), at(1)).expect("room");
        assert_eq!((first.count, second.count), (1, 2));
        assert_eq!(first.name, second.name);
    }

    #[test]
    fn the_eleventh_similar_event_is_combined() {
        let mut memory = Memory::default();
        let told: Vec<_> = (0..12)
            .filter_map(|i| memory.admit(record(&format!("{i}")), at(0)))
            .collect();
        assert_eq!(told[9].record.message, "9");
        assert_eq!(told[10].record.message, "(combined from similar events): 10");
        assert_eq!((&told[11].name, told[11].count), (&told[10].name, 2));
    }

    #[test]
    fn a_source_may_say_twenty_five_things_and_then_one_in_five_minutes() {
        let mut memory = Memory::default();
        let told = (0..100)
            .filter_map(|_| memory.admit(record("noise"), at(0)))
            .count();
        assert_eq!(told, 25);
        assert!(memory.admit(record("noise"), at(299)).is_none());
        assert!(memory.admit(record("noise"), at(301)).is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory::default();
        for i in 0..3 * REMEMBERED {
            let mut about = record("hello");
            about.involved.uid = format!("{i}").into();
            memory.admit(about, at(0)).expect("room");
        }
        assert!(memory.told.len() <= REMEMBERED);
    }
}
