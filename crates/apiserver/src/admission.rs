//! Admission, in Kubernetes' order: the checks of an object that depend on other objects, beyond
//! the rules of its kind.

mod certificates;
mod namespace;
pub(crate) mod node_restriction;
mod pod;
mod pod_security;
mod priority_class;
mod service;

use api::kinds::Kind;
use api::status::Status;
use serde_json::Value;
use tokio::sync::MutexGuard;

use crate::authorization;
use crate::objects::{self, Place};
use crate::shared::Shared;
use crate::user::User;

pub(crate) use self::service::Taken;

/// Guard that is held until a Service's addresses and ports are stored.
pub(crate) type Allocation<'a> = Option<MutexGuard<'a, ()>>;

/// Waits for the lock under which a Service gets unique addresses and ports. Other kinds do not
/// wait.
pub(crate) async fn allocation<'a>(shared: &'a Shared, kind: &Kind) -> Allocation<'a> {
    match service::is_service(kind) {
        true => Some(shared.service_allocation.lock().await),
        false => None,
    }
}

/// Admits a new object, and may change it.
pub(crate) async fn on_create<'a>(
    shared: &'a Shared,
    user: &User,
    kind: &'static Kind,
    object: &mut Value,
) -> Result<Allocation<'a>, Status> {
    namespace::must_take_objects(shared, kind, object)?;
    node_restriction::on_create(shared, user, kind, object)?;
    certificates::on_create(kind, object)?;
    authorization::may_give(shared, user, kind, object, None)?;
    let allocation = allocation(shared, kind).await;
    if objects::is_pod(kind) {
        pod::admit(shared, kind, object)?;
    } else if service::is_service(kind) {
        service::allocate(shared, kind, object, &Value::Null)?;
    } else if kind.group.is_empty() && kind.kind == "Node" {
        api::admission::taint_new_node(object);
    }
    priority_class::one_default(shared, kind, object)?;
    Ok(allocation)
}

/// Admits the new state of an object.
pub(crate) fn on_update(
    shared: &Shared,
    user: &User,
    kind: &'static Kind,
    new: &mut Value,
    old: &Value,
) -> Result<(), Status> {
    node_restriction::on_update(user, kind, new, old, false)?;
    authorization::may_give(shared, user, kind, new, Some(old))?;
    if service::is_service(kind) {
        service::allocate(shared, kind, new, old)?;
    }
    priority_class::one_default(shared, kind, new)
}

/// Checks a new object after admission and validation. Adds warnings for the client to `warnings`.
pub(crate) fn judge_create(
    shared: &Shared,
    kind: &'static Kind,
    object: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    pod_security::judge(shared, kind, object, None, warnings)
}

/// Does what [`judge_create`] does, for the new state of an object.
pub(crate) fn judge_update(
    shared: &Shared,
    kind: &'static Kind,
    new: &Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    pod_security::judge(shared, kind, new, Some(old), warnings)
}

/// Admits the new status of an object.
pub(crate) fn on_status_update(
    shared: &Shared,
    user: &User,
    kind: &Kind,
    new: &Value,
    old: &Value,
) -> Result<(), Status> {
    certificates::on_status_update(shared, user, kind, new, old)?;
    node_restriction::on_update(user, kind, new, old, true)
}

/// Admits the approval or denial of a certificate signing request.
pub(crate) fn on_approval(shared: &Shared, user: &User, kind: &Kind, old: &Value) -> Result<(), Status> {
    certificates::on_approval(shared, user, kind, old)
}

/// Admits a deletion, independently of the object's state.
pub(crate) fn on_delete(place: Place<'_>) -> Result<(), Status> {
    namespace::may_be_deleted(place)
}

/// Admits the deletion of an object in this state.
pub(crate) fn on_delete_of(user: &User, kind: &Kind, old: &Value) -> Result<(), Status> {
    node_restriction::on_delete(user, kind, old)
}
