//! Pod Security admission: which pods a namespace accepts, by its labels
//! `pod-security.kubernetes.io/<mode>`.
//!
//! Levels and checks are those of the Pod Security Standards. A check is a row of [`CHECKS`]; its
//! function is in `baseline` or `restricted`. A pinned version (`enforce-version: v1.24`) leaves
//! out checks that were added later.

use std::fmt;

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::validate::field::{list, text};

mod baseline;
mod phrase;
mod restricted;

/// How much a pod may do on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything is allowed.
    Privileged,
    /// Known privilege escalations are forbidden.
    Baseline,
    /// The current best practices for hardened pods are required.
    Restricted,
}

impl Level {
    const ALL: [(&str, Level); 3] = [
        ("privileged", Level::Privileged),
        ("baseline", Level::Baseline),
        ("restricted", Level::Restricted),
    ];

    fn parse(text: &str) -> Option<Level> {
        Level::ALL
            .into_iter()
            .find_map(|(name, level)| (name == text).then_some(level))
    }
}

/// The minor version of the checks; `None` for the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Version(Option<u32>);

impl Version {
    /// Parses `latest` or `v1.x`.
    fn parse(text: &str) -> Option<Version> {
        if text == "latest" {
            return Some(Version(None));
        }
        let minor = text.strip_prefix("v1.")?;
        let plain =
            minor.bytes().all(|byte| byte.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
        let minor = minor.parse().ok().filter(|_| plain)?;
        Some(Version(Some(minor)))
    }

    fn minor(self) -> u32 {
        self.0.unwrap_or(u32::MAX)
    }
}

/// A level in a version. Displays as `restricted:latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    /// The level.
    pub level: Level,
    /// The version of its checks.
    pub version: Version,
}

/// The standard of a namespace that has no labels.
const PRIVILEGED: Standard = Standard {
    level: Level::Privileged,
    version: Version(None),
};

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Level::ALL
            .into_iter()
            .find_map(|(name, level)| (level == self.level).then_some(name));
        f.write_str(name.unwrap_or_default())?;
        match self.version.0 {
            Some(minor) => write!(f, ":v1.{minor}"),
            None => f.write_str(":latest"),
        }
    }
}

/// The levels that the labels of a namespace set. `audit` labels are validated but have no effect,
/// because there is no audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Pods that violate it are rejected.
    pub enforce: Standard,
    /// Clients that write pods or workloads that violate it get a warning.
    pub warn: Standard,
}

const ENFORCE: [&str; 2] = [
    "pod-security.kubernetes.io/enforce",
    "pod-security.kubernetes.io/enforce-version",
];
const AUDIT: [&str; 2] = [
    "pod-security.kubernetes.io/audit",
    "pod-security.kubernetes.io/audit-version",
];
const WARN: [&str; 2] = [
    "pod-security.kubernetes.io/warn",
    "pod-security.kubernetes.io/warn-version",
];

impl Policy {
    /// Returns the policy of a namespace, and the errors in its labels. An invalid level counts as
    /// `restricted` for `enforce`, and as `privileged` for the other modes.
    pub fn of<'a>(label: impl Fn(&str) -> Option<&'a str>) -> (Policy, Vec<FieldError>) {
        let mut errors = Vec::new();
        let enforce = standard(&label, ENFORCE, Level::Restricted, &mut errors);
        standard(&label, AUDIT, Level::Privileged, &mut errors);
        let warn = standard(&label, WARN, Level::Privileged, &mut errors);
        (Policy { enforce, warn }, errors)
    }
}

fn standard<'a>(
    label: &impl Fn(&str) -> Option<&'a str>,
    [level_label, version_label]: [&str; 2],
    wrong: Level,
    errors: &mut Vec<FieldError>,
) -> Standard {
    let mut found = PRIVILEGED;
    if let Some(given) = label(level_label) {
        found.level = Level::parse(given).unwrap_or_else(|| {
            let detail = "must be one of privileged, baseline, restricted";
            errors.push(invalid_label(level_label, given, detail));
            wrong
        });
    }
    if let Some(given) = label(version_label) {
        found.version = Version::parse(given).unwrap_or_else(|| {
            errors.push(invalid_label(
                version_label,
                given,
                "must be \"latest\" or \"v1.x\"",
            ));
            Version::default()
        });
    }
    found
}

fn invalid_label(label: &str, given: &str, detail: &str) -> FieldError {
    let metadata = Path::Root("metadata");
    let labels = metadata.child("labels");
    FieldError::invalid(&labels.key(label), given, detail)
}

/// A pod or a pod template, as the checks read it.
pub(crate) struct Subject<'a> {
    pub(crate) annotations: &'a Value,
    pub(crate) spec: &'a Value,
    /// The minor version of the rules.
    pub(crate) minor: u32,
}

impl<'a> Subject<'a> {
    /// All containers: init containers first, ephemeral containers last.
    fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |field| list(spec, field))
    }

    /// Returns the names of the containers for which `bad` returns true.
    fn containers_that(&self, bad: impl FnMut(&&'a Value) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(bad)
            .map(|container| text(container, "name"))
            .collect()
    }

    /// Returns the security context of the pod.
    fn context(&self) -> &'a Value {
        &self.spec["securityContext"]
    }

    fn is_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }
}

/// The result of a failed check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    reason: String,
    detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.detail)
    }
}

/// One check of the standards.
struct Check {
    /// Name of the check. The rows of a level are sorted by it, as Kubernetes sorts its messages.
    id: &'static str,
    level: Level,
    /// The first minor version with this check.
    since: u32,
    /// The check of a lower level that this check includes.
    replaces: Option<&'static str>,
    run: fn(&Subject<'_>) -> Option<Violation>,
}

const fn baseline(id: &'static str, since: u32, run: fn(&Subject<'_>) -> Option<Violation>) -> Check {
    Check {
        id,
        level: Level::Baseline,
        since,
        replaces: None,
        run,
    }
}

const fn restricted(
    id: &'static str,
    since: u32,
    replaces: Option<&'static str>,
    run: fn(&Subject<'_>) -> Option<Violation>,
) -> Check {
    Check {
        id,
        level: Level::Restricted,
        since,
        replaces,
        run,
    }
}

/// All checks.
const CHECKS: &[Check] = &[
    baseline("appArmorProfile", 0, baseline::app_armor),
    baseline("capabilities_baseline", 0, baseline::capabilities),
    baseline("hostNamespaces", 0, baseline::host_namespaces),
    baseline("hostPathVolumes", 0, baseline::host_path_volumes),
    baseline("hostPorts", 0, baseline::host_ports),
    baseline("hostProbesAndHostLifecycle", 34, baseline::hosts_of_probes),
    baseline("privileged", 0, baseline::privileged),
    baseline("procMount", 0, baseline::proc_mount),
    baseline("seLinuxOptions", 0, baseline::se_linux),
    baseline("seccompProfile_baseline", 19, baseline::seccomp),
    baseline("sysctls", 0, baseline::sysctls),
    baseline("windowsHostProcess", 0, baseline::windows_host_process),
    restricted(
        "allowPrivilegeEscalation",
        8,
        None,
        restricted::privilege_escalation,
    ),
    restricted(
        "capabilities_restricted",
        22,
        Some("capabilities_baseline"),
        restricted::capabilities,
    ),
    restricted(
        "restrictedVolumes",
        0,
        Some("hostPathVolumes"),
        restricted::volumes,
    ),
    restricted("runAsNonRoot", 0, None, restricted::run_as_non_root),
    restricted("runAsUser", 23, None, restricted::run_as_user),
    restricted(
        "seccompProfile_restricted",
        19,
        Some("seccompProfile_baseline"),
        restricted::seccomp,
    ),
];

/// Returns the violations of a standard by a pod or a pod template (`metadata` and `spec`).
pub fn violations(pod: &Value, standard: Standard) -> Vec<Violation> {
    let subject = Subject {
        annotations: &pod["metadata"]["annotations"],
        spec: &pod["spec"],
        minor: standard.version.minor(),
    };
    let holds = |check: &&Check| check.level <= standard.level && check.since <= subject.minor;
    let replaced = |id: &str| {
        CHECKS
            .iter()
            .filter(holds)
            .any(|check| check.replaces == Some(id))
    };
    CHECKS
        .iter()
        .filter(holds)
        .filter(|check| !replaced(check.id))
        .filter_map(|check| (check.run)(&subject))
        .collect()
}

/// Describes violations in an error or a warning: `PodSecurity "baseline:latest": host namespaces
/// (hostNetwork), …`.
pub fn describe(standard: Standard, violations: &[Violation]) -> String {
    let found: Vec<String> = violations.iter().map(Violation::to_string).collect();
    format!("PodSecurity \"{standard}\": {}", found.join(", "))
}

/// Returns whether an update of a pod changes mutable fields that the standards check: images,
/// added containers, and seccomp annotations.
pub fn is_significant_update(new: &Value, old: &Value) -> bool {
    const SECCOMP: [&str; 2] = [
        "seccomp.security.alpha.kubernetes.io/",
        "container.seccomp.security.alpha.kubernetes.io/",
    ];
    let seccomp = |pod: &Value| -> Vec<(String, Value)> {
        let annotations = pod["metadata"]["annotations"].as_object().into_iter().flatten();
        annotations
            .filter(|(key, _)| SECCOMP.iter().any(|prefix| key.starts_with(prefix)))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let images = |pod: &Value, field: &str| -> Vec<(String, String)> {
        let mut images: Vec<(String, String)> = list(&pod["spec"], field)
            .iter()
            .map(|container| {
                (
                    text(container, "name").to_owned(),
                    text(container, "image").to_owned(),
                )
            })
            .collect();
        images.sort_unstable();
        images
    };
    seccomp(new) != seccomp(old)
        || ["containers", "initContainers", "ephemeralContainers"]
            .into_iter()
            .any(|field| images(new, field) != images(old, field))
}

/// Returns the warnings about existing pods after the policy of a namespace became stricter.
/// `checked` of `total` pods were checked. `found` has the name and the violations of each pod that
/// violates the policy.
pub fn describe_existing(
    namespace: &str,
    enforce: Standard,
    (checked, total): (usize, usize),
    found: &[(String, Vec<Violation>)],
) -> Vec<String> {
    let mut warnings = Vec::new();
    if checked < total {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
        ));
    }
    // Pods with the same violations share a line, which names the first of them.
    let mut lines: std::collections::BTreeMap<String, (&str, usize)> = std::collections::BTreeMap::new();
    for (name, violations) in found {
        let reasons: Vec<&str> = violations
            .iter()
            .map(|violation| violation.reason.as_str())
            .collect();
        let (first, count) = lines.entry(reasons.join(", ")).or_insert((name, 0));
        *first = (*first).min(name);
        *count += 1;
    }
    if lines.is_empty() {
        return warnings;
    }
    let namespace = crate::field_error::quote(namespace);
    warnings.push(format!(
        "existing pods in namespace {namespace} violate the new PodSecurity enforce level \"{enforce}\""
    ));
    let mut lines: Vec<String> = lines
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            more => format!("{name} (and {} other pods): {reasons}", more - 1),
        })
        .collect();
    lines.sort_unstable();
    warnings.extend(lines);
    warnings
}

#[cfg(test)]
mod tests;
