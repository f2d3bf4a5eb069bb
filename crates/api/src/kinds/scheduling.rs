//! `scheduling.k8s.io/v1` PriorityClass: a name for a priority.

use serde_json::Value;

use crate::default;
use crate::field_error::{FieldError, Path};
use crate::kinds::{AGE, Column, Kind, NAME, Strategy, column, integer, row};
use crate::meta;
use crate::print;
use crate::validate::field::{check_immutable, check_optional_one_of, flag, text};

/// The highest priority of classes that users create.
pub const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;
/// The two classes of every cluster, with their priorities.
pub const SYSTEM_CLASSES: [(&str, i64); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

/// The row of PriorityClass.
pub static PRIORITY_CLASS: Kind = Kind {
    short_names: &["pc"],
    namespaced: false,
    columns: &[
        NAME,
        integer("Value", "The value of this priority class."),
        Column {
            ty: "boolean",
            ..column(
                "Global-Default",
                "Whether it is the class of pods that name none.",
            )
        },
        AGE,
        column("PreemptionPolicy", "Whether pods of this class preempt others."),
    ],
    strategy: Strategy {
        default: |object| {
            if let Some(fields) = object.as_object_mut() {
                default::set_text(fields, "preemptionPolicy", "PreemptLowerPriority");
            }
        },
        generation: true,
        rules,
        update_rules,
        row: |object, now| {
            vec![
                meta::name(object).into(),
                print::count(object, "value"),
                flag(object, "globalDefault").into(),
                print::age(object, now),
                text(object, "preemptionPolicy").into(),
            ]
        },
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row(
    "scheduling.k8s.io",
    "v1",
    "PriorityClass",
    "priorityclasses",
    "priorityclass",
);

fn rules(object: &Value, errors: &mut Vec<FieldError>) {
    let value = object["value"].as_i64().unwrap_or_default();
    let name = meta::name(object);
    if name.starts_with("system-") {
        let known = SYSTEM_CLASSES
            .iter()
            .any(|(class, priority)| *class == name && *priority == value);
        if !known {
            let metadata = Path::Root("metadata");
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known system priority class"
            );
            errors.push(FieldError::forbidden(&metadata.child("name"), detail));
        }
    } else if value > HIGHEST_USER_PRIORITY {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
        errors.push(FieldError::forbidden(&Path::Root("value"), detail));
    }
    let policies = ["PreemptLowerPriority", "Never"];
    check_optional_one_of(object, "preemptionPolicy", &policies, &Path::Root(""), errors);
}

fn update_rules(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if new["value"] != old["value"] {
        errors.push(FieldError::forbidden(
            &Path::Root("value"),
            "may not be changed in an update.",
        ));
    }
    let path = Path::Root("preemptionPolicy");
    check_immutable(&new["preemptionPolicy"], &old["preemptionPolicy"], &path, errors);
}
