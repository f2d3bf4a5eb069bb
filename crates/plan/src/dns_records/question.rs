//! Finds the answer to a question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::endpoints::{Endpoints, Host};
use super::{Answer, Entry, Port, Records, Service, Target};

/// The requested type of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `A`.
    V4,
    /// `AAAA`.
    V6,
    /// `SRV`.
    Service,
    /// `PTR`.
    Pointer,
    /// `TXT`.
    Text,
    /// `NS`.
    NameServer,
    /// `SOA`.
    Authority,
    /// Any other type: the cluster has no such records, but the name may exist.
    Other,
}

/// What a name below a Service's name means.
enum Owner<'a> {
    /// The Service itself.
    Service,
    /// Endpoints with a name.
    Named(&'a str, &'a Host),
    /// No records, but names below it exist.
    Above,
}

impl Records {
    /// Answers a question about a name: lower-case labels, the leftmost first, without the root.
    pub fn answer(&self, name: &[&str], kind: Kind) -> Answer<'_> {
        if kind == Kind::Pointer
            && let Some(address) = reversed(name)
        {
            return self.pointers(address);
        }
        let Some(below) = below(name, &self.domain) else {
            return Answer::Elsewhere;
        };
        match below {
            [] => match kind {
                Kind::Authority => Answer::Authority,
                Kind::NameServer => Answer::NameServer,
                _ => Answer::NoData,
            },
            ["dns-version"] if kind == Kind::Text => Answer::Version,
            ["dns-version"] | ["svc" | "pod" | "dns"] => Answer::NoData,
            ["ns", "dns"] => addresses(&self.server_v4, &self.server_v6, kind),
            // The names of all addresses exist in every namespace.
            [_, "pod"] => Answer::NoData,
            [pod, _, "pod"] => spelt(pod, kind),
            [namespace, "svc"] => match self.has_names(namespace) {
                true => Answer::NoData,
                false => Answer::NoName,
            },
            [below @ .., name, namespace, "svc"] => match self.services.get(*namespace) {
                Some(services) => services
                    .get(*name)
                    .map_or(Answer::NoName, |entry| entry.answer(below, kind)),
                None => Answer::NoName,
            },
            _ => Answer::NoName,
        }
    }

    /// Returns whether a namespace contains names.
    fn has_names(&self, namespace: &str) -> bool {
        let services = self.services.get(namespace);
        services.is_some_and(|services| services.values().any(Entry::has_name))
    }

    /// The reverse names of an address. Unknown addresses may be outside the cluster.
    fn pointers(&self, address: IpAddr) -> Answer<'_> {
        let Some(pointers) = self.reverse.get(&address).map(|found| found.members()) else {
            return Answer::Elsewhere;
        };
        // They are sorted by rank.
        let best = pointers.first().map(|pointer| pointer.rank);
        let fitting = pointers.iter().take_while(|pointer| Some(pointer.rank) == best);
        Answer::Pointers(fitting.map(|pointer| pointer.name.as_str()).collect())
    }
}

impl Entry {
    fn has_name(&self) -> bool {
        let Some(service) = &self.service else {
            return false;
        };
        !service.headless || !self.endpoints.all().is_empty()
    }

    fn answer(&self, below: &[&str], kind: Kind) -> Answer<'_> {
        let Some(service) = self.service.as_ref().filter(|_| self.has_name()) else {
            return Answer::NoName;
        };
        if let Some(name) = &service.external_name {
            return match below {
                // An address is no valid alias.
                [] if name.parse::<IpAddr>().is_ok() => Answer::NoData,
                [] => Answer::Alias(name),
                _ => Answer::NoName,
            };
        }
        // Neither hostnames nor nodes' names begin with an underscore.
        let split = below.iter().take_while(|label| label.starts_with('_')).count();
        let (port, host) = below.split_at(split);
        let Some(owner) = owner(&self.endpoints, host) else {
            return Answer::NoName;
        };
        match (port, owner) {
            ([], Owner::Above) => Answer::NoData,
            ([], owner) if kind == Kind::Service => targets(self.targets(service, owner, |_| true)),
            ([], Owner::Named(_, host)) => addresses(host.v4(), host.v6(), kind),
            ([], Owner::Service) if service.headless => {
                let all = self.endpoints.all();
                addresses(all.v4(), all.v6(), kind)
            }
            ([], Owner::Service) => addresses(&self.cluster_v4, &self.cluster_v6, kind),
            ([protocol], owner) => {
                let protocol = &protocol[1..];
                let named = |port: &Port| port.protocol == protocol && !port.name.is_empty();
                match self.has_port(service, &owner, named) {
                    true => Answer::NoData,
                    false => Answer::NoName,
                }
            }
            ([name, protocol], owner) => {
                let (name, protocol) = (&name[1..], &protocol[1..]);
                let asked = |port: &Port| !name.is_empty() && port.name == name && port.protocol == protocol;
                match self.has_port(service, &owner, asked) {
                    true if kind == Kind::Service => targets(self.targets(service, owner, asked)),
                    true => Answer::NoData,
                    false => Answer::NoName,
                }
            }
            _ => Answer::NoName,
        }
    }

    fn has_port(&self, service: &Service, owner: &Owner, asked: impl Fn(&Port) -> bool) -> bool {
        match owner {
            Owner::Service if service.headless => self.endpoints.all().ports().any(asked),
            Owner::Service => service.ports.iter().any(asked),
            Owner::Named(_, host) => host.ports().any(asked),
            Owner::Above => false,
        }
    }

    /// The ports of a name, and their targets.
    fn targets<'a>(
        &'a self,
        service: &'a Service,
        owner: Owner<'a>,
        asked: impl Fn(&Port) -> bool,
    ) -> Vec<Target<'a>> {
        let mut targets = Vec::new();
        match owner {
            Owner::Service if service.headless => {
                for (name, host) in self.endpoints.hosts() {
                    add(&mut targets, host, name, &asked);
                }
            }
            Owner::Service => {
                let ports = service.ports.iter().filter(|port| asked(port));
                targets.extend(ports.map(|port| Target {
                    port: port.number,
                    below: None,
                    v4: &self.cluster_v4,
                    v6: &self.cluster_v6,
                }));
            }
            Owner::Named(name, host) => add(&mut targets, host, name, &asked),
            Owner::Above => {}
        }
        targets
    }
}

/// Adds each port of one name once.
fn add<'a>(targets: &mut Vec<Target<'a>>, host: &'a Host, name: &'a str, asked: impl Fn(&Port) -> bool) {
    let first = targets.len();
    for port in host.ports().filter(|port| asked(port)) {
        if targets[first..].iter().any(|target| target.port == port.number) {
            continue;
        }
        targets.push(Target {
            port: port.number,
            below: Some(name),
            v4: host.v4(),
            v6: host.v6(),
        });
    }
}

fn targets(targets: Vec<Target>) -> Answer {
    match targets.is_empty() {
        true => Answer::NoData,
        false => Answer::Targets(targets),
    }
}

fn owner<'a>(endpoints: &'a Endpoints, host: &[&str]) -> Option<Owner<'a>> {
    let found = |name: &str| match endpoints.named(name) {
        Some((name, host)) => Some(Owner::Named(name, host)),
        None => endpoints.leads_to_a_node(name).then_some(Owner::Above),
    };
    match host {
        [] => Some(Owner::Service),
        [label] => found(label),
        labels => found(&labels.join(".")),
    }
}

fn addresses<'a>(v4: &'a [Ipv4Addr], v6: &'a [Ipv6Addr], kind: Kind) -> Answer<'a> {
    match kind {
        Kind::V4 if !v4.is_empty() => Answer::V4(v4),
        Kind::V6 if !v6.is_empty() => Answer::V6(v6),
        _ => Answer::NoData,
    }
}

/// The labels below the domain; `None` for names outside it.
fn below<'a, 'b>(name: &'a [&'b str], domain: &[Box<str>]) -> Option<&'a [&'b str]> {
    let at = name.len().checked_sub(domain.len())?;
    let (below, end) = name.split_at(at);
    let same = end.iter().zip(domain).all(|(label, ours)| **label == **ours);
    same.then_some(below)
}

/// The name of a pod by its address: `10-244-0-5`.
fn spelt<'a>(label: &str, kind: Kind) -> Answer<'a> {
    let v4 = label.replace('-', ".").parse().map(IpAddr::V4);
    let v6 = || label.replace('-', ":").parse().map(IpAddr::V6);
    match (v4.or_else(|_| v6()), kind) {
        (Ok(address), Kind::V4) if address.is_ipv4() => Answer::Spelt(address),
        (Ok(address), Kind::V6) if address.is_ipv6() => Answer::Spelt(address),
        (Ok(_), _) => Answer::NoData,
        (Err(_), _) => Answer::NoName,
    }
}

/// The address of this reverse name.
fn reversed(name: &[&str]) -> Option<IpAddr> {
    match name {
        [digits @ .., "in-addr", "arpa"] if digits.len() == 4 => {
            let mut octets = [0; 4];
            for (octet, digits) in octets.iter_mut().rev().zip(digits) {
                *octet = digits.parse().ok()?;
            }
            Some(Ipv4Addr::from(octets).into())
        }
        [digits @ .., "ip6", "arpa"] if digits.len() == 32 => {
            let mut bits = 0;
            for digit in digits.iter().rev() {
                if digit.len() != 1 {
                    return None;
                }
                bits = bits << 4 | u128::from_str_radix(digit, 16).ok()?;
            }
            Some(Ipv6Addr::from_bits(bits).into())
        }
        _ => None,
    }
}
