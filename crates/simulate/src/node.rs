//! Registration and heartbeat of the simulated nodes.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ranges::{Node, Ranges};
use crate::request::{Api, Error};
use crate::{Options, pods};

/// Path of the Leases of nodes.
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// `leaseDurationSeconds` of a Lease, as the kubelet writes it.
const LEASE_SECONDS: u32 = 40;

/// A renewal that is this late may have come after the control plane set the node to not ready.
const TARDY: Duration = Duration::from_secs(10);

/// A node reads its own Node on every renewal of this many. A kubelet reads it on each; thousands
/// of nodes on one machine need not.
const LOOKS: u32 = 3;

/// Renewals that are due within this time are sent together. So many nodes cause few wake-ups,
/// spread over the heartbeat.
const TICK: Duration = Duration::from_millis(50);

/// Renewals in flight: about as many as the connections have streams
/// ([`connect`](crate::connect())). With 100,000 nodes a renewal may take 400 ms before one is
/// skipped.
const RENEWALS_MAX: usize = 4_096;

/// Why a node without a pod range is not ready, in the words of the agent.
const NO_RANGE: &str = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: the node has no pod range (spec.podCIDR) yet";

/// Attempts of a registration and the wait between them. The server may still be starting.
const TRIES: (u32, Duration) = (10, Duration::from_millis(500));

/// Returns the name of node number `index`.
pub(crate) fn name(options: &Options, index: u32) -> String {
    format!("{}-{}", options.prefix, options.start + index)
}

/// Returns the index of the node with this name, if it belongs to this simulation.
pub(crate) fn index(options: &Options, name: &str) -> Option<u32> {
    let number: u32 = name
        .strip_prefix(&*options.prefix)?
        .strip_prefix('-')?
        .parse()
        .ok()?;
    let index = number.checked_sub(options.start)?;
    (index < options.nodes).then_some(index)
}

/// Returns the address of a node, from 100.64.0.0/10, which is reserved for carrier-grade NAT.
pub(crate) fn address(index: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(0x6440_0000 + (index + 1) % (1 << 22))
}

/// Report of a node that needs one of the limited requests in flight.
#[derive(Clone, Copy)]
enum Step {
    Register,
    /// The node has a pod range now, so it is Ready.
    Ready,
}

/// Registers all nodes, then renews their Leases until it is dropped.
pub(crate) async fn play(api: &Api, options: &Options, ranges: &Ranges) -> Result<Infallible, Error> {
    let mut stepping = FuturesUnordered::new();
    let mut heartbeats = Heartbeats::new(api, options, ranges);
    // Nodes that registered without a pod range, and those that have one since. They do not count
    // as requests in flight.
    let mut without = FuturesUnordered::new();
    let mut given = VecDeque::new();
    let (mut next, mut registered) = (0, 0);
    // A registered node renews its Lease at once, because the last of many registrations comes
    // late.
    loop {
        while stepping.len() < options.in_flight {
            let (index, step) = match given.pop_front() {
                Some(index) => (index, Step::Ready),
                None if next < options.nodes => {
                    next += 1;
                    (next - 1, Step::Register)
                }
                None => break,
            };
            let said = take(api, options, ranges, index, step);
            stepping.push(said.map(move |result| (index, step, result)));
        }
        let at = heartbeats.next_launch();
        tokio::select! {
            // Handle finished requests first, because they make room for new ones.
            biased;
            Some((index, step, result)) = stepping.next() => match step {
                Step::Register => {
                    heartbeats.begin(index);
                    if !result? {
                        without.push(ranges.given(index).map(move |()| index));
                    }
                    registered += 1;
                    if registered == options.nodes {
                        let waiting = ranges.missing();
                        tracing::info!(nodes = options.nodes, without_a_pod_range = waiting, "all nodes are registered");
                    }
                }
                // The node reports it again with its next renewal.
                Step::Ready => if let Err(error) = result {
                    tracing::warn!(%error, "cannot update a node's status");
                    heartbeats.say_ready(index);
                }
            },
            Some(index) = without.next() => {
                given.push_back(index);
                if without.is_empty() && registered == options.nodes {
                    tracing::info!(nodes = options.nodes, "all nodes have a pod range");
                }
            }
            Some((index, result)) = heartbeats.running.next() => heartbeats.settle(index, result),
            () = until(at) => heartbeats.launch(),
        }
    }
}

/// Returns at `at`; never returns for `None`.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Performs a step, with retries up to a limit. Returns whether the node reported that it is ready.
async fn take(api: &Api, options: &Options, ranges: &Ranges, index: u32, step: Step) -> Result<bool, Error> {
    let mut tries = 0;
    loop {
        let result = match step {
            Step::Register => register(api, options, ranges, index).await,
            Step::Ready => report(api, options, ranges, index).await.map(|_| true),
        };
        match result {
            Err(error)
                if tries < TRIES.0 && (error.code() == 0 || error.code() == 429 || error.code() >= 500) =>
            {
                tries += 1;
                tracing::warn!(%error, "cannot register a node");
                tokio::time::sleep(TRIES.1).await;
            }
            result => return result,
        }
    }
}

async fn register(api: &Api, options: &Options, ranges: &Ranges, index: u32) -> Result<bool, Error> {
    let name = name(options, index);
    let path = format!("/api/v1/nodes/{name}");
    let now = options.clock.now();
    let mut ready = ranges.has(index);
    let mut body = node(&name, options.start + index, now, ready);
    body["spec"] = ranges.spec(index);
    let answer = match api
        .send(Method::POST, "/api/v1/nodes", "application/json", &body)
        .await
    {
        Err(error) if error.code() == 409 => {
            // The Node exists from an earlier simulation. A node that reports not ready for a
            // moment may lose its pods, so read its ranges first.
            if !ready {
                let found = api
                    .send(Method::GET, &path, "application/json", &Value::Null)
                    .await?;
                ranges.learn(index, &registered(&path, &found)?);
            }
            ready = ranges.has(index);
            let answer = report(api, options, ranges, index).await?;
            pods::report_again(api, options, &name).await?;
            answer
        }
        answer => answer?,
    };
    let mut node = registered(&path, &answer)?;
    if !node.has_ranges() && ranges.own(index).is_some() {
        // The Node exists from an earlier simulation and waited for a range from the server.
        let patch = json!({"spec": ranges.spec(index)});
        let answer = api
            .send(
                Method::PATCH,
                &path,
                "application/strategic-merge-patch+json",
                &patch,
            )
            .await?;
        node = registered(&path, &answer)?;
    }
    ranges.learn(index, &node);
    let uid = node.uid();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": name, "namespace": "kube-node-lease",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}],
        },
        "spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": micros(now)},
    });
    match api.send(Method::POST, LEASES, "application/json", &lease).await {
        // The Lease may belong to an older Node of that name, so update its owner reference.
        Err(error) if error.code() == 409 => {
            let path = format!("{LEASES}/{name}");
            let patch = json!({"metadata": {"ownerReferences": lease["metadata"]["ownerReferences"]}, "spec": lease["spec"]});
            api.send(Method::PATCH, &path, "application/merge-patch+json", &patch)
                .await?;
        }
        answer => {
            answer?;
        }
    }
    Ok(ready)
}

/// Parses the Node of a response.
fn registered(path: &str, answer: &[u8]) -> Result<Node, Error> {
    serde_json::from_slice(answer).map_err(|source| Error::Unanswered {
        method: Method::GET,
        path: path.to_owned(),
        source: kube::Error::SerdeError(source),
    })
}

/// Reports the status of a node. Returns the Node.
async fn report(api: &Api, options: &Options, ranges: &Ranges, index: u32) -> Result<Vec<u8>, Error> {
    let name = name(options, index);
    let now = options.clock.now();
    let patch = json!({"status": node(&name, options.start + index, now, ranges.has(index))["status"]});
    let path = format!("/api/v1/nodes/{name}/status");
    let kind = "application/strategic-merge-patch+json";
    api.send(Method::PATCH, &path, kind, &patch).await
}

/// Renewals of all nodes, each at its own moment of the period. No renewal waits for another. A
/// renewal is skipped while the node's last one is in flight.
struct Heartbeats<'a> {
    api: &'a Api,
    options: &'a Options,
    ranges: &'a Ranges,
    due: BTreeSet<(Instant, u32)>,
    running: FuturesUnordered<futures::future::BoxFuture<'a, (u32, Result<(), Error>)>>,
    /// Nodes with a renewal in flight.
    unanswered: HashSet<u32>,
    /// Nodes whose last renewals failed or were late, with the number of consecutive failures.
    failing: HashMap<u32, u32>,
    /// Number of renewals that were sent.
    count: u32,
}

impl<'a> Heartbeats<'a> {
    fn new(api: &'a Api, options: &'a Options, ranges: &'a Ranges) -> Self {
        Self {
            api,
            options,
            ranges,
            due: BTreeSet::new(),
            running: FuturesUnordered::new(),
            unanswered: HashSet::new(),
            failing: HashMap::new(),
            count: 0,
        }
    }

    /// Schedules the first renewal of a node. Its offset in the period differs by node, which
    /// spreads a burst of registrations.
    fn begin(&mut self, index: u32) {
        let share = f64::from(index.wrapping_mul(2_654_435_761)) / f64::from(u32::MAX);
        self.due
            .insert((Instant::now() + self.options.heartbeat.mul_f64(share), index));
    }

    /// Returns when the next renewals are sent: shortly after the first one is due, so that others
    /// go with it.
    fn next_launch(&self) -> Option<Instant> {
        let (at, _) = self.due.first()?;
        Some(*at + TICK)
    }

    fn launch(&mut self) {
        let now = Instant::now();
        while let Some((at, index)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            self.due
                .insert((next_due(at, self.options.heartbeat, now), index));
            if self.running.len() >= RENEWALS_MAX || !self.unanswered.insert(index) {
                // The control plane may set the node to not ready meanwhile, so it reports ready
                // with its next renewal.
                self.say_ready(index);
                continue;
            }
            self.count = self.count.wrapping_add(1);
            let say = match self.failing.contains_key(&index) || now.duration_since(at) > TARDY {
                true => Say::Ready,
                // The nodes take turns, for any number of nodes.
                false if (self.count / self.options.nodes.max(1) + index).is_multiple_of(LOOKS) => {
                    Say::IfAsked
                }
                false => Say::Nothing,
            };
            let renewal = renew(self.api, self.options, self.ranges, index, say);
            self.running
                .push(renewal.map(move |result| (index, result)).boxed());
        }
    }

    /// Makes the node report its status with its next renewal.
    fn say_ready(&mut self, index: u32) {
        self.failing.entry(index).or_default();
    }

    fn settle(&mut self, index: u32, result: Result<(), Error>) {
        self.unanswered.remove(&index);
        match result {
            Ok(()) => {
                self.failing.remove(&index);
            }
            Err(error) if error.code() == 404 => {
                // The Lease was deleted with its Node. A deleted node stops reporting.
                tracing::debug!(node = name(self.options, index), "the node is gone");
                self.due.retain(|(_, due)| *due != index);
                self.failing.remove(&index);
            }
            Err(error) => {
                let failures = self.failing.entry(index).or_default();
                *failures += 1;
                if *failures == 1 {
                    tracing::warn!(%error, "cannot renew a lease");
                }
            }
        }
    }
}

/// Returns when a renewal that was due at `at` is due again: at the same moment of the next period
/// in the future.
fn next_due(at: Instant, period: Duration, now: Instant) -> Instant {
    match at + period {
        next if next > now => next,
        // Missed periods are not made up for.
        _ => now + period,
    }
}

/// What a node reports with its renewal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Say {
    Nothing,
    /// That it is ready, if the server has another status.
    IfAsked,
    /// That it is ready.
    Ready,
}

/// Renews the Lease first. A node that was late then reports that it and its pods are ready.
async fn renew(api: &Api, options: &Options, ranges: &Ranges, index: u32, say: Say) -> Result<(), Error> {
    let began = Instant::now();
    let (name, now) = (name(options, index), options.clock.now());
    let path = format!("{LEASES}/{name}");
    let patch = json!({"spec": {"renewTime": micros(now)}});
    api.send(Method::PATCH, &path, "application/merge-patch+json", &patch)
        .await?;
    let says = match say {
        _ if began.elapsed() > TARDY => true,
        Say::Ready => true,
        Say::IfAsked => is_misjudged(api, &name, ranges.has(index)).await?,
        Say::Nothing => false,
    };
    if says {
        report(api, options, ranges, index).await?;
        pods::report_again(api, options, &name).await?;
    }
    Ok(())
}

/// Returns whether the server has another Ready status than `is_ready`.
async fn is_misjudged(api: &Api, name: &str, is_ready: bool) -> Result<bool, Error> {
    let path = format!("/api/v1/nodes/{name}");
    let node = api
        .send(Method::GET, &path, "application/json", &Value::Null)
        .await?;
    let node: Value = serde_json::from_slice(&node).unwrap_or_default();
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Ready");
    let right = if is_ready { "True" } else { "False" };
    Ok(ready.is_some_and(|ready| ready["status"] != right))
}

/// Formats RFC 3339 with six digits, like `metav1.MicroTime`.
fn micros(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// Returns a Node as a kubelet on a small cloud machine registers it.
fn node(name: &str, index: u32, now: Timestamp, is_ready: bool) -> Value {
    let now = format!("{now:.0}");
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    let room = json!({"cpu": "4", "memory": "16Gi", "ephemeral-storage": "100Gi", "pods": "110"});
    let ready = match is_ready {
        true => condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        false => condition("Ready", "False", "KubeletNotReady", NO_RANGE),
    };
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
            },
        },
        "status": {
            "capacity": room, "allocatable": room,
            "addresses": [
                {"type": "InternalIP", "address": address(index).to_string()},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                ready,
            ],
            "nodeInfo": {
                "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "simulated", "osImage": "simulated",
                "containerRuntimeVersion": "simulated://0", "kubeletVersion": concat!("everynode-", env!("CARGO_PKG_VERSION")),
                "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indices_belong_together() {
        let options = Options {
            nodes: 3,
            prefix: "edge-eu".into(),
            start: 10,
            ..Options::default()
        };
        for index in 0..3 {
            assert_eq!(super::index(&options, &name(&options, index)), Some(index));
        }
        assert_ne!(address(0), address(1));
        for stranger in ["edge-eu-9", "edge-eu-13", "edge-eu-x", "edge-us-10", "edge-eu"] {
            assert_eq!(super::index(&options, stranger), None, "{stranger}");
        }
    }

    #[test]
    fn renewals_keep_their_moment_and_make_up_for_nothing() {
        let (began, period) = (Instant::now(), Duration::from_secs(10));
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(
            next_due(at(0), period, at(3)),
            at(10),
            "a late launch delays no other"
        );
        assert_eq!(next_due(at(0), period, at(25)), at(35));
    }

    #[test]
    fn times_are_written_as_kubernetes_writes_them() {
        let at: Timestamp = "2026-01-02T03:04:05.000006789Z".parse().expect("a time");
        assert_eq!(micros(at), "2026-01-02T03:04:05.000006Z");
        assert_eq!(format!("{at:.0}"), "2026-01-02T03:04:05Z");
    }
}
