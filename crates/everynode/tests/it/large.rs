//! A rollout over a thousand nodes, of which some are dead.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Client, kubectls};

use crate::fleet::{Fleet, image, name, node};

const LIVE: usize = 970;
const DEAD: usize = 30;
/// Fewer than are dead: what counts dead nodes would never move.
const MAX_UNAVAILABLE: usize = 25;

#[test]
fn a_rollout_over_a_thousand_nodes_ends_on_those_that_live() -> Result<()> {
    let fleet = Fleet::start_with(0, &[], &[])?;
    let _live = fleet.server.simulate(LIVE, "live")?;
    let dead = fleet.server.simulate(DEAD, "dead")?;
    fleet.create("web", |set| {
        set["spec"]["updateStrategy"] =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": MAX_UNAVAILABLE}});
        // With the usual tolerations alone it would not be wanted on a dead node.
        set["spec"]["template"]["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    })?;
    fleet.complete("web", 1000)?;

    // They die, and before anybody knows, the update begins.
    drop(dead);
    fleet.set_image("web", "registry.example/app:2")?;
    fleet.status("web", "the update to end on the live nodes", |status| {
        status["desiredNumberScheduled"] == 1000
            && status["updatedNumberScheduled"].as_u64() == Some(LIVE as u64)
            && status["numberAvailable"].as_u64() == Some(LIVE as u64)
    })?;
    for pod in fleet.pods("web")? {
        let old = if node(&pod).starts_with("dead-") { 1 } else { 2 };
        let wanted = format!("registry.example/app:{old}");
        assert_eq!(image(&pod), wanted, "{} on {}", name(&pod), node(&pod));
    }
    status_says_how_many(&fleet);
    why_says_which(&fleet.server.client());

    // A node that comes back is updated.
    let _again = fleet.server.simulate(DEAD, "dead")?;
    fleet.complete("web", 1000)
}

fn status_says_how_many(fleet: &Fleet) {
    let waiting =
        "Waiting for daemon set \"web\" rollout to finish: 970 out of 1000 new pods have been updated...\n";
    for program in kubectls() {
        let client = fleet.server.client_at(&program);
        assert_eq!(
            client.ok(&["rollout", "status", "ds/web", "--watch=false"]),
            waiting
        );
        let followed = client.run(&["rollout", "status", "ds/web", "--timeout=1s"]);
        assert_eq!((followed.success, followed.stdout.as_str()), (false, waiting));
    }
}

fn why_says_which(client: &Client) {
    let told = client.ok(&["why", "ds/web"]);
    let summary = "970 of 1000 nodes run the current version. 30 nodes are down.";
    assert!(told.contains(summary), "{told}");
    let why = client.json(&["why", "ds/web", "-o", "json"]);
    let groups = why["groups"].as_array().cloned().unwrap_or_default();
    let named = |group: &Value, start: &str| -> usize {
        let nodes = group["nodes"].as_array().into_iter().flatten();
        nodes
            .filter(|row| row["name"].as_str().is_some_and(|name| name.starts_with(start)))
            .count()
    };
    let (waiting, served): (Vec<&Value>, Vec<&Value>) =
        groups.iter().partition(|group| named(group, "dead-") > 0);
    assert_eq!(
        waiting.iter().map(|group| named(group, "dead-")).sum::<usize>(),
        DEAD,
        "{told}"
    );
    assert_eq!(
        served.iter().map(|group| named(group, "live-")).sum::<usize>(),
        LIVE,
        "{told}"
    );
    assert!(
        waiting.iter().all(|group| group["waitsFor"].is_string()),
        "{told}"
    );
}
