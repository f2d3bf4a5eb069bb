//! `rbac.authorization.k8s.io/v1`: roles and their bindings.

use serde_json::Value;

use crate::default;
use crate::field_error::{FieldError, Path};
use crate::kinds::{AGE, Kind, NAME, Strategy, column, row, wide};
use crate::meta;
use crate::print;
use crate::validate::field::{check_name, check_required_name, list, text};
use crate::validate::label_selector::label_selector;
use crate::validate::name;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The row of Role.
pub static ROLE: Kind = Kind {
    columns: ROLE_COLUMNS,
    create_on_update: true,
    strategy: Strategy {
        name: name::path_segment,
        rules: |object, errors| role_rules(object, true, errors),
        update_rules: |new, _, errors| role_rules(new, true, errors),
        row: role_row,
        ..ROLE_BASE.strategy
    },
    ..ROLE_BASE
};

/// The row of ClusterRole.
pub static CLUSTER_ROLE: Kind = Kind {
    namespaced: false,
    columns: ROLE_COLUMNS,
    create_on_update: true,
    strategy: Strategy {
        name: name::path_segment,
        rules: cluster_role_rules,
        update_rules: |new, _, errors| cluster_role_rules(new, errors),
        row: role_row,
        ..CLUSTER_ROLE_BASE.strategy
    },
    ..CLUSTER_ROLE_BASE
};

/// The row of RoleBinding.
pub static ROLE_BINDING: Kind = Kind {
    columns: BINDING_COLUMNS,
    create_on_update: true,
    strategy: Strategy {
        name: name::path_segment,
        default: binding_default,
        rules: |object, errors| binding_rules(object, true, errors),
        update_rules: |new, old, errors| {
            binding_rules(new, true, errors);
            same_role(new, old, errors);
        },
        row: binding_row,
        ..ROLE_BINDING_BASE.strategy
    },
    ..ROLE_BINDING_BASE
};

/// The row of ClusterRoleBinding.
pub static CLUSTER_ROLE_BINDING: Kind = Kind {
    namespaced: false,
    columns: BINDING_COLUMNS,
    create_on_update: true,
    strategy: Strategy {
        name: name::path_segment,
        default: binding_default,
        rules: |object, errors| binding_rules(object, false, errors),
        update_rules: |new, old, errors| {
            binding_rules(new, false, errors);
            same_role(new, old, errors);
        },
        row: binding_row,
        ..CLUSTER_ROLE_BINDING_BASE.strategy
    },
    ..CLUSTER_ROLE_BINDING_BASE
};

const ROLE_BASE: Kind = row(GROUP, "v1", "Role", "roles", "role");
const CLUSTER_ROLE_BASE: Kind = row(GROUP, "v1", "ClusterRole", "clusterroles", "clusterrole");
const ROLE_BINDING_BASE: Kind = row(GROUP, "v1", "RoleBinding", "rolebindings", "rolebinding");
const CLUSTER_ROLE_BINDING_BASE: Kind = row(
    GROUP,
    "v1",
    "ClusterRoleBinding",
    "clusterrolebindings",
    "clusterrolebinding",
);

const ROLE_COLUMNS: &[crate::kinds::Column] = &[NAME, column("Created At", "When the object was created.")];

const BINDING_COLUMNS: &[crate::kinds::Column] = &[
    NAME,
    column("Role", "The role of the binding."),
    AGE,
    wide("Users", "Users in the binding."),
    wide("Groups", "Groups in the binding."),
    wide("ServiceAccounts", "Service accounts in the binding."),
];

fn role_row(object: &Value, _now: jiff::Timestamp) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        meta::creation_timestamp(object).unwrap_or_default().into(),
    ]
}

fn binding_row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let role = &object["roleRef"];
    let named = |kind: &str| {
        let names: Vec<String> = list(object, "subjects")
            .iter()
            .filter(|subject| text(subject, "kind") == kind)
            .map(|subject| match kind {
                "ServiceAccount" => format!("{}/{}", text(subject, "namespace"), text(subject, "name")),
                _ => text(subject, "name").to_owned(),
            })
            .collect();
        Value::from(names.join(", "))
    };
    vec![
        meta::name(object).into(),
        format!("{}/{}", text(role, "kind"), text(role, "name")).into(),
        print::age(object, now),
        named("User"),
        named("Group"),
        named("ServiceAccount"),
    ]
}

fn cluster_role_rules(object: &Value, errors: &mut Vec<FieldError>) {
    role_rules(object, false, errors);
    let sum = &object["aggregationRule"];
    if sum.is_null() {
        return;
    }
    let path = Path::Root("aggregationRule");
    let path = path.child("clusterRoleSelectors");
    let selectors = list(sum, "clusterRoleSelectors");
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(FieldError::required(&path, detail));
    }
    for (index, selector) in selectors.iter().enumerate() {
        label_selector(selector, &path.index(index), errors);
    }
}

fn role_rules(object: &Value, namespaced: bool, errors: &mut Vec<FieldError>) {
    let path = Path::Root("rules");
    for (index, rule) in list(object, "rules").iter().enumerate() {
        let path = &path.index(index);
        if list(rule, "verbs").is_empty() {
            errors.push(FieldError::required(
                &path.child("verbs"),
                "verbs must contain at least one value",
            ));
        }
        if !list(rule, "nonResourceURLs").is_empty() {
            let bad = rule["nonResourceURLs"].clone();
            let path = path.child("nonResourceURLs");
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(&path, bad, detail));
            }
            let mixed = ["apiGroups", "resources", "resourceNames"];
            if mixed.iter().any(|field| !list(rule, field).is_empty()) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(
                    &path,
                    rule["nonResourceURLs"].clone(),
                    detail,
                ));
            }
            continue;
        }
        if list(rule, "apiGroups").is_empty() {
            let detail = "resource rules must supply at least one api group";
            errors.push(FieldError::required(&path.child("apiGroups"), detail));
        }
        if list(rule, "resources").is_empty() {
            let detail = "resource rules must supply at least one resource";
            errors.push(FieldError::required(&path.child("resources"), detail));
        }
    }
}

fn binding_default(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    if let Some(role) = fields.get_mut("roleRef").and_then(Value::as_object_mut) {
        default::set_text(role, "apiGroup", GROUP);
    }
    for subject in default::items(fields, "subjects") {
        if matches!(
            subject.get("kind").and_then(Value::as_str),
            Some("User" | "Group")
        ) {
            default::set_text(subject, "apiGroup", GROUP);
        }
    }
}

fn binding_rules(object: &Value, namespaced: bool, errors: &mut Vec<FieldError>) {
    let role_kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    let role = &object["roleRef"];
    let path = &Path::Root("roleRef");
    if text(role, "apiGroup") != GROUP {
        errors.push(FieldError::not_supported(
            &path.child("apiGroup"),
            text(role, "apiGroup"),
            &[GROUP],
        ));
    }
    if !role_kinds.contains(&text(role, "kind")) {
        errors.push(FieldError::not_supported(
            &path.child("kind"),
            text(role, "kind"),
            role_kinds,
        ));
    }
    check_required_name(role, "name", name::path_segment, path, errors);
    let path = Path::Root("subjects");
    for (index, subject) in list(object, "subjects").iter().enumerate() {
        subject_rules(subject, namespaced, &path.index(index), errors);
    }
}

fn subject_rules(subject: &Value, namespaced: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (kind, found, group) = (
        text(subject, "kind"),
        text(subject, "name"),
        text(subject, "apiGroup"),
    );
    if found.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    match kind {
        "ServiceAccount" => {
            if !found.is_empty() {
                check_name(found, name::dns_subdomain, &path.child("name"), errors);
            }
            if !group.is_empty() {
                errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            // The default in a RoleBinding is its own namespace.
            if !namespaced && text(subject, "namespace").is_empty() {
                errors.push(FieldError::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(FieldError::not_supported(
                    &path.child("apiGroup"),
                    group,
                    &[GROUP],
                ));
            }
        }
        other => {
            let supported = ["ServiceAccount", "User", "Group"];
            errors.push(FieldError::not_supported(&path.child("kind"), other, &supported));
        }
    }
}

fn same_role(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if new["roleRef"] != old["roleRef"] {
        let bad = new["roleRef"].clone();
        errors.push(FieldError::invalid(
            &Path::Root("roleRef"),
            bad,
            "cannot change roleRef",
        ));
    }
}
