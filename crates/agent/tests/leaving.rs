//! The order in which a pod ends: first Services stop forwarding to it, then it gets SIGTERM.
//!
//! No controllers run here: the tests write the EndpointSlices themselves, at the moment that they choose.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testkit::wait_for_async;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use common::{Cluster, NODE, shell};

/// Where the Service is.
const SERVICE: &str = "10.96.77.7:80";
/// A pod is held back for three seconds at most. A round that took longer shows nothing, and is made again.
const CONCLUSIVE: Duration = Duration::from_secs(2);
/// Accepts connections until SIGTERM.
const SERVE: &str =
    "trap 'exit 0' TERM; /bin/busybox httpd -p 8080 -h /; while :; do /bin/busybox sleep 0.1; done";

/// Whether new connections to the Service are led to a pod.
async fn is_led() -> bool {
    let address: SocketAddr = SERVICE.parse().unwrap();
    let connected = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await;
    matches!(connected, Ok(Ok(_)))
}

impl Cluster {
    /// What the endpoints controller would write of the pod.
    async fn slice(&self, pod: &Pod, address: &str, conditions: Value) {
        let meta = &pod.metadata;
        let target = json!({"kind": "Pod", "namespace": "default", "name": meta.name, "uid": meta.uid});
        let endpoint =
            json!({"addresses": [address], "conditions": conditions, "nodeName": NODE, "targetRef": target});
        let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        let body = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "page-1", "labels": {"kubernetes.io/service-name": "page"}},
            "addressType": "IPv4", "ports": [{"name": "", "protocol": "TCP", "port": 8080}], "endpoints": [endpoint],
        });
        let slices: kube::Api<k8s_openapi::api::discovery::v1::EndpointSlice> =
            kube::Api::namespaced(self.admin.clone(), "default");
        if slices.get_opt("page-1").await.unwrap().is_none() {
            return self.object(path, body).await;
        }
        let patch = Patch::Merge(body);
        slices
            .patch("page-1", &PatchParams::default(), &patch)
            .await
            .unwrap();
    }
}

/// Answers the request of a preStop hook, and says what a client of the Service saw at that moment.
async fn hook(listener: TcpListener) -> bool {
    let (mut stream, _) = listener.accept().await.unwrap();
    let led = is_led().await;
    let mut request = [0; 1024];
    let read = stream.read(&mut request).await.unwrap();
    assert!(read > 0, "the agent asks for the hook's path");
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    led
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_told_to_end_after_the_rules_of_its_services_lead_elsewhere() {
    let cluster = Cluster::start().await;
    let ip = SERVICE.split(':').next().unwrap();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "page"},
        "spec": {"clusterIP": ip, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    cluster
        .object("/api/v1/namespaces/default/services", service)
        .await;
    for round in 0.. {
        let name = format!("page-{round}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut container = shell(SERVE);
        container["lifecycle"] =
            json!({"preStop": {"httpGet": {"host": "127.0.0.1", "port": port, "path": "/"}}});
        let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 3600});
        let pod = cluster.create(&name, spec).await;
        let running = cluster.until_ready(&name).await;
        let address = running["status"]["podIP"].as_str().unwrap();
        cluster.slice(&pod, address, json!({"ready": true})).await;
        wait_for_async("the Service to lead to the pod", async || {
            if is_led().await {
                Ok(())
            } else {
                Err(String::new())
            }
        })
        .await
        .unwrap();

        let hook = tokio::spawn(hook(listener));
        let deleted = Instant::now();
        cluster.delete(&name).await;
        // Its end has begun, and yet it is not asked to end: its clients still come.
        cluster.until_event(&name, "Killing").await;
        let early = hook.is_finished() || !is_led().await;
        let conclusive = deleted.elapsed() < CONCLUSIVE;
        cluster
            .slice(
                &pod,
                address,
                json!({"ready": false, "serving": false, "terminating": true}),
            )
            .await;
        let led = hook.await.unwrap();
        cluster.until_gone(&name).await;
        if conclusive {
            assert!(!early, "it was told to end while clients were led to it");
            assert!(!led, "it was told to end before the rules were changed");
            break;
        }
    }
    cluster.finish().await;
}
