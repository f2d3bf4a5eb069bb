//! Validation of the security contexts of pods and containers.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::sysctl::{self, Namespace};
use crate::validate::field::{
    check_number, check_optional_one_of, check_range, flag, list, present, text, texts,
};
use crate::validate::volume::check_descending_path;

/// User and group ids, which have 32 bits in Linux.
const IDS: (i64, i64) = (0, 0xffff_ffff);
const PROFILE_TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// Validates `spec.securityContext` of a pod.
pub(crate) fn pod(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let context = &spec["securityContext"];
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        check_range(context, field, IDS, path, errors);
    }
    let groups = path.child("supplementalGroups");
    for (index, group) in list(context, "supplementalGroups").iter().enumerate() {
        check_number(
            group.as_i64().unwrap_or_default(),
            IDS,
            &groups.index(index),
            errors,
        );
    }
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        errors.push(FieldError::invalid(
            &path.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ));
    }
    sysctls(spec, &path.child("sysctls"), errors);
    check_optional_one_of(
        context,
        "fsGroupChangePolicy",
        &["Always", "OnRootMismatch"],
        path,
        errors,
    );
    check_optional_one_of(
        context,
        "seLinuxChangePolicy",
        &["MountOption", "Recursive"],
        path,
        errors,
    );
    seccomp(&context["seccompProfile"], &path.child("seccompProfile"), errors);
    app_armor(
        &context["appArmorProfile"],
        &path.child("appArmorProfile"),
        errors,
    );
    check_optional_one_of(
        context,
        "supplementalGroupsPolicy",
        &["Merge", "Strict"],
        path,
        errors,
    );
}

fn sysctls(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let sysctls = list(&spec["securityContext"], "sysctls");
    for (index, asked) in sysctls.iter().enumerate() {
        let path = path.index(index);
        let path = path.child("name");
        let found = text(asked, "name");
        if found.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if !sysctl::is_valid(found) {
            let detail = format!(
                "must have at most {} characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
                sysctl::LENGTH
            );
            errors.push(FieldError::invalid(&path, found, detail));
        } else if sysctls[..index]
            .iter()
            .any(|before| text(before, "name") == found)
        {
            errors.push(FieldError::duplicate(&path, found));
        }
        let shared = match sysctl::namespace(found) {
            Some(Namespace::Net) => "hostNetwork",
            Some(Namespace::Ipc) => "hostIPC",
            None => continue,
        };
        if flag(spec, shared) {
            let detail = format!("may not be specified when '{shared}' is true");
            errors.push(FieldError::invalid(&path, found, detail));
        }
    }
}

/// Validates `securityContext` of a container. `host_users` is false when the pod has its own user
/// namespace.
pub(crate) fn container(context: &Value, host_users: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in ["runAsUser", "runAsGroup"] {
        check_range(context, field, IDS, path, errors);
    }
    check_optional_one_of(context, "procMount", &["Default", "Unmasked"], path, errors);
    if host_users && text(context, "procMount") == "Unmasked" {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        errors.push(FieldError::invalid(&path.child("procMount"), "Unmasked", detail));
    }
    if context["allowPrivilegeEscalation"] == false {
        if flag(context, "privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, context.clone(), detail));
        }
        if texts(&context["capabilities"], "add").any(|capability| capability == "CAP_SYS_ADMIN") {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, context.clone(), detail));
        }
    }
    seccomp(&context["seccompProfile"], &path.child("seccompProfile"), errors);
    app_armor(
        &context["appArmorProfile"],
        &path.child("appArmorProfile"),
        errors,
    );
}

fn seccomp(profile: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if profile.is_null() {
        return;
    }
    let kind = text(profile, "type");
    match kind {
        "" => {
            let detail = "type is required when seccompProfile is set";
            errors.push(FieldError::required(&path.child("type"), detail));
        }
        known if PROFILE_TYPES.contains(&known) => {}
        other => errors.push(FieldError::not_supported(
            &path.child("type"),
            other,
            &PROFILE_TYPES,
        )),
    }
    let local = path.child("localhostProfile");
    match (kind, profile["localhostProfile"].as_str()) {
        ("Localhost", None) => {
            errors.push(FieldError::required(
                &local,
                "must be set when seccomp type is Localhost",
            ));
        }
        ("Localhost", Some(file)) => check_descending_path(file, &local, errors),
        (_, Some(_)) => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid(&local, profile.clone(), detail));
        }
        (_, None) => {}
    }
}

fn app_armor(profile: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if profile.is_null() {
        return;
    }
    let local = path.child("localhostProfile");
    match text(profile, "type") {
        "Localhost" => match text(profile, "localhostProfile") {
            "" => errors.push(FieldError::required(
                &local,
                "must be set when AppArmor type is Localhost",
            )),
            name if name.trim() != name => {
                errors.push(FieldError::invalid(
                    &local,
                    name,
                    "must not be padded with whitespace",
                ));
            }
            _ => {}
        },
        "RuntimeDefault" | "Unconfined" => {
            if present(profile, "localhostProfile") {
                let bad = profile["localhostProfile"].clone();
                errors.push(FieldError::invalid(
                    &local,
                    bad,
                    "can only be set when AppArmor type is Localhost",
                ));
            }
        }
        "" => {
            let detail = "type is required when appArmorProfile is set";
            errors.push(FieldError::required(&path.child("type"), detail));
        }
        other => errors.push(FieldError::not_supported(
            &path.child("type"),
            other,
            &PROFILE_TYPES,
        )),
    }
}
