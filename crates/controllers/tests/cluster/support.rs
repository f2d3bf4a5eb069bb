//! A cluster in this process: API server, controllers and simulated nodes, connected by in-process
//! clients.

use std::future::Future;
use std::time::Duration;

use apiserver::{Config, Server, User};
use controllers::Options;
use reflector::request::{Api, DeleteOptions, MERGE, STRATEGIC};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Timeout of a state. Generous, because the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    server: Server,
    pub(crate) api: Api,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    status: controllers::Status,
    /// Nodes bring their pod ranges where the controllers give none.
    pub(crate) nodes_bring_ranges: bool,
    _data: tempfile::TempDir,
}

impl Cluster {
    /// A cluster with `nodes` simulated nodes.
    pub(crate) async fn start(nodes: u32) -> Self {
        Self::start_with(nodes, Options::default()).await
    }

    pub(crate) async fn start_with(nodes: u32, options: Options) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let config = Config {
            data_dir: data.path().to_owned(),
            listen: ([127, 0, 0, 1], 0).into(),
            advertise: None,
            names: Vec::new(),
            service_ranges: apiserver::ServiceRanges::default(),
        };
        let server = Server::start(config).await.expect("the server starts");
        let status = options.status.clone();
        let nodes_bring_ranges = options.cluster_ranges.is_empty();
        let options = Options {
            root_ca: Some(server.authority().into()),
            ..options
        };
        let shutdown = CancellationToken::new();
        let client = server.client(User::component("system:kube-controller-manager"));
        let controllers = tokio::spawn(controllers::run(client, options, shutdown.clone()));
        let api = Api::new(server.client(User::admin()));
        let mut cluster = Self {
            server,
            api,
            shutdown,
            tasks: vec![controllers],
            status,
            nodes_bring_ranges,
            _data: data,
        };
        if nodes > 0 {
            cluster.play(nodes, "node");
        }
        cluster
    }

    /// Simulates more nodes. The token only ends their simulation: they stop reporting.
    pub(crate) fn play(&mut self, nodes: u32, prefix: &str) -> CancellationToken {
        self.play_at(nodes, prefix, simulate::Options::default().heartbeat)
    }

    /// The same, with another interval of heartbeats.
    pub(crate) fn play_at(&mut self, nodes: u32, prefix: &str, heartbeat: Duration) -> CancellationToken {
        let silence = self.shutdown.child_token();
        let options = simulate::Options {
            heartbeat,
            ..self.nodes(nodes, prefix)
        };
        let play = simulate::run(self.server.client(User::admin()), options, silence.clone());
        self.tasks.push(tokio::spawn(async move {
            play.await.expect("the nodes are played");
        }));
        silence
    }

    fn nodes(&self, nodes: u32, prefix: &str) -> simulate::Options {
        simulate::Options {
            nodes,
            prefix: prefix.to_owned(),
            pod_range: "10.0.0.0/8".parse().ok().filter(|_| self.nodes_bring_ranges),
            ..simulate::Options::default()
        }
    }

    /// Simulates nodes over HTTPS, like another machine.
    pub(crate) async fn play_remotely(&mut self, nodes: u32, prefix: &str) {
        let kubeconfig = kube::config::Kubeconfig::read_from(self.server.kubeconfig()).expect("a kubeconfig");
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
                .await
                .expect("a usable kubeconfig");
        let client = simulate::connect(&config).expect("a client");
        let options = self.nodes(nodes, prefix);
        let shutdown = self.shutdown.clone();
        self.tasks.push(tokio::spawn(async move {
            simulate::run(client, options, shutdown)
                .await
                .expect("the nodes are played");
        }));
    }

    pub(crate) async fn stop(self) {
        let restarted: Vec<_> = self
            .status
            .all()
            .into_iter()
            .filter(|(_, task)| task.restarts > 0)
            .collect();
        self.shutdown.cancel();
        for task in self.tasks {
            task.await.expect("a task ends in order");
        }
        self.server.shutdown().await.expect("stop the server");
        assert!(
            restarted.is_empty(),
            "controllers failed and were started again: {restarted:?}"
        );
    }

    pub(crate) async fn get(&self, path: &str) -> Option<Value> {
        match self.api.get(path).await {
            Ok(value) => Some(value),
            Err(failure) if failure.is_not_found() => None,
            Err(failure) => panic!("{failure}"),
        }
    }

    pub(crate) async fn items(&self, path: &str) -> Vec<Value> {
        let list = self.get(path).await.expect("a list");
        list["items"].as_array().cloned().unwrap_or_default()
    }

    pub(crate) async fn pods(&self) -> Vec<Value> {
        self.items("/api/v1/namespaces/default/pods").await
    }

    pub(crate) async fn create(&self, collection: &str, object: Value) {
        self.api.create(collection, &object).await.expect("a creation");
    }

    pub(crate) async fn merge(&self, path: &str, patch: Value) {
        self.api.patch(path, MERGE, &patch).await.expect("a patch");
    }

    pub(crate) async fn strategic(&self, path: &str, patch: Value) {
        self.api.patch(path, STRATEGIC, &patch).await.expect("a patch");
    }

    pub(crate) async fn delete(&self, path: &str, propagation: Option<&str>) {
        let options = DeleteOptions {
            propagation,
            ..DeleteOptions::default()
        };
        self.api.delete(path, options).await.expect("a deletion");
    }

    /// Polls `state` until it returns a value, and returns that. On timeout, panics with what it
    /// waited for.
    pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        mut state: impl FnMut() -> F,
    ) -> T {
        let look = async {
            loop {
                if let Some(found) = state().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(TIMEOUT, look).await {
            Ok(found) => found,
            Err(_) => panic!("never: {what}\n{}", self.dump().await),
        }
    }

    /// Waits until the DaemonSet reports this many ready pods, all of the current template.
    pub(crate) async fn ready(&self, name: &str, nodes: u64) {
        let path = set_path(name);
        self.until(&format!("{name} ready on {nodes} nodes"), || async {
            let set = self.get(&path).await?;
            let status = &set["status"];
            let observed = status["observedGeneration"] == set["metadata"]["generation"];
            let number = |field: &str| status[field].as_u64().unwrap_or(0);
            let all = [
                "desiredNumberScheduled",
                "currentNumberScheduled",
                "numberReady",
                "updatedNumberScheduled",
            ];
            (observed && all.iter().all(|f| number(f) == nodes)).then_some(())
        })
        .await;
    }

    async fn dump(&self) -> String {
        let mut lines = Vec::new();
        for path in [
            "/api/v1/nodes",
            "/apis/apps/v1/daemonsets",
            "/api/v1/pods",
            "/api/v1/events",
        ] {
            for item in self.items(path).await {
                let said = [&item["reason"], &item["message"], &item["status"]];
                lines.push(format!(
                    "{path} {} {said:?} {}",
                    item["metadata"]["name"], item["metadata"]["finalizers"]
                ));
            }
        }
        lines.push(format!("{:?}", self.status.all()));
        lines.join("\n")
    }
}

pub(crate) fn set_path(name: &str) -> String {
    format!("/apis/apps/v1/namespaces/default/daemonsets/{name}")
}

pub(crate) const SETS: &str = "/apis/apps/v1/namespaces/default/daemonsets";

pub(crate) fn daemon_set(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "registry.example/daemon:1"}], "terminationGracePeriodSeconds": 1},
            },
        },
    });
    change(&mut set);
    set
}

pub(crate) fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
