//! Metrics of the server, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::connections::{self, Connections};
use crate::flow::FlowControl;

/// Upper bounds of the request duration buckets, in seconds: from a cached read to a slow disk.
const DURATION_BUCKETS: [f64; 8] = [0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 1.0, 10.0];

/// Label values of a request: verb, resource and status code.
type Labels = (&'static str, &'static str, u16);

#[derive(Default)]
struct Requests {
    /// Requests by duration: each counts in the first bucket whose bound it does not exceed. The
    /// last bucket has no bound.
    buckets: [AtomicU64; DURATION_BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Requests {
    fn count(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let fits = DURATION_BUCKETS.iter().position(|bound| seconds <= *bound);
        self.buckets[fits.unwrap_or(DURATION_BUCKETS.len())].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Returns the number of requests up to each bound, and of all requests.
    fn cumulative(&self) -> [u64; DURATION_BUCKETS.len() + 1] {
        let mut sum = 0;
        std::array::from_fn(|index| {
            sum += self.buckets[index].load(Ordering::Relaxed);
            sum
        })
    }
}

/// Counters of one server.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Bounded by verbs × resources × status codes.
    requests: RwLock<BTreeMap<Labels, Requests>>,
    watches: Arc<AtomicI64>,
}

/// Counts an active watch until it is dropped.
pub(crate) struct WatchGauge(Arc<AtomicI64>);

impl Drop for WatchGauge {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts a served request.
    pub(crate) fn request(&self, verb: &'static str, resource: &'static str, code: u16, took: Duration) {
        let labels = (verb, resource, code);
        let known = self.requests.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(requests) = known.get(&labels) {
            return requests.count(took);
        }
        drop(known);
        let mut known = self.requests.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(labels).or_default().count(took);
    }

    /// Counts a watch until the returned value is dropped.
    pub(crate) fn watch_began(&self) -> WatchGauge {
        self.watches.fetch_add(1, Ordering::Relaxed);
        WatchGauge(self.watches.clone())
    }

    /// Returns all metrics in Prometheus' text format.
    pub(crate) fn text(&self, revision: u64, flow: &FlowControl, connections: &Connections) -> String {
        let mut out = String::new();
        self.write(&mut out, revision).unwrap_or_default();
        flow.write_metrics(&mut out).unwrap_or_default();
        write_connections(&mut out, &connections.counts()).unwrap_or_default();
        out
    }

    fn write(&self, out: &mut String, revision: u64) -> std::fmt::Result {
        writeln!(
            out,
            "# HELP apiserver_request_total Requests by verb, resource and status code."
        )?;
        writeln!(out, "# TYPE apiserver_request_total counter")?;
        let requests = self.requests.read().unwrap_or_else(PoisonError::into_inner);
        for ((verb, resource, code), entry) in requests.iter() {
            let labels = format!("verb=\"{verb}\",resource=\"{resource}\",code=\"{code}\"");
            let [.., count] = entry.cumulative();
            writeln!(out, "apiserver_request_total{{{labels}}} {count}")?;
        }
        writeln!(
            out,
            "# HELP apiserver_request_duration_seconds Time until the head of the answer."
        )?;
        writeln!(out, "# TYPE apiserver_request_duration_seconds histogram")?;
        for ((verb, resource, code), entry) in requests.iter() {
            let labels = format!("verb=\"{verb}\",resource=\"{resource}\",code=\"{code}\"");
            let name = "apiserver_request_duration_seconds";
            let cumulative = entry.cumulative();
            for (bucket, bound) in cumulative.iter().zip(DURATION_BUCKETS) {
                writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {bucket}")?;
            }
            let [.., count] = cumulative;
            let seconds = Duration::from_nanos(entry.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
            writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
            writeln!(out, "{name}_sum{{{labels}}} {seconds}")?;
            writeln!(out, "{name}_count{{{labels}}} {count}")?;
        }
        writeln!(out, "# HELP apiserver_watches Watches being served.")?;
        writeln!(out, "# TYPE apiserver_watches gauge")?;
        writeln!(out, "apiserver_watches {}", self.watches.load(Ordering::Relaxed))?;
        writeln!(
            out,
            "# HELP apiserver_storage_revision The newest resource version."
        )?;
        writeln!(out, "# TYPE apiserver_storage_revision counter")?;
        writeln!(out, "apiserver_storage_revision {revision}")
    }
}

fn write_connections(out: &mut String, counts: &connections::Counts) -> std::fmt::Result {
    let rows: [(&str, &str, &str, u64); 4] = [
        ("connections", "gauge", "Open connections.", counts.open as u64),
        (
            "connections_max",
            "gauge",
            "Connections that may be open.",
            counts.max as u64,
        ),
        (
            "connections_unproven",
            "gauge",
            "Open connections on which nothing was authenticated.",
            counts.unproven as u64,
        ),
        (
            "connections_evicted_total",
            "counter",
            "Connections without an authenticated request that were closed for newer ones.",
            counts.evicted,
        ),
    ];
    for (name, kind, help, value) in rows {
        let name = format!("everynode_apiserver_{name}");
        writeln!(out, "# HELP {name} {help}")?;
        writeln!(out, "# TYPE {name} {kind}")?;
        writeln!(out, "{name} {value}")?;
    }
    Ok(())
}
