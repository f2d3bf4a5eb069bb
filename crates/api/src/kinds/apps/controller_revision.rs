//! `apps/v1` ControllerRevision: one revision of a workload's template.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::kinds::{AGE, Kind, NAME, Strategy, column, integer, row};
use crate::meta;
use crate::print;
use crate::validate::field::{check_immutable, check_non_negative, text};

/// The row of the registry.
pub static KIND: Kind = Kind {
    columns: &[
        NAME,
        column("Controller", "Controller of the object"),
        integer("Revision", "Revision of the state represented by Data."),
        AGE,
    ],
    strategy: Strategy {
        rules,
        update_rules,
        row: |object, now| {
            vec![
                meta::name(object).into(),
                print::or_none(&controller(object)),
                print::count(object, "revision"),
                print::age(object, now),
            ]
        },
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row(
    "apps",
    "v1",
    "ControllerRevision",
    "controllerrevisions",
    "controllerrevision",
);

/// Returns `daemonset.apps/NAME`, or empty.
fn controller(object: &Value) -> String {
    let Some(owner) = meta::controller_of(object) else {
        return String::new();
    };
    let kind = text(owner, "kind").to_lowercase();
    let (group, _) = schema::split_api_version(text(owner, "apiVersion"));
    match group {
        "" => format!("{kind}/{}", text(owner, "name")),
        _ => format!("{kind}.{group}/{}", text(owner, "name")),
    }
}

fn rules(object: &Value, errors: &mut Vec<FieldError>) {
    let data = &object["data"];
    if data.is_null() {
        errors.push(FieldError::required(&Path::Root("data"), "data is mandatory"));
    } else if !data.is_object() {
        errors.push(FieldError::invalid(
            &Path::Root("data"),
            data.clone(),
            "data must be a valid JSON object",
        ));
    }
    check_revision(object, errors);
}

fn update_rules(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    check_revision(new, errors);
    check_immutable(&new["data"], &old["data"], &Path::Root("data"), errors);
}

fn check_revision(object: &Value, errors: &mut Vec<FieldError>) {
    check_non_negative(object, "revision", &Path::Root(""), errors);
}
