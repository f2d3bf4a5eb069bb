//! `everynode logs` of several pods, and of the pod of a DaemonSet on one node.

use anyhow::{Context, Result};
use testkit::{Process, busybox, is_root, skip, wait_for};

const IMAGE: &str = "example.com/talking:1";

/// A DaemonSet, and a pod that its selector selects, too.
const TALKING: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: talking}
spec:
  selector: {matchLabels: {app: talking}}
  template:
    metadata: {labels: {app: talking}}
    spec:
      containers: [{name: main, image: "example.com/talking:1", imagePullPolicy: IfNotPresent}]
---
apiVersion: v1
kind: Pod
metadata: {name: alone, labels: {app: alike}}
spec:
  containers: [{name: main, image: "example.com/talking:1", imagePullPolicy: IfNotPresent}]
---
apiVersion: v1
kind: Pod
metadata: {name: other, labels: {app: alike}}
spec:
  containers: [{name: main, image: "example.com/talking:1", imagePullPolicy: IfNotPresent}]
"#;

#[test]
fn logs_of_several_pods_begin_with_their_names() -> Result<()> {
    let _turn = super::machine();
    if !is_root() {
        skip("containers need root");
        return Ok(());
    }
    let up = Process::start(super::binary(), "up", &["--node-name", "node-a"])?;
    let client = up.client();
    let archive = busybox(
        up.folder(),
        IMAGE,
        &["sh", "-c", "echo one; echo two; exec sleep 1000"],
    )?;
    let (archive, data_dir) = (archive.display().to_string(), up.data_dir().display().to_string());
    client.ok(&["image", "import", &archive, "--data-dir", &data_dir]);
    let file = up.folder().join("talking.yaml");
    std::fs::write(&file, TALKING).context("write the manifest")?;
    client.ok(&["create", "-f", &file.display().to_string()]);

    let wanted = "[pod/alone/main] one\n[pod/alone/main] two\n[pod/other/main] one\n[pod/other/main] two\n";
    wait_for("both logs", || {
        let said = client.run(&["logs", "-l", "app=alike"]);
        Ok(if said.stdout == wanted {
            Ok(())
        } else {
            Err(format!("{}{}", said.stdout, said.stderr))
        })
    })?;
    wait_for("the daemon's log", || {
        let said = client.run(&["logs", "ds/talking", "--node", "node-a", "--tail", "1"]);
        Ok(if said.stdout == "two\n" {
            Ok(())
        } else {
            Err(format!("{}{}", said.stdout, said.stderr))
        })
    })?;
    let missing = client.run(&["logs", "ds/talking", "--node", "node-b"]);
    assert!(
        missing.stderr.contains("no pod matches on node node-b"),
        "{}",
        missing.stderr
    );
    let many = client.run(&["logs", "-l", "app=alike", "--follow", "--max-log-requests", "1"]);
    assert!(
        many.stderr.contains("2 pods match, and at most 1 are followed"),
        "{}",
        many.stderr
    );
    Ok(())
}
