use super::*;
use crate::field_error::Path;
use crate::kinds::by_kind;

fn daemon_sets() -> &'static Kind {
    by_kind("apps", "v1", "DaemonSet").expect("a served kind")
}

fn pods() -> &'static Kind {
    by_kind("", "v1", "Pod").expect("a served kind")
}

#[test]
fn not_found_names_resource_and_group() {
    let status = Status::not_found(daemon_sets(), "x");
    assert_eq!(status.message, r#"daemonsets.apps "x" not found"#);
    assert_eq!(
        status.to_value(),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404, "reason": "NotFound",
            "message": "daemonsets.apps \"x\" not found", "details": {"name": "x", "group": "apps", "kind": "daemonsets"}})
    );
    let status = Status::not_found(pods(), "x");
    assert_eq!(status.message, r#"pods "x" not found"#);
    assert_eq!(status.to_value()["details"], json!({"name": "x", "kind": "pods"}));
}

#[test]
fn taken_name_and_stale_version_are_conflicts() {
    let status = Status::already_exists(daemon_sets(), "x");
    assert_eq!((status.code, status.reason), (409, "AlreadyExists"));
    assert_eq!(status.message, r#"daemonsets.apps "x" already exists"#);
    let status = Status::modified(daemon_sets(), "x");
    assert_eq!((status.code, status.reason), (409, "Conflict"));
    assert_eq!(
        status.message,
        r#"Operation cannot be fulfilled on daemonsets.apps "x": the object has been modified; please apply your changes to the latest version and try again"#
    );
}

#[test]
fn invalid_object_lists_every_error_as_a_cause() {
    let spec = Path::Root("spec");
    let errors = [
        FieldError::invalid(&spec.child("a"), "x", "bad"),
        FieldError::required(&spec.child("b"), "say it"),
    ];
    let status = Status::invalid(daemon_sets(), "x", &errors);
    assert_eq!(
        status.message,
        r#"DaemonSet.apps "x" is invalid: [spec.a: Invalid value: "x": bad, spec.b: Required value: say it]"#
    );
    let value = status.to_value();
    assert_eq!(
        (&value["code"], &value["reason"]),
        (&json!(422), &json!("Invalid"))
    );
    assert_eq!(
        value["details"],
        json!({"name": "x", "group": "apps", "kind": "DaemonSet", "causes": [
            {"reason": "FieldValueInvalid", "message": "Invalid value: \"x\": bad", "field": "spec.a"},
            {"reason": "FieldValueRequired", "message": "Required value: say it", "field": "spec.b"},
        ]})
    );
}

#[test]
fn terminating_namespace_rejects_new_objects_with_a_cause() {
    let status = Status::namespace_terminating(pods(), "x", "old");
    assert_eq!(
        status.message,
        r#"pods "x" is forbidden: unable to create new content in namespace old because it is being terminated"#
    );
    assert_eq!(
        status.to_value()["details"]["causes"],
        json!([{"reason": "NamespaceTerminating", "message": "namespace old is being terminated", "field": "metadata.namespace"}])
    );
}

#[test]
fn read_at_a_future_revision_times_out_with_retry_time() {
    let status = Status::too_large_resource_version(9, 3);
    assert_eq!(status.code, 504);
    assert_eq!(
        status.message,
        "Timeout: Too large resource version: 9, current: 3"
    );
    assert_eq!(
        status.to_value()["details"],
        json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}], "retryAfterSeconds": 1})
    );
}

#[test]
fn deletion_response_names_the_object_and_its_uid() {
    assert_eq!(
        deleted(daemon_sets(), "x", "u-1"),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": "x", "group": "apps", "kind": "daemonsets", "uid": "u-1"}})
    );
}
