//! Any of the daemons, by the address of their Service.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::json;
use testkit::{report, wait_for};

use crate::{PAGE, fleet, page};

/// Each of three daemons is met by a third of these on average, with a standard deviation of 8.
const CONNECTIONS: u32 = 300;
/// Seven standard deviations fewer than on average: chance alone goes below it once in 10^12 runs.
const FEWEST: u32 = 43;

#[test]
fn a_client_of_the_service_meets_every_nodes_daemon() -> Result<()> {
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    fleet.apply(&page(|_| {}));
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "page"},
        "spec": {"selector": {"app": "page"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    fleet.apply(&service);
    let pods = fleet.running("page", 3)?;
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "labels": {"app": "client"}},
        "spec": {"nodeName": "node-2", "containers": [{"name": "main", "image": PAGE, "command": ["sleep", "1000"]}]},
    }));
    fleet.running("client", 1)?;
    let client = fleet.client();
    let all: BTreeSet<String> = pods.values().map(|pod| pod.name.clone()).collect();
    let meet = |connections: u32| {
        let script = format!(
            "for n in $(seq {connections}); do timeout 2 wget -q -O - http://$PAGE_SERVICE_HOST/ || exit 1; done"
        );
        let said = client.run(&["exec", "client", "--", "sh", "-c", &script]);
        let mut met = BTreeMap::<String, u32>::new();
        for line in said.stdout.lines() {
            *met.entry(line.to_owned()).or_default() += 1;
        }
        let every = said.success && met.keys().cloned().collect::<BTreeSet<_>>() == all;
        if every {
            Ok(met)
        } else {
            Err(format!("{met:?} {}", said.stderr))
        }
    };
    wait_for("a connection to each daemon by way of the Service", || {
        Ok(meet(60))
    })?;
    // From here on the node knows all three, and draws one of them for each connection.
    let met = meet(CONNECTIONS).map_err(anyhow::Error::msg)?;
    assert!(met.values().all(|&times| times >= FEWEST), "{met:?}");
    report(&format!("{CONNECTIONS} connections to the Service met {met:?}"));
    Ok(())
}
