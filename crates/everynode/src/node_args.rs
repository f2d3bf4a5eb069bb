//! Flags that describe the machine as a node, for `up` and `agent`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use agent::{PodPolicy, SysctlPattern};
use anyhow::{Result, anyhow, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Taint;

use crate::network_args::NetworkArgs;

/// Labels of Kubernetes that a node may set on itself. Only an administrator may set the others, so
/// that a machine cannot attract pods.
const OWN_LABELS: [&str; 13] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "kubelet.kubernetes.io",
    "node.kubernetes.io",
];

/// Flags of every role that runs a node.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "The node")]
pub(crate) struct NodeArgs {
    /// Name of the node (default: this machine's hostname)
    #[arg(long, value_name = "NAME", env = "EVERYNODE_NODE_NAME")]
    pub(crate) node_name: Option<String>,

    /// Label to add to the node; can be repeated
    #[arg(long = "node-label", alias = "node-labels", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,

    /// Taint to register the node with; can be repeated
    #[arg(long = "register-with-taints", alias = "register-with-taint", value_name = "KEY=VALUE:EFFECT", value_delimiter = ',', value_parser = taint)]
    pub(crate) taints: Vec<Taint>,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    #[command(flatten)]
    pub(crate) images: ImageArgs,

    #[command(flatten)]
    pub(crate) folders: FolderArgs,

    /// Sysctl that pods may set in addition to the safe ones (`securityContext.sysctls`), or a
    /// prefix with `*`. Only namespaced sysctls are accepted. Can be repeated
    #[arg(long, value_name = "NAME|FRONT*", value_delimiter = ',')]
    pub(crate) allowed_unsafe_sysctls: Vec<SysctlPattern>,

    /// Limit of processes and threads for each pod; -1: only the limit of all pods together
    #[arg(long, value_name = "N", default_value_t = agent::POD_MAX_PIDS, allow_negative_numbers = true, value_parser = pod_max_pids)]
    pub(crate) pod_max_pids: i64,

    /// Processes and threads that pods cannot use (default: a tenth of the kernel's limit, at least
    /// 1,000)
    #[arg(long, value_name = "pid=N", value_parser = system_reserved)]
    pub(crate) system_reserved: Option<u64>,

    /// DNS server address that pods use; the agent on every node answers there. At most one IPv4
    /// and one IPv6. Empty: no cluster DNS (default: the addresses of the Service kube-dns)
    #[arg(long, value_name = "ADDRESS[,ADDRESS]", value_parser = cluster_dns)]
    pub(crate) cluster_dns: Option<ClusterDns>,

    /// DNS domain of Services and pods
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
}

/// Folders of the machine that pods know by Kubernetes' names.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "The node")]
pub(crate) struct FolderArgs {
    /// Folder of container logs. Links for log collectors are created in the folder `containers`
    /// beside it
    #[arg(long, value_name = "DIR", default_value = agent::POD_LOGS_DIR, env = "EVERYNODE_POD_LOGS_DIR", value_parser = absolute)]
    pub(crate) pod_logs_dir: PathBuf,

    /// Folder for drivers and plugins, which pods mount (plugins, plugins_registry, device-plugins,
    /// ...)
    #[arg(long, value_name = "DIR", default_value = agent::KUBELET_DIR, env = "EVERYNODE_ROOT_DIR", value_parser = absolute)]
    pub(crate) root_dir: PathBuf,
}

/// What an image may take of the disk.
#[derive(Args, Debug, Clone, Copy)]
#[command(next_help_heading = "The node")]
pub(crate) struct ImageArgs {
    /// Largest image in bytes, packed and unpacked; a larger one is refused
    #[arg(long, value_name = "QUANTITY", default_value = "32Gi", value_parser = bytes)]
    image_max_bytes: u64,

    /// Largest number of files in an image
    #[arg(long, value_name = "NUMBER", default_value_t = runtime::ImageLimits::default().files)]
    image_max_files: u64,
}

impl ImageArgs {
    pub(crate) fn limits(self) -> runtime::ImageLimits {
        runtime::ImageLimits {
            bytes: self.image_max_bytes,
            files: self.image_max_files,
        }
    }
}

/// DNS servers of pods; may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterDns(Vec<IpAddr>);

impl NodeArgs {
    /// Returns the node's name. Fails, before anything is created, if it is not a valid object
    /// name.
    pub(crate) fn name(&self) -> Result<String> {
        let name = match &self.node_name {
            Some(name) => name.clone(),
            None => rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .to_lowercase(),
        };
        let mut wrong = Vec::new();
        api::validate::name::dns_subdomain(&name, &mut wrong);
        match wrong.first() {
            Some(why) => Err(anyhow!("--node-name {name:?}: {why}")),
            None => Ok(name),
        }
    }

    /// Returns the labels, with one value for each key.
    pub(crate) fn labels(&self) -> Result<BTreeMap<String, String>> {
        let mut labels = BTreeMap::new();
        for (key, value) in &self.labels {
            if let Some(other) = labels
                .insert(key.clone(), value.clone())
                .filter(|other| other != value)
            {
                bail!("--node-label {key} is given twice: {other:?} and {value:?}");
            }
        }
        Ok(labels)
    }

    /// Returns the DNS servers of pods in a cluster whose Service kube-dns has these addresses.
    pub(crate) fn cluster_dns(&self, services: Vec<IpAddr>) -> Vec<IpAddr> {
        match &self.cluster_dns {
            Some(ClusterDns(given)) => given.clone(),
            None => services,
        }
    }

    /// Returns the rights that pods have on the machine's kernel.
    pub(crate) fn policy(&self) -> PodPolicy {
        PodPolicy {
            unsafe_sysctls: self.allowed_unsafe_sysctls.clone(),
            pod_max_pids: self.pod_max_pids,
            reserved_pids: self.system_reserved,
        }
    }

    /// Fails early if the process is not root.
    pub(crate) fn check_root() -> Result<()> {
        match rustix::process::geteuid().is_root() {
            true => Ok(()),
            false => Err(anyhow!(
                "containers need root: run this with sudo, or run `everynode server` alone"
            )),
        }
    }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.is_absolute() && path.file_name().is_some() {
        true => Ok(path),
        false => Err("write an absolute path, such as /var/log/pods".to_owned()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let quantity = schema::quantity::Quantity::parse(text).map_err(|error| error.to_string())?;
    match u64::try_from(quantity.value()) {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("write a number of bytes above zero, such as 32Gi".to_owned()),
    }
}

fn cluster_dns(text: &str) -> Result<ClusterDns, String> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let addresses: Result<Vec<IpAddr>, _> = parts.map(|part| part.trim().parse()).collect();
    match addresses.as_deref() {
        Ok([one, other]) if one.is_ipv4() == other.is_ipv4() => {}
        Ok([] | [_] | [_, _]) => return Ok(ClusterDns(addresses.unwrap_or_default())),
        Ok(_) | Err(_) => {}
    }
    Err("write an address, such as 10.96.0.10, or one of each family with a comma between them".to_owned())
}

fn pod_max_pids(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(limit) if limit == -1 || limit > 0 => Ok(limit),
        _ => Err("write a number above 0, or -1 for no limit".to_owned()),
    }
}

fn system_reserved(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix("pid=").and_then(|number| number.parse().ok());
    number.ok_or_else(|| "write it as pid=N: only processes are reserved".to_owned())
}

fn label(text: &str) -> Result<(String, String), String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err("write it as KEY=VALUE; the value may be empty".to_owned());
    };
    let mut wrong = Vec::new();
    api::validate::name::qualified(key, &mut wrong);
    api::validate::name::label_value(value, &mut wrong);
    if let Some(why) = wrong.first() {
        return Err((*why).to_owned());
    }
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let is_kubernetes = ["kubernetes.io", "k8s.io"]
        .iter()
        .any(|own| domain == *own || domain.ends_with(&format!(".{own}")));
    let is_own = |own: &str| key == own || domain == own || domain.ends_with(&format!(".{own}"));
    if is_kubernetes && !OWN_LABELS.iter().any(|own| is_own(own)) {
        return Err(format!(
            "a node may not give itself the label {key}: an administrator does, by `everynode label node NAME {text}`"
        ));
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn taint(text: &str) -> Result<Taint, String> {
    let Some((pair, effect)) = text.rsplit_once(':') else {
        return Err("it lacks an effect: write KEY=VALUE:NoSchedule or KEY:NoExecute".to_owned());
    };
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(format!(
            "there is no effect {effect:?}: NoSchedule, PreferNoSchedule and NoExecute are the ones"
        ));
    }
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let mut wrong = Vec::new();
    api::validate::name::qualified(key, &mut wrong);
    api::validate::name::label_value(value, &mut wrong);
    match wrong.first() {
        Some(why) => Err((*why).to_owned()),
        None => Ok(Taint {
            effect: effect.to_owned(),
            key: key.to_owned(),
            time_added: None,
            value: (!value.is_empty()).then(|| value.to_owned()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pairs_and_values_may_be_empty() {
        assert_eq!(label("rack=7"), Ok(("rack".to_owned(), "7".to_owned())));
        assert_eq!(label("gpu="), Ok(("gpu".to_owned(), String::new())));
        assert_eq!(
            label("topology.kubernetes.io/zone=a").map(|(key, _)| key),
            Ok("topology.kubernetes.io/zone".to_owned())
        );
        for wrong in ["rack", "=7", "ra ck=7", "rack=a b"] {
            assert!(label(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_quantities_and_folders_absolute() {
        assert_eq!(bytes("32Gi"), Ok(runtime::ImageLimits::default().bytes));
        for wrong in ["0", "-1", "much", ""] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(absolute("/var/log/pods"), Ok(PathBuf::from("/var/log/pods")));
        for wrong in ["pods", "/", ""] {
            assert!(absolute(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_machine_gives_itself_no_role() {
        for wrong in [
            "node-role.kubernetes.io/control-plane=",
            "node-restriction.kubernetes.io/a=b",
            "kubernetes.io/role=master",
        ] {
            let why = label(wrong).expect_err(wrong);
            assert!(why.contains("an administrator"), "{why}");
        }
    }

    #[test]
    fn names_are_asked_for_at_an_address_or_nowhere() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        assert_eq!(cluster_dns("10.96.0.10"), Ok(ClusterDns(vec![ip("10.96.0.10")])));
        let both = ClusterDns(vec![ip("10.96.0.10"), ip("fd00::a")]);
        assert_eq!(cluster_dns("10.96.0.10,fd00::a"), Ok(both));
        assert_eq!(cluster_dns(""), Ok(ClusterDns(vec![])));
        for wrong in ["kube-dns", "10.96.0.10,10.96.0.11", "10.96.0.10,fd00::a,fd00::b"] {
            assert!(cluster_dns(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_of_processes_are_numbers_and_may_be_lifted_for_a_pod() {
        assert_eq!((pod_max_pids("-1"), pod_max_pids("1024")), (Ok(-1), Ok(1024)));
        for wrong in ["0", "-2", "many", ""] {
            assert!(pod_max_pids(wrong).is_err(), "{wrong}");
        }
        assert_eq!(system_reserved("pid=500"), Ok(500));
        for wrong in ["500", "cpu=1", "pid=-1", "pid=1,cpu=1"] {
            assert!(system_reserved(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn taints_have_a_key_and_an_effect() {
        let read = taint("node-role.kubernetes.io/master:NoSchedule").expect("a taint");
        assert_eq!(
            (read.key.as_str(), read.value),
            ("node-role.kubernetes.io/master", None)
        );
        let read = taint("dedicated=storage:NoExecute").expect("a taint");
        assert_eq!(read.value.as_deref(), Some("storage"));
        for (wrong, said) in [
            ("dedicated", "lacks an effect"),
            ("dedicated=storage:Never", "no effect \"Never\""),
            (":NoSchedule", "must"),
        ] {
            let why = taint(wrong).expect_err(wrong);
            assert!(why.contains(said), "{why}");
        }
    }
}
