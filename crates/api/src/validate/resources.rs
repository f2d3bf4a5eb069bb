//! Validation of resource requests and limits.

use schema::quantity::Quantity;
use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::validate::field::{check_name, list, present, text};
use crate::validate::meta::entries;
use crate::validate::name;

/// Resources that a container may request without a domain.
const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Validates `resources` of a container or of a pod.
pub(crate) fn requirements(resources: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (limits, requests) = (&resources["limits"], &resources["requests"]);
    let limits_path = path.child("limits");
    for (resource, quantity) in entries(limits) {
        resource_name(resource, &limits_path, errors);
        amount(resource, quantity, &limits_path.key(resource), errors);
    }
    let requests_path = path.child("requests");
    for (resource, quantity) in entries(requests) {
        resource_name(resource, &requests_path, errors);
        amount(resource, quantity, &requests_path.key(resource), errors);
        request_within_limit(
            resource,
            quantity,
            &limits[resource.as_str()],
            &requests_path,
            &path.child("limits"),
            errors,
        );
    }
    let huge = |map| entries(map).any(|(resource, _)| resource.starts_with("hugepages-"));
    let basic = |map: &Value| map.get("cpu").is_some() || map.get("memory").is_some();
    if (huge(limits) || huge(requests)) && !basic(limits) && !basic(requests) {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
}

/// Validates `resources` of a pod, which the requests and limits of its containers must not exceed.
pub(crate) fn of_pod(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let resources = &spec["resources"];
    if present(resources, "claims") {
        let detail = "claims cannot be set for Resources at pod-level";
        errors.push(FieldError::forbidden(&path.child("claims"), detail));
    }
    let amount = |container: &Value, which: &str, resource: &str| {
        Quantity::from_value(&container["resources"][which][resource]).ok()
    };
    let requests = path.child("requests");
    for (resource, wanted) in entries(&resources["requests"]) {
        let Ok(wanted) = Quantity::from_value(wanted) else {
            continue;
        };
        let of = |container: &Value| amount(container, "requests", resource);
        let all = list(spec, "containers")
            .iter()
            .chain(sidecars(spec))
            .filter_map(of);
        if let Some(all) = all.reduce(|sum, more| sum + more)
            && all > wanted
        {
            let detail = format!("must be greater than or equal to aggregate container requests of {all}");
            errors.push(FieldError::invalid(
                &requests.key(resource),
                wanted.to_string(),
                detail,
            ));
        }
    }
    let containers = path.child("containers");
    for (index, container) in list(spec, "containers").iter().enumerate() {
        for (resource, most) in entries(&resources["limits"]) {
            if let Ok(most) = Quantity::from_value(most)
                && let Some(limit) = amount(container, "limits", resource)
                && limit > most
            {
                let path = containers.index(index);
                let path = path.key(resource);
                let detail = format!("must be less than or equal to pod limits of {most}");
                errors.push(FieldError::invalid(
                    &path.child("limits"),
                    limit.to_string(),
                    detail,
                ));
            }
        }
    }
}

/// Returns the init containers that keep running beside the containers.
fn sidecars(spec: &Value) -> impl Iterator<Item = &Value> {
    let init = list(spec, "initContainers").iter();
    init.filter(|container| text(container, "restartPolicy") == "Always")
}

fn resource_name(resource: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    check_name(resource, name::qualified, path, errors);
    if !resource.contains('/') && !STANDARD.contains(&resource) && !resource.starts_with("hugepages-") {
        errors.push(FieldError::invalid(
            path,
            resource,
            "must be a standard resource for containers",
        ));
    } else if resource.contains('/') && resource.contains("kubernetes.io/") {
        errors.push(FieldError::invalid(
            path,
            resource,
            "doesn't follow extended resource name standard",
        ));
    }
}

/// Returns whether a limit may be higher than the request.
fn overcommits(resource: &str) -> bool {
    STANDARD.contains(&resource)
}

/// Validates a quantity: not negative, and whole for an indivisible resource.
fn amount(resource: &str, quantity: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Ok(parsed) = Quantity::from_value(quantity) else {
        let bad = quantity.clone();
        errors.push(FieldError::invalid(
            path,
            bad,
            schema::quantity::ParseQuantityError.to_string(),
        ));
        return;
    };
    if parsed.sign() < 0 {
        errors.push(FieldError::invalid(
            path,
            parsed.to_string(),
            "must be greater than or equal to 0",
        ));
    }
    if resource.contains('/') && parsed.milli() % 1000 != 0 {
        errors.push(FieldError::invalid(path, quantity.clone(), "must be an integer"));
    }
}

fn request_within_limit(
    resource: &str,
    request: &Value,
    limit: &Value,
    path: &Path<'_>,
    limits_path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let Ok(request) = Quantity::from_value(request) else {
        return;
    };
    match Quantity::from_value(limit) {
        Ok(limit) if overcommits(resource) && request > limit => errors.push(FieldError::invalid(
            path,
            request.to_string(),
            format!("must be less than or equal to {resource} limit of {limit}"),
        )),
        Ok(limit) if !overcommits(resource) && request != limit => errors.push(FieldError::invalid(
            path,
            request.to_string(),
            format!("must be equal to {resource} limit of {limit}"),
        )),
        Err(_) if limit.is_null() && !overcommits(resource) => {
            let detail = "Limit must be set for non overcommitable resources";
            errors.push(FieldError::required(limits_path, detail));
        }
        _ => {}
    }
}

/// Validates the resources that a node reports: names and signs.
pub(crate) fn resource_list(map: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (resource, quantity) in entries(map) {
        let path = path.key(resource);
        check_name(resource, name::qualified, &path, errors);
        if let Ok(parsed) = Quantity::from_value(quantity)
            && parsed.sign() < 0
        {
            errors.push(FieldError::invalid(
                &path,
                parsed.to_string(),
                "must be greater than or equal to 0",
            ));
        }
    }
}
