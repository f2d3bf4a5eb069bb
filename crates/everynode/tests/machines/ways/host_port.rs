//! A daemon at its node's address and a known port.

use anyhow::Result;
use serde_json::json;

use super::{EXPORTER, at_nodes, daemon, exporter_command, import_exporter, package};
use crate::fleet;

#[test]
fn an_exporter_on_every_node_answers_at_the_nodes_address_and_a_known_port() -> Result<()> {
    let Some(package) = package("prometheus-node-exporter") else {
        return Ok(());
    };
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    import_exporter(&mut fleet, &package)?;
    fleet.apply(&daemon(
        "exporter",
        EXPORTER,
        &exporter_command("--web.listen-address=:9100"),
        |spec| {
            spec["containers"][0]["ports"] = json!([{"containerPort": 9100, "hostPort": 9100}]);
            spec["containers"][0]["readinessProbe"] =
                json!({"httpGet": {"path": "/", "port": 9100}, "periodSeconds": 1});
        },
    ));
    // The same on the nodes' own network, which is how exporters are mostly run: they see the node as it is.
    fleet.apply(&daemon(
        "host-exporter",
        EXPORTER,
        &exporter_command("--web.listen-address=:9101"),
        |spec| {
            spec["hostNetwork"] = true.into();
            spec["hostPID"] = true.into();
            spec["containers"][0]["readinessProbe"] =
                json!({"httpGet": {"path": "/", "port": 9101}, "periodSeconds": 1});
        },
    ));
    let pods = fleet.running("exporter", 3)?;
    fleet.running("host-exporter", 3)?;
    for (node, metrics) in at_nodes(&fleet, 9100, "/metrics")? {
        let own = format!("nodename=\"{}\"", pods[&node].name);
        assert!(metrics.contains(&own), "{node}: {metrics}");
    }
    for (node, metrics) in at_nodes(&fleet, 9101, "/metrics")? {
        let own = format!("nodename=\"{node}\"");
        assert!(metrics.contains(&own), "{node}: {metrics}");
    }
    // Pods reach the nodes' ports as well.
    let client = fleet.client();
    for node in [&fleet.nodes()[0], &fleet.nodes()[2]] {
        let url = format!("http://{}:9100/metrics", node.machine.address());
        let said = client.ok(&["exec", &pods["node-2"].name, "--", "wget", "-q", "-O", "-", &url]);
        assert!(said.contains(&pods[node.machine.name()].name), "{url}");
    }
    Ok(())
}
