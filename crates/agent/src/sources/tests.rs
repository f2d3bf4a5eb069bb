use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use kube::client::Body;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// A server that has the ConfigMap `default/m` and no other, and never tells of a change.
#[derive(Clone, Default)]
struct Server {
    away: Arc<AtomicBool>,
    forbids: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.answer(request.uri().to_string()).await }
        });
        kube::Client::new(service, "default")
    }

    async fn answer(&self, uri: String) -> Result<Response<Full<Bytes>>, std::io::Error> {
        self.asked.lock().expect("not poisoned").push(uri.clone());
        if self.away.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("away"));
        }
        if self.forbids.load(Ordering::SeqCst) {
            let why = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no relationship found"});
            return Ok(answer(StatusCode::FORBIDDEN, why));
        }
        if uri.contains("watch=") {
            return std::future::pending().await;
        }
        let map = json!({"metadata": {"name": "m", "namespace": "default"}, "data": {"key": "value"}});
        let items: Vec<Value> = uri
            .contains("metadata.name%3Dm&")
            .then_some(map)
            .into_iter()
            .collect();
        let list = json!({"metadata": {"resourceVersion": "7"}, "items": items});
        Ok(answer(StatusCode::OK, list))
    }

    /// How often it was asked for a list.
    fn lists(&self) -> usize {
        let asked = self.asked.lock().expect("not poisoned");
        asked.iter().filter(|uri| !uri.contains("watch=")).count()
    }
}

fn answer(code: StatusCode, body: Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.to_string().into()));
    *response.status_mut() = code;
    response
}

fn sources(server: &Server, folder: &TempDir) -> (Sources, Kept) {
    let (kept, known) = Kept::open(&folder.path().join("kept"), "n", |_| true);
    let places = Places {
        config_maps: (kept.clone(), &known),
        secrets: (kept.clone(), &known),
    };
    (Sources::new(server.client(), places, Reflector::new()), kept)
}

fn pod(uid: &str) -> PodRef {
    PodRef {
        namespace: "default".into(),
        name: uid.into(),
        uid: uid.into(),
    }
}

fn value(found: Result<Option<Arc<ConfigMap>>, String>) -> Option<String> {
    let map = found.expect("an answer")?;
    map.data.as_ref()?.get("key").cloned()
}

#[tokio::test]
async fn what_many_pods_use_is_asked_for_once() {
    let (server, folder) = (Server::default(), tempfile::tempdir().expect("a folder"));
    let (sources, _) = sources(&server, &folder);
    for uid in ["a", "b", "c", "a"] {
        assert_eq!(
            value(sources.config_map(&pod(uid), "m").await).as_deref(),
            Some("value")
        );
    }
    assert_eq!(server.lists(), 1);
    assert_eq!(value(sources.config_map(&pod("a"), "other").await), None);
    assert_eq!(server.lists(), 2);
}

#[tokio::test]
async fn what_a_pod_used_is_watched_until_the_last_is_gone() {
    let (server, folder) = (Server::default(), tempfile::tempdir().expect("a folder"));
    let (sources, kept) = sources(&server, &folder);
    for uid in ["a", "b"] {
        value(sources.config_map(&pod(uid), "m").await);
    }
    sources.release("a");
    assert_eq!(kept.keys(CONFIG_MAPS), ["configmaps/default/m"]);
    value(sources.config_map(&pod("b"), "m").await);
    assert_eq!(server.lists(), 1);
    sources.release("b");
    assert!(kept.keys(CONFIG_MAPS).is_empty());
    value(sources.config_map(&pod("c"), "m").await);
    assert_eq!(server.lists(), 2);
}

#[tokio::test]
async fn what_was_known_before_stands_in_while_no_server_answers() {
    let (server, folder) = (Server::default(), tempfile::tempdir().expect("a folder"));
    let (first, kept) = sources(&server, &folder);
    value(first.config_map(&pod("a"), "m").await);
    assert!(kept.flush().await);
    server.away.store(true, Ordering::SeqCst);
    let (second, kept) = sources(&server, &folder);
    assert_eq!(
        value(second.config_map(&pod("a"), "m").await).as_deref(),
        Some("value")
    );
    second
        .config_map(&pod("a"), "other")
        .await
        .expect_err("nobody knows");
    // A list of pods in which none refers to it ends that, unless one uses it.
    second.forget_all_but(&[]);
    assert_eq!(kept.keys(CONFIG_MAPS), ["configmaps/default/m"]);
    let (third, kept) = sources(&server, &folder);
    let refers = json!({
        "metadata": {"namespace": "default"},
        "spec": {"volumes": [{"name": "v", "configMap": {"name": "m"}}]},
    });
    third.forget_all_but(&[refers]);
    assert_eq!(kept.keys(CONFIG_MAPS), ["configmaps/default/m"]);
    third.forget_all_but(&[]);
    assert!(kept.keys(CONFIG_MAPS).is_empty());
}

#[tokio::test]
async fn a_refusal_is_told_in_the_server_s_words() {
    let (server, folder) = (Server::default(), tempfile::tempdir().expect("a folder"));
    server.forbids.store(true, Ordering::SeqCst);
    let (sources, _) = sources(&server, &folder);
    let why = sources.config_map(&pod("a"), "m").await.expect_err("forbidden");
    assert!(why.contains("no relationship found"), "{why}");
}

#[tokio::test]
async fn a_watch_that_failed_goes_on_by_itself() {
    let (server, folder) = (Server::default(), tempfile::tempdir().expect("a folder"));
    server.away.store(true, Ordering::SeqCst);
    let (sources, _) = sources(&server, &folder);
    sources.config_map(&pod("a"), "m").await.expect_err("away");
    server.away.store(false, Ordering::SeqCst);
    let look = async || match sources.config_map(&pod("a"), "m").await {
        Ok(map) => Ok(map),
        Err(why) => Err(why),
    };
    let map = testkit::wait_for_async("the server's answer", look).await;
    assert_eq!(value(Ok(map.expect("an answer"))).as_deref(), Some("value"));
    // Pods that started without it are notified.
    assert_eq!(sources.changed().await, HashSet::from(["a".to_owned()]));
}
