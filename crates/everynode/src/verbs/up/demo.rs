//! The demo of `everynode up --demo`: a DaemonSet whose image contains the running binary.

use std::path::Path;

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use http::{Request, header};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use runtime::{Images, ScratchFile};
use serde_json::{Value, json};

const NAME: &str = "everynode-demo";
const IMAGE: &str = concat!("everynode.local/demo:", env!("CARGO_PKG_VERSION"));
/// Port of the page on this machine.
const PORT: u16 = 8080;

/// Creates the image and the DaemonSet, waits until its pod runs, and prints the next commands.
pub(super) async fn start(client: Client, kubeconfig: &Path, data_dir: &Path) -> Result<()> {
    let folder = data_dir.to_owned();
    tokio::task::spawn_blocking(move || make_image(&folder))
        .await
        .context("make the demo's image")??;
    create(&client).await?;
    eprintln!("waiting for the demo's pod");
    let pod = running(client).await?;
    say(kubeconfig, &pod);
    Ok(())
}

fn make_image(data_dir: &Path) -> Result<()> {
    let images = Images::open(data_dir).context("open the images")?;
    let binary = std::env::current_exe().context("find the running binary")?;
    let files = [ScratchFile {
        path: "/everynode".into(),
        source: binary,
        mode: 0o755,
    }];
    let entrypoint = ["/everynode".to_owned(), "demo-page".to_owned()];
    images
        .import_scratch(IMAGE, &files, &entrypoint)
        .context("make the demo's image")?;
    Ok(())
}

fn daemon_set() -> Value {
    let labels = json!({"app": NAME});
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": NAME, "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "terminationGracePeriodSeconds": 5,
                "containers": [{
                    "name": "page", "image": IMAGE,
                    "env": [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                    "ports": [{"containerPort": 8080, "hostPort": PORT}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                }],
            }},
        },
    })
}

/// Creates the DaemonSet, or uses the one of an earlier demo.
async fn create(client: &Client) -> Result<()> {
    let request = Request::post("/apis/apps/v1/namespaces/default/daemonsets")
        .header(header::CONTENT_TYPE, "application/json")
        .body(daemon_set().to_string().into_bytes())
        .context("build the request")?;
    match client.request_text(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(error).context("create the demo's DaemonSet"),
    }
}

/// Watches the demo's pods until one is ready. Prints each step of its status.
async fn running(client: Client) -> Result<Pod> {
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let changes = watcher(pods, watcher::Config::default().labels(&format!("app={NAME}"))).applied_objects();
    let mut changes = std::pin::pin!(changes);
    let mut told = String::new();
    while let Some(pod) = changes.try_next().await.context("watch the demo's pods")? {
        let step = step(&pod);
        if step != told {
            eprintln!("  {}  {step}", pod.metadata.name.as_deref().unwrap_or_default());
            told = step;
        }
        if told == "Running" {
            return Ok(pod);
        }
    }
    bail!("the watch of the demo's pods ended")
}

/// Returns the pod's state in one word: the reason for which it waits, or its phase.
fn step(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let container = status.and_then(|status| status.container_statuses.as_ref()?.first());
    let waiting = container.and_then(|container| container.state.as_ref()?.waiting.as_ref());
    if let Some(reason) = waiting.and_then(|waiting| waiting.reason.clone()) {
        return reason;
    }
    let phase = status
        .and_then(|status| status.phase.clone())
        .unwrap_or_else(|| "Pending".to_owned());
    match container {
        Some(container) if phase == "Running" && !container.ready => "Running, not ready yet".to_owned(),
        _ => phase,
    }
}

fn say(kubeconfig: &Path, pod: &Pod) {
    let binary =
        std::env::current_exe().map_or_else(|_| "everynode".to_owned(), |path| path.display().to_string());
    let (node, name) = (
        pod.spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    );
    let kubeconfig = kubeconfig.display();
    eprintln!(
        "
The DaemonSet {NAME} runs on node {node}. In another terminal, type:

  export KUBECONFIG={kubeconfig}
  alias everynode={binary}
  everynode get pods -A
  everynode describe ds {NAME}
  everynode logs {name}
  everynode delete pod {name}      # it comes back
  curl http://127.0.0.1:{PORT}/

Press Ctrl-C here to stop the pods and leave nothing behind."
    );
}
