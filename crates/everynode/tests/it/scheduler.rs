//! The scheduler makes room for daemons, on a server with simulated nodes of 4 cpu each.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::wait_for;

use crate::fleet::{Fleet, node};

const THREE: [&str; 3] = ["node-0", "node-1", "node-2"];

fn cpu(amount: &'static str) -> impl Fn(&mut Value) {
    move |set| {
        let spec = &mut set["spec"]["template"]["spec"];
        spec["containers"][0]["resources"] = json!({"requests": {"cpu": amount}});
    }
}

fn critical(set: &mut Value) {
    cpu("2")(set);
    set["spec"]["template"]["spec"]["priorityClassName"] = "system-node-critical".into();
}

#[test]
fn a_critical_daemon_gets_its_place_on_every_full_node_and_budgets_are_kept() -> Result<()> {
    let fleet = Fleet::start_with(3, &[], &[])?;
    fleet.create("spare", cpu("1500m"))?;
    fleet.runs_on("spare", &THREE)?;
    // Younger than the other, and so the first to give way, were it not for its budget.
    fleet.create("kept", cpu("1500m"))?;
    fleet.runs_on("kept", &THREE)?;
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "kept"},
        "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "kept"}}},
    });
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    fleet.api.create(budgets, &budget)?;
    let kept = fleet.runs_on("kept", &THREE)?;

    fleet.create("critical", critical)?;
    fleet.runs_on("critical", &THREE)?;
    assert_eq!(
        fleet.runs_on("kept", &THREE)?,
        kept,
        "the pods that the budget protects are the same"
    );
    wait_for("the others to wait for room", || {
        let pods = fleet.pods("spare")?;
        let waits = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array();
            let scheduled = conditions
                .into_iter()
                .flatten()
                .find(|c| c["type"] == "PodScheduled");
            node(pod).is_empty() && scheduled.is_some_and(|c| c["reason"] == "Unschedulable")
        };
        Ok(match pods.len() == 3 && pods.iter().all(waits) {
            true => Ok(()),
            false => Err(format!("{pods:?}")),
        })
    })?;

    let background = json!({"propagationPolicy": "Background"});
    fleet.api.delete(&fleet.set_path("critical"), &background)?;
    fleet.runs_on("spare", &THREE)?;
    Ok(())
}

#[test]
fn who_is_not_scheduled_preempts_nobody() -> Result<()> {
    let fleet = Fleet::start_with(3, &["--schedule-daemonset-pods=false"], &[])?;
    fleet.create("spare", cpu("3"))?;
    let spare = fleet.runs_on("spare", &THREE)?;
    fleet.create("critical", critical)?;
    fleet.runs_on("critical", &THREE)?;
    assert_eq!(fleet.runs_on("spare", &THREE)?, spare, "nobody gave way");
    for pod in fleet.pods("critical")? {
        assert_eq!(pod["spec"]["priority"], 2_000_001_000);
        assert_eq!(pod["status"]["nominatedNodeName"], Value::Null);
    }
    let events = fleet.api.items("/api/v1/namespaces/default/events")?;
    let of_the_scheduler: Vec<&Value> = events
        .iter()
        .filter(|event| event["source"]["component"] == "default-scheduler")
        .collect();
    assert!(of_the_scheduler.is_empty(), "{of_the_scheduler:?}");
    Ok(())
}
