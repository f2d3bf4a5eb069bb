//! Fields that are forbidden by the pod's operating system.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::validate::field::{list, present, text};

/// Linux fields of a pod's security context.
const LINUX_POD: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seLinuxChangePolicy",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
];
/// Linux fields of the pod's spec.
const LINUX_SPEC: [&str; 4] = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
/// Linux fields of a container's security context.
const LINUX_CONTAINER: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// Rejects fields that the pod's operating system (`spec.os`) does not have.
pub(crate) fn fields(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match text(&spec["os"], "name") {
        "windows" => {
            let detail = "cannot be set for a windows pod";
            forbid(
                &spec["securityContext"],
                &LINUX_POD,
                detail,
                &path.child("securityContext"),
                errors,
            );
            forbid(spec, &LINUX_SPEC, detail, path, errors);
            containers(spec, &LINUX_CONTAINER, detail, path, errors);
        }
        "linux" => {
            let detail = "windows options cannot be set for a linux pod";
            let options = ["windowsOptions"];
            forbid(
                &spec["securityContext"],
                &options,
                detail,
                &path.child("securityContext"),
                errors,
            );
            containers(spec, &options, detail, path, errors);
        }
        _ => {}
    }
}

fn containers(spec: &Value, fields: &[&str], detail: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        let path = path.child(field);
        for (index, container) in list(spec, field).iter().enumerate() {
            let path = path.index(index);
            let path = path.child("securityContext");
            forbid(&container["securityContext"], fields, detail, &path, errors);
        }
    }
}

fn forbid(value: &Value, fields: &[&str], detail: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in fields {
        // hostPID and hostIPC are set only when they are true, because false is their default.
        let is_set = present(value, field) && !(value[*field] == false && is_plain_flag(field));
        if is_set {
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
}

fn is_plain_flag(field: &str) -> bool {
    matches!(field, "hostPID" | "hostIPC")
}
