//! Every kubectl at hand, against the control plane with simulated nodes.

mod cascade;
mod change;
mod describe;
mod drain;
mod follow;
mod history;
mod rollout;

use std::path::PathBuf;

use anyhow::{Context, Result};
use testkit::{Client, FLUENTD, Process, kubectls, skip, wait_for};

use crate::fleet::Fleet;

/// A kubectl, and whether it is the old one: some words changed since.
struct Kubectl {
    client: Client,
    old: bool,
}

/// Runs a test with every kubectl, each on a fleet of its own. `simulate` are further words for `everynode simulate`.
fn each_kubectl(
    nodes: usize,
    simulate: &[&str],
    mut test: impl FnMut(&mut Fleet, &Kubectl) -> Result<()>,
) -> Result<()> {
    let programs = kubectls();
    if programs.is_empty() {
        skip("no kubectl is here");
    }
    for program in programs {
        let mut fleet = Fleet::start_with(nodes, &[], simulate)?;
        let client = fleet.server.client_at(&program);
        let old = client.run(&["version", "--client"]).stdout.contains("v1.20");
        let kubectl = Kubectl { client, old };
        test(&mut fleet, &kubectl).with_context(|| format!("with {}", program.display()))?;
    }
    Ok(())
}

impl Kubectl {
    /// Runs it and gives what it printed to standard output.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.client.ok(&words(line))
    }

    /// Runs it, which must fail, and gives what it printed to standard error.
    #[track_caller]
    fn refused(&self, line: &str) -> String {
        let output = self.client.run(&words(line));
        assert!(!output.success, "{line} printed {}", output.stdout);
        output.stderr
    }

    /// Runs it, which must succeed, and gives both outputs as a user sees them.
    #[track_caller]
    fn told(&self, line: &str) -> (String, String) {
        let output = self.client.run(&words(line));
        assert!(output.success, "{line}: {}", output.stderr);
        (output.stdout, output.stderr)
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// A server with nodes, and a client of each kind that is here.
fn with_each_kubectl(
    nodes: usize,
    mut test: impl FnMut(&Process, &Client, bool) -> Result<()>,
) -> Result<()> {
    let programs = kubectls();
    if programs.is_empty() {
        skip("no kubectl is here");
        return Ok(());
    }
    for program in programs {
        let server = Process::start(super::binary(), "server", &[])?;
        let _nodes = server.simulate(nodes, "node")?;
        let client = server.client_at(&program);
        let old = client.run(&["version", "--client"]).stdout.contains("v1.20");
        test(&server, &client, old).with_context(|| format!("with {}", program.display()))?;
    }
    Ok(())
}

fn write(server: &Process, name: &str, text: &str) -> Result<String> {
    let path: PathBuf = server.folder().join(name);
    std::fs::write(&path, text).with_context(|| format!("write {name}"))?;
    Ok(path.display().to_string())
}

/// One object of every kind that people create. Lists that have no merge key are written with their defaults: every
/// kubectl takes a default that it did not write for a difference.
const EVERY_KIND: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: zoo}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: zoo}
data: {key: value}
---
apiVersion: v1
kind: Secret
metadata: {name: secret, namespace: zoo}
data: {key: dmFsdWU=}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: account, namespace: zoo}
---
apiVersion: v1
kind: Service
metadata: {name: service, namespace: zoo}
spec: {selector: {app: x}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: elsewhere, namespace: zoo}
subsets: [{addresses: [{ip: 192.0.2.1}], ports: [{port: 80, protocol: TCP}]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: slice, namespace: zoo}
addressType: IPv4
endpoints: [{addresses: [192.0.2.1], conditions: {ready: true}}]
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: lease, namespace: zoo}
spec: {holderIdentity: me, leaseDurationSeconds: 10}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: budget, namespace: zoo}
spec: {minAvailable: 1, selector: {matchLabels: {app: x}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: role, namespace: zoo}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: binding, namespace: zoo}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: role}
subjects: [{kind: ServiceAccount, name: account, namespace: zoo}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: cluster-role}
rules: [{apiGroups: [""], resources: [nodes], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: cluster-binding}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-role}
subjects: [{kind: ServiceAccount, name: account, namespace: zoo}]
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: important}
value: 1000
---
apiVersion: v1
kind: Pod
metadata: {name: pod, namespace: zoo, labels: {app: x}}
spec: {containers: [{name: c, image: "example.com/x:1"}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: set, namespace: zoo}
spec:
  selector: {matchLabels: {app: z}}
  template: {metadata: {labels: {app: z}}, spec: {containers: [{name: c, image: "example.com/y:1"}]}}
---
apiVersion: apps/v1
kind: ControllerRevision
metadata: {name: revision, namespace: zoo}
revision: 1
data: {a: 1}
"#;

#[test]
fn every_kind_is_created_read_changed_and_deleted() -> Result<()> {
    with_each_kubectl(1, |server, client, _| {
        let file = write(server, "zoo.yaml", EVERY_KIND)?;
        let created = client.ok(&["create", "-f", &file]);
        let kinds = EVERY_KIND.matches("\nkind: ").count();
        assert_eq!(created.lines().count(), kinds, "{created}");
        assert!(
            created.lines().all(|line| line.ends_with(" created")),
            "{created}"
        );
        let names: Vec<&str> = created
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        for name in &names {
            let yaml = client.ok(&["get", "-n", "zoo", name, "-o", "yaml"]);
            assert!(
                yaml.contains("resourceVersion:") && yaml.contains("uid:"),
                "{name}: {yaml}"
            );
            client.ok(&["label", "-n", "zoo", name, "seen=yes"]);
            let patch = r#"{"metadata":{"annotations":{"note":"patched"}}}"#;
            for (kind, patch) in [
                ("merge", patch),
                ("strategic", patch),
                (
                    "json",
                    r#"[{"op":"test","path":"/metadata/annotations/note","value":"patched"}]"#,
                ),
            ] {
                client.ok(&["patch", "-n", "zoo", name, "--type", kind, "-p", patch]);
            }
            let table = client.ok(&["get", "-n", "zoo", name, "--show-labels"]);
            assert!(table.contains("seen=yes"), "{table}");
        }
        client.ok(&["apply", "-f", &file]);
        let again = client.ok(&["apply", "-f", &file]);
        // kubectl always sends the selector of a disruption budget, whose patch strategy is to replace.
        let unchanged = |line: &str| line.ends_with(" unchanged") || line.starts_with("poddisruptionbudget.");
        assert!(again.lines().all(unchanged), "{again}");
        // The namespace goes first and takes what is in it along.
        client.ok(&["delete", "-f", &file, "--ignore-not-found"]);
        for name in &names {
            let missing = client.run(&["get", "-n", "zoo", name]);
            assert!(missing.stderr.contains("NotFound"), "{name}: {}", missing.stderr);
        }
        Ok(())
    })
}

#[test]
fn the_control_plane_starts_with_what_every_cluster_has() -> Result<()> {
    with_each_kubectl(1, |_, client, _| {
        let namespaces = client.ok(&["get", "namespaces", "-o", "name"]);
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            assert!(
                namespaces.contains(&format!("namespace/{name}\n")),
                "{namespaces}"
            );
            client.ok(&["get", "-n", name, "serviceaccount", "default"]);
            client.ok(&["get", "-n", name, "configmap", "kube-root-ca.crt"]);
        }
        client.ok(&["get", "service", "kubernetes"]);
        client.ok(&[
            "get",
            "priorityclass",
            "system-node-critical",
            "system-cluster-critical",
        ]);
        let node = client.ok(&["get", "nodes"]);
        assert!(node.contains("node-0") && node.contains("Ready"), "{node}");
        Ok(())
    })
}

#[test]
fn the_schema_is_there_for_explain_and_for_validation() -> Result<()> {
    with_each_kubectl(1, |server, client, _| {
        let said = client.ok(&["explain", "daemonset.spec.updateStrategy"]);
        assert!(said.contains("rollingUpdate") && said.contains("type"), "{said}");
        let resources = client.ok(&["api-resources"]);
        assert!(
            resources
                .lines()
                .any(|line| line.starts_with("daemonsets ") && line.contains(" ds ")),
            "{resources}"
        );
        let wrong = FLUENTD.replace("terminationGracePeriodSeconds", "terminationGraceSeconds");
        let refused = client.run(&["create", "-f", &write(server, "wrong.yaml", &wrong)?]);
        assert!(
            !refused.success && refused.stderr.contains("terminationGraceSeconds"),
            "{}",
            refused.stderr
        );
        Ok(())
    })
}

fn rolled_out(client: &Client) -> String {
    client.ok(&[
        "rollout",
        "status",
        "-n",
        "kube-system",
        "ds/fluentd-elasticsearch",
    ])
}

fn revisions(client: &Client) -> Result<Vec<String>> {
    let history = client.ok(&[
        "rollout",
        "history",
        "-n",
        "kube-system",
        "ds/fluentd-elasticsearch",
    ]);
    let mut lines = history.lines();
    assert_eq!(
        lines.next().map(str::trim_end),
        Some("daemonset.apps/fluentd-elasticsearch")
    );
    assert_eq!(lines.next(), Some("REVISION  CHANGE-CAUSE"));
    Ok(lines
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect())
}

#[test]
fn a_rollout_is_followed_listed_taken_back_and_forced() -> Result<()> {
    with_each_kubectl(3, |server, client, _| {
        client.ok(&["create", "-f", &write(server, "daemon.yaml", FLUENTD)?]);
        let done = "daemon set \"fluentd-elasticsearch\" successfully rolled out";
        assert!(rolled_out(client).ends_with(&format!("{done}\n")));
        let image = "fluentd-elasticsearch=quay.io/fluentd_elasticsearch/fluentd:v2.6.0";
        client.ok(&[
            "set",
            "image",
            "-n",
            "kube-system",
            "ds/fluentd-elasticsearch",
            image,
        ]);
        assert!(rolled_out(client).ends_with(&format!("{done}\n")));
        assert_eq!(revisions(client)?, ["1", "2"]);
        let set = ["-n", "kube-system", "ds/fluentd-elasticsearch"];
        let said = client.ok(&[&["rollout", "undo"], &set[..]].concat());
        assert_eq!(said, "daemonset.apps/fluentd-elasticsearch rolled back\n");
        rolled_out(client);
        wait_for("the revision to be renumbered", || {
            let now = revisions(client)?;
            Ok(if now == ["2", "3"] {
                Ok(())
            } else {
                Err(format!("{now:?}"))
            })
        })?;
        let pods = client.json(&["get", "pods", "-n", "kube-system", "-o", "json"]);
        let images: Vec<&str> = pods["items"]
            .as_array()
            .context("pods")?
            .iter()
            .filter_map(|pod| pod["spec"]["containers"][0]["image"].as_str())
            .collect();
        assert_eq!(images, ["quay.io/fluentd_elasticsearch/fluentd:v2.5.2"; 3]);
        let said = client.ok(&[&["rollout", "restart"], &set[..]].concat());
        assert_eq!(said, "daemonset.apps/fluentd-elasticsearch restarted\n");
        assert!(rolled_out(client).ends_with(&format!("{done}\n")));
        Ok(())
    })
}

#[test]
fn pods_follow_nodes_as_they_come_are_labelled_and_go() -> Result<()> {
    with_each_kubectl(2, |server, client, _| {
        let text = FLUENTD.replace(
            "      tolerations:",
            "      nodeSelector: {disk: ssd}\n      tolerations:",
        );
        client.ok(&["create", "-f", &write(server, "daemon.yaml", &text)?]);
        let pods_on = || {
            let pods = client.json(&["get", "pods", "-n", "kube-system", "-o", "json"]);
            let mut nodes: Vec<String> = pods["items"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned))
                .collect();
            nodes.sort();
            nodes
        };
        let expect = |wanted: &[&str]| {
            wait_for("the pods to follow", || {
                let now = pods_on();
                Ok(if now == wanted {
                    Ok(())
                } else {
                    Err(format!("{now:?} instead of {wanted:?}"))
                })
            })
        };
        client.ok(&["label", "node", "node-0", "disk=ssd"]);
        expect(&["node-0"])?;
        client.ok(&["label", "node", "node-1", "disk=ssd"]);
        expect(&["node-0", "node-1"])?;
        client.ok(&["label", "node", "node-0", "disk-"]);
        expect(&["node-1"])?;
        client.ok(&["taint", "node", "node-1", "gone=yes:NoExecute"]);
        expect(&[])
    })
}

#[test]
fn cascade_says_what_happens_to_the_pods() -> Result<()> {
    with_each_kubectl(2, |server, client, old| {
        let file = write(server, "daemon.yaml", FLUENTD)?;
        let names = || client.ok(&["get", "pods", "-n", "kube-system", "-o", "name"]);
        client.ok(&["create", "-f", &file]);
        rolled_out(client);
        let before = names();
        assert_eq!(before.lines().count(), 2);
        let orphan = if old {
            "--cascade=false"
        } else {
            "--cascade=orphan"
        };
        client.ok(&["delete", "-f", &file, orphan]);
        assert_eq!(names(), before, "the pods stay");
        client.ok(&["create", "-f", &file]);
        rolled_out(client);
        assert_eq!(
            names(),
            before,
            "a new DaemonSet with the same selector and template takes them over"
        );
        client.ok(&["delete", "-f", &file]);
        wait_for("the pods to go", || {
            let left = names();
            Ok(if left.is_empty() { Ok(()) } else { Err(left) })
        })
    })
}
