//! pods/eviction: a deletion that respects the pod's disruption budget.

use std::sync::{Arc, LazyLock};

use api::kinds::policy;
use api::meta;
use api::status::Status;
use api::{encode, eviction};
use http::{Response, StatusCode};
use jiff::Timestamp;
use schema::{Gvk, Type};
use serde_json::{Value, json};
use store::{Change, CommitError, Durability, Expect};

use crate::admission::node_restriction;
use crate::body::Body;
use crate::limits::CONFLICT_RETRIES_MAX;
use crate::objects::{self, Object, Place, Write};
use crate::request::{Request, WriteOptions};
use crate::respond::{self, Payload};
use crate::shared::Shared;
use crate::user::User;
use crate::verbs::delete::{self, DeleteOptions, Step};
use crate::write;

/// Type of the body, in both versions that clients send. They have the same fields.
static EVICTION: LazyLock<Option<Type>> = LazyLock::new(|| {
    let ty = schema::lookup("policy", "v1", "Eviction")?;
    Some(Type {
        name: ty.name,
        go: ty.go,
        gvks: &VERSIONS,
        fields: ty.fields,
        atomic: ty.atomic,
    })
});

static VERSIONS: [Gvk; 2] = [version("v1"), version("v1beta1")];

const fn version(version: &'static str) -> Gvk {
    Gvk {
        group: "policy",
        version,
        kind: "Eviction",
    }
}

/// `Retry-After` in seconds when every attempt conflicted with other evictions of the same budget.
const CROWD_RETRY_SECONDS: u32 = 10;

/// Evicts the pod that the path names, unless its disruption budget is used up.
pub(crate) async fn evict(shared: &Shared, mut request: Request) -> Result<Response<Body>, Status> {
    let options = WriteOptions::of(&request.query, "CreateOptions")?;
    let ty = EVICTION.as_ref().ok_or_else(Status::path_not_found)?;
    let mut eviction = request.decode_as(ty, options.field_validation).await?;
    if meta::name(&eviction) != request.target.name {
        let why = "name in URL does not match name in Eviction object";
        return Err(Status::bad_request(why));
    }
    request.settle_namespace(&mut eviction)?;
    let mut deletion = DeleteOptions::of_value(&eviction["deleteOptions"])?;
    deletion.dry_run |= options.dry_run;
    let target = &request.target;
    let place = Place {
        kind: target.kind,
        namespace: &target.namespace,
        name: &target.name,
    };
    take(shared, &request.user, place, &deletion, request.now).await?;
    let success = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    respond::payload(&request, StatusCode::CREATED, &Payload::Value(success))
}

/// Marks the pod, begins its deletion and takes one disruption from its budget, in one transaction.
/// So a pod that stays costs no disruption, and no two evictions use the same one.
async fn take(
    shared: &Shared,
    user: &User,
    place: Place<'_>,
    options: &DeleteOptions,
    now: Timestamp,
) -> Result<(), Status> {
    for _ in 0..CONFLICT_RETRIES_MAX {
        let current = objects::get(&shared.objects, place.kind, place.namespace, place.name)?;
        let mut pod = objects::value(place.kind, &current.body)?;
        node_restriction::on_eviction(user, place.kind, &pod)?;
        delete::check_preconditions(place, options, &pod)?;
        let mut writes = Vec::new();
        if eviction::is_budgeted(&pod) {
            writes.extend(spend(shared, place.namespace, &pod, now)?);
        }
        eviction::mark(&mut pod, now);
        writes.extend(deletion(place, &current, &pod, options, now));
        if options.dry_run || writes.is_empty() {
            return Ok(());
        }
        match shared.objects.commit(writes, Durability::Durable).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(write::commit_failed(&error)),
        }
    }
    let why = format!("couldn't evict pod {:?} due to conflicts", place.name);
    Err(Status::timeout(why, CROWD_RETRY_SECONDS))
}

/// Returns the write that takes one disruption from the pod's budget, if a budget counts the pod.
fn spend(shared: &Shared, namespace: &str, pod: &Value, now: Timestamp) -> Result<Option<Write>, Status> {
    let kind = &policy::POD_DISRUPTION_BUDGET;
    let mut guards: Vec<(Arc<Object>, Value)> = Vec::new();
    for object in shared.objects.list(&objects::prefix(kind, namespace)).iter() {
        let budget = objects::value(kind, &object.body)?;
        if eviction::guards(&budget, pod) {
            guards.push((object.clone(), budget));
        }
    }
    let (stored, budget) = match guards.as_slice() {
        [] => return Ok(None),
        [(stored, budget)] => (stored, budget),
        _ => {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::new(500, "", why));
        }
    };
    let Some(next) = eviction::spend(budget, pod, now)? else {
        return Ok(None);
    };
    let (body, attributes) = objects::stored_form(kind, &next);
    Ok(Some(Write {
        key: stored.key.clone(),
        expect: Expect::At(stored.revision),
        change: Change::Put { body, attributes },
    }))
}

/// Returns the write that starts or completes the deletion of the marked pod. `None` if the pod is
/// already being deleted and its mark is stored.
fn deletion(
    place: Place<'_>,
    current: &Object,
    pod: &Value,
    options: &DeleteOptions,
    now: Timestamp,
) -> Option<Write> {
    let (next, gone) = match delete::next_step(place.kind, pod, options, now) {
        Step::Wait => (pod.clone(), false),
        Step::Mark(next) => (next, false),
        Step::Remove(last) => (last, true),
    };
    let (body, attributes) = objects::stored_form(place.kind, &next);
    if !gone && encode::splice(&body, current.revision.0) == current.body {
        return None;
    }
    let change = match gone {
        true => Change::Delete {
            last: body,
            attributes,
        },
        false => Change::Put { body, attributes },
    };
    Some(Write {
        key: place.key(),
        expect: Expect::At(current.revision),
        change,
    })
}
