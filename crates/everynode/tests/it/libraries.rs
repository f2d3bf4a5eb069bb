//! Client libraries: the current Python client and kube-rs, with the same DaemonSet.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::json;
use testkit::{FLUENTD, Process, eventually, skip};

const PYTHON: &str = r#"
import sys, yaml
from kubernetes import client, config, watch
config.load_kube_config(sys.argv[1])
apps, core = client.AppsV1Api(), client.CoreV1Api()
body = yaml.safe_load(open(sys.argv[2]))
created = apps.create_namespaced_daemon_set("kube-system", body)
assert created.metadata.uid and created.spec.revision_history_limit == 10, created
for event in watch.Watch().stream(apps.list_namespaced_daemon_set, "kube-system", timeout_seconds=60):
    status = event["object"].status
    if status.number_available == 2 and status.desired_number_scheduled == 2:
        break
else:
    sys.exit("the DaemonSet did not become available")
pods = core.list_namespaced_pod("kube-system", label_selector="name=fluentd-elasticsearch").items
assert sorted(pod.spec.node_name for pod in pods) == ["node-0", "node-1"], pods
patched = apps.patch_namespaced_daemon_set("fluentd-elasticsearch", "kube-system", {"metadata": {"labels": {"a": "b"}}})
assert patched.metadata.labels["a"] == "b"
try:
    apps.create_namespaced_daemon_set("kube-system", body)
    sys.exit("created twice")
except client.ApiException as error:
    assert error.status == 409, error
apps.delete_namespaced_daemon_set("fluentd-elasticsearch", "kube-system")
print("done")
"#;

#[test]
fn the_python_client_works() -> Result<()> {
    let Some(python) = std::env::var_os("EVERYNODE_PYTHON").map(PathBuf::from) else {
        skip("EVERYNODE_PYTHON names no interpreter with the package kubernetes");
        return Ok(());
    };
    let server = Process::start(super::binary(), "server", &[])?;
    let _nodes = server.simulate(2, "node")?;
    let manifest = server.folder().join("daemon.yaml");
    std::fs::write(&manifest, FLUENTD).context("write the manifest")?;
    let output = Command::new(python)
        .args(["-c", PYTHON])
        .arg(server.kubeconfig())
        .arg(&manifest)
        .output()
        .context("start python")?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n");
    Ok(())
}

#[test]
fn kube_rs_works() -> Result<()> {
    let server = Process::start(super::binary(), "server", &[])?;
    let _nodes = server.simulate(2, "node")?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).context("read the kubeconfig")?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let sets: Api<DaemonSet> = Api::namespaced(Client::try_from(config)?, "kube-system");
        let set: DaemonSet = serde_saphyr::from_str(FLUENTD).context("read the manifest")?;
        let created = sets.create(&PostParams::default(), &set).await?;
        assert!(created.metadata.uid.is_some());
        let available = kube::runtime::wait::await_condition(
            sets.clone(),
            "fluentd-elasticsearch",
            |set: Option<&DaemonSet>| {
                set.and_then(|set| set.status.as_ref())
                    .is_some_and(|status| status.number_available == Some(2))
            },
        );
        available.await.context("wait until it is available")?;
        let patch = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        let patched = sets
            .patch("fluentd-elasticsearch", &PatchParams::default(), &patch)
            .await?;
        assert_eq!(
            patched
                .metadata
                .labels
                .unwrap_or_default()
                .get("a")
                .map(String::as_str),
            Some("b")
        );
        let conflict = sets.create(&PostParams::default(), &set).await;
        assert!(matches!(conflict, Err(kube::Error::Api(status)) if status.code == 409));
        assert_eq!(sets.list(&ListParams::default()).await?.items.len(), 1);
        sets.delete("fluentd-elasticsearch", &DeleteParams::default())
            .await?;
        anyhow::Ok(())
    })?;
    let client = server.client();
    eventually("the pods to go", || {
        Ok(client.ok(&["get", "pods", "-A", "-o", "name"]).is_empty())
    })
}
