//! Tests of the reflector against a server that follows a script.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// One exchange: what the path of the request must contain, and the status and lines of the
/// response.
struct Exchange {
    asked: &'static str,
    code: u16,
    lines: Vec<Value>,
}

fn exchange(asked: &'static str, lines: Vec<Value>) -> Exchange {
    Exchange {
        asked,
        code: 200,
        lines,
    }
}

/// Runs a reflector of nodes against a server that answers by `script` and then stops answering.
fn reflect(script: Vec<Exchange>) -> (mpsc::Receiver<Batch<NodeView>>, tokio::task::JoinHandle<()>) {
    reflect_into(Reflector::new(), script)
}

fn reflect_into(
    reflector: Reflector<NodeView>,
    script: Vec<Exchange>,
) -> (mpsc::Receiver<Batch<NodeView>>, tokio::task::JoinHandle<()>) {
    let script = Arc::new(Mutex::new(VecDeque::from(script)));
    let service = tower::service_fn(move |request: Request<Body>| {
        let next = script.lock().expect("not poisoned").pop_front();
        async move {
            let Some(exchange) = next else {
                return std::future::pending().await;
            };
            let path = request.uri().to_string();
            assert!(
                path.contains(exchange.asked),
                "asked {path}, expected {}",
                exchange.asked
            );
            let text: String = exchange.lines.iter().map(|line| format!("{line}\n")).collect();
            let code = StatusCode::from_u16(exchange.code).expect("a code");
            Response::builder()
                .status(code)
                .body(Full::new(Bytes::from(text)))
        }
    });
    let api = Api::new(kube::Client::new(service, "default"));
    let told = reflector.subscribe();
    (
        told,
        tokio::spawn(reflector.run(api, "/api/v1/nodes".to_owned(), None)),
    )
}

fn node(name: &str, version: u64) -> Value {
    json!({"metadata": {"name": name, "uid": name, "resourceVersion": version.to_string()}})
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

fn end_of_list(version: u64) -> Value {
    let metadata =
        json!({"resourceVersion": version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}});
    event("BOOKMARK", json!({"metadata": metadata}))
}

/// Returns the next `n` events as text.
async fn hear(told: &mut mpsc::Receiver<Batch<NodeView>>, n: usize) -> Vec<String> {
    let mut words = Vec::new();
    while words.len() < n {
        let batch = told.recv().await.expect("the reflector runs");
        words.extend(batch.iter().map(|event| match event {
            Event::Put(node) => format!("+{}@{}", node.meta.name, node.meta.resource_version),
            Event::Delete(node) => format!("-{}", node.meta.name),
            Event::Synced(version) => format!("synced {version}"),
            Event::Bookmark(version) => format!("at {version}"),
        }));
    }
    words
}

#[tokio::test]
async fn a_list_by_watch_is_told_whole_and_then_followed() {
    let (mut told, task) = reflect(vec![
        exchange(
            "sendInitialEvents=true",
            vec![
                event("ADDED", node("a", 3)),
                end_of_list(5),
                event("MODIFIED", node("a", 6)),
                event("DELETED", node("a", 7)),
            ],
        ),
        exchange("resourceVersion=7", vec![event("ADDED", node("b", 8))]),
    ]);
    assert_eq!(
        hear(&mut told, 5).await,
        ["+a@3", "synced 5", "+a@6", "-a", "+b@8"]
    );
    task.abort();
}

/// Returns a reflector that falls back to the nodes `a` and `b`. The server no longer has their
/// resource versions.
fn with_memory() -> Reflector<NodeView> {
    let reflector = Reflector::new();
    let before = [node("a", 0), node("b", 0)];
    let before = before.map(|node| serde_json::from_value(node).expect("a node"));
    reflector.fall_back_to(before.into());
    reflector
}

#[tokio::test]
async fn saved_objects_are_sent_when_the_first_list_fails() {
    let down = || Exchange {
        asked: "sendInitialEvents",
        code: 503,
        lines: Vec::new(),
    };
    let (mut told, task) = reflect_into(
        with_memory(),
        vec![
            down(),
            down(),
            exchange(
                "sendInitialEvents",
                vec![
                    event("ADDED", node("b", 4)),
                    event("ADDED", node("c", 5)),
                    end_of_list(5),
                ],
            ),
        ],
    );
    assert_eq!(
        hear(&mut told, 7).await,
        ["+a@0", "+b@0", "synced 0", "-a", "+b@4", "+c@5", "synced 5"]
    );
    task.abort();
}

#[tokio::test]
async fn what_was_known_before_is_nothing_to_whom_a_server_answers() {
    let (mut told, task) = reflect_into(
        with_memory(),
        vec![
            exchange(
                "sendInitialEvents",
                vec![event("ADDED", node("c", 5)), end_of_list(5)],
            ),
            Exchange {
                asked: "resourceVersion=5",
                code: 503,
                lines: Vec::new(),
            },
            exchange("resourceVersion=5", vec![event("ADDED", node("d", 6))]),
        ],
    );
    assert_eq!(hear(&mut told, 3).await, ["+c@5", "synced 5", "+d@6"]);
    task.abort();
}

#[tokio::test]
async fn a_server_that_knows_no_initial_events_is_listed_in_pages() {
    let page = |next: &str, version: u64, item: Value| json!({"metadata": {"resourceVersion": version.to_string(), "continue": next}, "items": [item]});
    let (mut told, task) = reflect(vec![
        Exchange {
            asked: "sendInitialEvents",
            code: 422,
            lines: vec![json!({"kind": "Status", "code": 422})],
        },
        exchange("limit=500", vec![page("more", 5, node("a", 1))]),
        exchange("continue=more", vec![page("", 5, node("b", 2))]),
        exchange("resourceVersion=5", vec![event("ADDED", node("c", 6))]),
    ]);
    assert_eq!(hear(&mut told, 4).await, ["+a@1", "+b@2", "synced 5", "+c@6"]);
    task.abort();
}

#[tokio::test]
async fn after_410_only_the_difference_is_told() {
    let gone = event(
        "ERROR",
        json!({"kind": "Status", "code": 410, "reason": "Expired"}),
    );
    let mut replaced = node("c", 12);
    replaced["metadata"]["uid"] = "another".into();
    let (mut told, task) = reflect(vec![
        exchange(
            "sendInitialEvents",
            vec![
                event("ADDED", node("a", 1)),
                event("ADDED", node("b", 2)),
                event("ADDED", node("c", 3)),
                end_of_list(5),
            ],
        ),
        exchange("resourceVersion=5", vec![gone]),
        exchange(
            "sendInitialEvents",
            vec![
                event("ADDED", node("a", 1)),
                event("ADDED", replaced),
                end_of_list(20),
            ],
        ),
    ]);
    assert_eq!(hear(&mut told, 4).await.len(), 4);
    let mut difference = hear(&mut told, 4).await;
    difference[..3].sort();
    assert_eq!(difference, ["+c@12", "-b", "-c", "synced 20"]);
    task.abort();
}

#[tokio::test]
async fn a_late_subscriber_hears_all_that_is_known() {
    let reflector: Reflector<NodeView> = Reflector::new();
    let view = Arc::new(serde_json::from_value(node("a", 1)).expect("a node"));
    reflector.tell(vec![Event::Put(view), Event::Synced(4)]).await;
    assert_eq!(hear(&mut reflector.subscribe(), 2).await, ["+a@1", "synced 4"]);
}

#[tokio::test]
async fn a_broken_line_is_asked_for_again_by_a_new_list() {
    let (mut told, task) = reflect(vec![
        exchange(
            "sendInitialEvents",
            vec![end_of_list(5), json!({"neither": "type nor object"})],
        ),
        exchange(
            "sendInitialEvents",
            vec![event("ADDED", node("a", 6)), end_of_list(7)],
        ),
    ]);
    assert_eq!(hear(&mut told, 3).await, ["synced 5", "+a@6", "synced 7"]);
    task.abort();
}

#[tokio::test]
async fn changes_start_with_a_whole_list_then_have_each_key_once() {
    let reflector: Reflector<NodeView> = Reflector::new();
    let put = |name: &str, version| {
        Event::Put(Arc::new(
            serde_json::from_value(node(name, version)).expect("a node"),
        ))
    };
    let mut changes = reflector.changes();
    reflector.tell(vec![put("a", 1)]).await;
    let early = futures::FutureExt::now_or_never(changes.next());
    assert!(early.is_none(), "half a list is no state");
    reflector.tell(vec![put("b", 2), Event::Synced(2)]).await;
    let names = |changed: Vec<(Key, Option<Arc<NodeView>>)>| -> Vec<String> {
        let word = |(key, node): (Key, Option<Arc<NodeView>>)| match node {
            Some(node) => format!("{}@{}", key.1, node.meta.resource_version),
            None => format!("-{}", key.1),
        };
        changed.into_iter().map(word).collect()
    };
    assert_eq!(names(changes.next().await), ["a@1", "b@2"]);
    let mut cordoned = node("a", 4);
    cordoned["spec"] = json!({"unschedulable": true});
    let cordoned = Event::Put(Arc::new(serde_json::from_value(cordoned).expect("a node")));
    let Event::Put(gone) = put("b", 2) else {
        unreachable!()
    };
    reflector
        .tell(vec![cordoned.clone(), cordoned, put("c", 5), Event::Delete(gone)])
        .await;
    assert_eq!(names(changes.next().await), ["a@4", "-b", "c@5"]);
    reflector.tell(vec![put("c", 6)]).await;
    let heartbeat = futures::FutureExt::now_or_never(changes.next());
    assert!(heartbeat.is_none(), "a new version of the same is no change");
    let mut late = reflector.changes();
    assert_eq!(names(late.next().await), ["a@4", "c@6"]);
}

#[tokio::test]
async fn a_first_list_that_is_empty_is_told() {
    let reflector: Reflector<NodeView> = Reflector::new();
    let mut changes = reflector.changes();
    assert!(!reflector.is_complete());
    reflector.tell(vec![Event::Synced(1)]).await;
    assert!(changes.next().await.is_empty() && reflector.is_complete());
}
