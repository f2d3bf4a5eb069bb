//! Validation of the restart policies of single containers.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::validate::field::{list, text};

/// Validates a container's own restart policy and its rules for exit codes.
pub(crate) fn restart_policy(container: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    const POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
    const RULES: usize = 20;
    const CODES: usize = 255;
    let rules = list(container, "restartPolicyRules");
    match container["restartPolicy"].as_str() {
        None if rules.is_empty() => return,
        None => {
            let detail = "must specify restartPolicy when restart rules are used";
            errors.push(FieldError::required(&path.child("restartPolicy"), detail));
        }
        Some(policy) if POLICIES.contains(&policy) => {}
        Some(policy) => {
            let path = path.child("restartPolicy");
            errors.push(FieldError::not_supported(&path, policy, &POLICIES));
        }
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > RULES {
        errors.push(FieldError::too_many(&path, rules.len(), RULES));
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        if text(rule, "action") != "Restart" {
            let action = text(rule, "action");
            errors.push(FieldError::not_supported(
                &path.child("action"),
                action,
                &["Restart"],
            ));
        }
        let (codes, path) = (&rule["exitCodes"], path.child("exitCodes"));
        if codes.is_null() {
            errors.push(FieldError::required(&path, "must be specified"));
            continue;
        }
        let operator = text(codes, "operator");
        if !matches!(operator, "In" | "NotIn") {
            let path = path.child("operator");
            errors.push(FieldError::not_supported(&path, operator, &["In", "NotIn"]));
        }
        let values = list(codes, "values").len();
        if values > CODES {
            errors.push(FieldError::too_many(&path.child("values"), values, CODES));
        }
    }
}
