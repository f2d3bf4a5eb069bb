//! From a container of a pod's spec to the runtime's plain description of one run.

pub(crate) mod downward;
mod environment;
mod expansion;
mod files;
mod mounts;
mod plugins;
mod resolver;
mod resources;
mod security;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use plan::pod_sync::Failure;
use runtime::{ContainerSpec, LogPath, SandboxSpec};

use crate::cluster::PodRef;
use crate::sources::Sources;

use files::hostname;
pub(crate) use files::write_network_files;
pub(crate) use resolver::{ClusterNames, NameServer, Note};
pub(crate) use resources::{pod_resources, qos_class};

/// Annotation of a run in the runtime: the container's name.
pub(crate) const CONTAINER: &str = "everynode/container";
/// Annotation of a run in the runtime: its number.
pub(crate) const ATTEMPT: &str = "everynode/attempt";

/// What a container sees of its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) node_name: String,
    pub(crate) host_ips: Vec<String>,
    pub(crate) pod_ips: Vec<String>,
    /// The node's allocatable amounts: what a container without limits may use.
    pub(crate) allocatable: BTreeMap<String, String>,
    /// `KUBERNETES_SERVICE_HOST` and `_PORT`.
    pub(crate) api_address: SocketAddr,
    /// No server has been heard of the pod since the agent started.
    pub(crate) alone: bool,
}

/// Where a pod's files lie.
#[derive(Clone, Debug)]
pub(crate) struct PodFiles(pub(crate) PathBuf);

impl PodFiles {
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.0.join("volumes").join(name)
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    pub(crate) fn etc(&self) -> PathBuf {
        self.0.join("etc")
    }

    pub(crate) fn terminations(&self) -> PathBuf {
        self.0.join("termination")
    }

    pub(crate) fn termination_message(&self, container: &str, attempt: u32) -> PathBuf {
        self.terminations().join(format!("{container}-{attempt}"))
    }
}

/// Id of a run in the runtime.
pub(crate) fn run_id(container: &str, attempt: u32) -> String {
    format!("{container}-{attempt}")
}

/// The containers of all sorts, by name.
pub(crate) fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a Container> {
    let init = spec.init_containers.iter().flatten();
    init.chain(&spec.containers)
        .find(|container| container.name == name)
}

/// The sandbox of a pod.
pub(crate) fn sandbox(pod: &Pod, node_name: &str, names: &ClusterNames) -> SandboxSpec {
    let identity = PodRef::of(pod);
    let spec = pod.spec.clone().unwrap_or_default();
    let host_network = spec.host_network == Some(true);
    let class = qos_class(&spec);
    let annotations = [
        ("everynode/namespace", &identity.namespace),
        ("everynode/name", &identity.name),
    ];
    let sysctls = spec
        .security_context
        .as_ref()
        .and_then(|context| context.sysctls.as_ref());
    SandboxSpec {
        id: identity.uid.clone(),
        annotations: annotations
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .into(),
        hostname: (!host_network).then(|| hostname(pod, node_name)),
        host_network,
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        cgroup_parent: class.cgroup(&identity.uid),
        resources: pod_resources(&spec),
        sysctls: sysctls
            .into_iter()
            .flatten()
            .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
            .collect(),
        host_ports: if host_network {
            Vec::new()
        } else {
            files::host_ports(&spec)
        },
        plugin_args: plugins::args(pod, names),
    }
}

/// One run of a container, its volumes being in place. What is wrong with the pod's own words (a missing key, an unknown
/// field) is a `CreateContainerConfigError`.
pub(crate) async fn run(
    sources: &Sources,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    files: &PodFiles,
    log: LogPath,
    surroundings: &Surroundings,
) -> Result<ContainerSpec, Failure> {
    let config_error = |message: String| Failure {
        reason: "CreateContainerConfigError".into(),
        message,
    };
    let spec = pod.spec.clone().unwrap_or_default();
    let env = environment::environment(sources, pod, container, surroundings)
        .await
        .map_err(config_error)?;
    let expand = |words: &Option<Vec<String>>| -> Vec<String> {
        let words = words.iter().flatten();
        words
            .map(|word| expansion::expand(word, |name| env.get(name)))
            .collect()
    };
    let mounts = mounts::mounts(pod, container, attempt, files, &env).map_err(config_error)?;
    let annotations = [
        (CONTAINER, container.name.clone()),
        (ATTEMPT, attempt.to_string()),
    ];
    Ok(ContainerSpec {
        id: run_id(&container.name, attempt),
        annotations: annotations.map(|(key, value)| (key.to_owned(), value)).into(),
        image: container.image.clone().unwrap_or_default(),
        command: expand(&container.command),
        args: expand(&container.args),
        working_dir: container.working_dir.clone().filter(|folder| !folder.is_empty()),
        mounts,
        devices: Vec::new(),
        resources: resources::container_resources(&spec, container),
        security: security::security(&spec, container),
        tty: container.tty == Some(true),
        log_path: Some(log),
        env: env.into_pairs(),
    })
}

/// The port of a probe or hook: a number, or the name of one of the container's ports.
pub(crate) fn port(
    port: &k8s_openapi::apimachinery::pkg::util::intstr::IntOrString,
    container: &Container,
) -> Option<u16> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::{Int, String};
    match port {
        Int(number) => u16::try_from(*number).ok(),
        String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_deref() == Some(name));
            named
                .and_then(|port| u16::try_from(port.container_port).ok())
                .or_else(|| name.parse().ok())
        }
    }
}

/// The host that probes and hooks reach a pod at.
pub(crate) fn host(pod_ips: &[String]) -> String {
    match pod_ips.first().and_then(|ip| ip.parse().ok()) {
        Some(IpAddr::V6(ip)) => format!("[{ip}]"),
        Some(IpAddr::V4(ip)) => ip.to_string(),
        None => "127.0.0.1".into(),
    }
}
