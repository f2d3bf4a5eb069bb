//! Tests of the complete output, with a small cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::view::{ControllerRevisionView, DaemonSetView, NodeView, PodView};
use jiff::Timestamp;
use plan::fleet::Objects;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::report::Report;
use super::story::Story;
use crate::client::fleet::Sight;
use crate::client::pod_state::PodState;

const NOW: &str = "2026-01-01T01:00:00Z";

fn set() -> Value {
    json!({
        "metadata": {"name": "x", "namespace": "n", "uid": "set", "generation": 1},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"nodeSelector": {"disk": "ssd"}}},
        },
        "status": {"observedGeneration": 1},
    })
}

/// Returns the hash of the DaemonSet's template, and its revision.
fn revision() -> (String, Value) {
    let data = plan::history::data(&set()["spec"]["template"]);
    let hash = plan::history::hash(&data, None);
    let revision = json!({
        "metadata": {"name": format!("x-{hash}"), "namespace": "n", "uid": "revision", "labels": {"app": "x", "controller-revision-hash": hash},
            "ownerReferences": [owner()]},
        "data": serde_json::from_slice::<Value>(&data).unwrap(), "revision": 2,
    });
    (hash, revision)
}

fn owner() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "x", "uid": "set", "controller": true})
}

fn node(name: &str, labels: &Value, taints: &Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
}

fn pod(node: &str, hash: &str, status: &Value) -> Value {
    json!({
        "metadata": {"name": format!("x-{node}"), "namespace": "n", "uid": node, "creationTimestamp": "2026-01-01T00:50:00Z",
            "labels": {"app": "x", "controller-revision-hash": hash}, "ownerReferences": [owner()]},
        "spec": {"nodeName": node}, "status": status,
    })
}

fn ready() -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:55:00Z"}]})
}

fn pulling() -> Value {
    json!({"phase": "Pending", "containerStatuses": [{"name": "c", "image": "nope", "ready": false,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"nope\""}}}]})
}

fn views<V: DeserializeOwned>(objects: &[Value]) -> Vec<Arc<V>> {
    let view = |object: &Value| Arc::new(serde_json::from_value(object.clone()).unwrap());
    objects.iter().map(view).collect()
}

/// Returns nodes: two with the pod, one that pulls the image, one with another disk label, one with
/// a taint, one that does not respond.
fn sight() -> (Sight, Vec<Value>) {
    let (hash, revision) = revision();
    let ssd = json!({"disk": "ssd"});
    let dead = json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]);
    let own = json!([{"key": "own", "value": "db", "effect": "NoSchedule"}]);
    let nodes = [
        node("a", &ssd, &json!([])),
        node("b", &ssd, &json!([])),
        node("c", &ssd, &json!([])),
        node("d", &json!({"dsk": "ssd"}), &json!([])),
        node("e", &ssd, &own),
        node("f", &ssd, &dead),
    ];
    let pods = vec![
        pod("a", &hash, &ready()),
        pod("b", &hash, &ready()),
        pod("c", &hash, &pulling()),
        pod("f", &hash, &json!({"phase": "Running"})),
    ];
    let objects = Objects {
        nodes: views::<NodeView>(&nodes),
        pods: views::<PodView>(&pods),
        daemon_sets: vec![Arc::new(DaemonSetView::deserialize(set()).unwrap())],
        revisions: views::<ControllerRevisionView>(&[revision]),
    };
    let unready: BTreeMap<Arc<str>, PodState> = pods
        .iter()
        .map(|pod| {
            (
                pod["metadata"]["name"].as_str().unwrap().into(),
                PodState::of(pod),
            )
        })
        .collect();
    (Sight::new(objects, unready, NOW.parse().unwrap()), pods)
}

fn report() -> Report {
    let (sight, _) = sight();
    let explanation = sight.fleet.explain("n", "x", sight.now).unwrap();
    Report::new(&set(), &sight, &explanation, None)
}

fn story(node: &str) -> Story {
    let (sight, pods) = sight();
    let now: Timestamp = NOW.parse().unwrap();
    let explanation = sight.fleet.explain("n", "x", now).unwrap();
    let decision = explanation
        .decisions
        .iter()
        .find(|decision| *decision.node == *node)
        .unwrap();
    let pods: Vec<Value> = pods
        .into_iter()
        .filter(|pod| pod["spec"]["nodeName"] == node)
        .collect();
    Story::new(&set(), &sight, decision, &pods, Vec::new())
}

#[test]
fn nodes_of_one_state_stand_together_and_what_is_waited_for_is_said() {
    assert_eq!(
        report().text(false),
        "\
DaemonSet n/x: 2 of 3 nodes run the current version. 1 node cannot run it. 1 node is down.

 1 node: container c: ImagePullBackOff: the image nope cannot be pulled
         for 10m
         c

 1 node: the node does not answer; its pod stays as it is until then; waiting for the node to recover
         f

2 nodes: up to date and available
         a, b

 1 node: not here: nodeSelector disk=ssd does not match
         d

 1 node: not here: taint own=db:NoSchedule is not tolerated
         e
"
    );
}

#[test]
fn with_all_every_node_has_a_line_of_its_own() {
    let text = report().text(true);
    assert!(
        text.contains("         a  x-a  5m\n         b  x-b  5m\n"),
        "{text}"
    );
    assert!(text.contains("         d  no pod\n"), "{text}");
}

#[test]
fn the_data_holds_every_node_of_every_state() {
    let data = report().data();
    assert_eq!(
        data["status"],
        json!({"desired": 3, "current": 3, "ready": 2, "upToDate": 3, "available": 2, "unavailable": 1, "misscheduled": 1})
    );
    let verdicts: Vec<&str> = data["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["verdict"].as_str().unwrap())
        .collect();
    assert_eq!(verdicts, ["NotReady", "Stays", "UpToDate", "NotHere", "NotHere"]);
    assert_eq!(
        data["groups"][2]["nodes"][0],
        json!({"name": "a", "pod": "x-a", "since": "2026-01-01T00:55:00Z", "until": null})
    );
}

#[test]
fn one_node_gets_its_whole_story() {
    assert_eq!(
        story("c").text(),
        "\
DaemonSet n/x on node c: container c: ImagePullBackOff: the image nope cannot be pulled
  since 2026-01-01T00:50:00Z (10m ago)
  waiting for the node

Should it run here? Yes.
  yes  nodeSelector disk=ssd  the node has disk=ssd

Pod x-c: Pending, 10m old, of revision 2, the current one
  container c: ImagePullBackOff: Back-off pulling image \"nope\"
"
    );
}

#[test]
fn a_node_that_is_left_out_says_by_which_of_its_labels_and_taints() {
    let by_label = story("d").text();
    assert!(
        by_label.contains(
            "Should it run here? No.\n  NO  nodeSelector disk=ssd  the node has no label disk; did you mean dsk?\n"
        ),
        "{by_label}"
    );
    assert!(by_label.contains("No pod of it is here."), "{by_label}");
    let by_taint = story("e").text();
    assert!(
        by_taint.contains(
            "  NO   taint own=db:NoSchedule  not tolerated: no new pod starts here, one that runs may stay\n"
        ),
        "{by_taint}"
    );
}

fn parse(words: &str) -> Option<(String, String, Option<String>)> {
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    super::target(&words).ok()
}

#[test]
fn a_set_is_named_in_one_word_or_two_and_a_node_follows() {
    let of = |kind: &str, name: &str, node: Option<&str>| {
        Some((kind.to_owned(), name.to_owned(), node.map(str::to_owned)))
    };
    assert_eq!(parse("ds/x"), of("ds", "x", None));
    assert_eq!(parse("daemonset x"), of("daemonset", "x", None));
    assert_eq!(parse("ds/x node-1"), of("ds", "x", Some("node-1")));
    assert_eq!(parse("ds x node/node-1"), of("ds", "x", Some("node-1")));
    assert_eq!(parse("x"), of("ds", "x", None));
    assert_eq!(parse("x node-1"), of("ds", "x", Some("node-1")));
    assert_eq!(parse("ds"), None);
    assert_eq!(parse("ds/x a b"), None);
}
