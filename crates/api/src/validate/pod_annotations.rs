//! The rules of the annotations by which a pod, or the template of one, asks for something.

use serde_json::Value;

use crate::field_error::{FieldError, Path, quote};
use crate::kinds::core::pod::container_names;
use crate::meta;
use crate::validate::field::text;
use crate::validate::meta::entries;

/// Before the name of a container: the AppArmor profile that confines it. The field `appArmorProfile` is newer.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Marks a pod that a node runs by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// How little it costs to delete the pod, beside others of its workload.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Judges the annotations at `path` of a pod or a template.
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
        // Written in one way alone: no plus, no leading zeros.
        let is_plain = !cost.starts_with('+') && (digits == "0" || !digits.starts_with('0'));
        if cost.parse::<i32>().is_err() || !is_plain {
            let path = path.key(DELETION_COST);
            errors.push(FieldError::invalid(&path, cost, "must be a 32bit integer"));
        }
    }
}

/// What of the annotations of a pod that is there must not change.
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
