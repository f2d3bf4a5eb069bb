//! The machine of the control plane as a node: its taints, and what becomes of it when its Node is deleted.

use std::net::SocketAddr;

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Fleet, ask, eventually, wait_for};

use crate::{PORT, fleet, identity, object, page, tell, watch_pages};

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
/// What it was called before.
const MASTER: &str = "node-role.kubernetes.io/master";

/// A DaemonSet of this name and port that tolerates these taints as old manifests do: by key and effect alone.
fn tolerant(name: &str, port: u16, keys: &[&str]) -> Value {
    let tolerations: Vec<Value> = keys
        .iter()
        .map(|key| json!({"key": key, "effect": "NoSchedule"}))
        .collect();
    page(|set| {
        set["metadata"]["name"] = name.into();
        set["spec"]["selector"]["matchLabels"]["app"] = name.into();
        let template = &mut set["spec"]["template"];
        template["metadata"]["labels"]["app"] = name.into();
        template["spec"]["tolerations"] = tolerations.into();
        template["spec"]["containers"][0]["ports"][0]["hostPort"] = port.into();
    })
}

#[test]
fn a_machine_with_the_control_planes_taints_runs_the_daemons_that_tolerate_them() -> Result<()> {
    let taints = format!("{CONTROL_PLANE}:NoSchedule,{MASTER}:NoSchedule");
    let Some(mut fleet) = fleet(2, &["--register-with-taints", &taints])? else {
        return Ok(());
    };
    for (name, port, keys) in [
        ("plain", 8081, &[][..]),
        ("older", 8082, &[MASTER]),
        ("newer", 8083, &[CONTROL_PLANE]),
        ("both", 8084, &[CONTROL_PLANE, MASTER]),
    ] {
        fleet.apply(&tolerant(name, port, keys));
    }
    let both = fleet.running("both", 2)?;
    assert!(both.contains_key("node-1"));
    // Its set has looked at both nodes by now; so will the others' have when they say that they have seen their specification.
    for name in ["plain", "older", "newer"] {
        let pods = fleet.running(name, 1)?;
        assert!(pods.contains_key("node-2"), "{name}: {pods:?}");
        let status = object(&fleet, &["ds", name])["status"].clone();
        assert_eq!(
            (&status["desiredNumberScheduled"], &status["observedGeneration"]),
            (&1.into(), &1.into()),
            "{name}"
        );
    }
    // A cluster of today has the newer one alone, one of yesterday the older.
    fleet
        .client()
        .ok(&["taint", "node", "node-1", &format!("{CONTROL_PLANE}:NoSchedule-")]);
    let older = fleet.running("older", 2)?;
    fleet
        .client()
        .ok(&["taint", "node", "node-1", &format!("{CONTROL_PLANE}:NoSchedule")]);
    fleet
        .client()
        .ok(&["taint", "node", "node-1", &format!("{MASTER}:NoSchedule-")]);
    let newer = fleet.running("newer", 2)?;
    for pods in [&older, &newer] {
        assert!(pods.contains_key("node-1"), "{pods:?}");
    }
    // The older daemon does not tolerate the taint that came back, which keeps new pods away and sends no old one.
    assert_eq!(fleet.running("older", 2)?["node-1"].uid, older["node-1"].uid);
    assert_eq!(fleet.running("both", 2)?, both);
    fleet.running("plain", 1)?;
    Ok(())
}

#[test]
fn the_control_plane_goes_on_when_its_own_node_is_deleted_and_is_a_node_again_when_it_is_started_again()
-> Result<()> {
    let Some(mut fleet) = fleet(2, &[])? else {
        return Ok(());
    };
    fleet.apply(&page(|_| {}));
    let before = fleet.running("page", 2)?;
    let uid = |fleet: &Fleet| object(fleet, &["node", "node-1"])["metadata"]["uid"].clone();
    let first = uid(&fleet);
    let clients = watch_pages(&fleet);
    fleet.client().ok(&["delete", "node", "node-1"]);
    let left = fleet.running("page", 1)?;
    assert_eq!(identity(&left["node-2"]), identity(&before["node-2"]));
    let address = SocketAddr::from((fleet.node(1).machine.address(), PORT));
    eventually("the daemon of the deleted node to be stopped", || {
        Ok(ask(address).is_err())
    })?;
    let log = wait_for("a word about it", || {
        let log = fleet.node(1).program.log();
        Ok(if log.contains("node node-1 was deleted") {
            Ok(log)
        } else {
            Err(log)
        })
    })?;
    assert!(log.contains("until `everynode up` is started again"), "{log}");
    // The API serves on, and what is changed reaches the nodes that there are.
    assert!(fleet.node(1).program.ended()?.is_none());
    fleet.client().ok(&["rollout", "restart", "ds/page"]);
    fleet.client().ok(&["rollout", "status", "ds/page"]);
    let updated = fleet.running("page", 1)?;
    assert_ne!(updated["node-2"].uid, before["node-2"].uid);

    let ended = fleet.node(1).program.stop()?;
    assert!(ended.success(), "{ended}");
    fleet.node(1).resume()?;
    fleet.answering()?;
    fleet.ready(2)?;
    let after = fleet.running("page", 2)?;
    assert_ne!(uid(&fleet), first, "a new Node");
    assert_ne!(after["node-1"].uid, before["node-1"].uid, "a new pod");
    assert_eq!(identity(&after["node-2"]), identity(&updated["node-2"]));
    eventually("the new pod to answer", || {
        Ok(ask(address).is_ok_and(|name| name == after["node-1"].name))
    })?;
    tell("node-1 deleted, `up` started again", &clients.stop()?);
    Ok(())
}
