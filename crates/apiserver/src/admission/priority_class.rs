//! Priority, for the classes themselves: at most one class is the default.

use api::kinds::Kind;
use api::meta;
use api::status::Status;
use serde_json::Value;

use crate::objects;
use crate::shared::Shared;

/// Returns 403 for a second default class.
pub(crate) fn one_default(shared: &Shared, kind: &'static Kind, class: &Value) -> Result<(), Status> {
    if kind.kind != "PriorityClass" || class["globalDefault"] != true {
        return Ok(());
    }
    let name = meta::name(class);
    for object in shared.objects.list(&objects::prefix(kind, "")).iter() {
        let other = shared.parsed.value(kind, object)?;
        if other["globalDefault"] == true && meta::name(&other) != name {
            let why = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                meta::name(&other)
            );
            return Err(Status::forbidden(kind, name, &why));
        }
    }
    Ok(())
}
