//! The pod's `resolv.conf`: whom its programs ask for names, and which domains they try.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use dns::{NAME_SERVERS, ResolvConf};
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};
use runtime::bounded;

/// Domains that are searched at most, and characters of all of them: Kubernetes' limits.
const SEARCHES: usize = 32;
const SEARCH_CHARACTERS: usize = 2048;
/// Characters of one domain.
const DOMAIN_CHARACTERS: usize = 253;
/// Names with fewer dots are tried in the searched domains first: `_port._proto.service.namespace.svc` has four.
const CLUSTER_OPTIONS: &str = "ndots:5";
/// Upstream name servers of systemd-resolved.
const BEHIND_SYSTEMD: &str = "/run/systemd/resolve/resolv.conf";

/// Settings of the cluster's DNS for pods.
#[derive(Clone, Debug)]
pub(crate) struct ClusterNames {
    /// `cluster.local`
    pub(crate) domain: String,
    /// `None` when this node has no DNS.
    pub(crate) server: Option<NameServer>,
}

/// Where this node answers for names.
#[derive(Clone, Debug)]
pub(crate) struct NameServer {
    /// For pods with a network of their own: at most one of each family, the preferred one first.
    pub(crate) pods: Vec<IpAddr>,
    /// For programs on the machine's network; `None` if its port there is taken.
    pub(crate) host: Option<IpAddr>,
}

/// What a pod should hear of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// It asks for the cluster's DNS, which it cannot have.
    NoClusterDns,
    /// Something was left out, in the kubelet's words.
    TooMuch(String),
}

impl Note {
    /// The Event's reason.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Note::NoClusterDns => "MissingClusterDNS",
            Note::TooMuch(_) => "DNSConfigForming",
        }
    }

    /// Its message.
    pub(crate) fn message(&self) -> String {
        match self {
            Note::NoClusterDns => {
                "kubelet does not have ClusterDNS IP configured and cannot create Pod using \
                                   \"ClusterFirst\" policy. Falling back to \"Default\" policy."
                    .to_owned()
            }
            Note::TooMuch(message) => message.clone(),
        }
    }
}

/// The machine's configuration. Stubs on loopback are of no use to pods with a network of their own, so that those of
/// systemd-resolved are looked behind.
pub(crate) fn machine() -> ResolvConf {
    let read = |path: &str| {
        let text = bounded::read_text(Path::new(path), bounded::FILE).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path, %error, "cannot read the machine's name servers");
            }
            String::new()
        });
        ResolvConf::parse(&text)
    };
    let own = read("/etc/resolv.conf");
    if own.only_loopback() {
        let behind = read(BEHIND_SYSTEMD);
        if !behind.addresses().is_empty() {
            return behind;
        }
    }
    own
}

impl NameServer {
    /// Where a pod with these addresses asks: at the first address of a family that it has.
    fn of_pod(&self, pod_ips: &[String]) -> Option<IpAddr> {
        let own: Vec<IpAddr> = pod_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        let reached = |server: &&IpAddr| own.iter().any(|ip| ip.is_ipv4() == server.is_ipv4());
        self.pods.iter().find(reached).copied()
    }
}

/// What the pod's DNS policy makes of the cluster's names and of the machine's configuration.
pub(crate) fn resolv_conf(
    pod: &Pod,
    pod_ips: &[String],
    names: &ClusterNames,
    machine: &ResolvConf,
) -> (String, Vec<Note>) {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut notes = Vec::new();
    let on_host = spec.host_network == Some(true);
    let server = names.server.as_ref().and_then(|server| match on_host {
        true => server.host,
        false => server.of_pod(pod_ips),
    });
    let from_cluster = match spec.dns_policy.as_deref() {
        Some("None" | "Default") => false,
        Some("ClusterFirstWithHostNet") => true,
        _ => !on_host,
    };
    let mut resolver = match (spec.dns_policy.as_deref(), server) {
        (Some("None"), _) => ResolvConf::default(),
        (_, Some(server)) if from_cluster => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let domain = &names.domain;
            let own = [
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.clone(),
            ];
            let mut resolver = ResolvConf {
                name_servers: vec![server.to_string()],
                searches: own.to_vec(),
                options: vec![CLUSTER_OPTIONS.to_owned()],
            };
            extend(&mut resolver.searches, &machine.searches);
            resolver
        }
        (_, server) => {
            if from_cluster {
                notes.push(Note::NoClusterDns);
            }
            let mut resolver = machine.clone();
            // A stub that only the machine's own programs reach: this node's DNS asks it for them.
            if let Some(server) = server.filter(|_| !on_host && machine.only_loopback()) {
                resolver.name_servers = vec![server.to_string()];
            }
            resolver
        }
    };
    if let Some(config) = &spec.dns_config {
        add(&mut resolver, config);
    }
    limit(&mut resolver, &mut notes);
    (text(&resolver), notes)
}

fn text(resolver: &ResolvConf) -> String {
    let mut out = String::new();
    if !resolver.searches.is_empty() {
        out.push_str(&format!("search {}\n", resolver.searches.join(" ")));
    }
    for server in &resolver.name_servers {
        out.push_str(&format!("nameserver {server}\n"));
    }
    if !resolver.options.is_empty() {
        out.push_str(&format!("options {}\n", resolver.options.join(" ")));
    }
    out
}

/// Adds what is not there.
fn extend(list: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn add(resolver: &mut ResolvConf, config: &PodDNSConfig) {
    extend(
        &mut resolver.name_servers,
        config.nameservers.as_deref().unwrap_or_default(),
    );
    extend(
        &mut resolver.searches,
        config.searches.as_deref().unwrap_or_default(),
    );
    for option in config.options.iter().flatten() {
        let name = option.name.as_deref().unwrap_or_default();
        let option = match option.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => format!("{name}:{value}"),
            None => name.to_owned(),
        };
        set_option(&mut resolver.options, &option);
    }
}

fn set_option(options: &mut Vec<String>, option: &str) {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    options.retain(|old| name(old) != name(option));
    options.push(option.to_owned());
}

/// Leaves out what resolvers do not take.
fn limit(resolver: &mut ResolvConf, notes: &mut Vec<Note>) {
    let servers = &mut resolver.name_servers;
    if servers.len() > NAME_SERVERS {
        servers.truncate(NAME_SERVERS);
        notes.push(Note::TooMuch(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            servers.join(" ")
        )));
    }
    let searches = &mut resolver.searches;
    let before = searches.len();
    searches.truncate(SEARCHES);
    searches.retain(|domain| domain.len() <= DOMAIN_CHARACTERS);
    while searches.join(" ").len() > SEARCH_CHARACTERS {
        searches.pop();
    }
    if searches.len() < before {
        notes.push(Note::TooMuch(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            searches.join(" ")
        )));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let pod = json!({"metadata": {"name": "web-1", "namespace": "shop"}, "spec": spec});
        serde_json::from_value(pod).expect("a pod")
    }

    fn ips(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_pod_asks_at_an_address_of_a_family_that_it_has() {
        for (pod_ips, server) in [
            (&["10.244.0.7"][..], Some("10.96.0.10")),
            (&["10.244.0.7", "fd00::7"], Some("10.96.0.10")),
            (&["fd00::7", "10.244.0.7"], Some("10.96.0.10")),
            (&["fd00::7"], Some("fd00:10:96::a")),
            (&[], None),
        ] {
            let spec = json!({"containers": []});
            let (text, notes) = resolv_conf(&pod(spec), &ips(pod_ips), &names(), &ResolvConf::default());
            let told = text.lines().find_map(|line| line.strip_prefix("nameserver "));
            assert_eq!(told, server, "{pod_ips:?}");
            assert_eq!(notes.is_empty(), server.is_some(), "{notes:?}");
        }
    }

    fn names() -> ClusterNames {
        ClusterNames {
            domain: "cluster.local".into(),
            server: Some(NameServer {
                pods: vec!["10.96.0.10".parse().unwrap(), "fd00:10:96::a".parse().unwrap()],
                host: Some("127.96.1.2".parse().unwrap()),
            }),
        }
    }

    fn without_dns() -> ClusterNames {
        ClusterNames {
            server: None,
            ..names()
        }
    }

    const MACHINE: &str = "nameserver 9.9.9.9\nsearch lan\noptions ndots:1 edns0\n";
    const DEFAULT: &str = "search lan\nnameserver 9.9.9.9\noptions ndots:1 edns0\n";

    fn written(spec: Value, names: &ClusterNames) -> (String, Vec<Note>) {
        resolv_conf(
            &pod(spec),
            &ips(&["10.244.0.7"]),
            names,
            &ResolvConf::parse(MACHINE),
        )
    }

    #[test]
    fn the_dns_policy_decides_whom_a_pod_asks() {
        let searches = "search shop.svc.cluster.local svc.cluster.local cluster.local lan\n";
        let cluster = format!("{searches}nameserver 10.96.0.10\noptions ndots:5\n");
        let host = format!("{searches}nameserver 127.96.1.2\noptions ndots:5\n");
        let cases = [
            (json!({"containers": []}), cluster.as_str()),
            (json!({"containers": [], "dnsPolicy": "ClusterFirst"}), &cluster),
            (
                json!({"containers": [], "dnsPolicy": "ClusterFirstWithHostNet"}),
                &cluster,
            ),
            (
                json!({"containers": [], "dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
                &host,
            ),
            (
                json!({"containers": [], "dnsPolicy": "ClusterFirst", "hostNetwork": true}),
                DEFAULT,
            ),
            (json!({"containers": [], "dnsPolicy": "Default"}), DEFAULT),
        ];
        for (spec, expected) in cases {
            assert_eq!(
                written(spec.clone(), &names()),
                (expected.to_owned(), Vec::new()),
                "{spec}"
            );
        }
    }

    #[test]
    fn a_pod_s_own_configuration_is_added() {
        let own = json!({
            "nameservers": ["1.1.1.1", "9.9.9.9"],
            "searches": ["x", "lan"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}],
        });
        let with = |policy: &str| {
            let spec = json!({"containers": [], "dnsPolicy": policy, "dnsConfig": own});
            written(spec, &names()).0
        };
        assert_eq!(
            with("None"),
            "search x lan\nnameserver 1.1.1.1\nnameserver 9.9.9.9\noptions ndots:2 rotate\n"
        );
        assert_eq!(
            with("Default"),
            "search lan x\nnameserver 9.9.9.9\nnameserver 1.1.1.1\noptions edns0 ndots:2 rotate\n"
        );
        assert_eq!(
            with("ClusterFirst"),
            "search shop.svc.cluster.local svc.cluster.local cluster.local lan x\nnameserver 10.96.0.10\n\
             nameserver 1.1.1.1\nnameserver 9.9.9.9\noptions ndots:2 rotate\n"
        );
    }

    #[test]
    fn a_node_without_dns_says_so_to_those_that_ask_for_it() {
        let cases = [
            (json!({"containers": []}), true),
            (
                json!({"containers": [], "dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
                true,
            ),
            (
                json!({"containers": [], "dnsPolicy": "ClusterFirst", "hostNetwork": true}),
                false,
            ),
            (json!({"containers": [], "dnsPolicy": "Default"}), false),
        ];
        for (spec, missed) in cases {
            let (text, notes) = written(spec.clone(), &without_dns());
            assert_eq!(text, DEFAULT, "{spec}");
            assert_eq!(notes.contains(&Note::NoClusterDns), missed, "{spec}");
        }
    }

    #[test]
    fn what_exceeds_the_limits_is_left_out_and_told() {
        let many: Vec<String> = (0..40).map(|number| format!("d{number}.example.org")).collect();
        let own = json!({"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3"], "searches": many});
        let spec = json!({"containers": [], "dnsConfig": own});
        let (text, notes) = written(spec, &names());
        let searches = text.lines().next().unwrap_or_default().split(' ').skip(1);
        assert_eq!(searches.count(), 32);
        assert_eq!(text.matches("nameserver").count(), 3);
        let reasons: Vec<&str> = notes.iter().map(Note::reason).collect();
        assert_eq!(reasons, ["DNSConfigForming"; 2]);
        let long =
            json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"searches": ["a".repeat(254), "b"]}});
        assert_eq!(written(long, &names()).0, "search b\n");
        let wide: Vec<String> = (0..20)
            .map(|number| format!("{number}{}", "w".repeat(200)))
            .collect();
        let spec = json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"searches": wide}});
        assert!(written(spec, &names()).0.trim_end().len() <= "search ".len() + 2048);
    }

    #[test]
    fn a_stub_that_pods_do_not_reach_is_asked_by_the_node_for_them() {
        let stub = ResolvConf::parse("nameserver 127.0.0.11\nsearch lan\n");
        let spec = json!({"containers": [], "dnsPolicy": "Default"});
        let text = |spec: &Value| resolv_conf(&pod(spec.clone()), &ips(&["10.244.0.7"]), &names(), &stub).0;
        assert_eq!(text(&spec), "search lan\nnameserver 10.96.0.10\n");
        let host = json!({"containers": [], "dnsPolicy": "Default", "hostNetwork": true});
        assert_eq!(text(&host), "search lan\nnameserver 127.0.0.11\n");
    }
}
