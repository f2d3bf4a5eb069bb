//! The binary's own client verbs, with the mistakes that users make.

use anyhow::{Context, Result};
use testkit::{Client, FLUENTD, Output, Process, wait_for};

fn fleet() -> Result<(Process, testkit::Nodes)> {
    let server = Process::start(super::binary(), "server", &[])?;
    let nodes = server.simulate(2, "node")?;
    Ok((server, nodes))
}

fn create(server: &Process) -> Result<String> {
    let path = server.folder().join("daemon.yaml");
    std::fs::write(&path, FLUENTD).context("write the manifest")?;
    let file = path.display().to_string();
    server.client().ok(&["create", "-f", &file]);
    server.client().ok(&[
        "rollout",
        "status",
        "-n",
        "kube-system",
        "ds/fluentd-elasticsearch",
    ]);
    Ok(file)
}

#[track_caller]
fn refused(client: &Client, words: &[&str], message: &str) -> Output {
    let output = client.run(words);
    assert!(!output.success, "{words:?} printed {}", output.stdout);
    assert!(
        output.stderr.contains(message),
        "{words:?} said {}",
        output.stderr
    );
    output
}

#[test]
fn get_prints_the_servers_table_in_every_form() -> Result<()> {
    let (server, _nodes) = fleet()?;
    create(&server)?;
    let client = server.client();
    let table = client.ok(&["get", "ds", "-A"]);
    let words: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(words[0][..3], ["NAMESPACE", "NAME", "DESIRED"], "{table}");
    assert_eq!(
        words[1][..7],
        ["kube-system", "fluentd-elasticsearch", "2", "2", "2", "2", "2"],
        "{table}"
    );
    let wide = client.ok(&["get", "ds", "-n", "kube-system", "-o", "wide"]);
    assert!(
        wide.contains("quay.io/fluentd_elasticsearch/fluentd:v2.5.2"),
        "{wide}"
    );
    assert_eq!(
        client.ok(&["get", "ds", "-n", "kube-system", "-o", "name"]),
        "daemonset.apps/fluentd-elasticsearch\n"
    );
    let object = client.json(&[
        "get",
        "ds/fluentd-elasticsearch",
        "-n",
        "kube-system",
        "-o",
        "json",
    ]);
    assert_eq!(object["kind"], "DaemonSet");
    let yaml = client.ok(&[
        "get",
        "ds/fluentd-elasticsearch",
        "-n",
        "kube-system",
        "-o",
        "yaml",
    ]);
    assert!(
        yaml.starts_with("apiVersion: apps/v1\nkind: DaemonSet\n"),
        "{yaml}"
    );
    assert_eq!(
        client.ok(&[
            "get",
            "pods",
            "-n",
            "kube-system",
            "-l",
            "name=other",
            "-o",
            "name"
        ]),
        ""
    );
    let all = client.ok(&["get", "all", "-n", "kube-system"]);
    assert!(
        all.contains("daemonset.apps/fluentd-elasticsearch") && all.contains("pod/fluentd-"),
        "{all}"
    );
    Ok(())
}

#[test]
fn mistakes_are_told_in_kubectls_words() -> Result<()> {
    let (server, _nodes) = fleet()?;
    let file = create(&server)?;
    let client = server.client();
    refused(
        &client,
        &["get", "daemonsetz"],
        "error: the server doesn't have a resource type \"daemonsetz\"",
    );
    refused(
        &client,
        &["get", "ds", "nope"],
        "Error from server (NotFound): daemonsets.apps \"nope\" not found",
    );
    refused(
        &client,
        &["create", "-f", "nowhere.yaml"],
        "error: the path \"nowhere.yaml\" does not exist",
    );
    let again = format!(
        "Error from server (AlreadyExists): error when creating \"{file}\": daemonsets.apps \"fluentd-elasticsearch\" already exists"
    );
    refused(&client, &["create", "-f", &file], &again);
    refused(&client, &["delete", "ds"], "no name was specified");
    refused(
        &client,
        &["create", "-n", "other", "-f", &file],
        "does not match the namespace \"other\"",
    );
    let missing = client.run(&["get", "ds"]);
    assert!(
        missing.success
            && missing
                .stderr
                .contains("No resources found in default namespace."),
        "{missing:?}"
    );
    let other = Client::new(super::binary(), &server.folder().join("no-such-kubeconfig"));
    refused(&other, &["get", "ds"], "kubeconfig");
    Ok(())
}

#[test]
fn apply_creates_changes_and_then_changes_nothing() -> Result<()> {
    let (server, _nodes) = fleet()?;
    let client = server.client();
    let apply = |text: &str| {
        let output = client.run_with_input(&["apply", "-f", "-"], text);
        assert!(output.success, "{}", output.stderr);
        output.stdout
    };
    assert_eq!(apply(FLUENTD), "daemonset.apps/fluentd-elasticsearch created\n");
    assert_eq!(apply(FLUENTD), "daemonset.apps/fluentd-elasticsearch unchanged\n");
    client.ok(&[
        "rollout",
        "status",
        "-n",
        "kube-system",
        "ds/fluentd-elasticsearch",
    ]);
    assert_eq!(apply(FLUENTD), "daemonset.apps/fluentd-elasticsearch unchanged\n");
    let smaller = FLUENTD.replace(
        "          requests:\n            cpu: 100m\n            memory: 200Mi\n",
        "",
    );
    assert_eq!(
        apply(&smaller),
        "daemonset.apps/fluentd-elasticsearch configured\n"
    );
    let object = client.json(&[
        "get",
        "-n",
        "kube-system",
        "ds/fluentd-elasticsearch",
        "-o",
        "json",
    ]);
    let resources = &object["spec"]["template"]["spec"]["containers"][0]["resources"];
    assert_eq!(
        *resources,
        serde_json::json!({"limits": {"memory": "200Mi"}}),
        "what the manifest dropped is gone"
    );
    Ok(())
}

#[test]
fn describe_tells_the_whole_story() -> Result<()> {
    let (server, _nodes) = fleet()?;
    create(&server)?;
    let client = server.client();
    let told = wait_for("the events", || {
        let told = client.ok(&["describe", "ds", "fluentd-elasticsearch", "-n", "kube-system"]);
        Ok(if told.contains("SuccessfulCreate") {
            Ok(told)
        } else {
            Err(told)
        })
    })?;
    for line in [
        "Name:           fluentd-elasticsearch",
        "Selector:       name=fluentd-elasticsearch",
        "Desired Number of Nodes Scheduled: 2",
        "Number of Nodes Scheduled with Available Pods: 2",
        "Pods Status:  2 Running / 0 Waiting / 0 Succeeded / 0 Failed",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let pod = client.ok(&["describe", "pods", "-n", "kube-system"]);
    let controller = pod
        .lines()
        .find(|line| line.starts_with("Controlled By:"))
        .unwrap_or_default();
    assert!(controller.ends_with(" DaemonSet/fluentd-elasticsearch"), "{pod}");
    let node = client.ok(&["describe", "node", "node-0"]);
    assert!(
        node.contains("Ready") && node.contains("fluentd-elasticsearch-"),
        "{node}"
    );
    Ok(())
}

#[test]
fn the_rollout_verbs_work() -> Result<()> {
    let (server, _nodes) = fleet()?;
    create(&server)?;
    let client = server.client();
    let set = ["-n", "kube-system", "ds/fluentd-elasticsearch"];
    let rollout = |words: &[&str]| client.run(&[&["rollout"], words, &set[..]].concat());
    assert_eq!(
        rollout(&["history"]).stdout,
        "daemonset.apps/fluentd-elasticsearch \nREVISION  CHANGE-CAUSE\n1         <none>\n\n"
    );
    assert!(
        rollout(&["undo"])
            .stderr
            .contains("no last revision to roll back to")
    );
    assert_eq!(
        rollout(&["restart"]).stdout,
        "daemonset.apps/fluentd-elasticsearch restarted\n"
    );
    assert!(
        rollout(&["status"])
            .stdout
            .ends_with("daemon set \"fluentd-elasticsearch\" successfully rolled out\n")
    );
    assert_eq!(
        rollout(&["undo"]).stdout,
        "daemonset.apps/fluentd-elasticsearch rolled back\n"
    );
    assert!(rollout(&["status"]).success);
    let template = rollout(&["history", "--revision=2"]).stdout;
    assert!(template.contains("with revision #2\nPod Template:"), "{template}");
    assert!(template.contains("restartedAt"), "{template}");
    assert!(
        rollout(&["history", "--revision=9"])
            .stderr
            .contains("unable to find the specified revision")
    );
    Ok(())
}

#[test]
fn delete_waits_and_keeps_the_pods_when_it_is_told_to() -> Result<()> {
    let (server, _nodes) = fleet()?;
    let file = create(&server)?;
    let client = server.client();
    let names = || client.ok(&["get", "pods", "-n", "kube-system", "-o", "name"]);
    let output = client.run(&["delete", "-f", &file, "--cascade=false"]);
    assert!(
        output.success && output.stderr.contains("--cascade=false is deprecated"),
        "{}",
        output.stderr
    );
    assert_eq!(names().lines().count(), 2);
    client.ok(&["create", "-f", &file]);
    let said = client.ok(&[
        "delete",
        "-n",
        "kube-system",
        "ds/fluentd-elasticsearch",
        "--cascade=foreground",
    ]);
    assert_eq!(said, "daemonset.apps \"fluentd-elasticsearch\" deleted\n");
    assert_eq!(names(), "", "with foreground the pods go first");
    Ok(())
}
