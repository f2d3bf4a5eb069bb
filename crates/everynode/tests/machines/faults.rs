//! What fails, and what every client of the daemons saw meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::{ask, eventually, report, wait_for};

use crate::inside::{Inside, fleet_with_clients};
use crate::{PORT, fleet, identities, identity, page, service, tell, watch_pages};

/// The address of a Service, for who does not ask for names.
const CLUSTER_IP: &str = "10.96.80.80";
/// Rounds of kill and restart of every agent.
const ROUNDS: u64 = 6;

/// The DaemonSet `second` beside `page`, in this version.
fn second(version: u64) -> Value {
    page(|set| {
        set["metadata"]["name"] = "second".into();
        set["spec"]["selector"]["matchLabels"]["app"] = "second".into();
        set["spec"]["template"]["metadata"]["labels"]["app"] = "second".into();
        let main = &mut set["spec"]["template"]["spec"]["containers"][0];
        main["ports"][0]["hostPort"] = 8081.into();
        main["env"] = json!([{"name": "VERSION", "value": version.to_string()}]);
    })
}

#[test]
fn agents_killed_at_random_moments_restart_no_container_and_leave_none_behind() -> Result<()> {
    let Some(mut fleet) = fleet_with_clients(3)? else {
        return Ok(());
    };
    fleet.apply(&page(|_| {}));
    fleet.apply(&second(0));
    // By address: names are the agent's own to answer, and are gone while it is.
    fleet.apply(&service("page", json!({"clusterIP": CLUSTER_IP})));
    let before = fleet.running("page", 3)?;
    fleet.running("second", 3)?;
    let url = format!("http://{CLUSTER_IP}/");
    let inside = Inside::start(&mut fleet, &[("page", &url)], "", "0.1")?;
    let mut baseline = Vec::new();
    for node in inside.nodes() {
        baseline.push(inside.more(&fleet, node, "page")?);
    }
    let clients = watch_pages(&fleet);
    let mut kills = 0;
    for round in 0..ROUNDS {
        // Its pods are being replaced when the agents are killed.
        fleet.apply(&second(round + 1));
        for number in 2..=fleet.len() {
            // The moment differs by node and round: before it registers, while it takes its pods over, while one starts or ends, after.
            let moment = Duration::from_millis((round * 137 + number as u64 * 53) % 400);
            std::thread::sleep(moment);
            fleet.node(number).restart()?;
            kills += 1;
        }
    }
    fleet.ready(3)?;
    // That the newest version runs everywhere shows that every agent is back at work.
    fleet.client().ok(&["rollout", "status", "ds/second"]);
    fleet.running("second", 3)?;
    let after = fleet.running("page", 3)?;
    let asking = fleet.running("client", 3)?;
    let seen = clients.stop()?;
    tell(&format!("{kills} kills of agents"), &seen);
    assert_eq!(identities(&after), identities(&before));
    assert_eq!(identities(&asking), identities(inside.pods()));
    for (client, seen) in seen {
        assert!(seen.asked > 0 && seen.failed == 0, "{client}: {seen}");
    }
    for (node, baseline) in inside.nodes().zip(baseline) {
        let counts = inside.counts(&fleet, node, "page")?;
        report(&format!(
            "{kills} kills of agents: a pod on {node} that asks the Service: {counts}"
        ));
        assert!(
            counts.asked > baseline.asked && counts.failed == baseline.failed,
            "{node}: {counts}"
        );
    }
    for number in 2..=fleet.len() {
        // One daemon of each set, and no other that nobody knows of.
        eventually("the pods of older versions to be gone from the machine", || {
            let said = fleet.node(number).run(&["busybox", "pidof", "httpd"]);
            Ok(said.stdout.split_whitespace().count() == 2)
        })?;
    }
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

#[test]
fn a_rolling_update_fails_no_request_that_is_made_again_and_with_surge_none_at_all() -> Result<()> {
    let Some(mut fleet) = fleet_with_clients(3)? else {
        return Ok(());
    };
    fleet.apply(&service("page", json!({})));
    fleet.apply(&service("pages", json!({"clusterIP": "None"})));
    let set = |version: &str, strategy: &Value| {
        page(|set| {
            set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": strategy});
            let main = &mut set["spec"]["template"]["spec"]["containers"][0];
            // A port of the node can be held by one pod at a time.
            main["ports"] = json!([{"containerPort": 8080}]);
            main["env"] = json!([{"name": "VERSION", "value": version}]);
        })
    };
    for (strategy, surge) in [
        (json!({"maxUnavailable": 1, "maxSurge": 0}), false),
        (json!({"maxUnavailable": 0, "maxSurge": 1}), true),
    ] {
        fleet.apply(&set(&format!("old-{surge}"), &strategy));
        fleet.client().ok(&["rollout", "status", "ds/page"]);
        fleet.running("page", 3)?;
        // Twenty requests without a pause, and again.
        let url = "http://page.default.svc.cluster.local/#[1-20]";
        let name = "pages.default.svc.cluster.local";
        let inside = Inside::start(&mut fleet, &[("page", url)], name, "0.1")?;
        let mut baseline = Vec::new();
        for node in inside.nodes() {
            baseline.push((inside.more(&fleet, node, "page")?, inside.names(&fleet, node)?));
        }
        fleet.apply(&set(&format!("new-{surge}"), &strategy));
        fleet.client().ok(&["rollout", "status", "ds/page"]);
        fleet.running("page", 3)?;
        for (node, (first, names_first)) in inside.nodes().zip(baseline) {
            inside.more(&fleet, node, "page")?;
            inside.stop(&fleet, node)?;
            let counts = inside.counts(&fleet, node, "page")?;
            let names = inside.names(&fleet, node)?;
            report(&format!(
                "rolling update, surge {surge}: a pod on {node} that asks the Service: {counts}; names: {names:?}"
            ));
            assert!(
                counts.asked > first.asked && counts.twice == first.twice,
                "{node}: {counts}"
            );
            assert!(!surge || counts.failed == first.failed, "{node}: {counts}");
            assert!(
                names.named > names_first.named && names.empty == names_first.empty,
                "{node}: {names:?}"
            );
            assert_eq!(
                names.wrong, names_first.wrong,
                "{node}: a name leads to what does not serve: {names:?}"
            );
        }
        fleet.client().ok(&["delete", "ds", "client"]);
        fleet.running("client", 0)?;
    }
    Ok(())
}
