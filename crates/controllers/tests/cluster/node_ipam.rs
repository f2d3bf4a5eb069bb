//! Nodes and their pod ranges.

use controllers::Options;
use plan::node_ipam::ClusterRange;
use serde_json::{Value, json};

use crate::support::{self, Cluster, SETS, daemon_set};

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
async fn node_gets_unique_range_and_again_when_recreated() {
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

/// The condition `Ready` of a node: its status and message.
fn ready(node: &Value) -> Option<(&str, &str)> {
    let mut conditions = node["status"]["conditions"].as_array()?.iter();
    let found = conditions.find(|condition| condition["type"] == "Ready")?;
    Some((found["status"].as_str()?, found["message"].as_str()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn played_nodes_get_their_ranges_from_the_server() {
    let cluster = Cluster::start_with(100, ranges(&[("10.244.0.0/16", 24)])).await;
    let nodes = cluster
        .until("all are Ready", || async {
            let nodes = cluster.items(NODES).await;
            let is_ready = |node: &Value| ready(node).is_some_and(|(status, _)| status == "True");
            (nodes.len() == 100 && nodes.iter().all(is_ready)).then_some(nodes)
        })
        .await;
    let given = nodes.iter().filter_map(|node| node["spec"]["podCIDR"].as_str());
    let given: std::collections::BTreeSet<_> = given.collect();
    assert_eq!(given.len(), 100);
    assert!(
        given
            .iter()
            .all(|range| range.starts_with("10.244.") && range.ends_with(".0/24"))
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simulated_node_is_not_ready_without_range_and_blocks_none() {
    // More nodes, and more pods that wait, than there may be requests in flight.
    let count = 100;
    let mut cluster = Cluster::start_with(0, Options::default()).await;
    cluster.nodes_bring_ranges = false;
    cluster.play(count, "node");
    cluster
        .until("all are there and say what they lack", || async {
            let nodes = cluster.items(NODES).await;
            let lacks = |node: &Value| {
                ready(node).is_some_and(|(status, why)| status == "False" && why.contains("has no pod range"))
            };
            (nodes.len() == count as usize && nodes.iter().all(lacks)).then_some(())
        })
        .await;
    // A node that is not ready is tainted.
    let tolerations = json!([{"operator": "Exists"}]);
    let own = daemon_set("own", |set| {
        set["spec"]["template"]["spec"]["tolerations"] = tolerations.clone();
    });
    cluster.create(SETS, own).await;
    let pods_of = async |name: &str, node: Option<&str>| {
        let mut pods = cluster.items("/api/v1/pods").await;
        pods.retain(|pod| {
            pod["metadata"]["labels"]["app"] == name
                && node.is_none_or(|node| pod["spec"]["nodeName"] == node)
        });
        pods
    };
    cluster
        .until("each node has a pod that waits", || async {
            (pods_of("own", None).await.len() == count as usize).then_some(())
        })
        .await;
    let on_host = daemon_set("host", |set| {
        set["spec"]["template"]["spec"]["hostNetwork"] = true.into();
        set["spec"]["template"]["spec"]["tolerations"] = tolerations;
    });
    cluster.create(SETS, on_host).await;
    cluster.ready("host", u64::from(count)).await;
    let waiting = pods_of("own", None).await;
    assert!(
        waiting
            .iter()
            .all(|pod| pod["status"]["phase"] == "Pending" && pod["status"]["podIP"].is_null())
    );

    // What waits may go.
    let gone = waiting
        .iter()
        .find(|pod| pod["spec"]["nodeName"] == "node-7")
        .expect("a pod");
    let uid = &gone["metadata"]["uid"];
    cluster
        .delete(
            &format!("/api/v1/namespaces/default/pods/{}", support::name(gone)),
            None,
        )
        .await;
    cluster
        .until("another pod is there", || async {
            let pods = pods_of("own", Some("node-7")).await;
            (pods.len() == 1 && pods[0]["metadata"]["uid"] != *uid).then_some(())
        })
        .await;

    // The last of those that wait gets a range.
    for (node, range) in [("node-99", "10.9.0.0/24"), ("node-7", "10.9.1.0/24")] {
        let patch = json!({"spec": {"podCIDR": range, "podCIDRs": [range]}});
        let path = format!("{NODES}/{node}");
        cluster.strategic(&path, patch).await;
        cluster
            .until("the node is Ready and its pod runs", || async {
                let node_is = cluster.get(&path).await?;
                let pod = pods_of("own", Some(node)).await.pop()?;
                let runs = ready(&node_is)?.0 == "True" && pod["status"]["phase"] == "Running";
                runs.then(|| assert_eq!(pod["status"]["podIP"], range.replace("0/24", "2")))
            })
            .await;
    }
    cluster.stop().await;
}
