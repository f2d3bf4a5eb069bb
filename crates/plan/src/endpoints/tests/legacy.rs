//! Endpoints, the older form: a case for each rule.

use std::sync::Arc;

use api::view::{EndpointsView, PodView, ServiceView};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::cluster::{pod, service};
use crate::endpoints::{Action, Answer, Endpoints, Write};

fn view<V: serde::de::DeserializeOwned>(object: &Value) -> Arc<V> {
    Arc::new(serde_json::from_value(object.clone()).expect("a view"))
}

fn identified(mut object: Value, number: usize) -> Value {
    object["metadata"]["uid"] = format!("uid-{}-{number}", api::meta::name(&object)).into();
    object["metadata"]["resourceVersion"] = number.to_string().into();
    object
}

fn plan(known: &mut Endpoints) -> Vec<Action> {
    known.plan("2026-01-01T01:00:00Z".parse::<Timestamp>().expect("a time"), 10)
}

/// The Endpoints of a Service and its pods.
fn made(service: Value, pods: impl IntoIterator<Item = Value>) -> (Endpoints, Value) {
    let mut known = Endpoints::new();
    known.put_service(&view::<ServiceView>(&identified(service, 1)));
    for (number, pod) in pods.into_iter().enumerate() {
        known.put_pod(&view::<PodView>(&identified(pod, number)));
    }
    let actions = plan(&mut known);
    let [
        Action {
            write: Write::Create(object),
            ..
        },
    ] = &actions[..]
    else {
        panic!("one creation: {actions:?}")
    };
    let object = object.clone();
    known.answered(&actions[0], Answer::Written(7), Timestamp::UNIX_EPOCH);
    (known, object)
}

fn numbered(ip: u32, change: impl FnOnce(&mut Value)) -> Value {
    pod(&format!("p{ip:04}"), ip, change)
}

fn unready(pod: &mut Value) {
    pod["status"]["conditions"][0]["status"] = "False".into();
}

fn leaving(pod: &mut Value) {
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
}

fn ips(object: &Value, list: &str) -> Vec<String> {
    let subsets = object["subsets"].as_array().into_iter().flatten();
    let lists = subsets.filter_map(|subset| subset[list].as_array()).flatten();
    lists
        .filter_map(|address| Some(address["ip"].as_str()?.to_owned()))
        .collect()
}

#[test]
fn unready_addresses_are_separate_and_terminating_ones_omitted() {
    let pods = [pod("a", 1, |_| {}), pod("b", 2, unready), pod("c", 3, leaving)];
    let (_, object) = made(service("s", |_| {}), pods.clone());
    assert_eq!(ips(&object, "addresses"), ["10.1.0.1"]);
    assert_eq!(ips(&object, "notReadyAddresses"), ["10.1.0.2"]);
    assert_eq!(
        object["subsets"][0]["ports"],
        json!([{"name": "web", "protocol": "TCP", "port": 8080}])
    );
    let labels = json!({"team": "blue", "endpoints.kubernetes.io/managed-by": "endpoint-controller"});
    assert_eq!(object["metadata"]["labels"], labels);
    let (_, all) = made(
        service("s", |s| s["spec"]["publishNotReadyAddresses"] = true.into()),
        pods,
    );
    assert_eq!(ips(&all, "addresses"), ["10.1.0.1", "10.1.0.2", "10.1.0.3"]);
}

#[test]
fn headless_service_may_lack_ports_and_is_labelled() {
    let headless = service("s", |s| {
        s["spec"]["clusterIP"] = "None".into();
        s["spec"]["clusterIPs"] = json!(["None"]);
        s["spec"]["ports"] = json!([]);
    });
    let (_, object) = made(headless, [pod("a", 1, |_| {})]);
    assert_eq!(object["metadata"]["labels"]["service.kubernetes.io/headless"], "");
    assert_eq!(
        (ips(&object, "addresses").len(), object["subsets"][0].get("ports")),
        (1, None)
    );
}

#[test]
fn more_than_a_thousand_are_cut_and_the_ready_are_kept() {
    let pods = (0..1200).map(|ip| {
        numbered(ip, |pod| {
            if ip >= 600 {
                unready(pod);
            }
        })
    });
    let (_, object) = made(service("s", |_| {}), pods);
    assert_eq!(ips(&object, "addresses").len(), 600);
    assert_eq!(ips(&object, "notReadyAddresses").len(), 400);
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(annotations["endpoints.kubernetes.io/over-capacity"], "truncated");
}

#[test]
fn pods_beyond_the_thousand_are_processed_together() {
    let (mut known, object) = made(service("s", |_| {}), (0..1200).map(|ip| numbered(ip, |_| {})));
    known.put_endpoints(&view::<EndpointsView>(&identified(object.clone(), 7)));
    let kept = ips(&object, "addresses");
    let is_left_out = |ip: &u32| {
        let address = numbered(*ip, |_| {})["status"]["podIP"]
            .as_str()
            .map(str::to_owned);
        address.is_some_and(|address| !kept.contains(&address))
    };
    let left_out: Vec<u32> = (0..1200).filter(is_left_out).collect();
    let change = |known: &mut Endpoints, ip: u32| {
        let pod = identified(numbered(ip, unready), ip as usize);
        known.put_pod(&view::<PodView>(&pod));
    };
    let now: Timestamp = "2026-01-01T02:00:00Z".parse().expect("a time");
    change(&mut known, left_out[0]);
    assert_eq!(known.plan(now, 10), [], "what is shown is the same");
    change(&mut known, left_out[1]);
    let next = known.next_look().expect("a look");
    assert!(next > now, "{next}");
    change(&mut known, left_out[2]);
    assert_eq!(known.next_look(), Some(next));
    assert_eq!(known.plan(next, 10), []);
    assert_eq!(known.next_look(), None, "one look was for both");
}

#[test]
fn the_echo_of_a_write_is_no_news_and_another_hand_is() {
    let (mut known, object) = made(service("s", |_| {}), [pod("a", 1, |_| {})]);
    let echo = identified(object, 7);
    known.put_endpoints(&view::<EndpointsView>(&echo));
    assert_eq!(plan(&mut known), []);
    let mut changed = identified(echo, 8);
    changed["subsets"] = json!([]);
    known.put_endpoints(&view::<EndpointsView>(&changed));
    let actions = known.plan("2026-01-01T02:00:00Z".parse().expect("a time"), 10);
    assert!(
        matches!(
            &actions[..],
            [Action {
                write: Write::Update { .. },
                ..
            }]
        ),
        "{actions:?}"
    );
}

#[test]
fn endpoints_go_with_their_service_even_when_it_went_unseen() {
    let mut known = Endpoints::new();
    let ours = json!({"metadata": {"name": "s", "namespace": "d",
        "labels": {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}}});
    let theirs = json!({"metadata": {"name": "t", "namespace": "d"}});
    for object in [ours, theirs] {
        known.put_endpoints(&view::<EndpointsView>(&identified(object, 1)));
    }
    known.synced(1);
    let actions = plan(&mut known);
    let [
        Action {
            write: Write::Delete { name, .. },
            ..
        },
    ] = &actions[..]
    else {
        panic!("one deletion: {actions:?}")
    };
    assert_eq!(&**name, "s");
}
