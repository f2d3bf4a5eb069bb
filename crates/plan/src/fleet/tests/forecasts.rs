//! Forecasts of a DaemonSet before it is written.

use serde_json::{Value, json};

use super::Cluster;

/// Each node's forecast in words: `a: gains a pod (1)`, with the wave.
fn forecast(cluster: &mut Cluster, spec: Value) -> Vec<String> {
    let set = cluster.dry_run("daemon", spec);
    let forecast = cluster.observed().forecast(&set, cluster.now);
    let line = |node: &crate::fleet::NodeForecast| match node.wave {
        Some(wave) => format!("{}: {} ({wave})", node.node, node.change),
        None => format!("{}: {}", node.node, node.change),
    };
    forecast.nodes.iter().map(line).collect()
}

fn unavailable(count: u8) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": count, "maxSurge": 0}})
}

#[test]
fn new_set_gains_fitting_nodes_and_explains_the_others() {
    let mut cluster = Cluster::new();
    for name in ["a", "b"] {
        cluster.add_node(name, json!({}));
    }
    cluster.add_node(
        "c",
        json!({"spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}}),
    );
    assert_eq!(
        forecast(&mut cluster, json!({})),
        [
            "a: gains a pod (1)",
            "b: gains a pod (1)",
            "c: has none: taint gpu:NoSchedule is not tolerated"
        ]
    );
    assert_eq!(cluster.done, Vec::<String>::new(), "nothing was asked for");
}

#[test]
fn a_new_template_goes_in_waves_of_the_budget() {
    let mut cluster = Cluster::deployed(&["a", "b", "c"], json!({"updateStrategy": unavailable(2)}));
    assert_eq!(
        forecast(&mut cluster, Cluster::image("v2")),
        [
            "a: gets a new pod in place of the old one (1)",
            "b: gets a new pod in place of the old one (1)",
            "c: gets a new pod in place of the old one (2)",
        ]
    );
    assert_eq!(
        forecast(&mut cluster, json!({"minReadySeconds": 5})),
        ["a: keeps its pod", "b: keeps its pod", "c: keeps its pod"]
    );
}

#[test]
fn a_surge_is_forecast_by_its_own_budget() {
    let surge = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
    let mut cluster = Cluster::deployed(
        &["a", "b"],
        json!({"updateStrategy": surge, "minReadySeconds": 30}),
    );
    assert_eq!(
        forecast(&mut cluster, Cluster::image("v2")),
        [
            "a: gets a new pod in place of the old one (1)",
            "b: gets a new pod in place of the old one (2)"
        ]
    );
}

#[test]
fn on_delete_keeps_old_pods_and_narrower_selector_loses_some() {
    let on_delete = json!({"type": "OnDelete", "rollingUpdate": null});
    let mut cluster = Cluster::deployed(&["a", "b"], json!({"updateStrategy": on_delete}));
    let old = "keeps its old pod";
    assert_eq!(
        forecast(&mut cluster, Cluster::image("v2")),
        [format!("a: {old}"), format!("b: {old}")]
    );
    let narrower = json!({"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "b"}}}});
    assert_eq!(
        forecast(&mut cluster, narrower),
        ["a: loses its pod (1)".to_owned(), format!("b: {old}")]
    );
}

#[test]
fn what_stands_in_the_way_of_an_update_is_forecast() {
    let mut cluster = Cluster::deployed(&["a", "b"], json!({}));
    let stuck = cluster.pod_on("a");
    cluster.edit_pod(&stuck, |pod| {
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into()
    });
    cluster.phase(&stuck, "Running", false);
    cluster.taint(
        "a",
        json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]),
    );
    let set = cluster.dry_run("daemon", Cluster::image("v2"));
    let forecast = cluster.observed().forecast(&set, cluster.now);
    assert_eq!(forecast.nodes[0].verdict.to_string(), "the node does not answer");
}
