//! The files in `/etc` that a pod's containers share, and the ports of the machine that lead to it.

use std::fs;
use std::io;
use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use runtime::{HostPort, Protocol, bounded};

use super::PodFiles;
use super::resolver::{self, ClusterNames, Note};

/// Longest host name that Linux keeps.
const HOSTNAME_LENGTH: usize = 63;

/// Host name of a pod: `hostnameOverride` as it is, else `hostname`, else its name; the node's on the host's network.
pub(crate) fn hostname(pod: &Pod, node_name: &str) -> String {
    let spec = pod.spec.as_ref();
    if spec.is_some_and(|spec| spec.host_network == Some(true)) {
        return node_name.to_owned();
    }
    let whole = spec.and_then(|spec| spec.hostname_override.as_deref());
    if let Some(name) = whole.filter(|name| !name.is_empty()) {
        return name.to_owned();
    }
    let wish = spec
        .and_then(|spec| spec.hostname.as_deref())
        .filter(|name| !name.is_empty());
    let name = wish.or(pod.metadata.name.as_deref()).unwrap_or("pod");
    let cut: String = name.chars().take(HOSTNAME_LENGTH).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Writes `hosts`, `hostname` and `resolv.conf` of a pod whose addresses are known. What the pod should hear of it is returned.
pub(crate) fn write_network_files(
    pod: &Pod,
    files: &PodFiles,
    pod_ips: &[String],
    node_name: &str,
    names: &ClusterNames,
) -> io::Result<Vec<Note>> {
    let folder = files.etc();
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("hostname"), format!("{}\n", hostname(pod, node_name)))?;
    let hosts = hosts(pod, pod_ips, node_name, &names.domain, Path::new("/etc/hosts"))?;
    fs::write(folder.join("hosts"), hosts)?;
    let (text, notes) = resolver::resolv_conf(pod, pod_ips, names, &resolver::machine());
    fs::write(folder.join("resolv.conf"), text)?;
    Ok(notes)
}

fn hosts(
    pod: &Pod,
    pod_ips: &[String],
    node_name: &str,
    domain: &str,
    host_file: &Path,
) -> io::Result<String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut out = if spec.host_network == Some(true) {
        let host = match bounded::read_text(host_file, bounded::FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            host => {
                host.map_err(|error| io::Error::other(format!("read {}: {error}", host_file.display())))?
            }
        };
        format!("# Kubernetes-managed hosts file (host network).\n{host}")
    } else {
        let fixed = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                     fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
        let name = hostname(pod, node_name);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        // An override says nothing of names in DNS.
        let overridden = spec
            .hostname_override
            .as_deref()
            .is_some_and(|name| !name.is_empty());
        let subdomain = spec.subdomain.as_deref().filter(|domain| !domain.is_empty());
        let names = match subdomain.filter(|_| !overridden) {
            Some(subdomain) => format!("{name}.{subdomain}.{namespace}.svc.{domain}\t{name}"),
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
    Ok(out)
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

    #[test]
    fn the_hosts_file_names_the_pod_and_its_aliases() {
        let aliases = json!([{"ip": "10.1.1.1", "hostnames": ["a", "b"]}]);
        let spec = json!({"containers": [], "subdomain": "sub", "hostAliases": aliases});
        let text = hosts(
            &pod(spec),
            &["10.0.0.2".into()],
            "n",
            "cluster.local",
            Path::new("/etc/hosts"),
        )
        .expect("read");
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
        let whole = json!({"containers": [], "hostname": "h", "hostnameOverride": "a.example.org"});
        assert_eq!(hostname(&pod(whole), "n"), "a.example.org");
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
