//! The scenarios of Kubernetes' integration tests of DaemonSets, against the whole: what they reach by playing the
//! controllers' world by hand happens here by itself.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::{MERGE, STRATEGIC, eventually, wait_for};

use crate::fleet::{
    Fleet, NODES, PodWatch, condition, daemon_set, hash, is_ready, is_terminating, name, node,
};

fn fleet(nodes: usize) -> Result<Fleet> {
    Fleet::start_with(nodes, &[], &[])
}

const STRATEGIES: [&str; 2] = ["RollingUpdate", "OnDelete"];

#[test]
fn a_pod_that_ended_is_replaced_under_either_strategy() -> Result<()> {
    let fleet = fleet(2)?;
    let nodes = ["node-0", "node-1"];
    for strategy in STRATEGIES {
        let set = strategy.to_lowercase();
        fleet.create(&set, |set| {
            set["spec"]["updateStrategy"] = json!({"type": strategy})
        })?;
        for phase in ["Succeeded", "Failed"] {
            let before = fleet.runs_on(&set, &nodes)?;
            fleet.end(&before["node-1"], phase)?;
            eventually("the pod that ended to go", || {
                Ok(fleet.api.find(&fleet.pod_path(&before["node-1"]))?.is_none())
            })?;
            let after = fleet.runs_on(&set, &nodes)?;
            assert_eq!(after["node-0"], before["node-0"]);
            assert_ne!(after["node-1"], before["node-1"]);
        }
    }
    Ok(())
}

#[test]
fn a_pod_that_ended_is_replaced_even_while_a_finalizer_holds_it() -> Result<()> {
    let fleet = fleet(1)?;
    for strategy in STRATEGIES {
        let set = strategy.to_lowercase();
        fleet.create(&set, |set| {
            set["spec"]["updateStrategy"] = json!({"type": strategy});
            set["spec"]["template"]["metadata"]["finalizers"] = json!(["example.com/hold"]);
        })?;
        let before = fleet.runs_on(&set, &["node-0"])?;
        fleet.end(&before["node-0"], "Succeeded")?;
        let after = fleet.runs_on(&set, &["node-0"])?;
        assert_ne!(after["node-0"], before["node-0"]);
        let held = fleet.api.get(&fleet.pod_path(&before["node-0"]))?;
        assert!(is_terminating(&held), "{held}");
        for pod in fleet.pods(&set)? {
            let path = fleet.pod_path(&name(&pod));
            fleet
                .api
                .patch(&path, MERGE, &json!({"metadata": {"finalizers": Value::Null}}))?;
        }
    }
    Ok(())
}

#[test]
fn expressions_and_names_in_an_affinity_add_up() -> Result<()> {
    let fleet = fleet(6)?;
    for node in ["node-0", "node-3"] {
        fleet.label_node(node, "zone", Some("east"))?;
    }
    let terms = json!([
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["east"]}]},
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-5"]}]},
    ]);
    for strategy in STRATEGIES {
        let set = strategy.to_lowercase();
        fleet.create(&set, |set| {
            set["spec"]["updateStrategy"] = json!({"type": strategy});
            set["spec"]["template"]["spec"]["affinity"]["nodeAffinity"] = json!({
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
            });
        })?;
        fleet.runs_on(&set, &["node-0", "node-3", "node-5"])?;
        fleet.complete(&set, 3)?;
        // The term that pins a pod is the pod's alone.
        let template = &fleet.set(&set)?["spec"]["template"]["spec"];
        let kept = &template["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(kept["nodeSelectorTerms"], terms);
    }
    Ok(())
}

/// A Node without a kubelet, in this condition.
fn bare_node(fleet: &Fleet, name: &str, kind: &str, status: &str) -> Result<()> {
    let room = json!({"cpu": "4", "memory": "16Gi", "pods": "110"});
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"capacity": room, "allocatable": room, "conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady"},
            {"type": kind, "status": status, "reason": "Test"},
        ]},
    });
    let mut node = node;
    if kind == "Ready"
        && let Some(conditions) = node["status"]["conditions"].as_array_mut()
    {
        conditions.remove(0);
    }
    fleet.api.create(NODES, &node).map(drop)
}

/// Waits until the set has bound pods on exactly these nodes, running or not.
fn is_bound_on(fleet: &Fleet, set: &str, nodes: &[&str]) -> Result<()> {
    let wanted: BTreeSet<String> = nodes.iter().map(|&node| node.to_owned()).collect();
    wait_for(&format!("{set} to have pods on {nodes:?}"), || {
        let pods = fleet.pods(set)?;
        let bound: BTreeSet<String> = pods.iter().map(|pod| node(pod).to_owned()).collect();
        Ok(match bound == wanted && pods.len() == wanted.len() {
            true => Ok(()),
            false => Err(format!("{bound:?}, {} pods", pods.len())),
        })
    })
}

fn taints(fleet: &Fleet, node: &str) -> Result<Vec<String>> {
    let node = fleet.api.get(&format!("{NODES}/{node}"))?;
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let words = taints.map(|taint| format!("{}:{}", taint["key"], taint["effect"]).replace('"', ""));
    Ok(words.collect())
}

#[test]
fn a_node_that_is_not_ready_gets_the_pod_of_a_daemon_that_tolerates_it() -> Result<()> {
    let fleet = fleet(1)?;
    bare_node(&fleet, "unready", "Ready", "False")?;
    eventually("the condition to become a taint", || {
        Ok(taints(&fleet, "unready")?.contains(&"node.kubernetes.io/not-ready:NoSchedule".to_owned()))
    })?;
    let tolerations = json!([{"operator": "Exists", "effect": "NoSchedule"}]);
    fleet.create("tolerant", |set| {
        set["spec"]["template"]["spec"]["tolerations"] = tolerations
    })?;
    fleet.create("plain", |_| {})?;
    is_bound_on(&fleet, "tolerant", &["node-0", "unready"])?;
    fleet.complete("plain", 1)?;
    is_bound_on(&fleet, "plain", &["node-0"])
}

#[test]
fn cordoned_nodes_get_every_daemon_and_nodes_without_a_network_those_of_the_host_s() -> Result<()> {
    let fleet = fleet(2)?;
    fleet.api.patch(
        &format!("{NODES}/node-1"),
        MERGE,
        &json!({"spec": {"unschedulable": true}}),
    )?;
    bare_node(&fleet, "offline", "NetworkUnavailable", "True")?;
    eventually("the conditions to become taints", || {
        let offline = taints(&fleet, "offline")?;
        let cordoned = taints(&fleet, "node-1")?;
        Ok(
            offline.contains(&"node.kubernetes.io/network-unavailable:NoSchedule".to_owned())
                && cordoned.contains(&"node.kubernetes.io/unschedulable:NoSchedule".to_owned()),
        )
    })?;
    for strategy in STRATEGIES {
        let (host, pod) = (
            format!("host-{strategy}").to_lowercase(),
            format!("pod-{strategy}").to_lowercase(),
        );
        fleet.create(&host, |set| {
            set["spec"]["updateStrategy"] = json!({"type": strategy});
            set["spec"]["template"]["spec"]["hostNetwork"] = true.into();
        })?;
        fleet.create(&pod, |set| {
            set["spec"]["updateStrategy"] = json!({"type": strategy})
        })?;
        is_bound_on(&fleet, &host, &["node-0", "node-1", "offline"])?;
        fleet.complete(&pod, 2)?;
        is_bound_on(&fleet, &pod, &["node-0", "node-1"])?;
    }
    Ok(())
}

#[test]
fn nodes_under_pressure_get_their_daemons_and_nothing_else() -> Result<()> {
    let fleet = fleet(1)?;
    let pressures = [
        ("disk", "DiskPressure"),
        ("memory", "MemoryPressure"),
        ("pid", "PIDPressure"),
    ];
    for (node, pressure) in pressures {
        bare_node(&fleet, node, pressure, "True")?;
        eventually("the condition to become a taint", || {
            Ok(taints(&fleet, node)?.contains(&format!("node.kubernetes.io/{node}-pressure:NoSchedule")))
        })?;
    }
    fleet.create("web", |_| {})?;
    is_bound_on(&fleet, "web", &["disk", "memory", "node-0", "pid"])?;
    // The same pod, made by somebody else, has one node to go to.
    let other = |name: &str, node: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeSelector": {"kubernetes.io/hostname": node}, "containers": [
                {"name": "app", "image": "registry.example/app:1"},
            ]},
        })
    };
    for (node, _) in pressures {
        fleet.label_node(node, "kubernetes.io/hostname", Some(node))?;
        fleet
            .api
            .create(&fleet.pods_path(), &other(&format!("on-{node}"), node))?;
        wait_for("the scheduler to keep the other pod away", || {
            let pod = fleet.api.get(&fleet.pod_path(&format!("on-{node}")))?;
            let kept = condition(&pod, "PodScheduled").is_some_and(|scheduled| {
                let message = scheduled["message"].as_str().unwrap_or_default();
                message.contains("3 node(s) had untolerated taint(s)")
            });
            Ok(if kept { Ok(()) } else { Err(pod.to_string()) })
        })?;
    }
    Ok(())
}

#[test]
fn a_pod_that_is_driven_out_says_why() -> Result<()> {
    let fleet = fleet(1)?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other"},
        "spec": {"nodeName": "node-0", "containers": [{"name": "app", "image": "registry.example/app:1"}]},
    });
    fleet.api.create(&fleet.pods_path(), &pod)?;
    let mut watch = PodWatch::open(&fleet)?;
    fleet.taint_node("node-0", "example.com/fire", Some("NoExecute"))?;
    watch.until(|pods| {
        let target = pods
            .get("other")
            .and_then(|pod| condition(pod, "DisruptionTarget"));
        Ok(target.is_some_and(|target| target["reason"] == "DeletionByTaintManager"))
    })
}

#[test]
fn a_tainted_node_gets_its_pod_when_the_taint_goes() -> Result<()> {
    let fleet = fleet(2)?;
    fleet.taint_node("node-1", "example.com/reserved", Some("NoSchedule"))?;
    for strategy in STRATEGIES {
        fleet.create(&strategy.to_lowercase(), |set| {
            set["spec"]["updateStrategy"] = json!({"type": strategy})
        })?;
        fleet.complete(&strategy.to_lowercase(), 1)?;
        fleet.runs_on(&strategy.to_lowercase(), &["node-0"])?;
    }
    fleet.taint_node("node-1", "example.com/reserved", None)?;
    for strategy in STRATEGIES {
        fleet.runs_on(&strategy.to_lowercase(), &["node-0", "node-1"])?;
    }
    Ok(())
}

#[test]
fn where_there_is_no_room_the_pod_waits_and_the_other_nodes_run() -> Result<()> {
    let fleet = fleet(2)?;
    let hog = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hog"},
        "spec": {"nodeName": "node-0", "terminationGracePeriodSeconds": 1, "containers": [{
            "name": "app", "image": "registry.example/hog:1", "resources": {"requests": {"memory": "10Gi"}},
        }]},
    });
    fleet.api.create(&fleet.pods_path(), &hog)?;
    fleet.create("large", |set| {
        set["spec"]["template"]["spec"]["containers"][0]["resources"] =
            json!({"requests": {"memory": "8Gi"}});
    })?;
    let waiting = wait_for("the scheduler to say why one pod waits", || {
        let pods = fleet.pods("large")?;
        let waiting = pods.iter().find(|pod| {
            condition(pod, "PodScheduled").is_some_and(|scheduled| scheduled["reason"] == "Unschedulable")
        });
        Ok(match waiting {
            Some(pod) => Ok(pod.clone()),
            None => Err(format!("{} pods", pods.len())),
        })
    })?;
    let message = condition(&waiting, "PodScheduled").and_then(|scheduled| scheduled["message"].as_str());
    let message = message.context("a message")?;
    ensure!(
        message.starts_with("0/2 nodes are available: 1 Insufficient memory, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]."),
        "{message}"
    );
    fleet.status("large", "both nodes to have a pod and one to run it", |status| {
        status["desiredNumberScheduled"] == 2
            && status["currentNumberScheduled"] == 2
            && status["numberReady"] == 1
    })?;
    fleet.api.delete(&fleet.pod_path("hog"), &json!({}))?;
    let running = fleet.runs_on("large", &["node-0", "node-1"])?;
    assert_eq!(
        running["node-0"],
        name(&waiting),
        "the pod that waited is the one that runs"
    );
    Ok(())
}

#[test]
fn a_template_whose_hash_is_taken_gets_another_one() -> Result<()> {
    let fleet = fleet(1)?;
    let second = "registry.example/app:2";
    // Where the same name is free, one learns what the second template's revision will be called.
    fleet.create("web", |_| {})?;
    fleet.complete("web", 1)?;
    fleet.set_image("web", second)?;
    fleet.complete("web", 1)?;
    let taken = fleet
        .revisions("web")?
        .last()
        .map(name)
        .context("two revisions")?;
    fleet.api.delete(&fleet.set_path("web"), &json!({}))?;
    fleet.gone("web")?;
    eventually("the revisions to go", || {
        Ok(fleet.api.items(&fleet.revisions_path())?.is_empty())
    })?;

    let squatter = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": taken},
        "data": {"spec": {"template": {"other": true}}}, "revision": 7,
    });
    fleet.api.create(&fleet.revisions_path(), &squatter)?;
    fleet.create("web", |_| {})?;
    fleet.complete("web", 1)?;
    fleet.set_image("web", second)?;
    fleet.complete("web", 1)?;
    assert_eq!(fleet.set("web")?["status"]["collisionCount"], 1);
    let mine = fleet.revisions("web")?;
    assert_eq!(
        mine.iter()
            .map(|revision| revision["revision"].as_u64())
            .collect::<Vec<_>>(),
        [Some(1), Some(2)]
    );
    assert_ne!(name(&mine[1]), taken);
    assert_eq!(hash(&fleet.pods("web")?[0]), hash(&mine[1]));
    let untouched = fleet.api.get(&format!("{}/{taken}", fleet.revisions_path()))?;
    assert_eq!(untouched["revision"], 7);
    Ok(())
}

#[test]
fn of_two_equal_revisions_the_newer_stays_and_no_pod_restarts() -> Result<()> {
    let fleet = fleet(2)?;
    for strategy in STRATEGIES {
        let set = strategy.to_lowercase();
        fleet.create(&set, |set| {
            set["spec"]["updateStrategy"] = json!({"type": strategy})
        })?;
        let before = fleet.runs_on(&set, &["node-0", "node-1"])?;
        let first = fleet.revisions(&set)?.remove(0);
        let mut labels = first["metadata"]["labels"].clone();
        labels["controller-revision-hash"] = "twin".into();
        let twin = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {
                "name": format!("{set}-twin"), "labels": labels,
                "ownerReferences": first["metadata"]["ownerReferences"],
            },
            "data": first["data"], "revision": first["revision"].as_u64().context("a number")? + 1,
        });
        fleet.api.create(&fleet.revisions_path(), &twin)?;
        // Something makes the controller look again: a new revision of its own does not.
        fleet.api.patch(
            &fleet.set_path(&set),
            STRATEGIC,
            &json!({"spec": {"revisionHistoryLimit": 5}}),
        )?;
        wait_for("one revision to be left", || {
            let left: Vec<String> = fleet.revisions(&set)?.iter().map(name).collect();
            Ok(match left == [format!("{set}-twin")] {
                true => Ok(()),
                false => Err(format!("{left:?}")),
            })
        })?;
        wait_for("the pods to carry its hash", || {
            let pods = fleet.pods(&set)?;
            let hashes: Vec<&str> = pods.iter().map(hash).collect();
            Ok(match hashes == ["twin", "twin"] {
                true => Ok(()),
                false => Err(format!("{hashes:?}")),
            })
        })?;
        fleet.complete(&set, 2)?;
        assert_eq!(fleet.runs_on(&set, &["node-0", "node-1"])?, before);
    }
    Ok(())
}

#[test]
fn a_surge_follows_changing_tolerations() -> Result<()> {
    let fleet = fleet(6)?;
    for node in ["node-4", "node-5"] {
        fleet.taint_node(node, "example.com/reserved", Some("NoSchedule"))?;
    }
    let free = ["node-0", "node-1", "node-2", "node-3"];
    let all = ["node-0", "node-1", "node-2", "node-3", "node-4", "node-5"];
    fleet.create("web", |set| {
        set["spec"]["updateStrategy"] =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 3}});
    })?;
    fleet.runs_on("web", &free)?;
    fleet.complete("web", 4)?;

    // A surge of three over four nodes: never more than seven pods, never a node without one.
    let mut watch = PodWatch::open(&fleet)?;
    fleet.set_image("web", "registry.example/app:2")?;
    within(&mut watch, &free, 7, "registry.example/app:2", 4)?;
    fleet.complete("web", 4)?;

    let tolerations = json!([{"key": "example.com/reserved", "operator": "Exists"}]);
    let template = json!({"tolerations": tolerations, "containers": [{"name": "app", "image": "registry.example/app:3"}]});
    fleet.patch("web", &json!({"spec": {"template": {"spec": template}}}))?;
    within(&mut watch, &free, 9, "registry.example/app:3", 6)?;
    fleet.complete("web", 6)?;
    fleet.runs_on("web", &all)?;

    fleet.patch(
        "web",
        &json!({"spec": {"template": {"spec": {"nodeSelector": {"no": "where"}}}}}),
    )?;
    fleet.runs_on("web", &[])?;
    fleet.complete("web", 0)
}

/// Looks at every state until `count` ready pods have the image `wanted` and no other pod is left. Each of `nodes` always has
/// a ready pod, and there are never more than `most` live ones.
fn within(watch: &mut PodWatch<'_>, nodes: &[&str], most: usize, wanted: &str, count: usize) -> Result<()> {
    watch.until(|pods| {
        let live: Vec<&Value> = pods.values().filter(|pod| !is_terminating(pod)).collect();
        ensure!(live.len() <= most, "{} pods at once", live.len());
        for at in nodes {
            ensure!(
                live.iter().any(|pod| node(pod) == *at && is_ready(pod)),
                "{at} has no ready pod"
            );
        }
        let new = live
            .iter()
            .filter(|pod| crate::fleet::image(pod) == wanted && is_ready(pod));
        Ok(new.count() == count && pods.len() == count)
    })
}

#[test]
fn one_set_takes_no_pod_of_another() -> Result<()> {
    let fleet = fleet(2)?;
    fleet.create("one", |_| {})?;
    let ones = fleet.runs_on("one", &["node-0", "node-1"])?;
    // The same labels, another set: what has a controller is not taken over.
    let other = daemon_set("two", |set| {
        set["spec"]["selector"]["matchLabels"] = json!({"app": "one"});
        set["spec"]["template"]["metadata"]["labels"] = json!({"app": "one"});
    });
    fleet.api.create(&fleet.sets_path(), &other)?;
    let twos = fleet.runs_on("two", &["node-0", "node-1"])?;
    assert_eq!(fleet.runs_on("one", &["node-0", "node-1"])?, ones);
    fleet.api.delete(&fleet.set_path("one"), &json!({}))?;
    eventually("the pods of the first to go", || {
        Ok(fleet.api.items(&fleet.pods_path())?.len() == 2)
    })?;
    assert_eq!(fleet.runs_on("two", &["node-0", "node-1"])?, twos);
    Ok(())
}
