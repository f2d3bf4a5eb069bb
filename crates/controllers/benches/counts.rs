//! Counts the work that an event causes, at several sizes of the fleet: it must not grow with the
//! fleet.
//!
//! Everything runs in this process: the API server with its store, the controllers, and simulated
//! nodes. Leases are not renewed, so that only the event causes work. It counts the (DaemonSet,
//! node) pairs that the controller judged, the requests of all controllers (without watches), the
//! bytes of those requests, and the writes to the store, including those of the nodes.
#![allow(clippy::print_stdout, reason = "a benchmark's output is what it prints")]

use std::fmt::Write as _;
use std::ops::{AddAssign, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use apiserver::{Config, Server, User};
use controllers::Options;
use http::Request;
use http_body::Body as _;
use kube::client::Body;
use reflector::request::{Api, DeleteOptions, MERGE, STRATEGIC};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Sizes of the fleets, unless arguments name others.
const FLEETS: &[u32] = &[100, 1_000, 10_000];
/// Repetitions of an event, on another node each time. The mean is printed.
const REPEATS: u32 = 10;
/// An event has ended after this time without work.
const QUIET: Duration = Duration::from_millis(400);
/// The same with a Service, because two writes of its endpoints may be up to a second apart.
const QUIET_WITH_SERVICE: Duration = Duration::from_millis(1300);
/// Interval between two checks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Timeout of an event.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// Longer than the benchmark, so no node renews and none is missed.
const NEVER: Duration = Duration::from_secs(100 * 24 * 3600);

const SETS: &str = "/apis/apps/v1/namespaces/default/daemonsets";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// An event's name and its work at each size.
type Row = (String, Vec<Count>);

fn main() {
    let sizes: Vec<u32> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let sizes = if sizes.is_empty() { FLEETS.to_vec() } else { sizes };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut rows: Vec<Row> = Vec::new();
    for nodes in &sizes {
        for (row, (name, count)) in runtime.block_on(measure(*nodes)).into_iter().enumerate() {
            match rows.get_mut(row) {
                Some((_, counts)) => counts.push(count),
                None => rows.push((name, vec![count])),
            }
        }
    }
    println!("{}", table(&sizes, &rows));
}

/// Work of one event or of one pair.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    pairs: f64,
    requests: f64,
    bytes: f64,
    writes: f64,
}

impl Sub for Count {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            pairs: self.pairs - before.pairs,
            requests: self.requests - before.requests,
            bytes: self.bytes - before.bytes,
            writes: self.writes - before.writes,
        }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, more: Self) {
        self.pairs += more.pairs;
        self.requests += more.requests;
        self.bytes += more.bytes;
        self.writes += more.writes;
    }
}

impl Count {
    fn per(self, number: u32) -> Self {
        let number = f64::from(number);
        Self {
            pairs: self.pairs / number,
            requests: self.requests / number,
            bytes: self.bytes / number,
            writes: self.writes / number,
        }
    }
}

/// Requests of the controllers.
#[derive(Default)]
struct Sent {
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Sent {
    /// A client that counts its requests.
    fn through(self: Arc<Self>, client: kube::Client) -> kube::Client {
        let service = tower::service_fn(move |request: Request<Body>| {
            if !request
                .uri()
                .query()
                .is_some_and(|query| query.contains("watch="))
            {
                self.requests.fetch_add(1, Ordering::Relaxed);
                let size = request.body().size_hint().exact().unwrap_or(0);
                self.bytes.fetch_add(size, Ordering::Relaxed);
            }
            let client = client.clone();
            async move { client.send(request).await }
        });
        kube::Client::new(service, "default")
    }
}

/// The whole system, in this process.
struct Cluster {
    nodes: u32,
    server: Server,
    api: Api,
    sent: Arc<Sent>,
    status: controllers::Status,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    quiet_after: Duration,
    _data: tempfile::TempDir,
}

/// Measures all events.
async fn measure(nodes: u32) -> Vec<(String, Count)> {
    let mut cluster = Cluster::start(nodes).await;
    let mut rows = Vec::new();
    cluster.whole_fleet(&mut rows).await;
    cluster.single_nodes(&mut rows).await;
    cluster.guests(&mut rows).await;
    cluster.service(&mut rows).await;
    let deleted = cluster
        .counted(async |cluster| {
            let options = DeleteOptions::default();
            cluster
                .api
                .delete(&format!("{SETS}/everywhere"), options)
                .await
                .expect("deleted");
            cluster
                .until("the pods to be gone", async || cluster.pods().await == 0)
                .await;
        })
        .await;
    rows.push(("a DaemonSet is deleted, per pair".to_owned(), deleted.per(nodes)));
    cluster.stop().await;
    rows
}

impl Cluster {
    async fn start(nodes: u32) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let config = Config {
            data_dir: data.path().to_owned(),
            listen: ([127, 0, 0, 1], 0).into(),
            advertise: None,
            names: Vec::new(),
            service_ranges: apiserver::ServiceRanges::default(),
        };
        let server = Server::start(config).await.expect("the server starts");
        let sent = Arc::new(Sent::default());
        let mut options = Options {
            root_ca: Some(server.authority().into()),
            ..Options::default()
        };
        options.node_lifecycle.grace = NEVER;
        options.node_lifecycle.startup_grace = NEVER;
        let (status, shutdown) = (options.status.clone(), CancellationToken::new());
        let client = server.client(User::component("system:kube-controller-manager"));
        let client = Arc::clone(&sent).through(client);
        let running = tokio::spawn(controllers::run(client, options, shutdown.clone()));
        let mut cluster = Self {
            nodes,
            api: Api::new(server.client(User::admin())),
            server,
            sent,
            status,
            shutdown,
            tasks: vec![running],
            quiet_after: QUIET,
            _data: data,
        };
        cluster.play(nodes, "node");
        cluster
            .until("the nodes to be there", async || {
                cluster.number("/api/v1/nodes").await == u64::from(nodes)
            })
            .await;
        cluster.quiet().await;
        cluster
    }

    fn play(&mut self, nodes: u32, prefix: &str) {
        let options = simulate::Options {
            nodes,
            prefix: prefix.to_owned(),
            heartbeat: NEVER,
            // What gives nodes their ranges is not counted.
            pod_range: "10.0.0.0/8".parse().ok(),
            ..simulate::Options::default()
        };
        let play = simulate::run(self.server.client(User::admin()), options, self.shutdown.clone());
        self.tasks.push(tokio::spawn(async move {
            play.await.expect("the nodes are played");
        }));
    }

    async fn stop(self) {
        self.shutdown.cancel();
        for task in self.tasks {
            task.await.expect("a task ends in order");
        }
        self.server.shutdown().await.expect("stop the server");
    }

    /// Events on all nodes at once.
    async fn whole_fleet(&mut self, rows: &mut Vec<(String, Count)>) {
        let nodes = self.nodes;
        let created = self
            .counted(async |cluster| {
                cluster
                    .api
                    .create(SETS, &daemon_set("everywhere", json!({})))
                    .await
                    .expect("created");
                cluster.settled("everywhere", nodes).await;
            })
            .await;
        rows.push(("a DaemonSet is created, per pair".to_owned(), created.per(nodes)));
        // A second set on some nodes only. All later events must either skip or judge it.
        let chosen = daemon_set("chosen", json!({"disk": "ssd"}));
        self.api.create(SETS, &chosen).await.expect("created");
        self.quiet().await;
        let updated = self.counted(async |cluster| cluster.update("yes").await).await;
        rows.push((
            "its template changes (10% at a time), per pair".to_owned(),
            updated.per(nodes),
        ));
    }

    /// Events on one node or one pod.
    async fn single_nodes(&mut self, rows: &mut Vec<(String, Count)>) {
        let node = |index: u32| format!("/api/v1/nodes/node-{index}");
        self.each(rows, "a heartbeat (the node's Lease)", async |cluster, index| {
            let patch = json!({"spec": {"renewTime": format!("2026-01-01T00:00:{index:02}.000000Z")}});
            cluster
                .api
                .patch(&format!("{LEASES}/node-{index}"), MERGE, &patch)
                .await
                .expect("patched");
        })
        .await;
        self.each(rows, "a heartbeat (the node's status)", async |cluster, index| {
            let condition = json!({"type": "Ready", "lastHeartbeatTime": "2036-01-01T00:00:00Z"});
            let patch = json!({"status": {"conditions": [condition]}});
            cluster
                .api
                .patch(&format!("{}/status", node(index)), STRATEGIC, &patch)
                .await
                .expect("patched");
        })
        .await;
        let labels: [(&str, Value); 3] = [
            ("a label that nobody asks for", json!({"colour": "blue"})),
            ("a label brings a daemon to the node", json!({"disk": "ssd"})),
            ("the label goes, and the daemon with it", json!({"disk": null})),
        ];
        for (name, labels) in labels {
            self.each(rows, name, async |cluster, index| {
                let patch = json!({"metadata": {"labels": labels}});
                cluster
                    .api
                    .patch(&node(index), MERGE, &patch)
                    .await
                    .expect("patched");
            })
            .await;
        }
        for (effect, came, went) in [
            ("NoSchedule", "a NoSchedule taint comes", "it goes"),
            (
                "NoExecute",
                "a NoExecute taint comes, and the daemon goes",
                "it goes, and the daemon comes back",
            ),
        ] {
            for (name, taints) in [(came, json!([{"key": "k", "effect": effect}])), (went, json!([]))] {
                self.each(rows, name, async |cluster, index| {
                    let patch = json!({"spec": {"taints": taints}});
                    cluster
                        .api
                        .patch(&node(index), MERGE, &patch)
                        .await
                        .expect("patched");
                })
                .await;
            }
        }
        for (name, ready) in [
            ("a pod is no longer Ready", "False"),
            ("it is Ready again", "True"),
        ] {
            self.each(rows, name, async |cluster, index| {
                cluster.set_ready(index, ready).await;
            })
            .await;
        }
        self.each(rows, "a pod is deleted, and replaced", async |cluster, index| {
            let pod = cluster.pod_on(index).await;
            cluster
                .api
                .delete(&format!("{PODS}/{pod}"), DeleteOptions::default())
                .await
                .expect("deleted");
        })
        .await;
        self.each(rows, "a pod fails, and is replaced", async |cluster, index| {
            let pod = cluster.pod_on(index).await;
            let patch = json!({"status": {"phase": "Failed"}});
            cluster
                .api
                .patch(&format!("{PODS}/{pod}/status"), MERGE, &patch)
                .await
                .expect("patched");
        })
        .await;
    }

    /// Nodes that are added and deleted.
    async fn guests(&mut self, rows: &mut Vec<(String, Count)>) {
        let nodes = self.nodes;
        let came = self
            .counted(async |cluster| {
                cluster.play(REPEATS, "guest");
                cluster.settled("everywhere", nodes + REPEATS).await;
            })
            .await;
        rows.push(("a node comes, and gets its daemon".to_owned(), came.per(REPEATS)));
        let went = self
            .counted(async |cluster| {
                for guest in 0..REPEATS {
                    let path = format!("/api/v1/nodes/guest-{guest}");
                    cluster
                        .api
                        .delete(&path, DeleteOptions::default())
                        .await
                        .expect("deleted");
                }
                cluster.settled("everywhere", nodes).await;
            })
            .await;
        rows.push((
            "a node goes, and its daemon with it".to_owned(),
            went.per(REPEATS),
        ));
    }

    /// Work for a Service that selects the pods of all nodes: its EndpointSlices and its Endpoints.
    async fn service(&mut self, rows: &mut Vec<(String, Count)>) {
        let nodes = self.nodes;
        self.quiet_after = QUIET_WITH_SERVICE;
        let created = self
            .counted(async |cluster| {
                let service = json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "everywhere"},
                    "spec": {"selector": {"app": "everywhere"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
                });
                cluster
                    .api
                    .create(SERVICES, &service)
                    .await
                    .expect("created");
            })
            .await;
        rows.push((
            "a Service for them all is created, per pod".to_owned(),
            created.per(nodes),
        ));
        // The node repairs it before the end, so both changes are counted together.
        let mut changed = Count::default();
        for index in 0..REPEATS {
            for ready in ["False", "True"] {
                changed += self
                    .counted(async |cluster| cluster.set_ready(index, ready).await)
                    .await;
            }
        }
        rows.push((
            "a pod of the Service becomes Ready or ceases to be".to_owned(),
            changed.per(2 * REPEATS),
        ));
        let updated = self
            .counted(async |cluster| cluster.update("with-a-service").await)
            .await;
        rows.push((
            "the template of the Service's pods changes (10% at a time), per pod".to_owned(),
            updated.per(nodes),
        ));
        self.api
            .delete(&format!("{SERVICES}/everywhere"), DeleteOptions::default())
            .await
            .expect("deleted");
        self.quiet().await;
        self.quiet_after = QUIET;
    }

    /// Changes the template of the DaemonSet on all nodes, and waits until all have it.
    async fn update(&mut self, mark: &str) {
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {"updated": mark}}}}});
        self.api
            .patch(&format!("{SETS}/everywhere"), MERGE, &patch)
            .await
            .expect("patched");
        self.settled("everywhere", self.nodes).await;
    }

    async fn set_ready(&self, index: u32, ready: &str) {
        let patch = json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        let pod = self.pod_on(index).await;
        self.api
            .patch(&format!("{PODS}/{pod}/status"), STRATEGIC, &patch)
            .await
            .expect("patched");
    }

    /// Triggers an event on one node after the other, and waits for the end of each.
    async fn each(
        &mut self,
        rows: &mut Vec<(String, Count)>,
        name: &str,
        event: impl AsyncFn(&Cluster, u32),
    ) {
        let mut sum = Count::default();
        for index in 0..REPEATS {
            sum += self.counted(async |cluster| event(cluster, index).await).await;
        }
        rows.push((name.to_owned(), sum.per(REPEATS)));
    }

    /// The work from the beginning of `event` to its end.
    async fn counted(&mut self, event: impl AsyncFnOnce(&mut Cluster)) -> Count {
        let before = self.count().await;
        event(self).await;
        self.quiet().await - before
    }

    /// Waits for the end of all work, and returns the count.
    async fn quiet(&self) -> Count {
        let (mut last, mut since) = (self.count().await, Instant::now());
        while since.elapsed() < self.quiet_after {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.count().await;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last
    }

    async fn count(&self) -> Count {
        let list: Value = self.api.get("/api/v1/namespaces?limit=1").await.expect("a list");
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        Count {
            pairs: self.status.fleet_work().pairs_looked_at as f64,
            requests: self.sent.requests.load(Ordering::Relaxed) as f64,
            bytes: self.sent.bytes.load(Ordering::Relaxed) as f64,
            writes: revision.parse().expect("a revision"),
        }
    }

    /// Number of objects in a collection.
    async fn number(&self, collection: &str) -> u64 {
        let list: Value = self
            .api
            .get(&format!("{collection}?limit=1"))
            .await
            .expect("a list");
        let here = list["items"].as_array().map_or(0, Vec::len) as u64;
        here + list["metadata"]["remainingItemCount"].as_u64().unwrap_or(0)
    }

    async fn pods(&self) -> u64 {
        self.number(PODS).await
    }

    /// The pod of `everywhere` on a node.
    async fn pod_on(&self, index: u32) -> String {
        let path =
            format!("{PODS}?fieldSelector=spec.nodeName%3Dnode-{index}&labelSelector=app%3Deverywhere");
        let list: Value = self.api.get(&path).await.expect("a list");
        let name = list["items"][0]["metadata"]["name"].as_str();
        name.expect("a pod on the node").to_owned()
    }

    /// Waits until pods of the newest template are available on this many nodes, and on no others.
    async fn settled(&self, name: &str, wanted: u32) {
        let path = format!("{SETS}/{name}");
        self.until("the DaemonSet to settle", async || {
            let set: Value = self.api.get(&path).await.expect("the DaemonSet");
            let all = [
                "desiredNumberScheduled",
                "updatedNumberScheduled",
                "numberAvailable",
            ];
            set["status"]["observedGeneration"] == set["metadata"]["generation"]
                && all.iter().all(|field| set["status"][field] == wanted)
        })
        .await;
    }

    async fn until(&self, what: &str, reached: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !reached().await {
            assert!(started.elapsed() < TIMEOUT, "never: {what}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn daemon_set(name: &str, node_selector: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": "10%"}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"nodeSelector": node_selector, "containers": [{"name": "c", "image": "i:1"}]},
            },
        },
    })
}

/// A line for each event. Each cell has the values by size of the fleet, and the last divided by
/// the first.
fn table(sizes: &[u32], rows: &[Row]) -> String {
    let columns = ["pairs looked at", "requests", "bytes sent", "store writes"];
    let sizes: Vec<String> = sizes.iter().map(u32::to_string).collect();
    let mut text = format!(
        "At {} nodes (the last by the first):\n\n| event |",
        sizes.join(" / ")
    );
    for name in columns {
        let _infallible = write!(text, " {name} |");
    }
    text.push_str("\n|---|---|---|---|---|\n");
    for (name, counts) in rows {
        let _infallible = write!(text, "| {name} |");
        let read = |count: &Count| [count.pairs, count.requests, count.bytes, count.writes];
        for column in 0..columns.len() {
            let values: Vec<f64> = counts.iter().map(|count| read(count)[column]).collect();
            let shown: Vec<String> = values.iter().map(|value| figure(*value)).collect();
            let _infallible = write!(text, " {} ({}) |", shown.join(" / "), ratio(&values));
        }
        text.push('\n');
    }
    text
}

/// Three digits, without trailing zeros.
fn figure(value: f64) -> String {
    if value >= 100.0 {
        return format!("{value:.0}");
    }
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn ratio(values: &[f64]) -> String {
    match (values.first(), values.last()) {
        (Some(first), Some(last)) if *first != 0.0 => format!("{:.2}", last / first),
        (Some(_), Some(last)) if *last == 0.0 => "1".to_owned(),
        _ => "grows".to_owned(),
    }
}
