//! What becomes of a pod whose spec changes, whose time is over, or whose node stops.

mod common;

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use kube::api::{Patch, PatchParams};
use runtime::ScratchFile;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use common::{Cluster, IMAGE, shell};

const FOREVER: &str = "trap 'exit 0' TERM; while :; do /bin/busybox sleep 0.1; done";
const OTHER: &str = "test.example/busybox:2";

fn first_status(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_image_restarts_the_container() {
    let cluster = Cluster::start().await;
    let images = runtime::Images::open(&cluster.options.data_dir).unwrap();
    let busybox = ScratchFile {
        path: "/bin/busybox".into(),
        source: "/bin/busybox".into(),
        mode: 0o755,
    };
    let command = ["/bin/busybox".to_owned(), "sh".to_owned()];
    images.import_scratch(OTHER, &[busybox], &command).unwrap();
    for policy in ["Always", "Never"] {
        let name = policy.to_lowercase();
        let spec = json!({"containers": [shell(FOREVER)], "restartPolicy": policy});
        cluster.create(&name, spec).await;
        let pod = cluster.until_ready(&name).await;
        assert_eq!(first_status(&pod)["image"], IMAGE);
        let patch = json!({"spec": {"containers": [{"name": "c", "image": OTHER}]}});
        let params = PatchParams::default();
        cluster
            .pods()
            .patch(&name, &params, &Patch::Strategic(patch))
            .await
            .unwrap();
        let pod = cluster
            .until(&name, "the new image runs", |pod| {
                first_status(pod)["image"] == OTHER && first_status(pod)["ready"] == true
            })
            .await;
        assert_eq!(first_status(&pod)["restartCount"], 1);
        assert_eq!(pod["status"]["phase"], "Running");
        cluster
            .until_event(&name, "Container c definition changed, will be restarted")
            .await;
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_past_its_deadline_has_failed() {
    let cluster = Cluster::start().await;
    let spec = json!({"containers": [shell(FOREVER)], "activeDeadlineSeconds": 2, "restartPolicy": "Never"});
    cluster.create("late", spec).await;
    let pod = cluster
        .until("late", "the pod has ended", |pod| {
            matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
        })
        .await;
    assert_eq!(pod["status"]["phase"], "Failed");
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    assert_eq!(first_status(&pod)["state"]["terminated"]["exitCode"], 0);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_pod_says_how_it_ended() {
    let mut cluster = Cluster::start().await;
    cluster
        .create("web", json!({"containers": [shell(FOREVER)]}))
        .await;
    cluster.until_ready("web").await;
    cluster.stop_agent().await;
    agent::stop_all(&cluster.options, Duration::from_secs(10))
        .await
        .unwrap();
    let stopped = |pod: &Value| first_status(pod)["state"]["terminated"]["exitCode"] == 0;
    cluster.until("web", "the end is reported", stopped).await;
    cluster.start_agent();
    let again = |pod: &Value| first_status(pod)["restartCount"] == 1 && first_status(pod)["ready"] == true;
    let pod = cluster.until("web", "it runs again", again).await;
    let last = &first_status(&pod)["lastState"]["terminated"];
    assert_eq!(
        (&last["reason"], &last["exitCode"]),
        (&json!("Completed"), &json!(0))
    );
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_network_pod_reaches_the_service_kubernetes() {
    let cluster = Cluster::start().await;
    let spec = json!({"containers": [shell(FOREVER)], "hostNetwork": true});
    cluster.create("host", spec).await;
    cluster.until_ready("host").await;
    let script = "echo hello | /bin/busybox nc -w 10 10.96.0.1 443 | /bin/busybox wc -c";
    let answer = cluster.exec_output("host", script).await;
    // The server answers with an alert of TLS.
    assert_eq!(answer, "7\n");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_takes_long_commands_and_text_as_input() {
    let cluster = Cluster::start().await;
    cluster
        .create("web", json!({"containers": [shell(FOREVER)]}))
        .await;
    cluster.until_ready("web").await;
    let script = format!(": {}; echo long", "x".repeat(40 << 10));
    let answer = cluster.exec_output("web", &script).await;
    assert_eq!(answer, "long\n");

    let command = "command=/bin/busybox&command=head&command=-n&command=1&stdin=true&stdout=true";
    let path = format!("/api/v1/namespaces/default/pods/web/exec?{command}");
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let mut stream = cluster
        .remote()
        .await
        .connect(request)
        .await
        .unwrap()
        .into_stream();
    stream.send(Message::Text("\0hello\n".into())).await.unwrap();
    let mut said = Vec::new();
    while let Some(Ok(message)) = stream.next().await {
        if let [1, bytes @ ..] = &message.into_data()[..] {
            said.extend_from_slice(bytes);
        }
    }
    assert_eq!(said, b"hello\n");
    cluster.finish().await;
}
