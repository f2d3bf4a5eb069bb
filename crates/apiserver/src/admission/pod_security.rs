//! PodSecurity: which pods a namespace accepts, by its labels. See [`api::pod_security`].

use api::kinds::Kind;
use api::meta;
use api::pod_security::{self as standards, Level, Policy, Standard, Violation};
use api::status::Status;
use serde_json::Value;

use crate::limits::POD_SECURITY_PODS_MAX;
use crate::objects::{self, core};
use crate::shared::Shared;

/// Checks an object that passed its kind's validation: returns 403 for a pod that its namespace
/// does not accept, and 422 for invalid labels of a namespace. `old` is the object before an
/// update. Adds warnings to `warnings`.
pub(super) fn judge(
    shared: &Shared,
    kind: &'static Kind,
    object: &Value,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if objects::is_namespace(kind) {
        return namespace(shared, kind, object, old, warnings);
    }
    if objects::is_pod(kind) {
        if old.is_some_and(|old| !standards::is_significant_update(object, old)) {
            return Ok(());
        }
        let policy = policy_of(shared, object)?;
        let found = standards::violations(object, policy.enforce);
        if !found.is_empty() {
            let why = format!("violates {}", standards::describe(policy.enforce, &found));
            return Err(Status::forbidden(kind, meta::name(object), &why));
        }
        warn(object, policy.warn, warnings);
        return Ok(());
    }
    let template = &object["spec"]["template"];
    if template["spec"].is_object() {
        // A violation refuses the pods, not the workload. The warning tells the author of the
        // workload.
        warn(template, policy_of(shared, object)?.warn, warnings);
    }
    Ok(())
}

fn warn(pod: &Value, standard: Standard, warnings: &mut Vec<String>) {
    let found = standards::violations(pod, standard);
    if !found.is_empty() {
        warnings.push(format!("would violate {}", standards::describe(standard, &found)));
    }
}

/// Returns the policy of the object's namespace.
fn policy_of(shared: &Shared, object: &Value) -> Result<Policy, Status> {
    let namespaces = core("Namespace").ok_or_else(Status::path_not_found)?;
    let namespace = objects::get(&shared.objects, namespaces, "", meta::namespace(object))?;
    let labels = &namespace.attributes.attributes.labels;
    Ok(Policy::of(|label| labels.get(label)).0)
}

fn namespace(
    shared: &Shared,
    kind: &'static Kind,
    new: &Value,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let policy = |namespace: &Value| Policy::of(|label| namespace["metadata"]["labels"][label].as_str());
    let (wanted, errors) = policy(new);
    let before = old.map(policy);
    // Invalid labels from before do not block an unrelated update.
    if !errors.is_empty() && before.as_ref().is_none_or(|(_, before)| *before != errors) {
        return Err(Status::invalid(kind, meta::name(new), &errors));
    }
    let Some((before, _)) = before else {
        return Ok(());
    };
    let (before, wanted) = (before.enforce, wanted.enforce);
    let relaxed = wanted.version == before.version && wanted.level <= before.level;
    if relaxed || wanted.level == Level::Privileged {
        return Ok(());
    }
    let pods = core("Pod").ok_or_else(Status::path_not_found)?;
    let snapshot = shared.objects.list(&objects::prefix(pods, meta::name(new)));
    let (mut checked, mut total) = (0, 0);
    let mut found: Vec<(String, Vec<Violation>)> = Vec::new();
    for pod in snapshot.iter() {
        total += 1;
        if checked == POD_SECURITY_PODS_MAX {
            continue;
        }
        checked += 1;
        let pod = objects::value(pods, &pod.body)?;
        let violations = standards::violations(&pod, wanted);
        if !violations.is_empty() {
            found.push((meta::name(&pod).to_owned(), violations));
        }
    }
    warnings.extend(standards::describe_existing(
        meta::name(new),
        wanted,
        (checked, total),
        &found,
    ));
    Ok(())
}
