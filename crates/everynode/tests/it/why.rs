//! `everynode why` over daemons that fail in real containers.

use anyhow::{Context, Result};
use testkit::{Process, busybox, is_root, skip, wait_for};

const IMAGE: &str = "example.com/failing:1";

/// Two DaemonSets that cannot run: one ends at once, one names a ConfigMap that is missing; and one whose image is nowhere.
const FAILING: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: crashing}
spec:
  selector: {matchLabels: {app: crashing}}
  template:
    metadata: {labels: {app: crashing}}
    spec:
      containers:
      - {name: main, image: "example.com/failing:1", imagePullPolicy: IfNotPresent, command: [sh, -c, "echo cannot open /etc/app.conf; exit 3"]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: unconfigured}
spec:
  selector: {matchLabels: {app: unconfigured}}
  template:
    metadata: {labels: {app: unconfigured}}
    spec:
      containers:
      - name: main
        image: example.com/failing:1
        imagePullPolicy: IfNotPresent
        envFrom: [{configMapRef: {name: settings}}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: imageless}
spec:
  selector: {matchLabels: {app: imageless}}
  template:
    metadata: {labels: {app: imageless}}
    spec:
      containers: [{name: main, image: "127.0.0.1:1/nowhere:1"}]
"#;

#[test]
fn why_names_the_cause_of_each_failure_first() -> Result<()> {
    let _turn = super::machine();
    if !is_root() {
        skip("containers need root");
        return Ok(());
    }
    let up = Process::start(super::binary(), "up", &["--node-name", "node-a"])?;
    let client = up.client();
    let archive = busybox(up.folder(), IMAGE, &["sleep", "1000"])?
        .display()
        .to_string();
    let data_dir = up.data_dir().display().to_string();
    client.ok(&["image", "import", &archive, "--data-dir", &data_dir]);
    let file = up.folder().join("failing.yaml");
    std::fs::write(&file, FAILING).context("write the manifest")?;
    let file = file.display().to_string();
    let planned = client.ok(&["plan", "-f", &file]);
    assert!(
        planned.contains(
            "there is no ConfigMap settings in the namespace default: no container starts without it"
        ),
        "{planned}"
    );
    client.ok(&["create", "-f", &file]);
    let causes = [
        (
            "crashing",
            "main: CrashLoopBackOff: it ended with exit code 3",
            "log: cannot open /etc/app.conf",
        ),
        (
            "unconfigured",
            "main: CreateContainerConfigError: configmap \"settings\" not found",
            "node-a",
        ),
        (
            "imageless",
            "the image 127.0.0.1:1/nowhere:1 cannot be pulled",
            "`everynode image import FILE`",
        ),
    ];
    for (name, cause, detail) in causes {
        let said = wait_for("the cause", || {
            let said = client.ok(&["why", name]);
            Ok(if said.contains(cause) && said.contains(detail) {
                Ok(said)
            } else {
                Err(said)
            })
        })?;
        let summary =
            format!("DaemonSet default/{name}: 0 of 1 node run the current version. 1 node cannot run it.\n");
        assert!(said.starts_with(&summary), "{said}");
    }
    let all = client.ok(&["why", "-A"]);
    for (name, ..) in causes {
        assert!(
            all.contains(&format!("DaemonSet default/{name}: 0 of 1 node")),
            "{all}"
        );
    }
    Ok(())
}
