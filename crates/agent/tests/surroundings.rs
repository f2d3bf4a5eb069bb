//! What containers find around them, and the node's own object.

mod common;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{AttachParams, DeleteParams, LogParams, Patch, PatchParams, TerminalSize};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use common::{Cluster, IMAGE, NODE, PATIENCE, shell};

const FOREVER: &str = "trap 'exit 0' TERM; while :; do /bin/busybox sleep 0.1; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_container_finds_its_volumes_its_token_and_its_confinement() {
    let cluster = Cluster::start().await;
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("file"), "from the host").unwrap();
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"p": "hush"}});
    cluster.object("/api/v1/namespaces/default/secrets", secret).await;
    let script = "set -e; alias b=/bin/busybox
        b cat /host/file; echo; b cat /secret/deep/p; echo; b cat /downward/labels; echo
        test -s /var/run/secrets/kubernetes.io/serviceaccount/token
        b cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo
        ! echo x > /host/new; ! echo x > /root-file; echo written > /scratch/file
        b id -u; b id -g; b id -G; echo $LIMIT; b hostname; b grep -c $(b hostname) /etc/hosts
        b ls -ln /scratch | b awk 'NR==2{print $4}'; b grep CapEff /proc/self/status | b cut -f2";
    let mut container = shell(&format!("shopt -s expand_aliases 2>/dev/null; {script}"));
    container["securityContext"] = json!({"readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}});
    container["resources"] = json!({"limits": {"memory": "32Mi", "cpu": "1"}});
    let limit = json!({"resource": "limits.memory", "divisor": "1Mi"});
    container["env"] = json!([{"name": "LIMIT", "valueFrom": {"resourceFieldRef": limit}}]);
    container["volumeMounts"] = json!([
        {"name": "host", "mountPath": "/host", "readOnly": true},
        {"name": "secret", "mountPath": "/secret"},
        {"name": "downward", "mountPath": "/downward"},
        {"name": "scratch", "mountPath": "/scratch"},
    ]);
    let labels = json!({"path": "labels", "fieldRef": {"fieldPath": "metadata.name"}});
    let spec = json!({
        "containers": [container],
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1001, "fsGroup": 2000},
        "volumes": [
            {"name": "host", "hostPath": {"path": host.path(), "type": "Directory"}},
            {"name": "secret", "secret": {"secretName": "s", "items": [{"key": "p", "path": "deep/p"}]}},
            {"name": "downward", "downwardAPI": {"items": [labels]}},
            {"name": "scratch", "emptyDir": {}},
        ],
    });
    cluster.create("look", spec).await;
    let pod = cluster
        .until("look", "it ends", |pod| {
            matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
        })
        .await;
    let remote: Api<Pod> = Api::namespaced(cluster.remote().await, "default");
    let logs = remote.logs("look", &LogParams::default()).await.unwrap();
    let lines: Vec<&str> = logs.lines().filter(|line| !line.contains("sh: ")).collect();
    assert_eq!(pod["status"]["phase"], "Succeeded", "{logs}");
    let expected = [
        "from the host",
        "hush",
        "look",
        "default",
        "1000",
        "1001",
        "1001 2000",
        "32",
        "look",
        "1",
        "2000",
        "0000000000000000",
    ];
    assert_eq!(lines, expected, "{logs}");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_the_size_that_the_client_sends() {
    let cluster = Cluster::start().await;
    cluster
        .create("term", json!({"containers": [shell(FOREVER)]}))
        .await;
    cluster.until_ready("term").await;
    let remote: Api<Pod> = Api::namespaced(cluster.remote().await, "default");
    let script = "while [ \"$(/bin/busybox stty size)\" != '40 100' ]; do /bin/busybox sleep 0.05; done; read x; echo got $x";
    let command = ["/bin/busybox", "sh", "-c", script];
    let started = Instant::now();
    let mut process = loop {
        match remote
            .exec("term", command, &AttachParams::interactive_tty())
            .await
        {
            Ok(process) => break process,
            // The tunnel may not stand yet.
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let mut sizes = process.terminal_size().unwrap();
    let size = TerminalSize {
        width: 100,
        height: 40,
    };
    futures::SinkExt::send(&mut sizes, size).await.unwrap();
    process.stdin().unwrap().write_all(b"it\n").await.unwrap();
    let mut output = String::new();
    process
        .stdout()
        .unwrap()
        .read_to_string(&mut output)
        .await
        .unwrap();
    assert!(output.contains("got it"), "{output}");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_server_is_ready_when_its_page_answers() {
    let cluster = Cluster::start().await;
    let container = json!({
        "name": "c", "image": IMAGE,
        "command": ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/etc"],
        "ports": [{"name": "web", "containerPort": 8080}],
        "startupProbe": {"tcpSocket": {"port": "web"}, "periodSeconds": 1},
        "readinessProbe": {"httpGet": {"port": "web", "path": "hostname"}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"port": 8080, "path": "/hostname"}, "periodSeconds": 1},
    });
    cluster
        .create(
            "web",
            json!({"containers": [container.clone()], "terminationGracePeriodSeconds": 1}),
        )
        .await;
    cluster.until_ready("web").await;
    let mut broken = container;
    broken["readinessProbe"]["httpGet"]["path"] = "/none".into();
    cluster
        .create(
            "broken",
            json!({"containers": [broken], "terminationGracePeriodSeconds": 1}),
        )
        .await;
    cluster
        .until_event(
            "broken",
            "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 404",
        )
        .await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_node_registers_again_and_labels_of_others_stay() {
    let mut cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.admin.clone());
    let registered = async |why: &str, check: &dyn Fn(&Node) -> bool| {
        let started = Instant::now();
        loop {
            if let Some(node) = nodes.get_opt(NODE).await.unwrap()
                && check(&node)
            {
                return node;
            }
            assert!(started.elapsed() < PATIENCE, "in vain: {why}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let first = registered("the node registers", &|_| true).await;
    nodes.delete(NODE, &DeleteParams::default()).await.unwrap();
    registered("it registers again", &|node| {
        node.metadata.uid != first.metadata.uid
    })
    .await;
    let label = json!({"metadata": {"labels": {"mine": "yes"}}});
    nodes
        .patch(NODE, &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    cluster.stop_agent().await;
    cluster.options.labels.insert("agent".into(), "2".into());
    cluster.start_agent();
    let has = |node: &Node, label: &str| {
        node.metadata
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(label))
    };
    let node = registered("the agent's new label comes", &|node| has(node, "agent")).await;
    assert!(has(&node, "mine") && has(&node, "kubernetes.io/hostname"));
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_does_not_know_is_stopped_and_a_forced_deletion_too() {
    let mut cluster = Cluster::start().await;
    let forced = cluster
        .create("forced", json!({"containers": [shell(FOREVER)]}))
        .await;
    let stranger = cluster
        .create("stranger", json!({"containers": [shell(FOREVER)]}))
        .await;
    cluster.until_ready("forced").await;
    cluster.until_ready("stranger").await;
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        ..Default::default()
    };
    cluster.pods().delete("forced", &now).await.unwrap();
    cluster.stop_agent().await;
    cluster.pods().delete("stranger", &now).await.unwrap();
    cluster.start_agent();
    let folders = [forced, stranger].map(|pod| {
        cluster
            .options
            .data_dir
            .join("kubelet")
            .join(pod.metadata.uid.unwrap())
    });
    let started = Instant::now();
    while folders.iter().any(|folder| folder.exists()) {
        assert!(started.elapsed() < PATIENCE, "something is left: {folders:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.stop_agent().await;
    assert!(cluster.runtime().pods().is_empty());
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_away_a_container_is_restarted_with_what_was_known() {
    let mut cluster = Cluster::start().await;
    cluster.stop_agent().await;
    cluster.options.client = cluster.remote_node().await;
    cluster.start_agent();
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"A": "known"}});
    cluster.object("/api/v1/namespaces/default/configmaps", map).await;
    let gate = tempfile::tempdir().unwrap();
    let script = "echo $A; while ! test -e /gate/go; do /bin/busybox sleep 0.1; done; exit 1";
    let mut container = shell(script);
    container["envFrom"] = json!([{"configMapRef": {"name": "m"}}]);
    container["volumeMounts"] = json!([{"name": "gate", "mountPath": "/gate"}]);
    let volumes = json!([{"name": "gate", "hostPath": {"path": gate.path()}}]);
    let pod = cluster
        .create("alone", json!({"containers": [container], "volumes": volumes}))
        .await;
    cluster.until_ready("alone").await;
    let node = cluster.lose_server().await;
    std::fs::write(gate.path().join("go"), "").unwrap();
    let log = node
        .options
        .data_dir
        .join("kubelet")
        .join(pod.metadata.uid.unwrap())
        .join("logs/c/1.log");
    let started = Instant::now();
    while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("known")) {
        assert!(started.elapsed() < PATIENCE, "it was not restarted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.finish().await;
}
