//! An API server and one node with real containers, in a folder of their own.
//!
//! These tests need root and the Debian packages `busybox-static` and `nftables`.

#![allow(
    clippy::mod_module_files,
    reason = "cargo would take `common.rs` itself for a test program"
)]
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use agent::{Dialer, Identity, Options};
use apiserver::{Config, Server, User};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{AttachParams, AttachedProcess, DeleteParams, ListParams, LogParams, PostParams};
use runtime::{Range, Runtime, ScratchFile, ShimCommand};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const NODE: &str = "node-1";
/// Where the Service `kubernetes` is.
pub(crate) const API_SERVICE: &str = "10.96.0.1:443";
/// Where pods ask for names.
pub(crate) const CLUSTER_DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
pub(crate) const IMAGE: &str = "test.example/busybox:1";

/// An API server with one node.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    pub(crate) admin: kube::Client,
    pub(crate) options: Options,
    folder: tempfile::TempDir,
    agent: Option<(CancellationToken, JoinHandle<Result<agent::Ended, agent::Error>>)>,
}

impl Cluster {
    pub(crate) async fn start() -> Cluster {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: folder.path().join("server"),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: None,
            names: Vec::new(),
            service_ranges: apiserver::ServiceRanges::default(),
        };
        let server = Server::start(config).await.unwrap();
        let credential = server.node_credential(NODE).await.unwrap();
        let address = server.address();
        let identity = Identity {
            certificate: credential.certificate.into(),
            key: credential.key.into(),
        };
        let authority = server.authority().as_bytes();
        let dialer = Dialer::new(vec![address.into()], authority, Some(identity)).unwrap();
        let data_dir = folder.path().join("node");
        let images = runtime::Images::open(&data_dir).unwrap();
        let busybox = ScratchFile {
            path: "/bin/busybox".into(),
            source: "/bin/busybox".into(),
            mode: 0o755,
        };
        images
            .import_scratch(IMAGE, &[busybox], &["/bin/busybox".to_owned(), "sh".to_owned()])
            .unwrap();
        // Other test processes run at the same time; their ranges must differ too.
        let range = (std::process::id() as u8)
            .wrapping_mul(16)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let pod_range: Range = format!("{}/24", Ipv4Addr::new(10, 199, range, 0))
            .parse()
            .unwrap();
        let options = Options {
            client: server.client(User::node(NODE)),
            tunnel: Some(dialer),
            membership: None,
            api_address: address,
            api_service: Some(API_SERVICE.parse().unwrap()),
            cluster_dns: vec![CLUSTER_DNS.into()],
            cluster_domain: "cluster.local".into(),
            pod_logs_dir: folder.path().join("log/pods"),
            kubelet_dir: folder.path().join("kubelet"),
            image_limits: runtime::ImageLimits::default(),
            data_dir,
            keep_secrets: false,
            node_name: NODE.into(),
            node_ips: Vec::new(),
            network: agent::NetworkOptions {
                ranges: agent::PodRanges::Own(runtime::Ranges::Given(vec![pod_range])),
                ..agent::NetworkOptions::default()
            },
            policy: agent::PodPolicy::default(),
            stalled_after: agent::STALLED_AFTER,
            shim: ShimCommand {
                program: env!("CARGO_BIN_EXE_agent-test-shim").into(),
                arguments: Vec::new(),
            },
            labels: Default::default(),
            taints: Vec::new(),
        };
        let mut cluster = Cluster {
            admin: server.client(User::admin()),
            server,
            options,
            folder,
            agent: None,
        };
        cluster.start_agent();
        cluster
    }

    pub(crate) fn start_agent(&mut self) {
        let stop = CancellationToken::new();
        let running = tokio::spawn(agent::run(self.options.clone(), stop.clone()));
        self.agent = Some((stop, running));
    }

    /// Waits for the agent to end by itself, and why it did.
    pub(crate) async fn agent_ended(&mut self) -> agent::Ended {
        let (_stop, running) = self.agent.take().expect("an agent");
        let ended = tokio::time::timeout(Duration::from_secs(60), running).await;
        ended.expect("the agent ends").unwrap().unwrap()
    }

    /// Ends the agent; its pods run on.
    pub(crate) async fn stop_agent(&mut self) {
        let (stop, running) = self.agent.take().expect("an agent");
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    /// The API server goes away; the node stays.
    pub(crate) async fn lose_server(self) -> Node {
        self.server.shutdown().await.expect("stop the server");
        Node {
            options: self.options,
            agent: self.agent.expect("an agent"),
            _folder: self.folder,
        }
    }

    /// Ends everything and removes what was made on the machine.
    pub(crate) async fn finish(mut self) {
        if self.agent.is_some() {
            self.stop_agent().await;
        }
        agent::stop_all(&self.options, Duration::from_secs(1))
            .await
            .unwrap();
        self.server.shutdown().await.expect("stop the server");
        testkit::assert_no_mounts(self.folder.path());
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), "default")
    }

    /// A client over the network, as kubectl is one.
    pub(crate) async fn remote(&self) -> kube::Client {
        let kubeconfig = kube::config::Kubeconfig::read_from(self.server.kubeconfig()).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
            .await
            .unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// A client over the network with the node's own certificate.
    pub(crate) async fn remote_node(&self) -> kube::Client {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let credential = self.server.node_credential(NODE).await.unwrap();
        let authority = kube::config::Cluster {
            server: Some(self.server.url()),
            certificate_authority_data: Some(STANDARD.encode(self.server.authority())),
            ..Default::default()
        };
        let identity = json!({
            "client-certificate-data": STANDARD.encode(credential.certificate),
            "client-key-data": STANDARD.encode(credential.key),
        });
        let kubeconfig = json!({
            "clusters": [{"name": "c", "cluster": authority}],
            "users": [{"name": "u", "user": identity}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        });
        let kubeconfig = serde_json::from_value(kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
            .await
            .unwrap();
        kube::Client::try_from(config).unwrap()
    }

    pub(crate) async fn create(&self, name: &str, spec: Value) -> Pod {
        let mut spec = spec;
        spec["nodeName"] = NODE.into();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": spec,
        });
        self.create_raw(serde_json::from_value(pod).unwrap()).await
    }

    async fn create_raw(&self, pod: Pod) -> Pod {
        self.pods().create(&PostParams::default(), &pod).await.unwrap()
    }

    pub(crate) async fn object(&self, path: &str, body: Value) {
        let request = http::Request::post(path)
            .header("Content-Type", "application/json")
            .body(body.to_string().into_bytes())
            .unwrap();
        let _: Value = self.admin.request(request).await.unwrap();
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until the pod's JSON satisfies `check`; answers it.
    pub(crate) async fn until(&self, name: &str, what: &str, check: impl Fn(&Value) -> bool) -> Value {
        let look = async || {
            let pod = self.pods().get_opt(name).await.unwrap();
            let pod = serde_json::to_value(pod).unwrap();
            if check(&pod) {
                Ok(pod)
            } else {
                Err(format!("{:#}", pod["status"]))
            }
        };
        match testkit::wait_for_async(what, look).await {
            Ok(pod) => pod,
            Err(error) => panic!("{error}\n{:#?}", self.events(name).await),
        }
    }

    pub(crate) async fn until_ready(&self, name: &str) -> Value {
        self.until(name, "the pod is ready", |pod| condition(pod, "Ready") == "True")
            .await
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        self.until(name, "the pod is gone", Value::is_null).await;
    }

    /// `reason: message` of the events about a pod.
    pub(crate) async fn events(&self, name: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.admin.clone(), "default");
        let events = events.list(&ListParams::default()).await.unwrap();
        let about = events
            .items
            .into_iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(name));
        about
            .map(|event| {
                format!(
                    "{}: {}",
                    event.reason.unwrap_or_default(),
                    event.message.unwrap_or_default()
                )
            })
            .collect()
    }

    /// Waits until an event about the pod contains `text`.
    pub(crate) async fn until_event(&self, name: &str, text: &str) {
        let look = async || {
            let events = self.events(name).await;
            if events.iter().any(|event| event.contains(text)) {
                Ok(())
            } else {
                Err(format!("{events:#?}"))
            }
        };
        let what = format!("an event with {text:?}");
        testkit::wait_for_async(&what, look).await.unwrap();
    }

    /// Waits until the pod's log, asked for as kubectl does, satisfies `check`; answers it. A container that was started
    /// has not yet written, and the tunnel to a node that is ready may not stand yet.
    pub(crate) async fn until_log(
        &self,
        name: &str,
        which: &LogParams,
        check: impl Fn(&str) -> bool,
    ) -> String {
        let pods: Api<Pod> = Api::namespaced(self.remote().await, "default");
        let look = async || match pods.logs(name, which).await {
            Ok(log) if check(&log) => Ok(log),
            Ok(log) => Err(log),
            Err(error) => Err(error.to_string()),
        };
        testkit::wait_for_async("the log", look).await.unwrap()
    }

    /// The whole log of a pod that has ended.
    pub(crate) async fn log(&self, name: &str) -> String {
        self.until_log(name, &LogParams::default(), |_| true).await
    }

    /// Runs a command in the pod's container, over the tunnel once it stands.
    pub(crate) async fn exec(&self, name: &str, script: &str, streams: &AttachParams) -> AttachedProcess {
        let pods: Api<Pod> = Api::namespaced(self.remote().await, "default");
        let look = async || {
            let started = pods
                .exec(name, ["/bin/busybox", "sh", "-c", script], streams)
                .await;
            started.map_err(|error| error.to_string())
        };
        testkit::wait_for_async("the tunnel", look).await.unwrap()
    }

    /// Runs a command in a pod to its end and returns its standard output.
    pub(crate) async fn exec_output(&self, name: &str, script: &str) -> String {
        let mut process = self.exec(name, script, &AttachParams::default()).await;
        let mut output = String::new();
        let mut stdout = process.stdout().unwrap();
        stdout.read_to_string(&mut output).await.unwrap();
        output
    }

    /// What the runtime has, seen from beside the agent (whose runtime must be closed).
    pub(crate) fn runtime(&self) -> Runtime {
        let options = runtime::Options {
            network: None,
            shim: self.options.shim.clone(),
            ..Default::default()
        };
        Runtime::open(&self.options.data_dir, options).unwrap()
    }
}

/// A node without an API server.
pub(crate) struct Node {
    pub(crate) options: Options,
    agent: (CancellationToken, JoinHandle<Result<agent::Ended, agent::Error>>),
    _folder: tempfile::TempDir,
}

impl Node {
    pub(crate) async fn finish(self) {
        let (stop, running) = self.agent;
        stop.cancel();
        running.await.unwrap().unwrap();
        agent::stop_all(&self.options, Duration::from_secs(1))
            .await
            .unwrap();
    }
}

/// Status of a pod's condition.
pub(crate) fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    let conditions = pod["status"]["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.map_or(&Value::Null, |condition| &condition["status"])
}

/// A container that runs a shell script.
pub(crate) fn shell(script: &str) -> Value {
    json!({"name": "c", "image": IMAGE, "command": ["/bin/busybox", "sh", "-c", script]})
}
