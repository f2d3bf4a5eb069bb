//! A node that is away for two minutes, with Kubernetes' own grace: what its clients, its pods and the others saw meanwhile.
//!
//! This takes long and is little work, so it comes first by its name, and the others run beside it.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::{Fleet, report, wait_for};

use crate::inside::{Inside, fleet_with_clients};
use crate::{PAGE, identities, object, page, service, tell, watch_pages};

/// How long the cable is out.
const ABSENCE: Duration = Duration::from_secs(120);
/// Between two looks at what must not change.
const LOOK: Duration = Duration::from_secs(1);
/// Requests to three pods of which one is away, in a row: by chance they all spare it once in ten million times.
const IN_A_ROW: u64 = 40;
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// A pod on `node-3` that belongs to no DaemonSet, with these tolerations.
fn guest(name: &str, tolerations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": "node-3", "terminationGracePeriodSeconds": 1, "tolerations": tolerations,
            "containers": [{"name": "main", "image": PAGE, "command": ["sleep", "100000"]}],
        },
    })
}

/// Waits for what takes a minute by itself: it looks seldom, because the others work meanwhile.
fn patiently<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> Result<T> {
    wait_for(what, || {
        let seen = look();
        if seen.is_err() {
            std::thread::sleep(LOOK);
        }
        Ok(seen)
    })
}

/// The effects of the taint for an unreachable node that `node-3` has, and status and reason of its condition Ready.
fn verdict(fleet: &Fleet) -> (Vec<String>, String) {
    let node = object(fleet, &["node", "node-3"]);
    let taints = list(&node["spec"]["taints"]);
    let ours = taints.iter().filter(|taint| taint["key"] == UNREACHABLE);
    let mut effects: Vec<String> = ours.map(|taint| text(&taint["effect"])).collect();
    effects.sort_unstable();
    let conditions = list(&node["status"]["conditions"]);
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    let ready = ready.map(|ready| format!("{} {}", text(&ready["status"]), text(&ready["reason"])));
    (effects, ready.unwrap_or_default())
}

/// How many pages the DaemonSet wants, has ready, and has where it does not want any.
fn pages_counted(fleet: &Fleet) -> [i64; 3] {
    let status = object(fleet, &["ds", "page"])["status"].clone();
    ["desiredNumberScheduled", "numberReady", "numberMisscheduled"]
        .map(|field| status[field].as_i64().unwrap_or_default())
}

/// How many endpoints of the Service `page` are ready.
fn endpoints(fleet: &Fleet) -> usize {
    let slices = object(
        fleet,
        &["endpointslices", "-l", "kubernetes.io/service-name=page"],
    );
    let endpoints = list(&slices["items"])
        .into_iter()
        .flat_map(|slice| list(&slice["endpoints"]));
    endpoints
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .count()
}

/// How many pods of an app there are, and how many of them are on their way out.
fn pods(fleet: &Fleet, app: &str) -> (usize, usize) {
    let pods = list(&object(fleet, &["pods", "-l", &format!("app={app}")])["items"]);
    let going = pods
        .iter()
        .filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
    (pods.len(), going.count())
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The value, once it is `wanted`.
fn exactly<T: PartialEq + Debug>(seen: T, wanted: &T) -> Result<T, String> {
    if seen == *wanted {
        Ok(seen)
    } else {
        Err(format!("{seen:?}"))
    }
}

#[test]
fn a_node_that_is_cut_off_for_two_minutes_restarts_nothing_that_need_not() -> Result<()> {
    let Some(mut fleet) = fleet_with_clients(3)? else {
        return Ok(());
    };
    fleet.apply(&page(|_| {}));
    fleet.apply(&service("page", json!({})));
    fleet.apply(&service("near", json!({"internalTrafficPolicy": "Local"})));
    // As Kubernetes fills it in, a pod waits five minutes for its node; the other waits ten seconds.
    fleet.apply(&guest("patient", &json!([])));
    let ten_seconds =
        json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10}]);
    fleet.apply(&guest("hasty", &ten_seconds));
    let pages = fleet.running("page", 3)?;
    let patient = fleet.running("patient", 1)?;
    fleet.running("hasty", 1)?;
    let url = |service: &str| format!("http://{service}.default.svc.cluster.local/");
    let (all, own) = (url("page"), url("near"));
    let inside = Inside::start(&mut fleet, &[("page", &all), ("near", &own)], "", "0.1")?;
    let before = [&pages, &patient, inside.pods()].map(identities);
    let mut baseline = Vec::new();
    for node in inside.nodes() {
        baseline.push(inside.more(&fleet, node, "near")?);
    }
    let clients = watch_pages(&fleet);

    let cut = Instant::now();
    fleet.node(3).machine.cut()?;
    let both = ["NoExecute", "NoSchedule"].map(str::to_owned).to_vec();
    let unreachable = (both, "Unknown NodeStatusUnknown".to_owned());
    patiently("the node to be unreachable", || {
        exactly(verdict(&fleet), &unreachable)
    })?;
    let tainted = cut.elapsed();
    // Nothing new may start there, so the DaemonSet wants no pod there; the one that it has may stay.
    patiently("the DaemonSet to count two", || {
        exactly(pages_counted(&fleet), &[2, 2, 1])
    })?;
    patiently("the Service to lead elsewhere", || exactly(endpoints(&fleet), &2))?;
    let led = cut.elapsed();
    // From now on nobody is led to the node that is away.
    let others = ["node-1", "node-2"];
    let away = &pages["node-3"].address;
    for number in 1..=2 {
        let machine = fleet.node(number);
        wait_for("the rules of a node to lead elsewhere", || {
            let rules = machine.run(&["nft", "list", "ruleset"]);
            let leads = !rules.success || rules.stdout.contains(away);
            Ok(if leads { Err(rules.stderr) } else { Ok(()) })
        })?;
    }
    patiently("the hasty pod to be sent away", || {
        exactly(pods(&fleet, "hasty"), &(1, 1))
    })?;
    report(&format!(
        "node-3 away: unreachable after {tainted:.1?}, out of the Service after {led:.1?}, the pod that tolerates ten seconds deleted after {:.1?}",
        cut.elapsed()
    ));
    while cut.elapsed() < ABSENCE {
        // A daemon tolerates that its node cannot be reached, and a patient pod does so for long enough; of the hasty one nobody can say that it has ended.
        for (app, count) in [
            ("page", (3, 0)),
            ("client", (3, 0)),
            ("patient", (1, 0)),
            ("hasty", (1, 1)),
        ] {
            assert_eq!(pods(&fleet, app), count, "{app}");
        }
        std::thread::sleep(LOOK);
    }
    for node in others {
        inside
            .answered(&fleet, node, "page", IN_A_ROW)
            .with_context(|| format!("{node} is led to a node that is away"))?;
    }

    let alone = Inside::counts_at(fleet.node(3), "near")?;
    report(&format!(
        "node-3 away: a pod there that asks its own node's daemon by name: {alone}"
    ));
    let (asked, failed) = (alone.asked - baseline[2].asked, alone.failed - baseline[2].failed);
    assert!(asked > 2 * failed, "{alone}");

    fleet.node(3).machine.heal()?;
    let healed = Instant::now();
    fleet.ready(3)?;
    let well = (Vec::new(), "True KubeletReady".to_owned());
    wait_for("the taints to go", || Ok(exactly(verdict(&fleet), &well)))?;
    let after = [
        fleet.running("page", 3)?,
        fleet.running("patient", 1)?,
        fleet.running("client", 3)?,
    ];
    let returned = healed.elapsed();
    wait_for("the hasty pod to end", || {
        Ok(exactly(pods(&fleet, "hasty"), &(0, 0)))
    })?;
    wait_for("the Service to lead everywhere", || {
        Ok(exactly(endpoints(&fleet), &3))
    })?;
    let seen = clients.stop()?;
    tell("node-3 away", &seen);
    report(&format!(
        "node-3 away: all Ready again {returned:.1?} after it was back"
    ));
    assert_eq!(after.each_ref().map(identities), before);
    assert!(fleet.node(3).program.ended()?.is_none(), "its agent runs on");
    for node in others {
        assert_eq!(seen[node].failed, 0, "{node}: {}", seen[node]);
    }
    assert!(seen["node-3"].failed > 0, "it was away");
    for (node, baseline) in inside.nodes().zip(baseline) {
        let page = inside.counts(&fleet, node, "page")?;
        let near = inside.counts(&fleet, node, "near")?;
        report(&format!(
            "node-3 away: a pod on {node} that asks the Service by name: {page}; its own node's daemon: {near}"
        ));
        let (asked, failed) = (near.asked - baseline.asked, near.failed - baseline.failed);
        // The node that was away reads first that its pods had been given up, and says then that they are there.
        if node != "node-3" {
            assert!(asked > 2 * failed, "on {node}: {near}");
        }
    }
    Ok(())
}
