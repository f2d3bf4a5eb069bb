//! `kubectl drain` among daemons.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::eventually;

use super::each_kubectl;
use crate::fleet::{Fleet, NODES};

const DAEMONS: [&str; 2] = ["node-0", "node-1"];

/// A pod that nobody would create anew, bound to node-0.
fn lone_pod(fleet: &Fleet, name: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"kind": "lone"}},
        "spec": {
            "nodeName": "node-0", "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": "registry.example/app:1"}],
        },
    });
    change(&mut pod);
    fleet.api.create(&fleet.pods_path(), &pod).map(drop)
}

fn runs(fleet: &Fleet, name: &str) -> Result<()> {
    eventually("the pod to run", || {
        Ok(fleet.api.get(&fleet.pod_path(name))?["status"]["phase"] == "Running")
    })
}

fn is_cordoned(fleet: &Fleet) -> Result<bool> {
    Ok(fleet.api.get(&format!("{NODES}/node-0"))?["spec"]["unschedulable"] == true)
}

#[test]
fn a_drain_stops_at_daemons_unless_it_is_told_to_ignore_them() -> Result<()> {
    each_kubectl(2, &[], |fleet, kubectl| {
        fleet.create("web", |_| {})?;
        let pods = fleet.runs_on("web", &DAEMONS)?;
        let said = kubectl.refused("drain node-0");
        let reason = format!(
            "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): default/{}",
            pods["node-0"]
        );
        assert!(said.contains(&reason), "{said}");
        assert!(is_cordoned(fleet)?, "the cordon comes first and stays");

        let (said, warned) = kubectl.told("drain node-0 --ignore-daemonsets");
        let warning = match kubectl.old {
            true => "WARNING",
            false => "Warning",
        };
        assert_eq!(
            warned,
            format!(
                "{warning}: ignoring DaemonSet-managed Pods: default/{}\n",
                pods["node-0"]
            )
        );
        assert!(said.ends_with("node/node-0 drained\n"), "{said}");
        assert_eq!(
            fleet.runs_on("web", &DAEMONS)?,
            pods,
            "a drain does not touch daemons"
        );
        kubectl.ok("uncordon node-0");
        assert_eq!(fleet.runs_on("web", &DAEMONS)?, pods);
        Ok(())
    })
}

#[test]
fn a_drain_evicts_what_is_no_daemon_and_asks_for_force_where_nobody_brings_it_back() -> Result<()> {
    each_kubectl(2, &[], |fleet, kubectl| {
        fleet.create("web", |_| {})?;
        let pods = fleet.runs_on("web", &DAEMONS)?;
        lone_pod(fleet, "lone", |_| {})?;
        runs(fleet, "lone")?;
        let said = kubectl.refused("drain node-0 --ignore-daemonsets");
        assert!(said.contains(": default/lone"), "{said}");
        assert!(said.contains("(use --force to override)"), "{said}");
        let (said, _) = kubectl.told("drain node-0 --ignore-daemonsets --force");
        assert!(said.contains("evicting pod default/lone\n"), "{said}");
        assert!(said.contains("pod/lone evicted\n"), "{said}");
        assert!(fleet.api.find(&fleet.pod_path("lone"))?.is_none());
        assert_eq!(fleet.runs_on("web", &DAEMONS)?, pods);
        Ok(())
    })
}

#[test]
fn a_drain_needs_force_for_the_daemons_of_a_set_that_is_gone() -> Result<()> {
    each_kubectl(2, &[], |fleet, kubectl| {
        // A reference to a set that never was: the garbage collector would take the pod, but a finalizer holds it.
        lone_pod(fleet, "left", |pod| {
            pod["metadata"]["finalizers"] = json!(["example.com/hold"]);
            pod["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "gone", "controller": true,
                "uid": "00000000-0000-0000-0000-000000000001",
            }]);
        })?;
        let said = kubectl.refused("drain node-0 --ignore-daemonsets --timeout=1s");
        assert!(said.contains("default/left"), "{said}");
        let patch = json!({"metadata": {"finalizers": Value::Null}});
        fleet.api.patch(&fleet.pod_path("left"), testkit::MERGE, &patch)?;
        kubectl.ok("drain node-0 --ignore-daemonsets --force");
        eventually("the pod to go", || {
            Ok(fleet.api.find(&fleet.pod_path("left"))?.is_none())
        })
    })
}

#[test]
fn a_drain_gives_way_to_a_disruption_budget() -> Result<()> {
    each_kubectl(2, &[], |fleet, kubectl| {
        for name in ["one", "two"] {
            lone_pod(fleet, name, |_| {})?;
        }
        let budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "keep-one"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"kind": "lone"}}},
        });
        let budgets = format!(
            "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
            fleet.namespace
        );
        fleet.api.create(&budgets, &budget)?;
        let path = format!("{budgets}/keep-one");
        eventually("the budget to allow one", || {
            Ok(fleet.api.get(&path)?["status"]["disruptionsAllowed"] == 1)
        })?;
        let said = kubectl.refused("drain node-0 --force --timeout=3s");
        let reason = "Cannot evict pod as it would violate the pod's disruption budget.";
        assert!(said.contains(reason), "{said}");
        let left = |name: &str| fleet.api.find(&fleet.pod_path(name));
        assert!(
            left("one")?.is_some() != left("two")?.is_some(),
            "one of them stays"
        );
        let patch = json!({"spec": {"minAvailable": 0}});
        fleet.api.patch(&path, testkit::MERGE, &patch)?;
        kubectl.ok("drain node-0 --force");
        assert!(left("one")?.is_none() && left("two")?.is_none());
        Ok(())
    })
}
