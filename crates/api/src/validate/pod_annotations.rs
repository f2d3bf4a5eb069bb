//! Validation of annotations that change the behavior of a pod, in Pods and in templates.

use serde_json::Value;

use crate::field_error::{FieldError, Path, quote};
use crate::kinds::core::pod::container_names;
use crate::meta;
use crate::validate::field::text;
use crate::validate::meta::entries;

/// Prefix of a container's name: the container's AppArmor profile. The field `appArmorProfile`
/// replaces it.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Marks a mirror pod, whose source is a file on the node.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// The cost of deleting the pod, compared with other pods of its workload.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Validates the annotations at `path` of a pod or a template.
pub(crate) fn rules(pod: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(mirror) = meta::annotation(pod, MIRROR)
        && text(&pod["spec"], "nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&path.key(MIRROR), mirror, detail));
    }
    for (key, profile) in entries(&pod["metadata"]["annotations"]) {
        let Some(container) = key.strip_prefix(APP_ARMOR) else {
            continue;
        };
        if !container_names(pod).any(|name| name == container) {
            errors.push(FieldError::invalid(
                &path.key(key),
                container,
                "container not found",
            ));
        }
        let profile = profile.as_str().unwrap_or_default();
        let is_good =
            matches!(profile, "" | "runtime/default" | "unconfined") || profile.starts_with("localhost/");
        if !is_good {
            let detail = format!("invalid AppArmor profile name: {}", quote(profile));
            errors.push(FieldError::invalid(&path.key(key), profile, detail));
        }
    }
    if let Some(cost) = meta::annotation(pod, DELETION_COST) {
        let digits = cost.strip_prefix('-').unwrap_or(cost);
        // Only the shortest form is valid: no plus sign, no leading zeros.
        let is_plain = !cost.starts_with('+') && (digits == "0" || !digits.starts_with('0'));
        if cost.parse::<i32>().is_err() || !is_plain {
            let path = path.key(DELETION_COST);
            errors.push(FieldError::invalid(&path, cost, "must be a 32bit integer"));
        }
    }
}

/// Validates that an update of a pod does not change the AppArmor and mirror annotations.
pub(crate) fn update_rules(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (after, before) = (&new["metadata"]["annotations"], &old["metadata"]["annotations"]);
    let settled = |key: &str| key.starts_with(APP_ARMOR) || key == MIRROR;
    let what = |key: &str| {
        if key == MIRROR {
            "mirror pod annotation"
        } else {
            "AppArmor annotations"
        }
    };
    for (key, value) in entries(before).filter(|(key, _)| settled(key)) {
        if after.get(key) != Some(value) {
            let detail = format!("may not remove or update {}", what(key));
            errors.push(FieldError::forbidden(&path.key(key), detail));
        }
    }
    for (key, _) in entries(after).filter(|(key, _)| settled(key)) {
        if before.get(key).is_none() {
            let detail = format!("may not add {}", what(key));
            errors.push(FieldError::forbidden(&path.key(key), detail));
        }
    }
}
