use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// One change of an object.
#[derive(Clone, Debug)]
enum Change {
    Service(&'static str, Option<Service>),
    Slice(&'static str, Option<Slice>),
}

const SERVICES: [&str; 3] = ["a", "b", "c"];
const SLICES: [&str; 4] = ["s", "t", "u", "v"];
const NODES: [&str; 4] = ["n", "x.n", "y.x.n", "h"];

fn service() -> impl Strategy<Value = Service> {
    let external = proptest::option::weighted(0.1, Just("elsewhere.example".to_owned()));
    (any::<bool>(), any::<bool>(), external, 0..3u8).prop_map(|(headless, publish, external_name, last)| {
        Service {
            headless,
            cluster_ips: match headless || external_name.is_some() {
                true => Vec::new(),
                false => vec![Ipv4Addr::new(10, 96, 0, last).into()],
            },
            external_name,
            ports: ports(&["http/tcp/80"]),
            publish_not_ready_addresses: publish,
        }
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let hostname = proptest::option::weighted(0.3, proptest::sample::select(vec!["h", "n"]));
    let node = proptest::option::weighted(0.8, proptest::sample::select(NODES.to_vec()));
    (0..4u8, any::<bool>(), hostname, node).prop_map(|(last, ready, hostname, node)| Endpoint {
        addresses: vec![Ipv4Addr::new(10, 244, 0, last).into()],
        ready,
        hostname: hostname.map(str::to_owned),
        node: node.map(str::to_owned),
    })
}

fn change() -> impl Strategy<Value = Change> {
    let endpoints = proptest::collection::vec(endpoint(), 0..4);
    let number = proptest::sample::select(vec!["http/tcp/80", "http/tcp/81"]);
    let slice = (proptest::sample::select(SERVICES.to_vec()), number, endpoints)
        .prop_map(|(service, port, endpoints)| slice(service, &[port], &endpoints));
    prop_oneof![
        (
            proptest::sample::select(SERVICES.to_vec()),
            proptest::option::weighted(0.8, service())
        )
            .prop_map(|(name, service)| Change::Service(name, service)),
        (
            proptest::sample::select(SLICES.to_vec()),
            proptest::option::weighted(0.8, slice)
        )
            .prop_map(|(name, slice)| Change::Slice(name, slice)),
    ]
}

fn apply(records: &mut Records, change: Change) {
    match change {
        Change::Service(name, service) => records.set_service("z", name, service),
        Change::Slice(name, slice) => records.set_slice("z", name, slice),
    }
}

/// All objects after all changes.
#[derive(Default)]
struct Objects {
    services: BTreeMap<&'static str, Service>,
    slices: BTreeMap<&'static str, Slice>,
}

impl Objects {
    fn of(changes: &[Change]) -> Objects {
        let mut objects = Objects::default();
        for change in changes.iter().cloned() {
            match change {
                Change::Service(name, Some(service)) => drop(objects.services.insert(name, service)),
                Change::Service(name, None) => drop(objects.services.remove(name)),
                Change::Slice(name, Some(slice)) => drop(objects.slices.insert(name, slice)),
                Change::Slice(name, None) => drop(objects.slices.remove(name)),
            }
        }
        objects
    }

    /// The addresses of those endpoints of a Service that count and match `which`.
    fn addresses(&self, service: &str, which: impl Fn(&Endpoint) -> bool) -> BTreeSet<IpAddr> {
        let publish = self.services[service].publish_not_ready_addresses;
        let slices = self.slices.values().filter(|slice| slice.service == service);
        let endpoints = slices.flat_map(|slice| &slice.endpoints);
        let meant = endpoints.filter(|endpoint| (endpoint.ready || publish) && which(endpoint));
        meant.flat_map(|endpoint| endpoint.addresses.clone()).collect()
    }

    /// The rule for `<name>.<service>`: a hostname, or else a node.
    fn named(&self, service: &str, name: &str) -> BTreeSet<IpAddr> {
        let hosts = self.addresses(service, |endpoint| endpoint.hostname.as_deref() == Some(name));
        match hosts.is_empty() {
            true => self.addresses(service, |endpoint| endpoint.node.as_deref() == Some(name)),
            false => hosts,
        }
    }
}

fn found(answer: &Answer) -> BTreeSet<IpAddr> {
    match answer {
        Answer::V4(addresses) => addresses.iter().map(|address| IpAddr::V4(*address)).collect(),
        _ => BTreeSet::new(),
    }
}

proptest! {
    /// Incremental changes give the same result as adding all objects to an empty index, Services
    /// last.
    #[test]
    fn records_depend_on_the_objects_and_not_on_how_they_came(
        changes in proptest::collection::vec(change(), 0..24),
    ) {
        let mut stepwise = empty();
        for change in changes.clone() {
            apply(&mut stepwise, change);
        }
        let objects = Objects::of(&changes);
        let mut at_once = empty();
        for (name, slice) in objects.slices.clone() {
            at_once.set_slice("z", name, Some(slice));
        }
        for (name, service) in objects.services.clone() {
            at_once.set_service("z", name, Some(service));
        }
        prop_assert_eq!(&stepwise, &at_once);
        for change in &changes {
            match change {
                Change::Service(name, _) => stepwise.set_service("z", name, None),
                Change::Slice(name, _) => stepwise.set_slice("z", name, None),
            }
        }
        prop_assert_eq!(stepwise, empty(), "what is gone leaves nothing");
    }

    /// The rules of the names, restated over the objects.
    #[test]
    fn names_lead_to_the_endpoints_that_they_name(
        changes in proptest::collection::vec(change(), 0..24),
    ) {
        let mut records = empty();
        for change in changes.clone() {
            apply(&mut records, change);
        }
        let objects = Objects::of(&changes);
        for (name, service) in &objects.services {
            if service.external_name.is_some() {
                continue;
            }
            let whole = found(&ask(&records, &format!("{name}.z.svc"), Kind::V4));
            let expected = match service.headless {
                true => objects.addresses(name, |_| true),
                false => service.cluster_ips.iter().copied().collect(),
            };
            prop_assert_eq!(&whole, &expected, "{}", name);
            if whole.is_empty() {
                continue;
            }
            for below in NODES {
                let answer = ask(&records, &format!("{below}.{name}.z.svc"), Kind::V4);
                prop_assert_eq!(found(&answer), objects.named(name, below), "{}.{}", below, name);
                let above = |node: &&str| {
                    node.ends_with(&format!(".{below}")) && !objects.named(name, node).is_empty()
                };
                if answer == Answer::NoName {
                    prop_assert!(!NODES.iter().any(above), "{} has names below", below);
                }
            }
        }
    }
}
