//! The checks of the level `baseline`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::phrase::{containers, plural, quoted, setters};
use super::{Subject, Violation};
use crate::sysctl;
use crate::validate::field::{flag, list, present, text, texts};

fn violation(reason: impl Into<String>, detail: String) -> Option<Violation> {
    Some(Violation {
        reason: reason.into(),
        detail,
    })
}

/// AppArmor must have the runtime's default or a profile of the node, by the field or the older
/// annotation.
pub(super) fn app_armor(pod: &Subject<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let bad_type = |context: &Value| {
        let profile = &context["appArmorProfile"];
        let kind = text(profile, "type");
        (!profile.is_null() && !matches!(kind, "RuntimeDefault" | "Localhost")).then(|| kind.to_owned())
    };
    let mut types: BTreeSet<String> = BTreeSet::new();
    let own = bad_type(pod.context());
    types.extend(own.clone());
    let names = pod.containers_that(|container| {
        let bad = bad_type(&container["securityContext"]);
        types.extend(bad.clone());
        bad.is_some()
    });
    let annotations = pod.annotations.as_object().into_iter().flatten();
    let mut annotated: Vec<String> = annotations
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(key, value)| {
            let is_good = matches!(*value, "" | "runtime/default") || value.starts_with("localhost/");
            key.starts_with(ANNOTATION) && !is_good
        })
        .map(|(key, value)| format!("{key}={}", crate::field_error::quote(value)))
        .collect();
    annotated.sort_unstable();
    let mut who = setters(own.is_some(), &names);
    if !annotated.is_empty() {
        who.push(plural("annotation", "annotations", annotated.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = types.into_iter().chain(annotated).collect();
    let reason = plural(
        "forbidden AppArmor profile",
        "forbidden AppArmor profiles",
        values.len(),
    );
    violation(
        reason,
        format!(
            "{} must not set AppArmor profile type to {}",
            who.join(" and "),
            quoted(values)
        ),
    )
}

/// Only capabilities that containers have by default may be added.
pub(super) fn capabilities(pod: &Subject<'_>) -> Option<Violation> {
    const DEFAULT: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let mut added = BTreeSet::new();
    let names = pod.containers_that(|container| {
        let bad: Vec<&str> = texts(&container["securityContext"]["capabilities"], "add")
            .filter(|capability| !DEFAULT.contains(capability))
            .collect();
        added.extend(bad.iter().copied());
        !bad.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    violation(
        "non-default capabilities",
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&names),
            quoted(added)
        ),
    )
}

/// A pod must not use the host's namespaces.
pub(super) fn host_namespaces(pod: &Subject<'_>) -> Option<Violation> {
    let shared: Vec<&str> = ["hostIPC", "hostNetwork", "hostPID"]
        .into_iter()
        .filter(|field| flag(pod.spec, field))
        .collect();
    if shared.is_empty() {
        return None;
    }
    violation("host namespaces", shared.join(", "))
}

/// No directory of the node may be mounted.
pub(super) fn host_path_volumes(pod: &Subject<'_>) -> Option<Violation> {
    let names: Vec<&str> = list(pod.spec, "volumes")
        .iter()
        .filter(|volume| present(volume, "hostPath"))
        .map(|volume| text(volume, "name"))
        .collect();
    if names.is_empty() {
        return None;
    }
    let volumes = plural("volume", "volumes", names.len());
    violation("hostPath volumes", format!("{volumes} {}", quoted(names)))
}

/// No port of the node may be used.
pub(super) fn host_ports(pod: &Subject<'_>) -> Option<Violation> {
    let mut ports: BTreeSet<String> = BTreeSet::new();
    let names = pod.containers_that(|container| {
        let taken: Vec<i64> = list(container, "ports")
            .iter()
            .filter_map(|port| port["hostPort"].as_i64())
            .filter(|port| *port != 0)
            .collect();
        ports.extend(taken.iter().map(i64::to_string));
        !taken.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    let shown: Vec<String> = ports.into_iter().collect();
    violation(
        "hostPort",
        format!(
            "{} {} {} {}",
            containers(&names),
            plural("uses", "use", names.len()),
            plural("hostPort", "hostPorts", shown.len()),
            shown.join(", ")
        ),
    )
}

/// Probes and hooks must connect only to the pod, not to addresses that the node can reach.
pub(super) fn hosts_of_probes(pod: &Subject<'_>) -> Option<Violation> {
    let mut hosts = BTreeSet::new();
    let names: BTreeSet<&str> = pod
        .containers_that(|container| {
            let hooks = &container["lifecycle"];
            let handlers = [
                &container["livenessProbe"],
                &container["readinessProbe"],
                &container["startupProbe"],
                &hooks["postStart"],
                &hooks["preStop"],
            ];
            let named: Vec<&str> = handlers
                .into_iter()
                .flat_map(|handler| {
                    [
                        text(&handler["httpGet"], "host"),
                        text(&handler["tcpSocket"], "host"),
                    ]
                })
                .filter(|host| !host.is_empty())
                .collect();
            hosts.extend(named.iter().copied());
            !named.is_empty()
        })
        .into_iter()
        .collect();
    if names.is_empty() {
        return None;
    }
    let names: Vec<&str> = names.into_iter().collect();
    violation(
        "probe or lifecycle host",
        format!(
            "{} {} {} {}",
            containers(&names),
            plural("uses", "use", names.len()),
            plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
            quoted(hosts)
        ),
    )
}

/// No container may be privileged.
pub(super) fn privileged(pod: &Subject<'_>) -> Option<Violation> {
    let names = pod.containers_that(|container| flag(&container["securityContext"], "privileged"));
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.privileged=true",
        containers(&names)
    );
    violation("privileged", detail)
}

/// `/proc` must be masked. A user namespace would make an unmasked one harmless, but nodes do not
/// support them.
pub(super) fn proc_mount(pod: &Subject<'_>) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let names = pod.containers_that(|container| {
        let context = &container["securityContext"];
        let bad = present(context, "procMount") && text(context, "procMount") != "Default";
        if bad {
            kinds.insert(text(context, "procMount"));
        }
        bad
    });
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.procMount to {}",
        containers(&names),
        quoted(kinds)
    );
    violation("procMount", detail)
}

/// SELinux must confine the containers.
pub(super) fn se_linux(pod: &Subject<'_>) -> Option<Violation> {
    const TYPES: [&str; 4] = ["", "container_t", "container_init_t", "container_kvm_t"];
    /// The first minor version that allows one more type.
    const ENGINE_SINCE: u32 = 31;
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let engine = pod.minor >= ENGINE_SINCE;
    let mut is_bad = |context: &Value| {
        let options = &context["seLinuxOptions"];
        let kind = text(options, "type");
        let good_type = TYPES.contains(&kind) || engine && kind == "container_engine_t";
        if !good_type {
            types.insert(kind.to_owned());
        }
        let (has_user, has_role) = (
            !text(options, "user").is_empty(),
            !text(options, "role").is_empty(),
        );
        user |= has_user;
        role |= has_role;
        !good_type || has_user || has_role
    };
    let own = is_bad(pod.context());
    let names = pod.containers_that(|container| is_bad(&container["securityContext"]));
    let who = setters(own, &names);
    if who.is_empty() {
        return None;
    }
    let mut bad = Vec::new();
    if !types.is_empty() {
        bad.push(format!(
            "{} {}",
            plural("type", "types", types.len()),
            quoted(types)
        ));
    }
    if user {
        bad.push("user may not be set".to_owned());
    }
    if role {
        bad.push("role may not be set".to_owned());
    }
    violation(
        "seLinuxOptions",
        format!(
            "{} set forbidden securityContext.seLinuxOptions: {}",
            who.join(" and "),
            bad.join("; ")
        ),
    )
}

/// Returns whether a seccomp profile confines.
pub(super) fn confines(profile: &Value) -> bool {
    matches!(text(profile, "type"), "RuntimeDefault" | "Localhost")
}

/// Returns the violation for unconfined seccomp profiles, if there are any.
pub(super) fn unconfined(pod: &Subject<'_>) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let mut is_bad = |context: &Value| {
        let profile = &context["seccompProfile"];
        let bad = !profile.is_null() && !confines(profile);
        if bad {
            kinds.insert(text(profile, "type").to_owned());
        }
        bad
    };
    let own = is_bad(pod.context());
    let names = pod.containers_that(|container| is_bad(&container["securityContext"]));
    let who = setters(own, &names);
    if who.is_empty() {
        return None;
    }
    violation(
        "seccompProfile",
        format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            who.join(" and "),
            quoted(kinds)
        ),
    )
}

/// Seccomp must not be disabled.
pub(super) fn seccomp(pod: &Subject<'_>) -> Option<Violation> {
    unconfined(pod)
}

/// Only sysctls that affect no other pod may be set.
pub(super) fn sysctls(pod: &Subject<'_>) -> Option<Violation> {
    let unsafe_ones: Vec<&str> = list(pod.context(), "sysctls")
        .iter()
        .map(|sysctl| text(sysctl, "name"))
        .filter(|name| !sysctl::SAFE.contains(name))
        .collect();
    if unsafe_ones.is_empty() {
        return None;
    }
    violation("forbidden sysctls", unsafe_ones.join(", "))
}

/// No process of a Windows pod may run on the host.
pub(super) fn windows_host_process(pod: &Subject<'_>) -> Option<Violation> {
    let is_bad = |context: &Value| flag(&context["windowsOptions"], "hostProcess");
    let names = pod.containers_that(|container| is_bad(&container["securityContext"]));
    let who = setters(is_bad(pod.context()), &names);
    if who.is_empty() {
        return None;
    }
    violation(
        "hostProcess",
        format!(
            "{} must not set securityContext.windowsOptions.hostProcess=true",
            who.join(" and ")
        ),
    )
}
