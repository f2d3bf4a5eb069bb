//! The binary's own client verbs, with the mistakes that users make.

use anyhow::{Context, Result};
use testkit::{Client, FLUENTD, Output, Process, kubectls, skip, wait_for};

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
        "error: the server doesn't have a resource type \"daemonsetz\" (did you mean daemonsets?)",
    );
    refused(
        &client,
        &["get", "ds", "fluentd-elasticsearch"],
        "not found\nThere is one in the namespace kube-system: add `-n kube-system`.",
    );
    let nowhere = client.run(&["get", "pods", "-n", "nowhere"]);
    assert_eq!(
        nowhere.stderr,
        "No resources found in nowhere namespace.\nThere is no namespace nowhere: `everynode get namespaces` lists them.\n"
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
    // No pod is available for an hour.
    let path = "/apis/apps/v1/namespaces/kube-system/daemonsets/fluentd-elasticsearch";
    let patch = serde_json::json!({"spec": {"minReadySeconds": 3600}});
    testkit::Api::connect(&server.kubeconfig())?.patch(path, testkit::MERGE, &patch)?;
    let given_up = rollout(&["status", "--timeout=1s"]);
    assert!(!given_up.success);
    assert!(
        given_up.stderr.contains("timed out waiting for the condition"),
        "{}",
        given_up.stderr
    );
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

#[test]
fn why_says_how_each_node_stands_and_what_keeps_it_away() -> Result<()> {
    let (server, _nodes) = fleet()?;
    create(&server)?;
    let client = server.client();
    let why = |words: &[&str]| {
        client.ok(&[&["why", "-n", "kube-system", "ds/fluentd-elasticsearch"], words].concat())
    };
    assert_eq!(
        why(&[]),
        "DaemonSet kube-system/fluentd-elasticsearch: 2 of 2 nodes run the current version.\n\n\
         2 nodes: up to date and available\n         node-0, node-1\n"
    );
    client.ok(&["taint", "nodes", "node-0", "own=db:NoExecute"]);
    let left = wait_for("the pod to leave", || {
        let told = why(&[]);
        Ok(
            match told.contains("1 node: not here: taint own=db:NoExecute is not tolerated\n") {
                true => Ok(told),
                false => Err(told),
            },
        )
    })?;
    assert!(
        left.contains("the 1 node that should run it runs the current version."),
        "{left}"
    );
    let story = client.json(&[
        "why",
        "-n",
        "kube-system",
        "daemonset",
        "fluentd-elasticsearch",
        "node-0",
        "-o",
        "json",
    ]);
    assert_eq!(story["shouldRun"], false, "{story}");
    assert_eq!(story["checks"][0]["what"], "taint own=db:NoExecute", "{story}");
    assert_eq!(story["checks"][0]["holds"], false, "{story}");
    let told = why(&["node/node-1"]);
    assert!(told.contains("Should it run here? Yes."), "{told}");
    assert!(told.contains("of revision 1, the current one"), "{told}");
    refused(
        &client,
        &["why", "-n", "kube-system", "ds/fluentd-elasticsearch", "nowhere"],
        "Error from server (NotFound): nodes \"nowhere\" not found",
    );
    refused(
        &client,
        &["why", "ds/nope"],
        "Error from server (NotFound): daemonsets.apps \"nope\" not found",
    );
    Ok(())
}

/// A DaemonSet of a namespace that the manifest itself makes, and with two likely mistakes.
const MISTAKEN: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: fresh}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: new, namespace: fresh}
spec:
  selector: {matchLabels: {app: new}}
  template:
    metadata: {labels: {app: new}}
    spec:
      nodeSelector: {kubernetes.io/hostnam: node-1}
      containers: [{name: c, image: example.com/x}]
"#;

#[test]
fn plan_shows_what_would_happen_and_writes_nothing() -> Result<()> {
    let (server, _nodes) = fleet()?;
    let client = server.client();
    let plan = |text: &str| client.run_with_input(&["plan", "-f", "-"], text);
    let first = plan(FLUENTD);
    assert!(first.success, "{}", first.stderr);
    assert_eq!(
        first.stdout,
        "daemonset.apps/fluentd-elasticsearch would be created\n\n  2 nodes gain a pod\n          node-0, node-1\n\n  All of it at once.\n"
    );
    assert_eq!(client.ok(&["get", "ds", "-A", "-o", "name"]), "");
    create(&server)?;
    let changed = plan(&FLUENTD.replace("v2.5.2", "v2.5.3"));
    assert!(
        changed.stdout.ends_with(
            "  2 nodes get a new pod in the place of the old one\n          node-0, node-1\n\n  In 2 waves (maxUnavailable 1):\n    1. node-0\n    2. node-1\n"
        ),
        "{}",
        changed.stdout
    );
    let same = plan(FLUENTD);
    assert!(
        same.stdout.ends_with("No pod would be started or stopped.\n"),
        "{}",
        same.stdout
    );
    let mistaken = plan(MISTAKEN);
    assert!(mistaken.success, "{}", mistaken.stderr);
    for said in [
        "namespace/fresh would be created\n",
        "no node has the label kubernetes.io/hostnam; did you mean kubernetes.io/hostname?\n",
        "the image example.com/x has no tag",
    ] {
        assert!(mistaken.stdout.contains(said), "{said}\n{}", mistaken.stdout);
    }
    let refused = plan(&format!(
        "{}\n---\n{MISTAKEN}",
        FLUENTD.replace("image:", "imag:")
    ));
    assert!(
        refused.code == 1
            && refused
                .stderr
                .contains("unknown field \"spec.template.spec.containers[0].imag\""),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stdout.contains("daemonset.apps/new would be created"),
        "what can be planned is: {}",
        refused.stdout
    );
    assert_eq!(client.ok(&["get", "ds", "-A", "-o", "name"]).lines().count(), 1);
    Ok(())
}

#[test]
fn events_are_told_of_one_object_and_of_one_type() -> Result<()> {
    let (server, _nodes) = fleet()?;
    create(&server)?;
    let client = server.client();
    let about = ["events", "-n", "kube-system", "--for", "ds/fluentd-elasticsearch"];
    wait_for("both creations to be told", || {
        let told = client.run(&about).stdout;
        Ok(match told.matches("SuccessfulCreate").count() {
            2 => Ok(()),
            _ => Err(told),
        })
    })?;
    let told = client.ok(&about);
    assert!(
        told.starts_with("LAST SEEN   TYPE     REASON             OBJECT"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 3, "{told}");
    let warnings = client.run(&[&about[..], &["--types=Warning"]].concat());
    assert_eq!(
        (warnings.stdout.as_str(), warnings.stderr.as_str()),
        ("", "No events found in kube-system namespace.\n")
    );
    refused(
        &client,
        &["events", "--types=Bad"],
        "valid --types are Normal or Warning",
    );
    refused(
        &client,
        &["events", "--for=ds"],
        "--for must be in resource/name form",
    );
    Ok(())
}

#[test]
fn the_completion_scripts_are_scripts() -> Result<()> {
    let client = Client::new(super::binary(), std::path::Path::new("/dev/null"));
    for shell in ["bash", "zsh", "fish"] {
        let script = client.ok(&["completion", shell]);
        assert!(script.contains("uncordon"), "{shell} completes the verbs");
    }
    let script = client.ok(&["completion", "bash"]);
    let bash = Client::new(
        std::path::Path::new("/bin/bash"),
        std::path::Path::new("/dev/null"),
    );
    let read = bash.run_with_input(&["-n"], &script);
    assert!(read.success && read.stderr.is_empty(), "{}", read.stderr);
    Ok(())
}

/// What a drain finds on a node.
const PODS: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: daemon}
spec:
  selector: {matchLabels: {app: daemon}}
  template: {metadata: {labels: {app: daemon}}, spec: {containers: [{name: c, image: "example.com/x:1"}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: bare, labels: {sort: bare}}
spec: {nodeName: node-0, containers: [{name: c, image: "example.com/x:1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: local, labels: {sort: local}}
spec: {nodeName: node-1, containers: [{name: c, image: "example.com/x:1"}], volumes: [{name: v, emptyDir: {}}]}
"#;

/// Said to kubectl and to us, one after the other, with the same answers expected.
const SAID_TO_BOTH: &str = "
label nodes node-0 a=1
label nodes node-0 a=1
label nodes node-0 a=2
label nodes node-0 a=2 --overwrite
label nodes node-0 a-
label nodes node-0 a-
label nodes node-0 nope- c=1
label nodes node-0 c- d=verylongvalue
label nodes node-0 d- e=1
label nodes node-0 f=1 f-
label nodes node-0 f=b=c
label nodes node-0 f=-
label nodes node-0
label nodes a=1
label nodes a=1 node-0
label nodes --all g=1
label nodes --all -l a=1 g=1
label nodes -l g=1 h=1
label nodes -l g=9 h=1
label pods bare h=1
label nodes node-0 nope h=2
label nodes/node-0 node/node-1 h=4 --overwrite
label nodes node-0 h=5 --overwrite --dry-run=client
label nodes node-0 h=5 --overwrite --dry-run=server
label nodes node-0 h=5 --overwrite -o name
label nodes node-0 --list -o name
label nodes node-0 i=1 --resource-version=1
label nodes node-0 node-1 i=1 --resource-version=1
label thing x a=1
label ds nope a=1
label nodes node-0 a=1 -l b=1
label nodes --field-selector metadata.name=node-0 z=1
annotate nodes node-0 a=1
annotate nodes node-0 a=1
annotate nodes node-0 a=2
annotate nodes node-0 a=2 --overwrite
annotate nodes node-0 a- nope-
annotate nodes node-0 kubernetes.io/change-cause=x
annotate nodes node-0 kubernetes.io/change-cause=y
annotate nodes node-0 f=1 f- g=1 g-
annotate nodes node-0
annotate nodes --all g=1
annotate nodes node-0 nope h=2
annotate nodes node-0 h=5 --overwrite --dry-run=server
annotate nodes a=1 node-0
taint nodes node-0 k=v:NoSchedule
taint nodes node-0 k=v:NoSchedule
taint nodes node-0 k=w:NoSchedule --overwrite
taint nodes node-0 k=w:NoExecute
taint nodes node-0 k:NoExecute-
taint nodes node-0 k:NoExecute-
taint nodes node-0 k-
taint nodes node-0 k-
taint nodes node-0 a:NoSchedule b=1:PreferNoSchedule
taint nodes node-0 a- c:NoSchedule
taint nodes node-0 c:NoSchedule c-
taint nodes node-0 c=x:NoSchedule-
taint nodes node-0 k=v
taint nodes node-0 k=v:Nope
taint nodes node-0 k=v=w:NoSchedule
taint nodes node-0
taint nodes k=v:NoSchedule
taint nodes k=v:NoSchedule node-0
taint pods x k=v:NoSchedule
taint nodes nope node-1 k=v:NoSchedule
taint nodes --all k=v:NoSchedule
taint nodes --all k=v:NoSchedule --overwrite
taint nodes -l g=1 k-
taint nodes --all -l g=1 k-
taint nodes node-0 zz- yy-
taint nodes node-0 b-
cordon node-0
cordon node-0
cordon nope node-0
cordon
cordon -l kubernetes.io/hostname=node-1
cordon node-0 -l a=1
cordon node-1 --dry-run=server
cordon node/node-0
uncordon node-0 node-1
uncordon node-0
drain nope
drain node-0 -l a=b
drain node-0 --ignore-daemonsets
drain node-1 --ignore-daemonsets --force
drain node-0 --pod-selector=sort=other
drain node-0 --force --pod-selector=sort=bare --dry-run=client
drain node-0 --force --pod-selector=sort=bare
drain node-1 --force --pod-selector=sort=local --delete-emptydir-data --disable-eviction --grace-period=0
drain node-0 node-1 --ignore-daemonsets
drain node-1
uncordon node-0 node-1
";

#[test]
fn a_dry_run_of_delete_and_rollout_changes_nothing() -> Result<()> {
    let (server, _nodes) = fleet()?;
    let file = create(&server)?;
    let client = server.client();
    let set = ["ds/fluentd-elasticsearch", "-n", "kube-system"];
    let said = |words: &[&str]| client.ok(&[words, &set].concat());
    let spec = || -> Result<serde_json::Value> {
        let mut set: serde_json::Value = serde_json::from_str(&said(&["get", "-o", "json"]))?;
        Ok(set["spec"].take())
    };
    let before = spec()?;
    for (how, suffix) in [
        ("--dry-run=client", "(dry run)"),
        ("--dry-run", "(server dry run)"),
    ] {
        let deleted = said(&["delete", how]);
        assert_eq!(
            deleted,
            format!("daemonset.apps \"fluentd-elasticsearch\" deleted {suffix}\n")
        );
        let restarted = said(&["rollout", "restart", how]);
        assert_eq!(
            restarted,
            format!("daemonset.apps/fluentd-elasticsearch restarted {suffix}\n")
        );
        let deleted = client.ok(&["delete", "-f", &file, how]);
        assert!(deleted.contains(suffix), "{deleted}");
    }
    refused(&client, &["delete", "ds/nope", "--dry-run=client"], "not found");
    assert_eq!(spec()?, before);

    said(&["rollout", "restart"]);
    let before = spec()?;
    let outlook = said(&["rollout", "undo", "--dry-run=client"]);
    assert!(
        outlook.contains("will roll back to Pod Template:\n  Labels:"),
        "{outlook}"
    );
    assert!(outlook.ends_with(" (dry run)\n"), "{outlook}");
    let undone = said(&["rollout", "undo", "--dry-run=server"]);
    assert_eq!(
        undone,
        "daemonset.apps/fluentd-elasticsearch rolled back (server dry run)\n"
    );
    assert_eq!(spec()?, before);
    Ok(())
}

/// One command's answer, with the program's and the daemons' names made the same.
fn answer(client: &Client, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = client.run(&words);
    let text = format!("{}{}[{}]", output.stdout, output.stderr, output.code);
    let word = |word: &str| match word.starts_with("default/daemon-") {
        true => "default/daemon-…".to_owned(),
        false => word.replace("kubectl", "everynode"),
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_node_and_metadata_verbs_speak_as_kubectl_does() -> Result<()> {
    let Some(kubectl) = kubectls().pop() else {
        skip("no kubectl is here");
        return Ok(());
    };
    let ((theirs, _their_nodes), (ours, _our_nodes)) = (fleet()?, fleet()?);
    let (kubectl, everynode) = (theirs.client_at(&kubectl), ours.client());
    if kubectl.run(&["version", "--client"]).stdout.contains("v1.20") {
        skip("the only kubectl here is an old one, which has other words");
        return Ok(());
    }
    for (server, client) in [(&theirs, &kubectl), (&ours, &everynode)] {
        let file = server.folder().join("pods.yaml");
        std::fs::write(&file, PODS).context("write the manifest")?;
        client.ok(&["create", "-f", &file.display().to_string()]);
        client.ok(&["rollout", "status", "ds/daemon"]);
    }
    let mut differences = String::new();
    for line in SAID_TO_BOTH.lines().filter(|line| !line.is_empty()) {
        let (theirs, ours) = (answer(&kubectl, line), answer(&everynode, line));
        if theirs != ours {
            differences.push_str(&format!(
                "\n$ {line}\n--- kubectl\n{theirs}\n--- everynode\n{ours}\n"
            ));
        }
    }
    assert!(differences.is_empty(), "{differences}");
    Ok(())
}
