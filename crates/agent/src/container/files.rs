//! The files in `/etc` that a pod's containers share, and the ports of the machine that lead to it.

use std::fs;
use std::io;
use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig, PodSpec};
use runtime::{HostPort, Protocol};

use super::PodFiles;

/// The domain of names in the cluster.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// Longest host name that Linux keeps.
const HOSTNAME_LENGTH: usize = 63;

/// Host name of a pod: its own wish, else its name; the node's on the host's network.
pub(crate) fn hostname(pod: &Pod, node_name: &str) -> String {
    let spec = pod.spec.as_ref();
    if spec.is_some_and(|spec| spec.host_network == Some(true)) {
        return node_name.to_owned();
    }
    let wish = spec
        .and_then(|spec| spec.hostname.as_deref())
        .filter(|name| !name.is_empty());
    let name = wish.or(pod.metadata.name.as_deref()).unwrap_or("pod");
    let cut: String = name.chars().take(HOSTNAME_LENGTH).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Writes `hosts`, `hostname` and `resolv.conf` of a pod whose addresses are known.
pub(crate) fn write_network_files(
    pod: &Pod,
    files: &PodFiles,
    pod_ips: &[String],
    node_name: &str,
) -> io::Result<()> {
    let folder = files.etc();
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("hostname"), format!("{}\n", hostname(pod, node_name)))?;
    fs::write(
        folder.join("hosts"),
        hosts(pod, pod_ips, node_name, Path::new("/etc/hosts")),
    )?;
    let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    fs::write(folder.join("resolv.conf"), resolv_conf(pod, &host))
}

fn hosts(pod: &Pod, pod_ips: &[String], node_name: &str, host_file: &Path) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut out = if spec.host_network == Some(true) {
        let host = fs::read_to_string(host_file).unwrap_or_default();
        format!("# Kubernetes-managed hosts file (host network).\n{host}")
    } else {
        let fixed = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                     fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
        let name = hostname(pod, node_name);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let names = match spec.subdomain.as_deref().filter(|domain| !domain.is_empty()) {
            Some(domain) => format!("{name}.{domain}.{namespace}.svc.{CLUSTER_DOMAIN}\t{name}"),
            None => name,
        };
        let own = pod_ips.iter().map(|ip| format!("{ip}\t{names}\n"));
        own.fold(fixed.to_owned(), |all, line| all + &line)
    };
    let aliases = spec.host_aliases.unwrap_or_default();
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.unwrap_or_default().join("\t");
        out.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    out
}

#[derive(Default)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// Whether the pod asks for the cluster's DNS, which no node has: it gets the machine's, as from a kubelet without one.
pub(crate) fn lacks_cluster_dns(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return true };
    match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" => spec.host_network != Some(true),
        policy => policy == "ClusterFirstWithHostNet",
    }
}

/// What the pod's DNS policy makes of the machine's resolver configuration. Without a DNS of the cluster, `ClusterFirst` is
/// `Default`: searching its domains would only send names to resolvers that cannot know them.
fn resolv_conf(pod: &Pod, host: &str) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut resolver = match spec.dns_policy.as_deref() {
        Some("None") => Resolver::default(),
        _ => parse(host),
    };
    if let Some(config) = &spec.dns_config {
        add(&mut resolver, config);
    }
    let mut out = String::new();
    if !resolver.searches.is_empty() {
        out.push_str(&format!("search {}\n", resolver.searches.join(" ")));
    }
    for server in resolver.nameservers {
        out.push_str(&format!("nameserver {server}\n"));
    }
    if !resolver.options.is_empty() {
        out.push_str(&format!("options {}\n", resolver.options.join(" ")));
    }
    out
}

fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let keyword = words.next().unwrap_or_default();
        let words = words.map(str::to_owned);
        match keyword {
            "nameserver" => resolver.nameservers.extend(words.take(1)),
            "search" | "domain" => resolver.searches = words.collect(),
            "options" => resolver.options.extend(words),
            _ => {}
        }
    }
    resolver
}

fn add(resolver: &mut Resolver, config: &PodDNSConfig) {
    let extend = |list: &mut Vec<String>, more: &Option<Vec<String>>| {
        for item in more.iter().flatten() {
            if !list.contains(item) {
                list.push(item.clone());
            }
        }
    };
    extend(&mut resolver.nameservers, &config.nameservers);
    extend(&mut resolver.searches, &config.searches);
    for option in config.options.iter().flatten() {
        let name = option.name.as_deref().unwrap_or_default();
        let option = match &option.value {
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

/// The machine's ports that lead to the pod.
pub(super) fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    let ports = ports.filter_map(|port| {
        Some(HostPort {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            },
            host_ip: port.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
            host_port: u16::try_from(port.host_port?).ok().filter(|port| *port > 0)?,
            container_port: u16::try_from(port.container_port).ok()?,
        })
    });
    ports.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let pod = json!({"metadata": {"name": "web-1", "namespace": "shop"}, "spec": spec});
        serde_json::from_value(pod).expect("a pod")
    }

    const HOST: &str = "# comment\nnameserver 9.9.9.9\nsearch lan\noptions ndots:1 edns0\n";

    #[test]
    fn the_dns_policy_decides_what_the_resolver_asks() {
        let own = json!({"nameservers": ["1.1.1.1"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}]});
        let default = "search lan\nnameserver 9.9.9.9\noptions ndots:1 edns0\n";
        let cases = [
            (json!({"containers": []}), default),
            (json!({"containers": [], "dnsPolicy": "Default"}), default),
            (
                json!({"containers": [], "dnsPolicy": "ClusterFirst", "hostNetwork": true}),
                default,
            ),
            (
                json!({"containers": [], "dnsPolicy": "None", "dnsConfig": own}),
                "search x\nnameserver 1.1.1.1\noptions ndots:2\n",
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(resolv_conf(&pod(spec.clone()), HOST), expected, "{spec}");
        }
    }

    #[test]
    fn the_hosts_file_names_the_pod_and_its_aliases() {
        let aliases = json!([{"ip": "10.1.1.1", "hostnames": ["a", "b"]}]);
        let spec = json!({"containers": [], "subdomain": "sub", "hostAliases": aliases});
        let text = hosts(&pod(spec), &["10.0.0.2".into()], "n", Path::new("/etc/hosts"));
        assert!(
            text.contains("10.0.0.2\tweb-1.sub.shop.svc.cluster.local\tweb-1\n"),
            "{text}"
        );
        assert!(
            text.ends_with("# Entries added by HostAliases.\n10.1.1.1\ta\tb\n"),
            "{text}"
        );
    }

    #[test]
    fn a_pod_on_the_hosts_network_has_the_nodes_name() {
        assert_eq!(hostname(&pod(json!({"containers": []})), "n"), "web-1");
        assert_eq!(
            hostname(&pod(json!({"containers": [], "hostname": "h"})), "n"),
            "h"
        );
        assert_eq!(
            hostname(&pod(json!({"containers": [], "hostNetwork": true})), "n"),
            "n"
        );
    }
}
