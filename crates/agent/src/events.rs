//! Events about pods and the node, worded as the kubelet does.
//!
//! The same event again raises the count of the first one. Recording never waits: the queue is bounded, and what does not fit
//! is dropped and counted, because an event informs and decides nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, PodRef, message};

/// Events that wait to be sent. A node has at most some hundred pods, and each says a handful of things at a time.
const QUEUE: usize = 512;
/// Events whose repetition is recognised; beyond, the oldest half is forgotten and counts begin anew.
const REMEMBERED: usize = 2048;

/// Events about one object at a time, and how often another one is let through: client-go's filter against floods, which a
/// probe that fails each second would be.
const BURST: f64 = 25.0;
const EVENTS_PER_SECOND: f64 = 1.0 / 300.0;

/// What an object may still say.
#[derive(Clone, Copy)]
struct Allowance {
    events: f64,
    at: Timestamp,
}

impl Allowance {
    fn new(now: Timestamp) -> Self {
        Self {
            events: BURST,
            at: now,
        }
    }

    fn refill(&mut self, now: Timestamp) {
        let seconds = now.duration_since(self.at).as_secs_f64().max(0.0);
        self.events = (self.events + seconds * EVENTS_PER_SECOND).min(BURST);
        self.at = now;
    }

    /// Whether one more is let through.
    fn take(&mut self, now: Timestamp) -> bool {
        self.refill(now);
        let allowed = self.events >= 1.0;
        if allowed {
            self.events -= 1.0;
        }
        allowed
    }
}

/// Accepts events.
#[derive(Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Event {
    kind: &'static str,
    namespace: String,
    name: String,
    uid: String,
    field: String,
    warning: bool,
    reason: String,
    message: String,
}

impl Recorder {
    /// A recorder, and the task that sends what it accepts until `shutdown`.
    pub(crate) fn new(
        cluster: Cluster,
        node: String,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (queue, received) = mpsc::channel(QUEUE);
        let recorder = Self {
            queue,
            dropped: Arc::default(),
        };
        let sender = Sender {
            cluster,
            node,
            sent: HashMap::new(),
            allowances: HashMap::new(),
            serial: 0,
        };
        (recorder, sender.run(received, shutdown))
    }

    /// An event about a pod, or about one of its containers (`field` is `spec.containers{name}`).
    pub(crate) fn pod(&self, pod: &PodRef, field: String, warning: bool, reason: &str, message: String) {
        self.record(Event {
            kind: "Pod",
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            field,
            warning,
            reason: reason.to_owned(),
            message,
        });
    }

    /// An event about the node. As the kubelet does, its uid is the node's name.
    pub(crate) fn node(&self, name: &str, warning: bool, reason: &str, message: String) {
        self.record(Event {
            kind: "Node",
            namespace: String::new(),
            name: name.to_owned(),
            uid: name.to_owned(),
            field: String::new(),
            warning,
            reason: reason.to_owned(),
            message,
        });
    }

    fn record(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::debug!(dropped, "event dropped: the queue is full");
        }
    }
}

struct Sent {
    object: String,
    count: u64,
    serial: u64,
}

struct Sender {
    cluster: Cluster,
    node: String,
    sent: HashMap<Event, Sent>,
    /// By the uid of the object.
    allowances: HashMap<String, Allowance>,
    serial: u64,
}

impl Sender {
    async fn run(mut self, mut queue: mpsc::Receiver<Event>, shutdown: CancellationToken) {
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = queue.recv() => event,
            };
            let Some(event) = event else { return };
            if !self.allow(&event, Timestamp::now()) {
                continue;
            }
            if let Err(error) = self.send(&event).await {
                tracing::debug!(
                    event = event.reason,
                    pod = event.name,
                    "event not sent: {}",
                    message(&error)
                );
            }
        }
    }

    /// Whether the event's object has not said too much lately.
    fn allow(&mut self, event: &Event, now: Timestamp) -> bool {
        if self.allowances.len() >= REMEMBERED {
            // Who has its whole allowance again needs no entry.
            self.allowances.retain(|_, allowance| {
                allowance.refill(now);
                allowance.events < BURST
            });
        }
        let allowance = self.allowances.entry(event.uid.clone());
        allowance.or_insert_with(|| Allowance::new(now)).take(now)
    }

    async fn send(&mut self, event: &Event) -> Result<(), kube::Error> {
        let now = api::time::rfc3339(Timestamp::now());
        let namespace = match event.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        };
        let path = format!("/api/v1/namespaces/{namespace}/events");
        if let Some(sent) = self.sent.get_mut(event) {
            sent.count += 1;
            let patch = json!({"count": sent.count, "lastTimestamp": now});
            let path = format!("{path}/{}", sent.object);
            let kind = "application/strategic-merge-patch+json";
            match self.cluster.call(Method::PATCH, &path, kind, &patch).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                answer => return answer.map(drop),
            }
        }
        self.serial += 1;
        let object = self.object(event);
        let body = self.body(event, &object, namespace, &now);
        self.cluster
            .call(Method::POST, &path, "application/json", &body)
            .await?;
        self.remember(event, object);
        Ok(())
    }

    /// A name as the kubelet's: the object's, a dot, and the time in hexadecimal nanoseconds.
    fn object(&self, event: &Event) -> String {
        let nanoseconds = Timestamp::now().as_nanosecond();
        format!(
            "{}.{:x}",
            event.name,
            nanoseconds + i128::from(self.serial % 1000)
        )
    }

    fn body(&self, event: &Event, object: &str, namespace: &str, now: &str) -> Value {
        let mut involved = json!({
            "kind": event.kind,
            "name": event.name,
            "uid": event.uid,
            "apiVersion": "v1",
        });
        if !event.namespace.is_empty() {
            involved["namespace"] = event.namespace.clone().into();
        }
        if !event.field.is_empty() {
            involved["fieldPath"] = event.field.clone().into();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": object, "namespace": namespace},
            "involvedObject": involved,
            "type": if event.warning { "Warning" } else { "Normal" },
            "reason": event.reason,
            "message": event.message,
            "source": {"component": "kubelet", "host": self.node},
            "reportingComponent": "kubelet",
            "reportingInstance": self.node,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        })
    }

    fn remember(&mut self, event: &Event, object: String) {
        if self.sent.len() >= REMEMBERED {
            let old = self.serial.saturating_sub(REMEMBERED as u64 / 2);
            self.sent.retain(|_, sent| sent.serial > old);
        }
        let sent = Sent {
            object,
            count: 1,
            serial: self.serial,
        };
        self.sent.insert(event.clone(), sent);
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn an_object_that_says_much_is_heard_every_five_minutes() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut allowance = Allowance::new(now);
        let let_through = (0..100).filter(|_| allowance.take(now)).count();
        assert_eq!(let_through, 25);
        let later = |seconds| now + SignedDuration::from_secs(seconds);
        assert!(!allowance.take(later(299)));
        assert!(allowance.take(later(301)));
        assert!(!allowance.take(later(302)));
    }
}
