//! Prevents privilege escalation: users cannot grant rights that they do not have, by a role or by
//! a binding.

use api::authorization::{RoleRef, Rule, missing};
use api::field_error::quote;
use api::kinds::Kind;
use api::meta;
use api::status::Status;
use serde_json::Value;

use super::{Who, is_allowed, right, rules};
use crate::shared::Shared;
use crate::user::User;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Returns 403 when a role, or the role of a binding, contains rights that the user neither has nor
/// may grant (`escalate`, `bind`). `old` is the previous state of the object.
pub(crate) fn may_give(
    shared: &Shared,
    user: &User,
    kind: &Kind,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if kind.group != GROUP || user.is_master() {
        return Ok(());
    }
    match kind.kind {
        "Role" | "ClusterRole" => may_write_role(shared, user, kind, new, old),
        "RoleBinding" | "ClusterRoleBinding" => may_bind(shared, user, kind, new, old),
        _ => Ok(()),
    }
}

fn may_write_role(
    shared: &Shared,
    user: &User,
    kind: &Kind,
    role: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let same = |field: &str| old.is_some_and(|old| old[field] == role[field]);
    if same("rules") && same("aggregationRule") {
        return Ok(());
    }
    let who = Who::of(user);
    let (namespace, name) = (meta::namespace(role), meta::name(role));
    let escalate = right("escalate", GROUP, (kind.plural, ""), namespace, name);
    if is_allowed(shared, &who, &escalate) {
        return Ok(());
    }
    let held = rules(shared, &who, namespace);
    if !role["aggregationRule"].is_null() && missing(&held, &everything()).is_some() {
        let why = "must have cluster-admin privileges to use an aggregationRule";
        return Err(Status::forbidden(kind, name, why));
    }
    must_hold(user, kind, name, &held, &Rule::all_of(role))
}

fn may_bind(
    shared: &Shared,
    user: &User,
    kind: &Kind,
    binding: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let same = |field: &str| old.is_some_and(|old| old[field] == binding[field]);
    if same("subjects") && same("roleRef") {
        return Ok(());
    }
    let who = Who::of(user);
    let (namespace, name) = (meta::namespace(binding), meta::name(binding));
    let role = RoleRef::of(binding);
    let plural = if role.is_cluster_role {
        "clusterroles"
    } else {
        "roles"
    };
    let bind = right("bind", GROUP, (plural, ""), namespace, &role.name);
    if is_allowed(shared, &who, &bind) {
        return Ok(());
    }
    let given = shared
        .rbac
        .with(&shared.objects, |policy| policy.rules(&role, namespace).cloned());
    let Some(given) = given else {
        let message = format!("{plural}.{GROUP} {} not found", quote(&role.name));
        return Err(Status::new(404, "NotFound", message));
    };
    must_hold(user, kind, name, &rules(shared, &who, namespace), &given)
}

fn must_hold(user: &User, kind: &Kind, name: &str, held: &[Rule], given: &[Rule]) -> Result<(), Status> {
    let Some(missing) = missing(held, given) else {
        return Ok(());
    };
    let groups: Vec<String> = user.all_groups().iter().map(|group| quote(group)).collect();
    let why = format!(
        "user {} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{missing}",
        quote(&user.name),
        groups.join(" "),
    );
    Err(Status::forbidden(kind, name, &why))
}

/// Rules of a cluster administrator. They stand for an aggregated role, which can get any rule
/// later.
pub(crate) fn everything() -> [Rule; 2] {
    let all = || -> Box<[Box<str>]> { Box::new(["*".into()]) };
    let objects = Rule {
        verbs: all(),
        api_groups: all(),
        resources: all(),
        ..Rule::default()
    };
    let paths = Rule {
        verbs: all(),
        non_resource_urls: all(),
        ..Rule::default()
    };
    [objects, paths]
}
