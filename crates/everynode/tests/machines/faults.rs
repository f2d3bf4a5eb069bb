//! What fails, and what every client of the daemons saw meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::{Fleet, Pod, Seen, ask, eventually, programs, report, wait_for};

use crate::{CURL, PORT, fleet, identity, page, watch_pages};

/// Rounds of kill and restart of every agent.
const ROUNDS: u64 = 6;

fn tell(fault: &str, seen: &BTreeMap<String, Seen>) {
    for (client, seen) in seen {
        report(&format!("{fault}: client of {client}: {seen}"));
    }
}

fn node(fleet: &Fleet, name: &str) -> Value {
    let node = fleet.client().run(&["get", "node", name, "-o", "json"]);
    serde_json::from_str(&node.stdout).unwrap_or_default()
}

/// The status of a node's condition Ready.
fn ready(fleet: &Fleet, name: &str) -> String {
    let node = node(fleet, name);
    let conditions = node["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    ready
        .and_then(|condition| condition["status"].as_str())
        .unwrap_or_default()
        .to_owned()
}

fn identities(pods: &BTreeMap<String, Pod>) -> BTreeMap<String, (String, i64)> {
    pods.iter()
        .map(|(node, pod)| (node.clone(), identity(pod)))
        .collect()
}

#[test]
fn agents_killed_at_random_moments_restart_no_container() -> Result<()> {
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    fleet.apply(&page(|_| {}));
    let before = fleet.running("page", 3)?;
    let clients = watch_pages(&fleet);
    for round in 0..ROUNDS {
        for number in 2..=fleet.len() {
            // The moment differs by node and round: before it registers, while it takes its pods over, after.
            let moment = Duration::from_millis((round * 137 + number as u64 * 53) % 400);
            std::thread::sleep(moment);
            fleet.node(number).restart()?;
        }
    }
    fleet.ready(3)?;
    // A new pod of each node shows that its agent is back at work.
    fleet.apply(&page(|set| {
        set["metadata"]["name"] = "second".into();
        for labels in [
            "/spec/selector/matchLabels/app",
            "/spec/template/metadata/labels/app",
        ] {
            if let Some(label) = set.pointer_mut(labels) {
                *label = "second".into();
            }
        }
        set["spec"]["template"]["spec"]["containers"][0]["ports"][0]["hostPort"] = 8081.into();
    }));
    fleet.running("second", 3)?;
    let after = fleet.running("page", 3)?;
    let seen = clients.stop()?;
    tell("agents killed", &seen);
    assert_eq!(identities(&after), identities(&before));
    for (client, seen) in seen {
        assert!(seen.asked > 0 && seen.failed == 0, "{client}: {seen}");
    }
    Ok(())
}

#[test]
fn a_node_that_is_cut_off_and_returns_restarts_nothing() -> Result<()> {
    // Nodes renew their leases every ten seconds.
    let Some(mut fleet) = fleet(3, &["--node-monitor-grace-period", "16s"])? else {
        return Ok(());
    };
    fleet.apply(&page(|_| {}));
    let before = fleet.running("page", 3)?;
    let clients = watch_pages(&fleet);
    fleet.node(3).machine.cut()?;
    wait_for("the node to be unreachable", || {
        let state = ready(&fleet, "node-3");
        Ok(if state == "Unknown" { Ok(()) } else { Err(state) })
    })?;
    let taints = node(&fleet, "node-3")["spec"]["taints"].to_string();
    assert!(taints.contains("node.kubernetes.io/unreachable"), "{taints}");
    // A daemon tolerates that its node cannot be reached: its pod stays.
    let pods = fleet
        .client()
        .ok(&["get", "pods", "-l", "app=page", "-o", "name"]);
    assert_eq!(pods.lines().count(), 3, "{pods}");
    fleet.node(3).machine.heal()?;
    fleet.ready(3)?;
    let after = fleet.running("page", 3)?;
    let seen = clients.stop()?;
    tell("node-3 cut off", &seen);
    assert_eq!(identities(&after), identities(&before));
    for node in ["node-1", "node-2"] {
        assert_eq!(seen[node].failed, 0, "{node}: {}", seen[node]);
    }
    assert!(seen["node-3"].failed > 0, "it was cut off");
    Ok(())
}

#[test]
fn clients_of_daemons_do_not_notice_that_the_server_is_killed_and_comes_back() -> Result<()> {
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    fleet.apply(&page(|_| {}));
    let before = fleet.running("page", 3)?;
    let clients = watch_pages(&fleet);
    fleet.node(1).program.kill()?;
    // A container that ends meanwhile is started again without a server.
    let node = fleet.node(3);
    let killed = node.run(&["sh", "-c", "kill -KILL $(busybox pidof httpd)"]);
    assert!(killed.success, "{}", killed.stderr);
    let address = SocketAddr::from((node.machine.address(), PORT));
    eventually("the daemon to answer again", || Ok(ask(address).is_ok()))?;
    fleet.node(1).resume()?;
    fleet.answering()?;
    let after = wait_for("the restart to be reported", || {
        let after = fleet.running("page", 3)?;
        let restarts = after["node-3"].restarts;
        Ok(if restarts == 1 {
            Ok(after)
        } else {
            Err(restarts.to_string())
        })
    })?;
    fleet.ready(3)?;
    let seen = clients.stop()?;
    tell("server killed", &seen);
    for node in ["node-1", "node-2"] {
        assert_eq!(identity(&after[node]), identity(&before[node]));
        assert_eq!(seen[node].failed, 0, "{node}: {}", seen[node]);
    }
    assert_eq!(after["node-3"].uid, before["node-3"].uid);
    Ok(())
}

#[test]
fn a_machine_that_reboots_runs_its_pods_again() -> Result<()> {
    let Some(mut fleet) = fleet(2, &[])? else {
        return Ok(());
    };
    fleet.apply(&page(|_| {}));
    let before = fleet.running("page", 2)?;
    let clients = watch_pages(&fleet);
    fleet.node(2).reboot()?;
    let after = wait_for("the pod to run again", || {
        let pods = fleet.running("page", 2)?;
        let restarts = pods["node-2"].restarts;
        Ok(if restarts > 0 {
            Ok(pods)
        } else {
            Err(format!("{pods:?}"))
        })
    })?;
    let address = SocketAddr::from((fleet.node(2).machine.address(), PORT));
    eventually("the daemon to answer again", || Ok(ask(address).is_ok()))?;
    let seen = clients.stop()?;
    tell("node-2 rebooted", &seen);
    assert_eq!(after["node-2"].uid, before["node-2"].uid, "the same pod");
    assert_eq!(identity(&after["node-1"]), identity(&before["node-1"]));
    assert_eq!(seen["node-1"].failed, 0);
    Ok(())
}

#[test]
fn a_node_that_is_deleted_and_joins_again_under_its_name_gets_a_new_pod() -> Result<()> {
    let Some(mut fleet) = fleet(2, &[])? else {
        return Ok(());
    };
    fleet.apply(&page(|_| {}));
    let before = fleet.running("page", 2)?;
    let clients = watch_pages(&fleet);
    fleet.client().ok(&["delete", "node", "node-2"]);
    // Its agent stops what runs there and ends: it is nobody's node. The machine joins anew, by the token that it was started with.
    eventually("the agent to leave", || {
        Ok(fleet.node(2).program.ended()?.is_some())
    })?;
    fleet.node(2).resume()?;
    let pods = wait_for("a new pod on the node", || {
        let pods = fleet.running("page", 2)?;
        let new = pods
            .get("node-2")
            .is_some_and(|pod| pod.uid != before["node-2"].uid);
        Ok(if new { Ok(pods) } else { Err(format!("{pods:?}")) })
    })?;
    fleet.ready(2)?;
    let address = SocketAddr::from((fleet.node(2).machine.address(), PORT));
    wait_for("the new pod to answer", || {
        let answer = ask(address).context("ask node-2");
        Ok(match answer {
            Ok(name) if name == pods["node-2"].name => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })?;
    let seen = clients.stop()?;
    tell("node-2 deleted, joined again", &seen);
    assert_eq!(identity(&pods["node-1"]), identity(&before["node-1"]));
    assert_eq!(seen["node-1"].failed, 0);
    Ok(())
}

/// Asks the Service by its name, each time over a connection of its own, until there is `/tmp/stop`; counts what failed, and what failed at once again.
const ASK_SERVICE: &str = "n=0 failed=0 twice=0
ask() { curl -s -f --max-time 2 -o /dev/null http://page.default.svc.cluster.local/; }
until [ -e /tmp/stop ]; do n=$((n+1)); ask || { failed=$((failed+1)); ask || twice=$((twice+1)); }; done
echo $n $failed $twice > /tmp/counts; sleep 1000";

#[test]
fn a_rolling_update_fails_no_request_that_is_made_again_and_with_surge_none_at_all() -> Result<()> {
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    let curl = Path::new("/usr/bin/curl");
    let image = programs(fleet.topology().folder(), CURL, &[curl], &["sh"])?;
    fleet.import_on(2, &image)?;
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "page"},
        "spec": {"selector": {"app": "page"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }));
    for (strategy, surge) in [
        (json!({"maxUnavailable": 1, "maxSurge": 0}), false),
        (json!({"maxUnavailable": 0, "maxSurge": 1}), true),
    ] {
        let set = |version: &str| {
            page(|set| {
                set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": strategy});
                let main = &mut set["spec"]["template"]["spec"]["containers"][0];
                // A port of the node can be held by one pod at a time.
                main["ports"] = json!([{"containerPort": 8080}]);
                main["env"] = json!([{"name": "VERSION", "value": format!("{version}-{surge}")}]);
            })
        };
        fleet.apply(&set("old"));
        fleet.client().ok(&["rollout", "status", "ds/page"]);
        fleet.running("page", 3)?;
        fleet.apply(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "labels": {"app": "client"}},
            "spec": {"nodeName": "node-2", "terminationGracePeriodSeconds": 0, "containers": [
                {"name": "main", "image": CURL, "command": ["sh", "-c", ASK_SERVICE]},
            ]},
        }));
        fleet.running("client", 1)?;
        fleet.apply(&set("new"));
        fleet.client().ok(&["rollout", "status", "ds/page"]);
        fleet.running("page", 3)?;
        let exec = |script: &str| fleet.client().run(&["exec", "client", "--", "sh", "-c", script]);
        assert!(exec("touch /tmp/stop").success);
        let counts = wait_for("the client's counts", || {
            let said = exec("cat /tmp/counts");
            let counts: Vec<u64> = said
                .stdout
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect();
            Ok(if counts.len() == 3 {
                Ok(counts)
            } else {
                Err(said.stderr)
            })
        })?;
        let (asked, failed, twice) = (counts[0], counts[1], counts[2]);
        report(&format!(
            "rolling update, surge {surge}: {failed} of {asked} requests failed, {twice} of them twice"
        ));
        assert!(asked > 0 && twice == 0, "{counts:?}");
        assert!(!surge || failed == 0, "{counts:?}");
        fleet.client().ok(&["delete", "pod", "client"]);
    }
    Ok(())
}
