//! What a node grants its pods of the machine's kernel: parameters, and processes.

use std::str::FromStr;

use api::sysctl::{self, Namespace};
use k8s_openapi::api::core::v1::Pod;
use plan::pod_sync::Failure;
use runtime::bounded;

use crate::apparmor;

/// Processes and threads of one pod, unless the node says otherwise. Daemons of storage and of Java have some hundreds to 2,000; a fork bomb
/// reaches any number.
pub const POD_MAX_PIDS: i64 = 4096;

/// The share of the machine's processes that pods leave to it, unless the node says otherwise: one in ten, for its services, its logins and the
/// agent with a shim a pod.
const RESERVED_SHARE: u64 = 10;

/// The least that pods leave to the machine.
const RESERVED_LEAST: u64 = 1000;

/// What a node grants its pods of the machine's kernel.
#[derive(Clone, Debug)]
pub struct PodPolicy {
    /// Kernel parameters that pods may set beside the safe ones.
    pub unsafe_sysctls: Vec<SysctlPattern>,
    /// Processes and threads of one pod; -1 is no limit but that of all pods.
    pub pod_max_pids: i64,
    /// Processes and threads of the machine that pods leave to it; `None` is a tenth, at least 1,000.
    pub reserved_pids: Option<u64>,
}

impl Default for PodPolicy {
    fn default() -> Self {
        PodPolicy {
            unsafe_sysctls: Vec::new(),
            pod_max_pids: POD_MAX_PIDS,
            reserved_pids: None,
        }
    }
}

impl PodPolicy {
    /// The limit of one pod.
    pub(crate) fn pod_pids(&self) -> Option<i64> {
        (self.pod_max_pids > 0).then_some(self.pod_max_pids)
    }

    /// The limit of all pods together; the error says which setting leaves none.
    pub(crate) fn all_pids(&self) -> Result<i64, String> {
        remaining(machine_pids(), self.reserved_pids)
    }

    /// Why a pod is refused that asks for what this node does not grant.
    pub(crate) fn refuse(&self, pod: &Pod) -> Option<Failure> {
        self.refuse_sysctls(pod)
            .or_else(|| refuse_confinement(pod))
            .or_else(|| apparmor::refuse(pod))
    }

    /// Why a pod is refused for its kernel parameters, as the kubelet says it.
    fn refuse_sysctls(&self, pod: &Pod) -> Option<Failure> {
        let spec = pod.spec.as_ref()?;
        let context = spec.security_context.as_ref()?;
        let host = |namespace| match namespace {
            Namespace::Ipc => spec.host_ipc == Some(true),
            Namespace::Net => spec.host_network == Some(true),
        };
        let why = context.sysctls.iter().flatten().find_map(|asked| {
            let name = sysctl::normalize(&asked.name);
            if !self.lists(&name) {
                return Some(format!("{name:?} not allowlisted"));
            }
            let namespace = sysctl::namespace(&name).filter(|namespace| host(*namespace))?;
            Some(format!("{name:?} not allowed with host {namespace} enabled"))
        })?;
        Some(Failure {
            reason: "SysctlForbidden".to_owned(),
            message: format!("Pod was rejected: forbidden sysctl: {why}"),
        })
    }

    fn lists(&self, name: &str) -> bool {
        sysctl::SAFE.contains(&name) || self.unsafe_sysctls.iter().any(|pattern| pattern.covers(name))
    }
}

/// Why a pod is refused that relies on being confined in a way that this node does not know: it would run with more rights than it asks for.
fn refuse_confinement(pod: &Pod) -> Option<Failure> {
    let spec = pod.spec.as_ref()?;
    let refused = |reason: &str, message: String| {
        Some(Failure {
            reason: reason.to_owned(),
            message: format!("Pod was rejected: {message}"),
        })
    };
    if spec.host_users == Some(false) {
        let why = "spec.hostUsers: this node has no user namespaces for pods; leave the field out, or choose another node";
        return refused("UserNamespacesNotSupported", why.to_owned());
    }
    let init = spec.init_containers.iter().flatten();
    for container in init.chain(&spec.containers) {
        let context = container.security_context.as_ref();
        if context.and_then(|context| context.proc_mount.as_deref()) == Some("Unmasked") {
            let name = &container.name;
            let why = format!(
                "securityContext.procMount of container {name:?}: Unmasked takes user namespaces, which this node does not have; leave the field out"
            );
            return refused("ProcMountNotSupported", why);
        }
    }
    None
}

/// A kernel parameter of a pod's namespaces, or all with a common front: `net.core.somaxconn`, `kernel.msg*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysctlPattern {
    front: String,
    /// Whether more may follow.
    open: bool,
}

impl SysctlPattern {
    fn covers(&self, name: &str) -> bool {
        match self.open {
            true => name.starts_with(&self.front),
            false => name == self.front,
        }
    }
}

impl FromStr for SysctlPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<SysctlPattern, String> {
        let (front, open) = match text.strip_suffix('*') {
            Some(front) => (front, true),
            None => (text, false),
        };
        // The end of a front may stand in the middle of a name.
        let whole = if open {
            format!("{front}x")
        } else {
            front.to_owned()
        };
        if !sysctl::is_valid(&whole) {
            return Err(format!(
                "{text:?} is no kernel parameter: write it as net.core.somaxconn, or as net.core.* for all that begin so"
            ));
        }
        let front = sysctl::normalize(front).into_owned();
        match sysctl::namespace(&front) {
            Some(_) => Ok(SysctlPattern { front, open }),
            None => Err(format!(
                "the sysctls {text:?} are not known to be namespaced: a pod would change the machine. Those of kernel.shm*, kernel.msg*, kernel.sem, \
                 fs.mqueue.* and net.* can be allowed"
            )),
        }
    }
}

/// Processes and threads that the kernel has numbers and room for.
pub(crate) fn machine_pids() -> u64 {
    let limit = |name: &str| -> Option<u64> {
        let text = bounded::kernel(format!("/proc/sys/kernel/{name}")).ok()?;
        text.trim().parse().ok()
    };
    let limits = ["pid_max", "threads-max"].map(limit);
    // The kernel's own default of numbers.
    limits.into_iter().flatten().min().unwrap_or(32_768)
}

fn remaining(machine: u64, reserved: Option<u64>) -> Result<i64, String> {
    let default = (machine / RESERVED_SHARE).max(RESERVED_LEAST).min(machine / 2);
    let reserved = reserved.unwrap_or(default);
    match machine.checked_sub(reserved).filter(|left| *left > 0) {
        Some(left) => Ok(i64::try_from(left).unwrap_or(i64::MAX)),
        None => Err(format!(
            "--system-reserved pid={reserved} leaves pods no process: this machine's kernel has {machine}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refusal(policy: &PodPolicy, spec: Value) -> Option<String> {
        let pod = serde_json::from_value(json!({ "spec": spec })).expect("a pod");
        let failure = policy.refuse(&pod)?;
        assert_eq!(failure.reason, "SysctlForbidden");
        let told = failure
            .message
            .strip_prefix("Pod was rejected: forbidden sysctl: ");
        Some(told.expect("the kubelet's words").to_owned())
    }

    fn asking(name: &str) -> Value {
        json!({"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}})
    }

    #[test]
    fn a_pod_that_relies_on_a_confinement_this_node_has_not_is_refused() {
        let refusal = |spec: Value| {
            let pod = serde_json::from_value(json!({ "spec": spec })).expect("a pod");
            PodPolicy::default()
                .refuse(&pod)
                .map(|why| (why.reason, why.message))
        };
        let with = |context: Value| json!({"containers": [{"name": "c", "securityContext": context}]});
        for (spec, reason, field) in [
            (
                json!({"containers": [], "hostUsers": false}),
                "UserNamespacesNotSupported",
                "spec.hostUsers",
            ),
            (
                with(json!({"procMount": "Unmasked"})),
                "ProcMountNotSupported",
                "securityContext.procMount",
            ),
            (
                with(json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}})),
                "AppArmor",
                "AppArmor",
            ),
            (
                json!({"containers": [], "initContainers": [{"name": "i", "securityContext": {"procMount": "Unmasked"}}]}),
                "ProcMountNotSupported",
                "container \"i\"",
            ),
        ] {
            let (found, message) = refusal(spec).expect("a refusal");
            assert_eq!(found, reason);
            assert!(
                message.starts_with("Pod was rejected: ") && message.contains(field),
                "{message}"
            );
        }
        for spec in [
            json!({"containers": [], "hostUsers": true}),
            with(json!({"procMount": "Default", "appArmorProfile": {"type": "RuntimeDefault"}})),
        ] {
            assert_eq!(refusal(spec), None);
        }
    }

    #[test]
    fn safe_sysctls_are_allowed_in_either_spelling() {
        let policy = PodPolicy::default();
        for name in [
            "net.ipv4.tcp_syncookies",
            "net/ipv4/tcp_syncookies",
            "kernel.shm_rmid_forced",
        ] {
            assert_eq!(refusal(&policy, asking(name)), None, "{name}");
        }
        assert_eq!(refusal(&policy, json!({"containers": []})), None);
    }

    #[test]
    fn other_sysctls_are_refused_by_name() {
        let policy = PodPolicy::default();
        for name in [
            "vm.swappiness",
            "kernel.msgmax",
            "net.core.somaxconn",
            "kernel.core_pattern",
        ] {
            let told = refusal(&policy, asking(name));
            assert_eq!(told, Some(format!("{name:?} not allowlisted")));
        }
        let told = refusal(&policy, asking("vm/swappiness"));
        assert_eq!(told.as_deref(), Some("\"vm.swappiness\" not allowlisted"));
    }

    #[test]
    fn unsafe_sysctls_that_the_node_lists_are_allowed() {
        let policy = PodPolicy {
            unsafe_sysctls: vec![
                "kernel.msg*".parse().unwrap(),
                "net.core.somaxconn".parse().unwrap(),
            ],
            ..PodPolicy::default()
        };
        for name in ["kernel.msgmax", "kernel/msgmni", "net.core.somaxconn"] {
            assert_eq!(refusal(&policy, asking(name)), None, "{name}");
        }
        for name in ["net.core.somaxconn2", "net.core.rmem_max", "kernel.shmmax"] {
            assert!(refusal(&policy, asking(name)).is_some(), "{name}");
        }
    }

    #[test]
    fn sysctls_of_the_machines_namespaces_are_refused() {
        let policy = PodPolicy::default();
        let mut spec = asking("net.ipv4.tcp_syncookies");
        spec["hostNetwork"] = true.into();
        let told = refusal(&policy, spec);
        assert_eq!(
            told.as_deref(),
            Some("\"net.ipv4.tcp_syncookies\" not allowed with host Net enabled")
        );
        let mut spec = asking("kernel.shm_rmid_forced");
        spec["hostIPC"] = true.into();
        let told = refusal(&policy, spec);
        assert_eq!(
            told.as_deref(),
            Some("\"kernel.shm_rmid_forced\" not allowed with host IPC enabled")
        );
    }

    #[test]
    fn only_namespaced_sysctls_can_be_allowed() {
        for text in [
            "net.*",
            "net.ipv4.conf.*",
            "kernel.msg*",
            "kernel.sem",
            "fs.mqueue.*",
            "net/core/somaxconn",
        ] {
            assert!(text.parse::<SysctlPattern>().is_ok(), "{text}");
        }
        for text in [
            "*",
            "vm.*",
            "vm.swappiness",
            "kernel.*",
            "fs.*",
            "net.*.x",
            "Net.core",
            "",
        ] {
            assert!(text.parse::<SysctlPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn pods_leave_processes_to_the_machine() {
        assert_eq!(remaining(32_768, None), Ok(29_492));
        assert_eq!(remaining(4_194_304, None), Ok(3_774_874));
        assert_eq!(remaining(1_500, None), Ok(750));
        assert_eq!(remaining(32_768, Some(0)), Ok(32_768));
        assert_eq!(remaining(32_768, Some(30_000)), Ok(2_768));
        assert!(remaining(32_768, Some(32_768)).is_err());
        assert!(machine_pids() > 300);
    }
}
