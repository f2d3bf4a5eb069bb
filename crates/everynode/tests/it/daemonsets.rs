//! What docs/daemonsets.md says of DaemonSets, by the commands that stand there, against the control plane with simulated nodes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::fleet::be_older;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::{Client, FLUENTD, Process, kubectls, skip, wait_for};

/// A daemon for some nodes, with flags of its own.
const SSD: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: ssd-monitor}
spec:
  selector:
    matchExpressions:
    - {key: app, operator: In, values: [ssd-monitor]}
  template:
    metadata: {labels: {app: ssd-monitor}}
    spec:
      nodeSelector: {disk: ssd}
      containers:
      - {name: main, image: 'example.com/monitor:1', args: [--trim], resources: {requests: {memory: 200Mi, cpu: 100m}}}
";

/// The server, what plays its nodes, and the newest kubectl that is here.
struct Fleet {
    server: Process,
    kubectl: Client,
}

impl Fleet {
    /// None where there is no kubectl.
    fn start(roles: &[&str]) -> Result<Option<Self>> {
        let Some(program) = kubectls().pop() else {
            skip("no kubectl is here");
            return Ok(None);
        };
        let server = Process::start(super::binary(), "server", roles)?;
        let kubectl = server.client_at(&program);
        Ok(Some(Self { server, kubectl }))
    }

    /// Runs kubectl with words that are separated by blanks.
    fn kubectl(&self, words: &str) -> String {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.kubectl.ok(&words)
    }

    fn create(&self, manifest: &str) -> Result<String> {
        let path: PathBuf = self.server.folder().join("manifest.yaml");
        std::fs::write(&path, manifest).context("write the manifest")?;
        Ok(self.kubectl(&format!("create -f {}", path.display())))
    }

    /// The pods that are not terminating, by their nodes.
    fn pods(&self, namespace: &str, labels: &str) -> BTreeMap<String, Value> {
        let list = self
            .kubectl
            .json(&["get", "pods", "-n", namespace, "-l", labels, "-o", "json"]);
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        pods.into_iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .map(|pod| (text(&pod["spec"]["nodeName"]), pod))
            .collect()
    }

    /// Waits until a set's pods run on these nodes and nowhere else, and gives them.
    fn runs_on(&self, namespace: &str, labels: &str, nodes: &[&str]) -> Result<BTreeMap<String, Value>> {
        wait_for(&format!("pods on {nodes:?}"), || {
            let pods = self.pods(namespace, labels);
            let running = pods.values().all(|pod| pod["status"]["phase"] == "Running");
            Ok(if running && pods.keys().eq(nodes.iter()) {
                Ok(pods)
            } else {
                Err(self.kubectl("get pods --all-namespaces -o wide"))
            })
        })
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn name(pod: &Value) -> String {
    text(&pod["metadata"]["name"])
}

#[test]
fn every_node_runs_a_copy_and_takes_it_along_when_it_goes() -> Result<()> {
    let Some(fleet) = Fleet::start(&[])? else {
        return Ok(());
    };
    let _nodes = fleet.server.simulate(2, "node")?;
    assert_eq!(
        fleet.create(FLUENTD)?,
        "daemonset.apps/fluentd-elasticsearch created\n"
    );
    let labels = "name=fluentd-elasticsearch";
    let pods = fleet.runs_on("kube-system", labels, &["node-0", "node-1"])?;
    for pod in pods.values().map(name) {
        let suffix = pod.strip_prefix("fluentd-elasticsearch-").unwrap_or_default();
        assert_eq!(suffix.len(), 5, "{pod}");
    }
    let _late = fleet.server.simulate(1, "late")?;
    fleet.runs_on("kube-system", labels, &["late-0", "node-0", "node-1"])?;
    fleet.kubectl("delete node late-0");
    fleet.runs_on("kube-system", labels, &["node-0", "node-1"])?;
    fleet.kubectl("delete ds fluentd-elasticsearch -n kube-system");
    fleet.runs_on("kube-system", labels, &[])?;
    Ok(())
}

#[test]
fn daemon_sets_for_different_hardware_have_flags_of_their_own_and_follow_labels() -> Result<()> {
    let Some(fleet) = Fleet::start(&[])? else {
        return Ok(());
    };
    let _nodes = fleet.server.simulate(2, "node")?;
    fleet.kubectl("label node node-0 disk=ssd");
    fleet.kubectl("label node node-1 disk=hdd");
    fleet.create(SSD)?;
    fleet.create(
        &SSD.replace("ssd", "hdd")
            .replace("--trim", "--spin")
            .replace("200Mi", "100Mi")
            .replace("100m}", "50m}"),
    )?;
    let ssd = fleet.runs_on("default", "app=ssd-monitor", &["node-0"])?;
    let hdd = fleet.runs_on("default", "app=hdd-monitor", &["node-1"])?;
    assert_eq!(ssd["node-0"]["spec"]["containers"][0]["args"][0], "--trim");
    assert_eq!(hdd["node-1"]["spec"]["containers"][0]["args"][0], "--spin");
    let requests = |pod: &Value| pod["spec"]["containers"][0]["resources"]["requests"].clone();
    assert_eq!(
        requests(&ssd["node-0"]),
        json!({"memory": "200Mi", "cpu": "100m"})
    );
    assert_eq!(requests(&hdd["node-1"]), json!({"memory": "100Mi", "cpu": "50m"}));
    fleet.kubectl("label node node-0 disk=hdd --overwrite");
    fleet.runs_on("default", "app=ssd-monitor", &[])?;
    fleet.runs_on("default", "app=hdd-monitor", &["node-0", "node-1"])?;
    Ok(())
}

#[test]
fn affinity_chooses_nodes_as_a_selector_does() -> Result<()> {
    let Some(fleet) = Fleet::start(&[])? else {
        return Ok(());
    };
    let _nodes = fleet.server.simulate(3, "node")?;
    fleet.kubectl("label node node-0 disk=ssd");
    fleet.kubectl("label node node-1 disk=nvme");
    fleet.create(&SSD.replace(
        "nodeSelector: {disk: ssd}",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [
          {matchExpressions: [{key: disk, operator: In, values: [ssd, nvme]}]}]}}}",
    ))?;
    let pods = fleet.runs_on("default", "app=ssd-monitor", &["node-0", "node-1"])?;
    // Each pod is aimed at its node by a term that takes the place of the template's; the template stays as it was.
    let terms =
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let aimed = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}]);
    assert_eq!(pods["node-1"].pointer(terms), Some(&aimed));
    let set = fleet.kubectl.json(&["get", "ds", "ssd-monitor", "-o", "json"]);
    let template = &set["spec"]["template"];
    assert_eq!(
        template.pointer(&format!("{terms}/0/matchExpressions/0/values/1")),
        Some(&"nvme".into())
    );
    assert_eq!(template["spec"]["tolerations"], Value::Null);
    Ok(())
}

#[test]
fn a_name_a_selector_and_a_restart_policy_that_do_not_fit_are_refused() -> Result<()> {
    let Some(fleet) = Fleet::start(&[])? else {
        return Ok(());
    };
    let refused = |manifest: &str, words: &str| -> Result<()> {
        let path = fleet.server.folder().join("refused.yaml");
        std::fs::write(&path, manifest).context("write the manifest")?;
        let said = fleet
            .kubectl
            .run(&["create", "--validate=false", "-f", &path.display().to_string()]);
        assert!(
            !said.success && said.stderr.contains(words),
            "{words}: {}",
            said.stderr
        );
        Ok(())
    };
    refused(
        &SSD.replace("name: ssd-monitor}\n", "name: SSD_Monitor}\n"),
        "a lowercase RFC 1123 subdomain must consist of",
    )?;
    refused(
        &SSD.replace("labels: {app: ssd-monitor}", "labels: {app: other}"),
        "`selector` does not match template `labels`",
    )?;
    refused(
        &SSD.replace(
            "      nodeSelector:",
            "      restartPolicy: OnFailure\n      nodeSelector:",
        ),
        "spec.template.spec.restartPolicy: Unsupported value: \"OnFailure\": supported values: \"Always\"",
    )?;
    fleet.create(SSD)?;
    let set = fleet.kubectl.json(&["get", "ds", "ssd-monitor", "-o", "json"]);
    assert_eq!(set["spec"]["template"]["spec"]["restartPolicy"], "Always");
    let patch =
        r#"{"spec":{"selector":{"matchLabels":{"x":"y"}},"template":{"metadata":{"labels":{"x":"y"}}}}}"#;
    let said = fleet.kubectl.run(&["patch", "ds", "ssd-monitor", "-p", patch]);
    assert!(said.stderr.contains("field is immutable"), "{}", said.stderr);
    Ok(())
}

#[test]
fn a_template_is_a_pod_without_its_type() -> Result<()> {
    let Some(fleet) = Fleet::start(&[])? else {
        return Ok(());
    };
    let fields = |path: &str| -> Vec<String> {
        let said = fleet.kubectl(&format!("explain {path}"));
        let fields = said.lines().skip_while(|line| !line.starts_with("FIELDS:"));
        let mut names: Vec<String> = fields
            .skip(1)
            .filter_map(|line| line.split_once('<'))
            .filter(|(name, _)| !name.trim().is_empty())
            .map(|(name, _)| name.trim().to_owned())
            .collect();
        names.sort();
        names
    };
    let (pod, template) = (fields("pod"), fields("daemonset.spec.template"));
    assert_eq!(pod, ["apiVersion", "kind", "metadata", "spec", "status"]);
    assert_eq!(template, ["metadata", "spec"]);
    assert_eq!(fields("pod.spec"), fields("daemonset.spec.template.spec"));
    let typed = SSD.replace(
        "  template:\n",
        "  template:\n    apiVersion: v1\n    kind: Pod\n",
    );
    let path = fleet.server.folder().join("typed.yaml");
    std::fs::write(&path, typed).context("write the manifest")?;
    let refused = fleet.kubectl.run(&["create", "-f", &path.display().to_string()]);
    assert!(!refused.success, "{}", refused.stdout);
    for field in ["apiVersion", "kind"] {
        assert!(refused.stderr.contains(field), "{}", refused.stderr);
    }
    Ok(())
}

#[test]
fn taints_keep_daemons_out_and_tolerations_let_them_in() -> Result<()> {
    let Some(fleet) = Fleet::start(&[])? else {
        return Ok(());
    };
    let _nodes = fleet.server.simulate(2, "node")?;
    fleet.kubectl("taint node node-0 node-role.kubernetes.io/master=:NoSchedule");
    fleet.kubectl("label node node-0 node-1 disk=ssd");
    fleet.create(FLUENTD)?;
    fleet.create(SSD)?;
    // The first tolerates masters, the second does not.
    fleet.runs_on("kube-system", "name=fluentd-elasticsearch", &["node-0", "node-1"])?;
    fleet.runs_on("default", "app=ssd-monitor", &["node-1"])?;
    fleet.kubectl("taint node node-0 node-role.kubernetes.io/master-");
    let before = fleet.runs_on("default", "app=ssd-monitor", &["node-0", "node-1"])?;
    // What runs stays under NoSchedule, and counts as misscheduled; NoExecute removes it.
    fleet.kubectl("taint node node-0 dedicated=db:NoSchedule");
    wait_for("the pod to count as misscheduled", || {
        let set = fleet.kubectl.json(&["get", "ds", "ssd-monitor", "-o", "json"]);
        let status = &set["status"];
        Ok(
            if status["numberMisscheduled"] == 1 && status["desiredNumberScheduled"] == 1 {
                Ok(())
            } else {
                Err(status.to_string())
            },
        )
    })?;
    let after = fleet.runs_on("default", "app=ssd-monitor", &["node-0", "node-1"])?;
    assert_eq!(name(&before["node-0"]), name(&after["node-0"]));
    fleet.kubectl("taint node node-0 dedicated=db:NoExecute");
    fleet.runs_on("default", "app=ssd-monitor", &["node-1"])?;
    Ok(())
}

#[test]
fn daemon_pods_tolerate_what_is_wrong_with_their_nodes() -> Result<()> {
    let Some(fleet) = Fleet::start(&[])? else {
        return Ok(());
    };
    let _nodes = fleet.server.simulate(1, "node")?;
    fleet.kubectl("label node node-0 disk=ssd");
    fleet.create(SSD)?;
    fleet.create(
        &SSD.replace("ssd-monitor", "on-host")
            .replace("nodeSelector:", "hostNetwork: true\n      nodeSelector:"),
    )?;
    let tolerated = |labels: &str| -> Result<Vec<String>> {
        let pods = fleet.runs_on("default", labels, &["node-0"])?;
        let tolerations = pods["node-0"]["spec"]["tolerations"].as_array().cloned();
        let tell = |toleration: &Value| {
            assert_eq!(toleration["operator"], "Exists");
            assert_eq!(toleration["tolerationSeconds"], Value::Null, "for ever");
            let key = text(&toleration["key"]);
            format!(
                "{}:{}",
                key.trim_start_matches("node.kubernetes.io/"),
                text(&toleration["effect"])
            )
        };
        Ok(tolerations.unwrap_or_default().iter().map(tell).collect())
    };
    let mut all = vec![
        "not-ready:NoExecute",
        "unreachable:NoExecute",
        "disk-pressure:NoSchedule",
        "memory-pressure:NoSchedule",
        "pid-pressure:NoSchedule",
        "unschedulable:NoSchedule",
    ];
    assert_eq!(tolerated("app=ssd-monitor")?, all);
    all.push("network-unavailable:NoSchedule");
    assert_eq!(tolerated("app=on-host")?, all);
    Ok(())
}

#[test]
fn a_cordoned_node_still_gets_its_daemon() -> Result<()> {
    let Some(fleet) = Fleet::start(&[])? else {
        return Ok(());
    };
    let _nodes = fleet.server.simulate(1, "node")?;
    fleet.kubectl("cordon node-0");
    fleet.create(FLUENTD)?;
    fleet.runs_on("kube-system", "name=fluentd-elasticsearch", &["node-0"])?;
    Ok(())
}

#[test]
fn without_a_scheduler_daemons_run_and_other_pods_wait() -> Result<()> {
    let Some(fleet) = Fleet::start(&["--scheduler=false", "--schedule-daemonset-pods=false"])? else {
        return Ok(());
    };
    let _nodes = fleet.server.simulate(2, "node")?;
    fleet.kubectl("cordon node-0");
    // The namespace's account, without which no pod is made, comes when the controllers are up.
    wait_for("a pod that somebody made", || {
        let made = fleet
            .kubectl
            .run(&["run", "other", "--image=example.com/other:1", "--restart=Never"]);
        Ok(if made.success { Ok(()) } else { Err(made.stderr) })
    })?;
    fleet.create(FLUENTD)?;
    let pods = fleet.runs_on("kube-system", "name=fluentd-elasticsearch", &["node-0", "node-1"])?;
    assert_eq!(pods["node-0"]["spec"]["affinity"], Value::Null);
    let other = fleet.kubectl.json(&["get", "pod", "other", "-o", "json"]);
    assert_eq!(
        (&other["status"]["phase"], &other["spec"]["nodeName"]),
        (&"Pending".into(), &Value::Null)
    );
    Ok(())
}

#[test]
fn a_pod_that_was_changed_is_replaced_by_what_the_template_says() -> Result<()> {
    let Some(fleet) = Fleet::start(&[])? else {
        return Ok(());
    };
    let mut played = Some(fleet.server.simulate(1, "node")?);
    fleet.create(FLUENTD)?;
    let labels = "name=fluentd-elasticsearch";
    let pods = fleet.runs_on("kube-system", labels, &["node-0"])?;
    let (first, uid) = (name(&pods["node-0"]), text(&pods["node-0"]["metadata"]["uid"]));
    let image = |pods: &BTreeMap<String, Value>| text(&pods["node-0"]["spec"]["containers"][0]["image"]);
    fleet.kubectl(&format!(
        "set image -n kube-system pod/{first} fluentd-elasticsearch=example.com/other:1"
    ));
    assert_eq!(image(&fleet.pods("kube-system", labels)), "example.com/other:1");
    let patch = [
        "patch",
        "pod",
        "-n",
        "kube-system",
        &first,
        "-p",
        r#"{"spec":{"hostNetwork":true}}"#,
    ];
    let said = fleet.kubectl.run(&patch);
    assert!(
        said.stderr
            .contains("pod updates may not change fields other than"),
        "{}",
        said.stderr
    );
    // The node goes, and comes back under its name.
    drop(played.take());
    fleet.kubectl("delete node node-0");
    fleet.runs_on("kube-system", labels, &[])?;
    let _again = fleet.server.simulate(1, "node")?;
    let pods = fleet.runs_on("kube-system", labels, &["node-0"])?;
    assert_eq!(image(&pods), "quay.io/fluentd_elasticsearch/fluentd:v2.5.2");
    assert_ne!(text(&pods["node-0"]["metadata"]["uid"]), uid);
    Ok(())
}

#[test]
fn pods_that_were_left_are_adopted_and_replaced_as_the_strategy_says() -> Result<()> {
    let Some(fleet) = Fleet::start(&[])? else {
        return Ok(());
    };
    let _nodes = fleet.server.simulate(2, "node")?;
    fleet.kubectl("label node node-0 node-1 disk=ssd");
    fleet.create(SSD)?;
    let names = |pods: BTreeMap<String, Value>| pods.values().map(name).collect::<Vec<_>>();
    let nodes = ["node-0", "node-1"];
    fleet.runs_on("default", "app=ssd-monitor", &nodes)?;
    let first = names(fleet.runs_on("default", "app=ssd-monitor", &nodes)?);
    fleet.kubectl("delete ds ssd-monitor --cascade=false");
    assert_eq!(
        names(fleet.runs_on("default", "app=ssd-monitor", &nodes)?),
        first,
        "they stay"
    );
    // The same template: adopted as they are.
    fleet.create(SSD)?;
    fleet.kubectl("rollout status ds/ssd-monitor");
    assert_eq!(
        names(fleet.runs_on("default", "app=ssd-monitor", &nodes)?),
        first,
        "they are taken over"
    );
    // Another template under OnDelete: adopted, and replaced when they are deleted; under RollingUpdate at once.
    fleet.kubectl("delete ds ssd-monitor --cascade=false");
    be_older(fleet.pods("default", "app=ssd-monitor").values())?;
    let second = SSD.replace("monitor:1", "monitor:2");
    fleet.create(&second.replace(
        "spec:\n  selector",
        "spec:\n  updateStrategy: {type: OnDelete}\n  selector",
    ))?;
    let owned = || {
        let pods = fleet.pods("default", "app=ssd-monitor");
        let set = fleet.kubectl.json(&["get", "ds", "ssd-monitor", "-o", "json"]);
        let ours = |pod: &Value| pod["metadata"]["ownerReferences"][0]["uid"] == set["metadata"]["uid"];
        if pods.len() == 2 && pods.values().all(ours) {
            Ok(names(pods))
        } else {
            Err(fleet.kubectl("get pods -o yaml"))
        }
    };
    assert_eq!(wait_for("the pods to be adopted", || Ok(owned()))?, first);
    let strategy = r#"{"spec":{"updateStrategy":{"type":"RollingUpdate"}}}"#;
    fleet.kubectl.ok(&["patch", "ds", "ssd-monitor", "-p", strategy]);
    fleet.kubectl("rollout status ds/ssd-monitor");
    let replaced = fleet.runs_on("default", "app=ssd-monitor", &nodes)?;
    for pod in replaced.values() {
        assert_eq!(pod["spec"]["containers"][0]["image"], "example.com/monitor:2");
        assert!(!first.contains(&name(pod)));
    }
    Ok(())
}
