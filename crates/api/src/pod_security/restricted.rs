//! The additional checks of the level `restricted`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline::{confines, unconfined};
use super::phrase::{containers, plural, quoted, setters};
use super::{Subject, Violation};
use crate::validate::field::{list, present, text, texts};

/// The first minor version in which Linux checks do not apply to Windows pods.
const OS_SINCE: u32 = 25;

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation {
        reason: reason.to_owned(),
        detail,
    })
}

fn is_exempt(pod: &Subject<'_>) -> bool {
    pod.minor >= OS_SINCE && pod.is_windows()
}

/// A process must not gain more privileges than its parent.
pub(super) fn privilege_escalation(pod: &Subject<'_>) -> Option<Violation> {
    if is_exempt(pod) {
        return None;
    }
    let names =
        pod.containers_that(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if names.is_empty() {
        return None;
    }
    violation(
        "allowPrivilegeEscalation != false",
        format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            containers(&names)
        ),
    )
}

/// All capabilities must be dropped; only the one for low ports may be added.
pub(super) fn capabilities(pod: &Subject<'_>) -> Option<Violation> {
    if is_exempt(pod) {
        return None;
    }
    let keeping = pod.containers_that(|container| {
        !texts(&container["securityContext"]["capabilities"], "drop").any(|name| name == "ALL")
    });
    let mut added = BTreeSet::new();
    let adding = pod.containers_that(|container| {
        let bad: Vec<&str> = texts(&container["securityContext"]["capabilities"], "add")
            .filter(|name| *name != "NET_BIND_SERVICE")
            .collect();
        added.extend(bad.iter().copied());
        !bad.is_empty()
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers(&keeping)
        ));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&adding),
            quoted(added)
        ));
    }
    if details.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", details.join("; "))
}

/// Volumes must come from the API or from storage that an administrator provides.
pub(super) fn volumes(pod: &Subject<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 8] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    /// The volume types that messages can name.
    const NAMED: [&str; 21] = [
        "hostPath",
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "gitRepo",
        "nfs",
        "iscsi",
        "glusterfs",
        "rbd",
        "flexVolume",
        "cinder",
        "cephfs",
        "flocker",
        "fc",
        "azureFile",
        "vsphereVolume",
        "quobyte",
        "azureDisk",
        "portworxVolume",
        "photonPersistentDisk",
        "scaleIO",
        "storageos",
    ];
    let mut kinds = BTreeSet::new();
    let names: Vec<&str> = list(pod.spec, "volumes")
        .iter()
        .filter(|volume| !ALLOWED.into_iter().any(|kind| present(volume, kind)))
        .map(|volume| {
            let kind = NAMED.into_iter().find(|kind| present(volume, kind));
            kinds.insert(kind.unwrap_or("unknown"));
            text(volume, "name")
        })
        .collect();
    if names.is_empty() {
        return None;
    }
    violation(
        "restricted volume types",
        format!(
            "{} {} {} {} {}",
            plural("volume", "volumes", names.len()),
            quoted(&names),
            plural("uses", "use", names.len()),
            plural("restricted volume type", "restricted volume types", kinds.len()),
            quoted(kinds)
        ),
    )
}

/// No container may run as root. A user namespace would make root harmless, but nodes do not
/// support them.
pub(super) fn run_as_non_root(pod: &Subject<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let own = &pod.context()["runAsNonRoot"];
    let explicit = pod.containers_that(|container| container["securityContext"]["runAsNonRoot"] == false);
    let who = setters(*own == false, &explicit);
    if !who.is_empty() {
        let detail = format!(
            "{} must not set securityContext.runAsNonRoot=false",
            who.join(" and ")
        );
        return violation(REASON, detail);
    }
    let silent = pod
        .containers_that(|container| *own != true && container["securityContext"]["runAsNonRoot"].is_null());
    if silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.runAsNonRoot=true",
        containers(&silent)
    );
    violation(REASON, detail)
}

/// No container may set user 0.
pub(super) fn run_as_user(pod: &Subject<'_>) -> Option<Violation> {
    let is_root = |context: &Value| context["runAsUser"] == 0;
    let names = pod.containers_that(|container| is_root(&container["securityContext"]));
    let who = setters(is_root(pod.context()), &names);
    if who.is_empty() {
        return None;
    }
    violation(
        "runAsUser=0",
        format!("{} must not set runAsUser=0", who.join(" and ")),
    )
}

/// Seccomp must confine every container.
pub(super) fn seccomp(pod: &Subject<'_>) -> Option<Violation> {
    if is_exempt(pod) {
        return None;
    }
    if let Some(found) = unconfined(pod) {
        return Some(found);
    }
    if confines(&pod.context()["seccompProfile"]) {
        return None;
    }
    let silent = pod.containers_that(|container| container["securityContext"]["seccompProfile"].is_null());
    if silent.is_empty() {
        return None;
    }
    violation(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&silent)
        ),
    )
}
