//! The daemon of a chosen node, by its name and by its path.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde_json::json;
use testkit::{Fleet, Pod, programs, wait_for};

use super::{clients, headless};
use crate::{CURL, fleet, page};

#[test]
fn the_daemon_of_a_chosen_node_answers_by_its_name_and_by_its_path_also_after_an_update() -> Result<()> {
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    let curl = Path::new("/usr/bin/curl");
    let image = programs(fleet.topology().folder(), CURL, &[curl], &["sh"])?;
    fleet.import_on(1, &image)?;
    fleet.apply(&headless("page", json!([{"name": "http", "port": 8080}])));
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "labels": {"app": "client"}},
        "spec": {"nodeName": "node-1", "terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": CURL, "command": ["sleep", "1000"]},
        ]},
    }));
    let set = |version: &str| {
        page(|set| {
            set["spec"]["template"]["spec"]["containers"][0]["env"] =
                json!([{"name": "VERSION", "value": version}]);
        })
    };
    fleet.apply(&set("old"));
    fleet.running("client", 1)?;
    let before = fleet.running("page", 3)?;
    each_node_answers(&fleet, &before)?;

    fleet.apply(&set("new"));
    fleet.client().ok(&["rollout", "status", "ds/page"]);
    let after = fleet.running("page", 3)?;
    for (node, pod) in &after {
        assert_ne!(pod.name, before[node].name, "{node}");
    }
    each_node_answers(&fleet, &after)
}

/// Asks each node's daemon by the node's name below the Service's, from a pod on `node-1`, and by its path in the API, with every client.
fn each_node_answers(fleet: &Fleet, pods: &BTreeMap<String, Pod>) -> Result<()> {
    let client = fleet.client();
    let clients = clients(fleet);
    for (node, pod) in pods {
        let url = format!("http://{node}.page.default.svc.cluster.local:8080/");
        wait_for(&format!("{url} to be {}", pod.name), || {
            let said = client.run(&[
                "exec",
                "client",
                "--",
                "curl",
                "-s",
                "-f",
                "--max-time",
                "2",
                &url,
            ]);
            Ok(if said.stdout.trim() == pod.name {
                Ok(())
            } else {
                Err(format!("{}{}", said.stdout, said.stderr))
            })
        })?;
        let path = format!("/apis/apps/v1/namespaces/default/daemonsets/page:8080/nodes/{node}/proxy/");
        for client in &clients {
            assert_eq!(client.ok(&["get", "--raw", &path]).trim(), pod.name, "{path}");
        }
    }
    Ok(())
}
