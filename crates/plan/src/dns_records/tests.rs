mod answers;
mod properties;

use std::net::IpAddr;
use std::sync::Arc;

use super::*;

/// The DNS server of the tests' cluster.
fn empty() -> Records {
    Records::new("cluster.local", &[ip("10.96.0.10")])
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// `name/protocol/number`, such as `http/tcp/80`.
fn port(text: &str) -> Port {
    let mut parts = text.split('/').map(str::to_owned);
    let mut next = || parts.next().expect("three parts");
    Port {
        name: next(),
        protocol: next(),
        number: next().parse().expect("a number"),
    }
}

fn ports(texts: &[&str]) -> Vec<Port> {
    texts.iter().map(|text| port(text)).collect()
}

fn cluster_ip(addresses: &[&str], named: &[&str]) -> Service {
    Service {
        cluster_ips: addresses.iter().map(|text| ip(text)).collect(),
        ports: ports(named),
        ..Service::default()
    }
}

fn headless() -> Service {
    Service {
        headless: true,
        ..Service::default()
    }
}

fn slice(service: &str, named: &[&str], endpoints: &[Endpoint]) -> Slice {
    Slice {
        service: service.to_owned(),
        ports: Arc::from(ports(named)),
        endpoints: endpoints.to_vec(),
    }
}

/// A ready endpoint on a node.
fn on(address: &str, node: &str) -> Endpoint {
    Endpoint {
        addresses: vec![ip(address)],
        ready: true,
        hostname: None,
        node: Some(node.to_owned()),
    }
}

/// A ready endpoint with a hostname.
fn called(address: &str, hostname: &str) -> Endpoint {
    Endpoint {
        hostname: Some(hostname.to_owned()),
        node: None,
        ..on(address, "")
    }
}

fn unready(endpoint: Endpoint) -> Endpoint {
    Endpoint {
        ready: false,
        ..endpoint
    }
}

/// Asks for a name below the cluster's domain, or for an absolute one that ends with a dot.
fn ask<'a>(records: &'a Records, name: &str, kind: Kind) -> Answer<'a> {
    let whole = match name.strip_suffix('.') {
        Some(whole) => whole.to_owned(),
        None => format!("{name}.cluster.local"),
    };
    let labels: Vec<&str> = labels(&whole).collect();
    records.answer(&labels, kind)
}

/// The answer as text.
fn show(answer: &Answer) -> String {
    let addresses = |v4: &[Ipv4Addr], v6: &[Ipv6Addr]| {
        let v4 = v4.iter().map(ToString::to_string);
        let all: Vec<String> = v4.chain(v6.iter().map(ToString::to_string)).collect();
        all.join(" ")
    };
    match answer {
        Answer::V4(v4) => addresses(v4, &[]),
        Answer::V6(v6) => addresses(&[], v6),
        Answer::Spelt(address) => address.to_string(),
        Answer::Alias(name) => format!("= {name}"),
        Answer::Pointers(names) => names.join(" "),
        Answer::Targets(targets) => {
            let one = |target: &Target| {
                let name = target.below.unwrap_or("-");
                format!("{name}:{} ({})", target.port, addresses(target.v4, target.v6))
            };
            targets.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        other => format!("{other:?}"),
    }
}
