//! pods/eviction: a deletion that gives way to the disruption budgets of the pod.

use api::kinds;
use api::meta;
use api::selector::LabelSelector;
use api::status::Status;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::objects;
use crate::request::{Request, WriteOptions};
use crate::respond::{self, Payload};
use crate::shared::Shared;
use crate::verbs::delete::{self, DeleteOptions};
use crate::write::{self, Place};

/// How long an eviction that a budget refuses should wait.
const RETRY_AFTER_SECONDS: u32 = 10;

/// Evicts the pod that the path names, unless its PodDisruptionBudget has nothing left.
pub(crate) async fn evict(shared: &Shared, mut request: Request) -> Result<Response<Body>, Status> {
    let options = WriteOptions::of(&request.query, "CreateOptions")?;
    let ty = schema::lookup("policy", "v1", "Eviction").ok_or_else(Status::path_not_found)?;
    let eviction = request.decode_as(ty, options.field_validation)?;
    let target = &request.target;
    let place = Place { kind: target.kind, namespace: &target.namespace, name: &target.name };
    let pod = objects::get(&shared.objects, place.kind, place.namespace, place.name)?;
    let pod = objects::value(place.kind, &pod.body)?;
    let given = &eviction["deleteOptions"];
    let text = |field: &str| given["preconditions"][field].as_str().map(str::to_owned);
    let deletion = DeleteOptions {
        dry_run: options.dry_run || given["dryRun"].as_array().is_some_and(|values| !values.is_empty()),
        grace_seconds: given["gracePeriodSeconds"].as_i64().map(|seconds| if seconds < 0 { 1 } else { seconds }),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        ..DeleteOptions::default()
    };
    if disturbs(&pod) {
        take_from_budget(shared, &request, &pod, deletion.dry_run).await?;
    }
    delete::delete_object(shared, place, &deletion, request.now).await?;
    let success = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    respond::payload(&request, StatusCode::CREATED, &Payload::Value(success))
}

/// Whether losing the pod can hurt: a pod that has ended, has not begun, or goes already cannot.
fn disturbs(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    !matches!(phase, "Succeeded" | "Failed" | "Pending") && meta::deletion_timestamp(pod).is_none()
}

/// Takes one disruption from the pod's budget; 429 when there is none to take.
async fn take_from_budget(shared: &Shared, request: &Request, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let Some(kind) = kinds::by_kind("policy", "v1", "PodDisruptionBudget") else { return Ok(()) };
    let namespace = request.target.namespace.as_str();
    let label = |key: &str| meta::labels(pod).and_then(|labels| labels.get(key)).and_then(Value::as_str);
    let mut matching = Vec::new();
    for object in shared.objects.list(&objects::prefix(kind, namespace)).iter() {
        let budget = objects::value(kind, &object.body)?;
        let selector = LabelSelector::from_value(&budget["spec"]["selector"]);
        if selector.is_some_and(|selector| selector.matches(label)) {
            matching.push(meta::name(&budget).to_owned());
        }
    }
    let name = match matching.as_slice() {
        [] => return Ok(()),
        [name] => name,
        _ => {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::internal(why));
        }
    };
    let place = Place { kind, namespace, name };
    let pod_name = request.target.name.as_str();
    let now = api::time::rfc3339(request.now);
    write::update(shared, place, dry_run, |budget, _| {
        let allowed = budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
        let observed = budget["status"]["observedGeneration"].as_i64().unwrap_or(0);
        if observed < meta::generation(budget) || allowed <= 0 {
            return Err(refused(name, budget));
        }
        let mut next = budget.clone();
        next["status"]["disruptionsAllowed"] = (allowed - 1).into();
        if !next["status"]["disruptedPods"].is_object() {
            next["status"]["disruptedPods"] = json!({});
        }
        next["status"]["disruptedPods"][pod_name] = now.as_str().into();
        Ok(next)
    })
    .await?;
    Ok(())
}

fn refused(name: &str, budget: &Value) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(message, RETRY_AFTER_SECONDS);
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let cause = format!(
        "The disruption budget {name} needs {} healthy pods and has {} currently",
        number("desiredHealthy"),
        number("currentHealthy"),
    );
    status.add_cause("DisruptionBudget", cause, "");
    status
}
