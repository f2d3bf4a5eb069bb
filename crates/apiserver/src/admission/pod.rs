//! Sets a pod's service account, priority and tolerations. Objects that the pod names must exist.

use std::sync::Arc;

use api::admission;
use api::kinds::{self, Kind};
use api::meta;
use api::status::Status;
use serde_json::Value;

use crate::objects::{self, core};
use crate::shared::Shared;

/// Applies ServiceAccount, Priority, RuntimeClass and DefaultTolerationSeconds, in this order.
pub(crate) fn admit(shared: &Shared, kind: &'static Kind, pod: &mut Value) -> Result<(), Status> {
    let account = service_account(shared, kind, pod)?;
    admission::service_account(pod, &account, &meta::suffix(shared.random()?));
    let class = priority_class(shared, kind, pod)?;
    admission::priority(pod, class.as_deref())
        .map_err(|refusal| Status::forbidden(kind, meta::name(pod), &refusal.to_string()))?;
    runtime_class(shared, kind, pod)?;
    admission::default_toleration_seconds(pod);
    Ok(())
}

fn service_account(shared: &Shared, kind: &'static Kind, pod: &Value) -> Result<Arc<Value>, Status> {
    let accounts = core("ServiceAccount").ok_or_else(Status::path_not_found)?;
    let (namespace, name) = (meta::namespace(pod), admission::service_account_name(pod));
    let account = objects::get(&shared.objects, accounts, namespace, name).map_err(|_| {
        let why = format!(
            "error looking up service account {namespace}/{name}: serviceaccount {} not found",
            api::field_error::quote(name)
        );
        Status::forbidden(kind, meta::name(pod), &why)
    })?;
    shared.parsed.value(accounts, &account)
}

/// Returns 403 for a pod whose RuntimeClass does not exist, because the pod must not run in another
/// runtime than it requests. The kind is not served, so no RuntimeClass exists.
fn runtime_class(shared: &Shared, kind: &Kind, pod: &Value) -> Result<(), Status> {
    let Some(name) = pod["spec"]["runtimeClassName"].as_str() else {
        return Ok(());
    };
    let exists = kinds::by_kind("node.k8s.io", "v1", "RuntimeClass")
        .is_some_and(|classes| objects::get(&shared.objects, classes, "", name).is_ok());
    match exists {
        true => Ok(()),
        false => {
            let name = api::field_error::quote(name);
            let why = format!("pod rejected: RuntimeClass {name} not found");
            Err(Status::forbidden(kind, meta::name(pod), &why))
        }
    }
}

/// Returns the class that the pod names, or the default class.
fn priority_class(shared: &Shared, kind: &'static Kind, pod: &Value) -> Result<Option<Arc<Value>>, Status> {
    let classes =
        kinds::by_kind("scheduling.k8s.io", "v1", "PriorityClass").ok_or_else(Status::path_not_found)?;
    let Some(name) = admission::priority_class_name(pod) else {
        let all = shared.objects.list(&objects::prefix(classes, ""));
        let values: Vec<Arc<Value>> = all
            .iter()
            .map(|class| shared.parsed.value(classes, class))
            .collect::<Result<_, _>>()?;
        let default = admission::default_priority_class(values.iter().map(Arc::as_ref));
        return Ok(default.cloned().map(Arc::new));
    };
    let class = objects::get(&shared.objects, classes, "", name).map_err(|_| {
        Status::forbidden(
            kind,
            meta::name(pod),
            &format!("no PriorityClass with name {name} was found"),
        )
    })?;
    shared.parsed.value(classes, &class).map(Some)
}
