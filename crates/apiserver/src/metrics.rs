//! What the server counts, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the request duration buckets, in seconds: from a cached read to a slow disk.
const DURATION_BUCKETS: [f64; 8] = [0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 1.0, 10.0];

/// The label values of a request: what was done to which resource, with what result.
type Labels = (&'static str, &'static str, u16);

#[derive(Default)]
struct Requests {
    buckets: [u64; DURATION_BUCKETS.len()],
    count: u64,
    seconds: f64,
}

/// Counters of one server.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Bounded by the registry: verbs × resources × status codes.
    requests: Mutex<BTreeMap<Labels, Requests>>,
    watches: Arc<AtomicI64>,
}

/// A watch that is being served, counted as long as this lives.
pub(crate) struct WatchGauge(Arc<AtomicI64>);

impl Drop for WatchGauge {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts a request that has been answered.
    pub(crate) fn request(&self, verb: &'static str, resource: &'static str, code: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = requests.entry((verb, resource, code)).or_default();
        entry.count += 1;
        entry.seconds += seconds;
        for (bucket, bound) in entry.buckets.iter_mut().zip(DURATION_BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// Counts a watch until the answer is dropped.
    pub(crate) fn watch_began(&self) -> WatchGauge {
        self.watches.fetch_add(1, Ordering::Relaxed);
        WatchGauge(self.watches.clone())
    }

    /// Everything as Prometheus reads it.
    pub(crate) fn text(&self, revision: u64) -> String {
        let mut out = String::new();
        self.write(&mut out, revision).unwrap_or_default();
        out
    }

    fn write(&self, out: &mut String, revision: u64) -> std::fmt::Result {
        writeln!(
            out,
            "# HELP apiserver_request_total Requests by verb, resource and status code."
        )?;
        writeln!(out, "# TYPE apiserver_request_total counter")?;
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((verb, resource, code), entry) in requests.iter() {
            let labels = format!("verb=\"{verb}\",resource=\"{resource}\",code=\"{code}\"");
            writeln!(out, "apiserver_request_total{{{labels}}} {}", entry.count)?;
        }
        writeln!(
            out,
            "# HELP apiserver_request_duration_seconds Time until the head of the answer."
        )?;
        writeln!(out, "# TYPE apiserver_request_duration_seconds histogram")?;
        for ((verb, resource, code), entry) in requests.iter() {
            let labels = format!("verb=\"{verb}\",resource=\"{resource}\",code=\"{code}\"");
            let name = "apiserver_request_duration_seconds";
            for (bucket, bound) in entry.buckets.iter().zip(DURATION_BUCKETS) {
                writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {bucket}")?;
            }
            writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", entry.count)?;
            writeln!(out, "{name}_sum{{{labels}}} {}", entry.seconds)?;
            writeln!(out, "{name}_count{{{labels}}} {}", entry.count)?;
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
