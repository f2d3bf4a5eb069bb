//! Tests of the rules in a real kernel: a machine in a network namespace, with pods on its bridge
//! and a neighbor on a veth.

mod bench;
mod machine;

use std::collections::BTreeSet;

use serde_json::Value;

use self::machine::{Machine, POD_PORT};
use super::*;

const SERVICE: [u8; 4] = [10, 96, 0, 7];

fn tcp(address: impl Into<IpAddr>) -> Destination {
    Destination::Address(address.into(), Protocol::Tcp, 80)
}

fn node_port(port: u16) -> Destination {
    Destination::NodePort {
        ipv6: false,
        protocol: Protocol::Tcp,
        port,
    }
}

fn plain_route(endpoints: &[SocketAddr]) -> ServiceRoute {
    ServiceRoute {
        endpoints: endpoints.into(),
        inside: None,
        silent: false,
        affinity_seconds: None,
        masquerade: false,
        sources: None,
    }
}

/// Returns the change that sets the routes of these destinations, whose addresses only Services
/// use.
fn lead(routes: impl IntoIterator<Item = (Destination, ServiceRoute)>) -> ServiceChanges {
    let routes: BTreeMap<Destination, Option<ServiceRoute>> =
        routes.into_iter().map(|(to, route)| (to, Some(route))).collect();
    let address = |to: &Destination| match to {
        Destination::Address(address, ..) => Some((*address, true)),
        Destination::NodePort { .. } => None,
    };
    ServiceChanges {
        cluster_ips: routes.keys().filter_map(address).collect(),
        routes,
        local: BTreeMap::new(),
    }
}

#[test]
fn clients_of_an_address_meet_every_endpoint_from_pods_and_from_the_machine() {
    let machine = Machine::new(3);
    let mut services = machine.services();
    let six: IpAddr = "fd00:10:96::7".parse().unwrap();
    let change = lead([
        (
            tcp(SERVICE),
            plain_route(&[machine.endpoint(1), machine.endpoint(2)]),
        ),
        (
            tcp(six),
            plain_route(&[machine.endpoint_v6(1), machine.endpoint_v6(2)]),
        ),
    ]);
    machine.run(|| services.update(&change)).unwrap();
    for to in [IpAddr::from(SERVICE), six] {
        for from in [machine.pod(0), machine.host()] {
            // Both endpoints are met, except with a probability of 1 in 2^63.
            let met: BTreeSet<String> = (0..64).map(|_| from.ask((to, 80)).server).collect();
            assert_eq!(
                met,
                BTreeSet::from(["pod-1".to_owned(), "pod-2".to_owned()]),
                "{to}"
            );
        }
    }
    let answer = machine.pod(0).ask((SERVICE, 80));
    assert_eq!(
        answer.client,
        machine.endpoint(0).ip(),
        "the endpoint sees who asks"
    );
}

#[test]
fn a_client_is_refused_where_nobody_serves_and_left_waiting_where_only_others_do() {
    let machine = Machine::new(1);
    let mut services = machine.services();
    let silent = ServiceRoute {
        silent: true,
        ..plain_route(&[])
    };
    let other = [10, 96, 0, 8];
    let six: IpAddr = "fd00:10:96::7".parse().unwrap();
    let change = lead([
        (tcp(SERVICE), plain_route(&[])),
        (tcp(other), silent),
        (tcp(six), plain_route(&[])),
    ]);
    machine.run(|| services.update(&change)).unwrap();
    for from in [machine.pod(0), machine.host()] {
        assert_eq!(from.fails((SERVICE, 80)), "refused");
        assert_eq!(from.fails((SERVICE, 81)), "refused", "no port of the Service");
        assert_eq!(from.fails((six, 80)), "refused");
        assert_eq!(from.fails((other, 80)), "waiting");
    }
}

#[test]
fn a_port_of_the_node_leads_from_everywhere_and_hides_the_client_unless_it_is_local() {
    let machine = Machine::new(2);
    let mut services = machine.services();
    let hidden = ServiceRoute {
        masquerade: true,
        ..plain_route(&[machine.endpoint(0)])
    };
    let local = ServiceRoute {
        inside: Some([machine.endpoint(1)].into()),
        ..plain_route(&[machine.endpoint(0)])
    };
    let elsewhere = ServiceRoute {
        endpoints: [].into(),
        silent: true,
        ..local.clone()
    };
    let change = lead([
        (node_port(30_001), hidden),
        (node_port(30_002), local),
        (node_port(30_003), elsewhere),
        (node_port(30_004), plain_route(&[])),
    ]);
    machine.run(|| services.update(&change)).unwrap();
    let at = |port| (machine.address(), port);
    for from in [machine.neighbour(), machine.pod(1), machine.host()] {
        assert_eq!(from.ask(at(30_001)).server, "pod-0");
    }
    assert_eq!(
        machine.neighbour().ask(at(30_001)).client,
        machine.gateway(),
        "the node stands for the client"
    );
    assert_eq!(
        machine.neighbour().ask(at(30_002)).client,
        machine.neighbour().address(),
        "the client itself"
    );
    for inside in [machine.pod(0), machine.host()] {
        assert_eq!(inside.ask(at(30_002)).server, "pod-1");
        assert_eq!(inside.ask(at(30_003)).server, "pod-1");
    }
    assert_eq!(machine.neighbour().fails(at(30_003)), "waiting");
    assert_eq!(machine.neighbour().fails(at(30_004)), "refused");
    assert_eq!(
        machine.host().fails(([127, 0, 0, 1], 30_001)),
        "refused",
        "loopback is no address of the node"
    );
}

#[test]
fn an_external_address_leads_who_comes_to_the_node_with_it() {
    let machine = Machine::new(1);
    let mut services = machine.services();
    let external = [198, 51, 100, 9];
    let route = ServiceRoute {
        masquerade: true,
        ..plain_route(&[machine.endpoint(0)])
    };
    let change = ServiceChanges {
        routes: [(tcp(external), Some(route))].into(),
        ..ServiceChanges::default()
    };
    machine.run(|| services.update(&change)).unwrap();
    let answer = machine.neighbour().ask((external, 80));
    assert_eq!(
        (answer.server.as_str(), answer.client),
        ("pod-0", machine.gateway())
    );
}

#[test]
fn a_service_of_ipv6_has_all_that_one_of_ipv4_has() {
    let machine = Machine::new(3);
    let mut services = machine.services();
    let [node, gateway, neighbour] = machine.ipv6();
    let address: IpAddr = "fd00:10:96::7".parse().unwrap();
    let external: IpAddr = "2001:db8::9".parse().unwrap();
    let port = |port| Destination::NodePort {
        ipv6: true,
        protocol: Protocol::Tcp,
        port,
    };
    let own = plain_route(&[machine.endpoint_v6(0)]);
    let hidden = ServiceRoute {
        masquerade: true,
        ..own.clone()
    };
    let local = ServiceRoute {
        inside: Some([machine.endpoint_v6(1)].into()),
        ..own.clone()
    };
    let elsewhere = ServiceRoute {
        endpoints: [].into(),
        silent: true,
        ..own.clone()
    };
    let mut change = lead([
        (tcp(address), own),
        (tcp(external), hidden.clone()),
        (port(30_001), hidden),
        (port(30_002), local),
        (port(30_003), elsewhere),
        (port(30_004), plain_route(&[])),
    ]);
    change.local = [(machine.endpoint_v6(0).ip(), true)].into();
    machine.run(|| services.update(&change)).unwrap();

    let answer = machine.pod(0).ask((address, 80));
    assert_eq!(
        (answer.server.as_str(), answer.client),
        ("pod-0", gateway),
        "itself"
    );
    for from in [machine.neighbour(), machine.pod(1), machine.host()] {
        assert_eq!(from.ask((node, 30_001)).server, "pod-0");
    }
    assert_eq!(machine.neighbour().ask((node, 30_001)).client, gateway);
    assert_eq!(machine.neighbour().ask((external, 80)).client, gateway);
    assert_eq!(machine.neighbour().ask((node, 30_002)).client, neighbour);
    assert_eq!(machine.pod(0).ask((node, 30_002)).server, "pod-1");
    assert_eq!(machine.neighbour().fails((node, 30_003)), "waiting");
    assert_eq!(machine.neighbour().fails((node, 30_004)), "refused");

    let udp = Destination::Address(address, Protocol::Udp, 53);
    let to = |pod: usize| lead([(udp, plain_route(&[machine.endpoint_v6(pod)]))]);
    machine.run(|| services.update(&to(1))).unwrap();
    let client = machine.pod(0).udp((address, 53));
    assert_eq!(client.ask(), "pod-1");
    let cost = machine.run(|| services.update(&to(2))).unwrap();
    assert_eq!(
        (cost.forgotten, client.ask().as_str()),
        (1, "pod-2"),
        "the same socket"
    );
}

#[test]
fn who_may_not_come_to_a_load_balancers_address_is_left_waiting() {
    let machine = Machine::new(1);
    let mut services = machine.services();
    let balanced: [IpAddr; 2] = ["198.51.100.9".parse().unwrap(), "2001:db8::9".parse().unwrap()];
    let route = |index: usize, sources: &[&str]| {
        let endpoint = [machine.endpoint(0), machine.endpoint_v6(0)][index];
        ServiceRoute {
            masquerade: true,
            sources: Some(sources.iter().map(|net| net.parse().unwrap()).collect()),
            ..plain_route(&[endpoint])
        }
    };
    let mut led = |four: &[&str], six: &[&str]| {
        let change = lead([
            (tcp(balanced[0]), route(0, four)),
            (tcp(balanced[1]), route(1, six)),
        ]);
        machine.run(|| services.update(&change)).unwrap();
    };
    led(&["10.0.0.0/8", "203.0.113.0/24"], &["fd00:1::/64"]);
    for to in balanced {
        assert_eq!(machine.neighbour().fails((to, 80)), "waiting", "{to}");
        assert_eq!(machine.pod(0).ask((to, 80)).server, "pod-0", "{to}");
    }
    led(&["192.0.2.9/32"], &["fd00:2::/64"]);
    for to in balanced {
        assert_eq!(machine.neighbour().ask((to, 80)).server, "pod-0", "{to}");
        assert_eq!(machine.pod(0).fails((to, 80)), "waiting", "{to}");
    }
}

#[test]
fn a_client_stays_with_its_endpoint_until_that_goes() {
    let machine = Machine::new(3);
    let mut services = machine.services();
    let six: IpAddr = "fd00:10:96::7".parse().unwrap();
    let sticky = |endpoints: &[SocketAddr]| ServiceRoute {
        affinity_seconds: Some(600),
        ..plain_route(endpoints)
    };
    let both = [machine.endpoint(1), machine.endpoint(2)];
    let both_v6 = [machine.endpoint_v6(1), machine.endpoint_v6(2)];
    let change = lead([
        (tcp(SERVICE), sticky(&both)),
        (tcp(six), sticky(&both_v6)),
        (node_port(30_001), sticky(&both)),
    ]);
    machine.run(|| services.update(&change)).unwrap();
    for to in [
        (IpAddr::from(SERVICE), 80),
        (six, 80),
        (machine.address(), 30_001),
    ] {
        let first = machine.pod(0).ask(to).server;
        assert!((0..16).all(|_| machine.pod(0).ask(to).server == first), "{to:?}");
    }
    // Also after all tables are written again.
    let first = machine.pod(0).ask((SERVICE, 80)).server;
    machine.run(|| {
        forwarding::apply(&format!("add chain ip {} lead2\n", services.table)).unwrap();
        services.made = false;
        assert!(services.update(&ServiceChanges::default()).unwrap().anew);
    });
    assert!((0..16).all(|_| machine.pod(0).ask((SERVICE, 80)).server == first));

    let other = usize::from(first == "pod-1");
    let change = lead([(tcp(SERVICE), sticky(&both[other..=other]))]);
    machine.run(|| services.update(&change)).unwrap();
    assert_ne!(machine.pod(0).ask((SERVICE, 80)).server, first);
    machine
        .run(|| services.update(&lead([(tcp(SERVICE), sticky(&both))])))
        .unwrap();
    assert!(
        (0..16).all(|_| machine.pod(0).ask((SERVICE, 80)).server != first),
        "it is not drawn back"
    );
}

#[test]
fn a_pod_reaches_itself_by_its_service() {
    let machine = Machine::new(1);
    let mut services = machine.services();
    let mut change = lead([(tcp(SERVICE), plain_route(&[machine.endpoint(0)]))]);
    change.local = [(machine.endpoint(0).ip(), true)].into();
    machine.run(|| services.update(&change)).unwrap();
    let answer = machine.pod(0).ask((SERVICE, 80));
    assert_eq!(
        (answer.server.as_str(), answer.client),
        ("pod-0", machine.gateway())
    );
}

#[test]
fn a_client_over_udp_moves_on_when_its_endpoint_goes() {
    let machine = Machine::new(3);
    let mut services = machine.services();
    let to = Destination::Address(SERVICE.into(), Protocol::Udp, 53);
    machine
        .run(|| services.update(&lead([(to, plain_route(&[machine.endpoint(1)]))])))
        .unwrap();
    let client = machine.pod(0).udp((SERVICE, 53));
    assert_eq!(client.ask(), "pod-1");
    let cost = machine
        .run(|| services.update(&lead([(to, plain_route(&[machine.endpoint(2)]))])))
        .unwrap();
    assert_eq!(cost.forgotten, 1);
    assert_eq!(client.ask(), "pod-2", "the same socket");
    let more = [machine.endpoint(1), machine.endpoint(2)];
    let cost = machine
        .run(|| services.update(&lead([(to, plain_route(&more))])))
        .unwrap();
    assert_eq!(
        (cost.forgotten, client.ask().as_str()),
        (0, "pod-2"),
        "one more moves nobody"
    );
}

#[test]
fn an_open_connection_stays_when_its_endpoint_is_asked_no_more() {
    let machine = Machine::new(2);
    let mut services = machine.services();
    machine
        .run(|| services.update(&lead([(tcp(SERVICE), plain_route(&[machine.endpoint(1)]))])))
        .unwrap();
    let mut open = machine.pod(0).connect((SERVICE, 80));
    assert_eq!(open.line(), "pod-1");
    machine
        .run(|| services.update(&lead([(tcp(SERVICE), plain_route(&[]))])))
        .unwrap();
    assert_eq!(machine.pod(0).fails((SERVICE, 80)), "refused");
    assert_eq!(open.line(), "pod-1");
}

#[test]
fn pods_of_another_instance_are_not_led() {
    let machine = Machine::new(2);
    let mut services = machine.services();
    let other = Services::new("everynode-test", "pods-other", Plugged::default());
    let mut other = Services {
        table: "everynode-other-services".into(),
        ..other
    };
    let change = lead([(tcp(SERVICE), plain_route(&[machine.endpoint(1)]))]);
    // The other instance's table is older and would win.
    machine
        .run(|| other.update(&lead([(tcp(SERVICE), plain_route(&[]))])))
        .unwrap();
    machine.run(|| services.update(&change)).unwrap();
    assert_eq!(machine.pod(0).ask((SERVICE, 80)).server, "pod-1");
}

#[test]
fn tables_that_somebody_removes_come_back_and_those_of_an_earlier_agent_are_replaced() {
    let machine = Machine::new(2);
    let mut services = machine.services();
    machine
        .run(|| services.update(&lead([(tcp(SERVICE), plain_route(&[machine.endpoint(1)]))])))
        .unwrap();
    assert!(!machine.run(|| services.check()).unwrap());
    machine.run(|| forwarding::apply("flush ruleset\n")).unwrap();
    assert!(machine.run(|| services.check()).unwrap());
    assert_eq!(machine.pod(0).ask((SERVICE, 80)).server, "pod-1");
    // The kernel refuses the next difference.
    machine.run(|| forwarding::apply("flush ruleset\n")).unwrap();
    let cost = machine
        .run(|| {
            services.update(&lead([(
                tcp([10, 96, 0, 8]),
                plain_route(&[machine.endpoint(1)]),
            )]))
        })
        .unwrap();
    assert!(cost.anew);
    assert_eq!(machine.pod(0).ask((SERVICE, 80)).server, "pod-1");

    let mut restarted = machine.services();
    let cost = machine
        .run(|| {
            restarted.update(&lead([(
                tcp([10, 96, 0, 8]),
                plain_route(&[machine.endpoint(0)]),
            )]))
        })
        .unwrap();
    assert!(cost.anew);
    assert_eq!(machine.pod(1).ask(([10, 96, 0, 8], 80)).server, "pod-0");
    machine.run(|| tear_down("everynode-test")).unwrap();
    assert!(!machine.run(|| restarted.is_there()));
}

/// Returns the tables without the parts that differ each time they are written.
fn dump(services: &Services) -> Value {
    fn tidy(value: &mut Value) {
        match value {
            Value::Array(values) => {
                values.iter_mut().for_each(tidy);
                values.sort_by_key(ToString::to_string);
            }
            Value::Object(fields) => {
                fields.remove("handle");
                fields.values_mut().for_each(tidy);
            }
            _ => {}
        }
    }
    let table = |family: Family| {
        let text = forwarding::read(&["--json", "list", "table", family.ip(), &services.table]).unwrap();
        let mut table: Value = serde_json::from_str(&text).unwrap();
        tidy(&mut table);
        table
    };
    script::FAMILIES.map(table).into_iter().collect()
}

#[test]
fn differences_lead_to_the_same_rules_as_making_all_anew() {
    let machine = Machine::new(0);
    let mut services = machine.services();
    // A sequence of many states with every kind of change, the same in each run.
    let mut seed = 7u64;
    let mut draw = move |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let endpoints = |draw: &mut dyn FnMut(u64) -> u64| -> Arc<[SocketAddr]> {
        let count = draw(6);
        let all: BTreeSet<SocketAddr> = (0..count)
            .map(|_| ([10, 1, 0, draw(9) as u8], POD_PORT).into())
            .collect();
        all.into_iter().collect()
    };
    for step in 0..60 {
        let mut change = ServiceChanges::default();
        for _ in 0..=draw(2) {
            let to = match draw(6) {
                0 => node_port(30_000),
                1 => node_port(30_001),
                n => tcp([10, 96, 0, n as u8]),
            };
            let route = ServiceRoute {
                endpoints: endpoints(&mut draw),
                inside: (draw(3) == 0).then(|| endpoints(&mut draw)),
                silent: draw(2) == 0,
                affinity_seconds: (draw(3) == 0).then_some(60 + draw(2) as u32),
                masquerade: draw(2) == 0,
                sources: (draw(3) == 0).then(|| {
                    let nets = (0..=draw(2)).map(|n| format!("10.{n}.0.0/16").parse().unwrap());
                    nets.collect()
                }),
            };
            change.routes.insert(to, (draw(5) > 0).then_some(route));
        }
        let address = IpAddr::from([10, 96, 0, draw(4) as u8]);
        change.cluster_ips.insert(address, draw(2) == 0);
        change
            .local
            .insert(([10, 1, 0, draw(4) as u8]).into(), draw(2) == 0);
        let cost = machine.run(|| services.update(&change)).unwrap();
        assert_eq!(
            cost.anew,
            step == 0,
            "the kernel takes every difference: step {step}"
        );
    }
    let differences = machine.run(|| dump(&services));
    services.made = false;
    // Chains that store clients stay when no destination uses their time any more.
    machine
        .run(|| services.update(&ServiceChanges::default()))
        .unwrap();
    assert_eq!(differences, machine.run(|| dump(&services)));
}
