use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn key(name: &str) -> Key {
    ("n".into(), name.into())
}

/// The Service `s`: TCP 80 at 10.96.0.7, with more in its specification.
fn service(more: Value) -> Arc<ServiceView> {
    let mut object = json!({
        "metadata": {"name": "s", "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"port": 80}]},
    });
    for (field, value) in more.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    Arc::new(serde_json::from_value(object).unwrap())
}

/// A slice of `s` for the port 8080.
fn slice(endpoints: &[Value]) -> Arc<EndpointSliceView> {
    let object = json!({
        "metadata": {"name": "s-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "ports": [{"name": "", "protocol": "TCP", "port": 8080}], "endpoints": endpoints,
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn ready(address: &str, node: &str) -> Value {
    json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": node})
}

fn of_pod(mut endpoint: Value, uid: &str) -> Value {
    endpoint["targetRef"] = json!({"kind": "Pod", "namespace": "n", "name": uid, "uid": uid});
    endpoint
}

fn terminating(address: &str, node: &str, serving: bool) -> Value {
    json!({"addresses": [address], "nodeName": node, "conditions": {"ready": false, "serving": serving, "terminating": true}})
}

fn hinted(address: &str, nodes: &[&str], zones: &[&str]) -> Value {
    let names = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    json!({"addresses": [address], "conditions": {"ready": true}, "hints": {"forNodes": names(nodes), "forZones": names(zones)}})
}

/// The index of the node `here` in the zone `z` with one Service and its endpoints.
fn index(service: Arc<ServiceView>, endpoints: &[Value]) -> Services {
    let mut index = Services::new("here");
    index.set_zone(Some("z"));
    index.set_service(key("s"), Some(service));
    index.set_slice(key("s-1"), Some(slice(endpoints)));
    index
}

/// A route in words: the last number of each endpoint's address, then `|` and those for clients on
/// the node.
fn words(route: &Route) -> String {
    let numbers = |endpoints: &[SocketAddr]| {
        let last = |endpoint: &SocketAddr| {
            endpoint
                .ip()
                .to_string()
                .rsplit(['.', ':'])
                .next()
                .unwrap()
                .to_owned()
        };
        endpoints.iter().map(last).collect::<Vec<_>>().join(" ")
    };
    let mut words = numbers(&route.endpoints);
    if let Some(inside) = &route.inside {
        words += &format!(" | {}", numbers(inside));
    }
    if route.silent {
        words += " silent";
    }
    if route.masquerade {
        words += " masquerade";
    }
    words.trim().to_owned()
}

/// The route of the only destination of a Service.
fn lead(more: Value, endpoints: &[Value]) -> String {
    let changes = index(service(more), endpoints).changes();
    let routes: Vec<Option<Route>> = changes.routes.into_values().collect();
    let [Some(route)] = &*routes else {
        panic!("one destination")
    };
    words(route)
}

trait Words {
    fn all(self) -> Vec<String>;
}

impl Words for Changes {
    fn all(self) -> Vec<String> {
        let word = |(destination, route): (Destination, Option<Route>)| {
            let to = match destination {
                Destination::Address(address, _, port) => format!("{address}:{port}"),
                Destination::NodePort(family, _, port) => format!("{}:{port}", family.as_str()),
            };
            format!(
                "{to} -> {}",
                route.map_or("gone".to_owned(), |route| words(&route))
            )
        };
        self.routes.into_iter().map(word).collect()
    }
}

#[test]
fn ready_endpoints_serve_or_else_terminating_ones() {
    let gone = terminating("10.0.0.9", "there", false);
    let leaving = terminating("10.0.0.2", "there", true);
    let starting = json!({"addresses": ["10.0.0.3"], "conditions": {"ready": false}});
    let none = json!({});
    assert_eq!(
        lead(
            none.clone(),
            &[
                ready("10.0.0.1", "here"),
                leaving.clone(),
                starting.clone(),
                gone.clone()
            ]
        ),
        "1"
    );
    assert_eq!(
        lead(none.clone(), &[starting.clone(), leaving, gone.clone()]),
        "2"
    );
    assert_eq!(lead(none.clone(), &[starting, gone]), "");
    assert_eq!(lead(none, &[]), "");
}

#[test]
fn local_policy_uses_own_endpoints_or_drops_silently() {
    let local = json!({"internalTrafficPolicy": "Local"});
    let (here, there) = (ready("10.0.0.1", "here"), ready("10.0.0.2", "there"));
    assert_eq!(lead(local.clone(), &[here, there.clone()]), "1");
    let leaving = terminating("10.0.0.3", "here", true);
    assert_eq!(lead(local.clone(), &[leaving, there.clone()]), "3");
    assert_eq!(lead(local.clone(), &[there]), "silent");
    assert_eq!(lead(local, &[]), "");
}

#[test]
fn hints_for_the_node_come_before_hints_for_the_zone() {
    let lead = |endpoints: &[Value]| lead(json!({}), endpoints);
    let (one, two) = (
        hinted("10.0.0.1", &["here"], &["z"]),
        hinted("10.0.0.2", &["there"], &["z"]),
    );
    assert_eq!(lead(&[one.clone(), two.clone()]), "1");
    let other_zone = hinted("10.0.0.3", &["far"], &["y"]);
    assert_eq!(
        lead(&[two.clone(), other_zone.clone()]),
        "2",
        "none is meant for this node, one for its zone"
    );
    assert_eq!(
        lead(std::slice::from_ref(&other_zone)),
        "3",
        "none is meant for here, so anyone serves"
    );
    assert_eq!(
        lead(&[one.clone(), two.clone(), ready("10.0.0.4", "far")]),
        "1 2 4",
        "one without hints"
    );
    let mut leaving = terminating("10.0.0.5", "here", true);
    leaving["hints"] = json!({"forNodes": [{"name": "here"}]});
    assert_eq!(
        lead(&[leaving, two]),
        "2",
        "one that leaves is not asked for its hints"
    );
}

#[test]
fn node_port_and_external_address_follow_their_policy() {
    let exposed = |policy: &str| {
        service(json!({
            "type": "NodePort", "externalTrafficPolicy": policy, "externalIPs": ["192.0.2.9"],
            "ports": [{"port": 80, "nodePort": 30080}],
        }))
    };
    let endpoints = [ready("10.0.0.1", "here"), ready("10.0.0.2", "there")];
    let mut everywhere = index(exposed("Cluster"), &endpoints);
    assert_eq!(
        everywhere.changes().all(),
        [
            "10.96.0.7:80 -> 1 2",
            "192.0.2.9:80 -> 1 2 masquerade",
            "IPv4:30080 -> 1 2 masquerade"
        ]
    );
    let mut local = index(exposed("Local"), &endpoints);
    assert_eq!(
        local.changes().all(),
        [
            "10.96.0.7:80 -> 1 2",
            "192.0.2.9:80 -> 1 | 1 2",
            "IPv4:30080 -> 1 | 1 2"
        ]
    );
    let mut elsewhere = index(exposed("Local"), &endpoints[1..]);
    assert_eq!(elsewhere.changes().all()[2], "IPv4:30080 -> | 2 silent");
}

#[test]
fn each_family_leads_to_its_own_endpoints() {
    let mut index = index(
        service(json!({"clusterIPs": ["10.96.0.7", "fd00::7"], "ipFamilies": ["IPv4", "IPv6"]})),
        &[ready("10.0.0.1", "here")],
    );
    let six = json!({
        "metadata": {"name": "s-2", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv6", "ports": [{"port": 8080}], "endpoints": [ready("fd00:1::5", "here")],
    });
    index.set_slice(key("s-2"), Some(Arc::new(serde_json::from_value(six).unwrap())));
    let changes = index.changes();
    assert_eq!(changes.cluster_ips.len(), 2);
    assert_eq!(changes.local.len(), 2);
    assert_eq!(changes.all(), ["10.96.0.7:80 -> 1", "fd00::7:80 -> 5"]);
}

#[test]
fn service_ignores_addresses_of_a_family_it_lacks() {
    let exposed = |ips: serde_json::Value| {
        let more = json!({"type": "NodePort", "externalIPs": ["192.0.2.9", "2001:db8::9"], "clusterIPs": ips,
            "ports": [{"port": 80, "nodePort": 30080}]});
        index(service(more), &[ready("10.0.0.1", "here")]).changes().all()
    };
    let four = [
        "10.96.0.7:80 -> 1",
        "192.0.2.9:80 -> 1 masquerade",
        "IPv4:30080 -> 1 masquerade",
    ];
    assert_eq!(exposed(json!(["10.96.0.7"])), four);
    let six = [
        "2001:db8::9:80 -> masquerade",
        "fd00::7:80 -> ",
        "IPv6:30080 -> masquerade",
    ];
    let mut both: Vec<&str> = four.into_iter().chain(six).collect();
    let mut told = exposed(json!(["10.96.0.7", "fd00::7"]));
    both.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, both);
}

#[test]
fn source_ranges_apply_only_to_load_balancer_addresses() {
    let more = json!({"type": "LoadBalancer", "externalIPs": ["192.0.2.9"],
        "loadBalancerSourceRanges": ["10.0.0.0/8", "10.1.0.0/16", " 192.0.2.0/24 ", "fd00::/8", "nonsense"],
        "ports": [{"port": 80, "nodePort": 30080}]});
    let mut balanced = (*service(more)).clone();
    balanced.load_balancer_ips = ["198.51.100.9".parse().unwrap()].into();
    let guarded = |service: ServiceView| -> Vec<String> {
        let changes = index(Arc::new(service), &[ready("10.0.0.1", "here")]).changes();
        let routes = changes.routes.into_iter();
        let guarded = routes.filter_map(|(to, route)| Some((to, route?.sources?)));
        guarded
            .map(|(to, sources)| format!("{to:?} {sources:?}"))
            .collect()
    };
    assert_eq!(
        guarded(balanced.clone()),
        ["Address(198.51.100.9, Tcp, 80) [10.0.0.0/8, 192.0.2.0/24]"]
    );
    balanced.source_ranges = ["fd00::/8".into()].into();
    assert!(
        guarded(balanced).is_empty(),
        "ranges of the other family say nothing"
    );
}

#[test]
fn headless_services_and_other_names_lead_nowhere_here() {
    for more in [
        json!({"clusterIP": "None", "clusterIPs": ["None"]}),
        json!({"type": "ExternalName", "clusterIP": "", "clusterIPs": []}),
    ] {
        let changes = index(service(more), &[ready("10.0.0.1", "here")]).changes();
        assert_eq!(changes, Changes::default());
    }
}

#[test]
fn only_what_differs_is_told() {
    let mut index = index(service(json!({})), &[ready("10.0.0.1", "here")]);
    assert!(!index.changes().is_empty() && index.changes().is_empty());
    index.set_service(key("s"), Some(service(json!({}))));
    assert!(index.changes().is_empty(), "the same again");
    index.set_slice(
        key("s-1"),
        Some(slice(&[ready("10.0.0.1", "here"), ready("10.0.0.2", "there")])),
    );
    let changes = index.changes();
    assert!(changes.cluster_ips.is_empty() && changes.local.is_empty());
    assert_eq!(changes.all(), ["10.96.0.7:80 -> 1 2"]);
    index.set_service(key("s"), None);
    let changes = index.changes();
    assert_eq!(changes.cluster_ips.values().collect::<Vec<_>>(), [&false]);
    assert_eq!(changes.local.values().collect::<Vec<_>>(), [&false]);
    assert_eq!(changes.all(), ["10.96.0.7:80 -> gone"]);
}

#[test]
fn of_two_services_with_one_external_address_the_older_has_it() {
    let mut index = index(
        service(json!({"externalIPs": ["192.0.2.9"]})),
        &[ready("10.0.0.1", "here")],
    );
    index.changes();
    let mut younger = (*service(json!({"externalIPs": ["192.0.2.9"], "clusterIPs": ["10.96.0.8"]}))).clone();
    younger.meta.creation_timestamp = "2026-01-02T00:00:00Z".parse().ok();
    index.set_service(key("a"), Some(Arc::new(younger)));
    assert_eq!(index.changes().all(), ["10.96.0.8:80 -> "]);
    index.set_service(key("s"), None);
    assert_eq!(
        index.changes().all(),
        ["10.96.0.7:80 -> gone", "192.0.2.9:80 -> masquerade"]
    );
}

/// The state of a consumer that applied all changes.
#[derive(Default, PartialEq, Debug)]
struct Known {
    routes: BTreeMap<Destination, Route>,
    cluster_ips: BTreeSet<IpAddr>,
    local: BTreeSet<IpAddr>,
}

impl Known {
    fn hear(&mut self, changes: Changes) {
        for (destination, route) in changes.routes {
            let changed = match route {
                Some(route) => self.routes.insert(destination, route.clone()) != Some(route),
                None => self.routes.remove(&destination).is_some(),
            };
            assert!(changed, "told what was known: {destination:?}");
        }
        for (known, told) in [
            (&mut self.cluster_ips, changes.cluster_ips),
            (&mut self.local, changes.local),
        ] {
            for (address, present) in told {
                let changed = if present {
                    known.insert(address)
                } else {
                    known.remove(&address)
                };
                assert!(changed, "told what was known: {address}");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Service(u8, Option<Value>),
    Slice(u8, u8, Option<Vec<Value>>),
    Zone(Option<&'static str>),
}

fn any_service() -> impl Strategy<Value = Value> {
    let policy = || prop::sample::select(vec!["Cluster", "Local"]);
    (0..4u8, 0..3u8, policy(), policy(), any::<bool>(), 0..3u8).prop_map(|(ip, external, inner, outer, node_port, age)| {
        json!({
            "metadata": {"creationTimestamp": format!("2026-01-01T00:00:0{age}Z")},
            "spec": {
                "type": if node_port { "NodePort" } else { "ClusterIP" },
                "clusterIPs": if ip == 3 { vec!["None".to_owned()] } else { vec![format!("10.96.0.{ip}")] },
                "clusterIP": if ip == 3 { "None" } else { "" },
                "externalIPs": (0..external).map(|n| format!("192.0.2.{n}")).collect::<Vec<_>>(),
                "internalTrafficPolicy": inner, "externalTrafficPolicy": outer,
                "ports": [{"port": 80, "nodePort": if node_port { 30000 + u32::from(ip) } else { 0 }}],
            },
        })
    })
}

fn any_endpoint() -> impl Strategy<Value = Value> {
    let node = prop::sample::select(vec!["here", "there"]);
    let zone = prop::sample::select(vec!["z", "y"]);
    (0..6u8, any::<[bool; 5]>(), node, zone).prop_map(
        |(address, [ready, serving, terminating, nodes, zones], node, zone)| {
            json!({
                "addresses": [format!("10.0.0.{address}")], "nodeName": node,
                "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
                "hints": {
                    "forNodes": if nodes { vec![json!({"name": node})] } else { vec![] },
                    "forZones": if zones { vec![json!({"name": zone})] } else { vec![] },
                },
            })
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let endpoints = || prop::collection::vec(any_endpoint(), 0..5);
    prop_oneof![
        3 => (0..3u8, prop::option::weighted(0.8, any_service())).prop_map(|(name, service)| Step::Service(name, service)),
        5 => (0..4u8, 0..3u8, prop::option::weighted(0.8, endpoints())).prop_map(|(name, of, slice)| Step::Slice(name, of, slice)),
        1 => prop::sample::select(vec![None, Some("z"), Some("y")]).prop_map(Step::Zone),
    ]
}

fn take(index: &mut Services, step: &Step) {
    match step {
        Step::Service(name, service) => {
            let view = service
                .clone()
                .map(|service| Arc::new(serde_json::from_value(service).unwrap()));
            index.set_service(key(&format!("s{name}")), view);
        }
        Step::Slice(name, of, endpoints) => {
            let view = endpoints.as_ref().map(|endpoints| {
                let object = json!({
                    "metadata": {"labels": {"kubernetes.io/service-name": format!("s{of}")}},
                    "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints,
                });
                Arc::new(serde_json::from_value(object).unwrap())
            });
            index.set_slice(key(&format!("slice{name}")), view);
        }
        Step::Zone(zone) => index.set_zone(*zone),
    }
}

proptest! {
    #[test]
    fn all_differences_together_are_the_state_built_anew(steps in prop::collection::vec((any_step(), any::<bool>()), 0..40)) {
        let mut index = Services::new("here");
        let mut known = Known::default();
        for (step, ask) in &steps {
            take(&mut index, step);
            if *ask {
                known.hear(index.changes());
            }
        }
        known.hear(index.changes());

        // A new index with the last state of each object, the latest first.
        let mut anew = Services::new("here");
        let mut told = BTreeSet::new();
        for (step, _) in steps.iter().rev() {
            let about = match step {
                Step::Service(name, _) => (0, *name),
                Step::Slice(name, ..) => (1, *name),
                Step::Zone(_) => (2, 0),
            };
            if told.insert(about) {
                take(&mut anew, step);
            }
        }
        let mut fresh = Known::default();
        fresh.hear(anew.changes());
        prop_assert_eq!(known, fresh);
    }
}

#[test]
fn pod_receives_new_clients_until_all_slices_exclude_it() {
    let pod = |conditions: Value, node: &str| {
        let endpoint = json!({"addresses": ["10.0.0.1"], "conditions": conditions, "nodeName": node});
        of_pod(endpoint, "a")
    };
    let led_to = |index: &Services| index.led_to().map(ToString::to_string).collect::<Vec<_>>();
    let is_ready = || pod(json!({"ready": true}), "here");
    let mut index = index(service(json!({})), &[is_ready()]);
    assert_eq!(led_to(&index), ["a"]);
    // A headless Service resolves to its endpoints by name; several slices contain the same pod.
    index.set_slice(key("s-2"), Some(slice(&[is_ready()])));
    assert_eq!(led_to(&index), ["a"]);
    for gone in [
        pod(
            json!({"ready": false, "serving": true, "terminating": true}),
            "here",
        ),
        // Published before it is ready: it stays ready to the end.
        pod(
            json!({"ready": true, "serving": true, "terminating": true}),
            "here",
        ),
        pod(json!({"ready": false}), "here"),
        pod(json!({"ready": true}), "there"),
        ready("10.0.0.1", "here"),
    ] {
        index.set_slice(key("s-1"), Some(slice(&[is_ready()])));
        index.set_slice(key("s-2"), Some(slice(&[is_ready()])));
        index.set_slice(key("s-1"), Some(slice(std::slice::from_ref(&gone))));
        assert_eq!(led_to(&index), ["a"], "{gone}");
        index.set_slice(key("s-2"), Some(slice(std::slice::from_ref(&gone))));
        assert_eq!(led_to(&index), [""; 0], "{gone}");
    }
    index.set_slice(key("s-1"), Some(slice(&[is_ready()])));
    index.set_slice(key("s-1"), None);
    assert_eq!(led_to(&index), [""; 0]);
}
