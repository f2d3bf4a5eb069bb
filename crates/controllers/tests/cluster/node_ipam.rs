//! Nodes and their pod ranges.

use controllers::Options;
use plan::node_ipam::ClusterRange;
use serde_json::{Value, json};

use crate::support::Cluster;

const NODES: &str = "/api/v1/nodes";

fn ranges(cluster: &[(&str, u8)]) -> Options {
    let range = |(range, prefix): &(&str, u8)| {
        ClusterRange::new(range.parse().expect("a range"), *prefix).expect("a cluster's range")
    };
    Options {
        cluster_ranges: cluster.iter().map(range).collect(),
        ..Options::default()
    }
}

fn node(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec})
}

/// The ranges of a node, once it has some.
async fn given(cluster: &Cluster, name: &str) -> Value {
    cluster
        .until("the node has a range", || async {
            let node = cluster.get(&format!("{NODES}/{name}")).await.expect("the node");
            assert_eq!(node["spec"]["podCIDR"], node["spec"]["podCIDRs"][0]);
            node["spec"].get("podCIDRs").cloned()
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_gets_a_range_that_no_other_has_and_one_that_comes_again_gets_its_own() {
    let cluster = Cluster::start_with(0, ranges(&[("10.244.0.0/16", 24), ("fd00:10:244::/56", 64)])).await;
    let own = json!({"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]});
    cluster.create(NODES, node("brings-its-own", own)).await;
    cluster.create(NODES, node("a", json!({}))).await;
    let first = json!(["10.244.1.0/24", "fd00:10:244::/64"]);
    assert_eq!(given(&cluster, "a").await, first);
    cluster.create(NODES, node("b", json!({}))).await;
    assert_eq!(
        given(&cluster, "b").await,
        json!(["10.244.2.0/24", "fd00:10:244:1::/64"])
    );
    cluster.delete(&format!("{NODES}/a"), None).await;
    cluster.create(NODES, node("a", json!({}))).await;
    assert_eq!(given(&cluster, "a").await, first);
    cluster.stop().await;
}

/// The condition `NetworkUnavailable` of a node: its status and message.
fn network_unavailable(node: &Value) -> Option<(&str, &str)> {
    let mut conditions = node["status"]["conditions"].as_array()?.iter();
    let found = conditions.find(|condition| condition["type"] == "NetworkUnavailable")?;
    Some((found["status"].as_str()?, found["message"].as_str()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_range_says_why_until_it_gets_one() {
    let cluster = Cluster::start_with(0, ranges(&[("10.244.0.0/24", 24)])).await;
    cluster.create(NODES, node("a", json!({}))).await;
    given(&cluster, "a").await;
    for index in 0..20 {
        cluster
            .create(NODES, node(&format!("without-{index}"), json!({})))
            .await;
    }
    let marked = || async {
        let nodes = cluster.items(NODES).await;
        let marks = nodes.iter().filter_map(network_unavailable);
        (marks.filter(|(status, _)| *status == "True").count() == 20).then_some(nodes)
    };
    let nodes = cluster.until("each is marked", marked).await;
    for node in nodes.iter().filter(|node| node["metadata"]["name"] != "a") {
        let (_, message) = network_unavailable(node).expect("the condition");
        assert!(
            message.contains("all 1 ranges (/24) of --cluster-cidr 10.244.0.0/24 are taken"),
            "{message}"
        );
    }
    let warned = || async {
        let events = cluster.items("/api/v1/namespaces/default/events").await;
        let warned = events
            .iter()
            .filter(|event| event["reason"] == "CIDRNotAvailable" && event["type"] == "Warning");
        (warned.count() == 20).then_some(())
    };
    cluster.until("each has an event", warned).await;
    cluster.delete(&format!("{NODES}/a"), None).await;
    assert_eq!(given(&cluster, "without-0").await, json!(["10.244.0.0/24"]));
    let cleared = || async {
        let node = cluster
            .get(&format!("{NODES}/without-0"))
            .await
            .expect("the node");
        network_unavailable(&node)
            .filter(|(status, _)| *status == "False")
            .map(|_| ())
    };
    cluster.until("its mark is taken", cleared).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_played_bring_ranges_of_their_own() {
    let cluster = Cluster::start_with(20, ranges(&[("10.0.0.0/22", 24)])).await;
    cluster
        .until("all are there", || async {
            (cluster.items(NODES).await.len() == 20).then_some(())
        })
        .await;
    for node in cluster.items(NODES).await {
        assert!(
            node["spec"]["podCIDR"]
                .as_str()
                .is_some_and(|range| range.ends_with("/25"))
        );
    }
    cluster.stop().await;
}
