//! What hangs in a pod: commands that leave children behind, and shims that do not answer. The node serves the other pods, and says what is wrong.

mod common;

use std::fs;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::{Value, json};

use common::{Cluster, NODE, shell};

const FOREVER: &str = "trap 'exit 0' TERM; while :; do /bin/busybox sleep 0.1; done";

/// The processes of this machine whose command line ends with `word`.
fn processes(word: &str) -> Vec<String> {
    let end = format!("\0{word}\0");
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter(|process| {
        fs::read_to_string(process.path().join("cmdline")).is_ok_and(|line| line.ends_with(&end))
    })
    .map(|process| process.file_name().to_string_lossy().into_owned())
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_out_of_time_ends_with_its_children() {
    let cluster = Cluster::start().await;
    let seen = tempfile::tempdir().unwrap();
    let script = "echo begun >>/seen/probes; /bin/busybox sleep 7770011; true";
    let mut hanging = shell(FOREVER);
    hanging["volumeMounts"] = json!([{"name": "seen", "mountPath": "/seen"}]);
    hanging["readinessProbe"] = json!({
        "exec": {"command": ["/bin/busybox", "sh", "-c", script]}, "periodSeconds": 1, "timeoutSeconds": 1,
    });
    let hanging: Vec<Value> = (0..4)
        .map(|number| {
            let mut container = hanging.clone();
            container["name"] = format!("c{number}").into();
            container
        })
        .collect();
    let volume = json!({"name": "seen", "hostPath": {"path": seen.path()}});
    let count = hanging.len();
    let spec = json!({"containers": hanging, "volumes": [volume]});
    cluster.create("hanging", spec).await;
    cluster.until_event("hanging", "timed out after 1s").await;
    // Each container is probed again and again.
    let begun = async || {
        let probes = fs::read_to_string(seen.path().join("probes")).map_err(|error| error.to_string())?;
        match probes.lines().count() {
            begun if begun >= 24 => Ok(()),
            begun => Err(format!("{begun} probes so far")),
        }
    };
    testkit::wait_for_async("many probes have begun", begun)
        .await
        .unwrap();
    let left = processes("7770011");
    assert!(left.len() <= 2 * count, "{} processes are left", left.len());

    let mut bystander = shell(FOREVER);
    bystander["readinessProbe"] = json!({"exec": {"command": ["/bin/busybox", "true"]}, "periodSeconds": 1});
    cluster
        .create("bystander", json!({"containers": [bystander]}))
        .await;
    cluster.until_ready("bystander").await;
    let answer = cluster.exec_output("bystander", "echo alive").await;
    assert_eq!(answer, "alive\n");
    for pod in ["hanging", "bystander"] {
        cluster.delete(pod).await;
        cluster.until_gone(pod).await;
    }
    assert_eq!(processes("7770011"), Vec::<String>::new());
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_shims_hang_is_not_ready() {
    let mut cluster = Cluster::start().await;
    cluster.stop_agent().await;
    cluster.options.stalled_after = Duration::from_secs(4);
    cluster.start_agent();
    let sleeper =
        json!({"name": "c", "image": common::IMAGE, "command": ["/bin/busybox", "sleep", "7770012"]});
    let spec = json!({"containers": [sleeper], "terminationGracePeriodSeconds": 1});
    cluster.create("stuck", spec).await;
    cluster.until_ready("stuck").await;
    let [first] = &processes("7770012")[..] else {
        panic!("one process")
    };
    let stat = fs::read_to_string(format!("/proc/{first}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let shim = fields.split(' ').nth(1).unwrap();
    Command::new("kill").args(["-STOP", shim]).status().unwrap();
    ready(&cluster, "False", "PLEG is not healthy").await;
    Command::new("kill").args(["-CONT", shim]).status().unwrap();
    ready(&cluster, "True", "posting ready status").await;

    // A pod whose shim hangs can be deleted.
    Command::new("kill").args(["-STOP", shim]).status().unwrap();
    cluster.delete("stuck").await;
    cluster.until_gone("stuck").await;
    assert_eq!(processes("7770012"), Vec::<String>::new());
    cluster.finish().await;
}

/// Waits until the node's condition Ready has this status, and a message with `words`.
async fn ready(cluster: &Cluster, status: &str, words: &str) {
    let nodes: Api<Node> = Api::all(cluster.admin.clone());
    let look = async || {
        let node = nodes.get(NODE).await.map_err(|error| error.to_string())?;
        let conditions = node
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        let found = conditions
            .into_iter()
            .find(|condition| condition.type_ == "Ready");
        let found = found.ok_or("no condition")?;
        let message = found.message.clone().unwrap_or_default();
        match found.status == status && message.contains(words) {
            true => Ok(()),
            false => Err(format!("{found:?}")),
        }
    };
    testkit::wait_for_async("the node says how it is", look)
        .await
        .unwrap();
}
