//! NamespaceLifecycle: refuses new objects in a namespace that is missing or being deleted, and the
//! deletion of some namespaces.

use api::kinds::Kind;
use api::meta;
use api::status::Status;
use serde_json::Value;

use crate::objects::{self, Place, core};
use crate::shared::Shared;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

/// Returns 404 when the object's namespace is missing, 403 when it is being deleted.
pub(crate) fn must_take_objects(shared: &Shared, kind: &Kind, object: &Value) -> Result<(), Status> {
    if !kind.namespaced {
        return Ok(());
    }
    let name = meta::namespace(object);
    let namespaces = core("Namespace").ok_or_else(Status::path_not_found)?;
    let namespace = objects::get(&shared.objects, namespaces, "", name)?;
    match objects::is_terminating(&namespace) {
        true => Err(Status::namespace_terminating(kind, meta::name(object), name)),
        false => Ok(()),
    }
}

/// Returns 403 for a namespace that the cluster needs.
pub(crate) fn may_be_deleted(place: Place<'_>) -> Result<(), Status> {
    match objects::is_namespace(place.kind) && IMMORTAL.contains(&place.name) {
        true => Err(Status::forbidden(
            place.kind,
            place.name,
            "this namespace may not be deleted",
        )),
        false => Ok(()),
    }
}
