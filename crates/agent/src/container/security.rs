//! Security contexts: the pod's, overridden by the container's.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, PodSpec, SeccompProfile};
use runtime::{Seccomp, SecuritySpec};

/// Where `Localhost` seccomp profiles lie, as the kubelet has it.
const SECCOMP_FOLDER: &str = "/var/lib/kubelet/seccomp";

/// What confines a container.
pub(super) fn security(spec: &PodSpec, container: &Container) -> SecuritySpec {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let capabilities = own.capabilities.unwrap_or_default();
    let privileged = own.privileged == Some(true);
    let profile = own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref());
    let id = |id: i64| u32::try_from(id).ok();
    let groups = pod.supplemental_groups.into_iter().flatten().chain(pod.fs_group);
    SecuritySpec {
        privileged,
        user: own.run_as_user.or(pod.run_as_user).map(|user| user.to_string()),
        group: own.run_as_group.or(pod.run_as_group).and_then(id),
        supplementary_groups: groups.filter_map(id).collect(),
        run_as_non_root: own.run_as_non_root.or(pod.run_as_non_root) == Some(true),
        read_only_root: own.read_only_root_filesystem == Some(true),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        seccomp: if privileged {
            Seccomp::Unconfined
        } else {
            seccomp(profile)
        },
    }
}

fn seccomp(profile: Option<&SeccompProfile>) -> Seccomp {
    match profile.map(|profile| (profile.type_.as_str(), profile.localhost_profile.as_deref())) {
        Some(("RuntimeDefault", _)) => Seccomp::RuntimeDefault,
        Some(("Localhost", Some(name))) => Seccomp::Localhost(PathBuf::from(SECCOMP_FOLDER).join(name)),
        _ => Seccomp::Unconfined,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_containers_context_wins_over_the_pods() {
        let spec = json!({
            "securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4],
                "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"runAsUser": 5, "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}}],
        });
        let spec: PodSpec = serde_json::from_value(spec).expect("a spec");
        let expected = SecuritySpec {
            user: Some("5".into()),
            group: Some(2),
            supplementary_groups: vec![4, 3],
            run_as_non_root: true,
            read_only_root: true,
            no_new_privileges: true,
            add_capabilities: vec!["NET_ADMIN".into()],
            drop_capabilities: vec!["ALL".into()],
            seccomp: Seccomp::RuntimeDefault,
            ..Default::default()
        };
        assert_eq!(security(&spec, &spec.containers[0]), expected);
    }
}
