//! One kind of daemon, differently for different hardware.

use anyhow::Result;
use serde_json::json;

use super::{EXPORTER, at_nodes, daemon, import_exporter, package};
use crate::fleet;

#[test]
fn one_kind_of_daemon_has_its_flags_and_requests_for_each_kind_of_hardware() -> Result<()> {
    let Some(package) = package("prometheus-node-exporter") else {
        return Ok(());
    };
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    import_exporter(&mut fleet, &package)?;
    let client = fleet.client();
    for (node, disk) in [("node-1", "hdd"), ("node-2", "ssd"), ("node-3", "ssd")] {
        client.ok(&["label", "node", node, &format!("disk={disk}")]);
    }
    for (disk, collector, memory) in [
        ("hdd", "--collector.loadavg", "32Mi"),
        ("ssd", "--collector.uname", "64Mi"),
    ] {
        let command = [
            "/usr/bin/prometheus-node-exporter",
            "--collector.disable-defaults",
            collector,
            "--web.listen-address=:9100",
        ];
        fleet.apply(&daemon(&format!("exporter-{disk}"), EXPORTER, &command, |spec| {
            spec["nodeSelector"] = json!({"disk": disk});
            let main = &mut spec["containers"][0];
            main["resources"] = json!({"requests": {"memory": memory}, "limits": {"memory": memory}});
            main["ports"] = json!([{"containerPort": 9100, "hostPort": 9100}]);
            main["readinessProbe"] = json!({"httpGet": {"path": "/", "port": 9100}, "periodSeconds": 1});
        }));
    }
    fleet.running("exporter-hdd", 1)?;
    fleet.running("exporter-ssd", 2)?;
    for (node, metrics) in at_nodes(&fleet, 9100, "/metrics")? {
        let (load, uname) = (
            metrics.contains("node_load1 "),
            metrics.contains("node_uname_info"),
        );
        assert_eq!(
            (load, uname),
            (node == "node-1", node != "node-1"),
            "{node}: {metrics}"
        );
    }
    // A disk is replaced: the node's daemon is replaced by the one for it.
    client.ok(&["label", "node", "node-1", "disk=ssd", "--overwrite"]);
    let pods = fleet.running("exporter-ssd", 3)?;
    fleet.running("exporter-hdd", 0)?;
    let limit = client.ok(&[
        "exec",
        &pods["node-1"].name,
        "--",
        "sh",
        "-c",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2> /dev/null || cat /sys/fs/cgroup/memory.max",
    ]);
    assert_eq!(limit.trim(), (64 << 20).to_string());
    Ok(())
}
