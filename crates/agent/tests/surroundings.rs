//! What containers find around them, and the node's own object.

mod common;

use std::process::Command;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{AttachParams, DeleteParams, Patch, PatchParams, TerminalSize};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use common::{API_SERVICE, Cluster, IMAGE, NODE, shell};

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
    let logs = cluster.log("look").await;
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
    let script = "while [ \"$(/bin/busybox stty size)\" != '40 100' ]; do /bin/busybox sleep 0.05; done; read x; echo got $x";
    let mut process = cluster
        .exec("term", script, &AttachParams::interactive_tty())
        .await;
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
async fn a_deleted_node_registers_again_when_its_agent_is_started_again_and_labels_of_others_stay() {
    let mut cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.admin.clone());
    let registered = async |why: &str, check: &dyn Fn(&Node) -> bool| {
        let look = async || {
            let node = nodes.get_opt(NODE).await.unwrap();
            node.filter(check).ok_or_else(|| "no such node".to_owned())
        };
        testkit::wait_for_async(why, look).await.unwrap()
    };
    let first = registered("the node registers", &|node| {
        let images = node.status.as_ref().and_then(|status| status.images.as_ref());
        let names = images
            .into_iter()
            .flatten()
            .flat_map(|image| image.names.iter().flatten());
        names.into_iter().any(|name| name == IMAGE)
    })
    .await;
    nodes.delete(NODE, &DeleteParams::default()).await.unwrap();
    assert_eq!(cluster.agent_ended().await, agent::Ended::NodeDeleted);
    assert!(nodes.get_opt(NODE).await.unwrap().is_none());
    cluster.start_agent();
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
    let look = async || match folders.iter().find(|folder| folder.exists()) {
        None => Ok(()),
        Some(left) => Err(left.display().to_string()),
    };
    testkit::wait_for_async("the folders to be gone", look)
        .await
        .unwrap();
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
    let uid = pod.metadata.uid.unwrap();
    let log = node
        .options
        .pod_logs_dir
        .join(format!("default_alone_{uid}/c/1.log"));
    let look = async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.contains("known") { Ok(()) } else { Err(text) }
    };
    testkit::wait_for_async("the container to be restarted", look)
        .await
        .unwrap();
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_finds_the_api_server_and_says_that_it_has_no_cluster_dns() {
    let mut cluster = Cluster::start().await;
    cluster.stop_agent().await;
    cluster.options.cluster_dns.clear();
    cluster.start_agent();
    let script = "echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT; /bin/busybox grep -c cluster.local /etc/resolv.conf
        /bin/busybox nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null && echo connected";
    for (name, host_network) in [("own", false), ("host", true)] {
        let spec =
            json!({"containers": [shell(script)], "restartPolicy": "Never", "hostNetwork": host_network});
        cluster.create(name, spec).await;
        cluster
            .until(name, "it ends", |pod| {
                matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
            })
            .await;
        let logs = cluster.log(name).await;
        let server = match host_network {
            true => cluster.server.address().to_string(),
            false => API_SERVICE.to_owned(),
        };
        assert_eq!(logs, format!("{server}\n0\nconnected\n"));
    }
    cluster
        .until_event("own", "MissingClusterDNS: pod: \"own_default(")
        .await;
    assert!(
        !cluster
            .events("host")
            .await
            .iter()
            .any(|event| event.starts_with("MissingClusterDNS"))
    );
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_ends_with_the_exit_code_of_its_command() {
    let version = Command::new("kubectl").args(["version", "--client"]).output();
    // Older ones speak SPDY, which is not served.
    let current = |text: &str| {
        let minor = text.split("v1.").nth(1)?.split('.').next()?.parse::<u32>().ok()?;
        (minor >= 31).then_some(())
    };
    let text = version.map(|output| output.stdout).unwrap_or_default();
    if current(&String::from_utf8_lossy(&text)).is_none() {
        testkit::skip("no current kubectl on PATH");
        return;
    }
    let cluster = Cluster::start().await;
    let spec = json!({"containers": [shell(FOREVER)]});
    cluster.create("exit-code", spec).await;
    cluster.until_ready("exit-code").await;
    let kubeconfig = cluster.server.kubeconfig().to_owned();
    let exec = move |script: &'static str| {
        let output = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["exec", "exit-code", "--", "/bin/busybox", "sh", "-c", script])
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let ended = tokio::task::spawn_blocking(move || {
        // The tunnel may not stand yet.
        testkit::eventually("the tunnel", || Ok(exec("true").0 == Some(0))).unwrap();
        ["true", "exit 7"].map(exec)
    });
    let [good, bad] = ended.await.unwrap();
    assert_eq!(good, (Some(0), String::new()));
    assert_eq!(bad.0, Some(7), "{}", bad.1);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_its_command_along() {
    let cluster = Cluster::start().await;
    cluster
        .create("left", json!({"containers": [shell(FOREVER)]}))
        .await;
    cluster.until_ready("left").await;
    let mut process = cluster
        .exec(
            "left",
            "echo up; exec /bin/busybox sleep 4711",
            &AttachParams::default(),
        )
        .await;
    let mut said = [0; 3];
    process.stdout().unwrap().read_exact(&mut said).await.unwrap();
    drop(process);
    let look = async || {
        let script = "/bin/busybox ps | /bin/busybox grep -c 'sleep 471[1]'";
        let count = cluster.exec_output("left", script).await;
        match count.trim() {
            "0" => Ok(()),
            count => Err(format!("{count} processes")),
        }
    };
    testkit::wait_for_async("the command to end", look).await.unwrap();
    cluster.finish().await;
}
