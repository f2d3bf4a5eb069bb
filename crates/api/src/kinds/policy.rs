//! `policy/v1` PodDisruptionBudget: how many pods may be unavailable at a time. Eviction is the
//! body of a subresource and not a kind here.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::field_error::{FieldError, Path};
use crate::kinds::apps::daemon_set::{check_at_most_all, check_int_or_percent};
use crate::kinds::{AGE, Kind, NAME, StatusField, Strategy, column, integer, row, status_of};
use crate::meta;
use crate::print;
use crate::validate::field::{check_non_negative, check_optional_one_of, list, present};
use crate::validate::label_selector::label_selector;

/// The row of PodDisruptionBudget.
pub static POD_DISRUPTION_BUDGET: Kind = Kind {
    short_names: &["pdb"],
    subresources: &[status_of(("policy", "v1", "PodDisruptionBudget"))],
    columns: &[
        NAME,
        column(
            "Min Available",
            "The minimum number of pods that must be available.",
        ),
        column(
            "Max Unavailable",
            "The maximum number of pods that may be unavailable.",
        ),
        integer(
            "Allowed Disruptions",
            "Calculated number of pods that may be disrupted at this time.",
        ),
        AGE,
    ],
    unconditional_update: false,
    strategy: Strategy {
        status: StatusField::Separate,
        generation: true,
        create,
        rules,
        update_rules: |new, _, errors| rules(new, errors),
        status_rules,
        row: |object, now| {
            let spec = &object["spec"];
            vec![
                meta::name(object).into(),
                amount(&spec["minAvailable"]),
                amount(&spec["maxUnavailable"]),
                print::count(&object["status"], "disruptionsAllowed"),
                print::age(object, now),
            ]
        },
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row(
    "policy",
    "v1",
    "PodDisruptionBudget",
    "poddisruptionbudgets",
    "poddisruptionbudget",
);

fn amount(value: &Value) -> Value {
    match value {
        Value::Null => "N/A".into(),
        Value::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    }
}

fn create(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        let zeros =
            json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
        fields.insert("status".to_owned(), zeros);
    }
}

/// Sets the condition DisruptionAllowed in a budget's status: from `status.disruptionsAllowed`,
/// with the reason SufficientPods or InsufficientPods; or False with the reason SyncFailed and the
/// message `failure`. Its transition time changes only with its status.
pub fn set_disruption_allowed(status: &mut Value, failure: Option<&str>, now: Timestamp) {
    let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0) > 0;
    let (holds, reason) = match (failure, allowed) {
        (Some(_), _) => ("False", "SyncFailed"),
        (None, true) => ("True", "SufficientPods"),
        (None, false) => ("False", "InsufficientPods"),
    };
    let is_known = |condition: &Value| condition["type"] == "DisruptionAllowed";
    let since = list(status, "conditions")
        .iter()
        .find(|known| is_known(known) && known["status"] == holds)
        .map_or_else(
            || crate::time::rfc3339(now).into(),
            |known| known["lastTransitionTime"].clone(),
        );
    let mut condition = json!({
        "type": "DisruptionAllowed", "status": holds, "reason": reason, "message": failure.unwrap_or_default(),
        "lastTransitionTime": since,
    });
    if let Some(generation) = status["observedGeneration"].as_i64().filter(|n| *n > 0) {
        condition["observedGeneration"] = generation.into();
    }
    let others = list(status, "conditions").iter().filter(|known| !is_known(known));
    let conditions: Vec<Value> = others.cloned().chain([condition]).collect();
    status["conditions"] = conditions.into();
}

fn rules(object: &Value, errors: &mut Vec<FieldError>) {
    let path = &Path::Root("spec");
    let spec = &object["spec"];
    if present(spec, "minAvailable") && present(spec, "maxUnavailable") {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid(path, spec.clone(), detail));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        check_int_or_percent(&spec[field], &path.child(field), errors);
        check_at_most_all(&spec[field], &path.child(field), errors);
    }
    label_selector(&spec["selector"], &path.child("selector"), errors);
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    check_optional_one_of(spec, "unhealthyPodEvictionPolicy", &policies, path, errors);
}

fn status_rules(new: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
    for counter in [
        "disruptionsAllowed",
        "currentHealthy",
        "desiredHealthy",
        "expectedPods",
    ] {
        check_non_negative(&new["status"], counter, &Path::Root("status"), errors);
    }
}
