use serde_json::json;

use super::*;
use crate::lookup;

fn complaint(kind: (&str, &str, &str), value: Value) -> String {
    let ty = lookup(kind.0, kind.1, kind.2).expect("a served kind");
    check(ty, &value).expect_err("a misfit").to_string()
}

const DAEMON_SET: (&str, &str, &str) = ("apps", "v1", "DaemonSet");
const POD: (&str, &str, &str) = ("", "v1", "Pod");

#[test]
fn wrong_type_is_reported_with_struct_path_and_go_type() {
    for (kind, value, expected) in [
        (
            DAEMON_SET,
            json!({"spec": {"minReadySeconds": "5"}}),
            "json: cannot unmarshal string into Go struct field DaemonSetSpec.spec.minReadySeconds of type int32",
        ),
        (
            DAEMON_SET,
            json!({"spec": {"minReadySeconds": 3_000_000_000u32}}),
            "json: cannot unmarshal number 3000000000 into Go struct field DaemonSetSpec.spec.minReadySeconds of type int32",
        ),
        (
            DAEMON_SET,
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": 5}]}}}}),
            "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.name of type string",
        ),
        (
            DAEMON_SET,
            json!({"spec": []}),
            "json: cannot unmarshal array into Go struct field DaemonSet.spec of type v1.DaemonSetSpec",
        ),
        (
            DAEMON_SET,
            json!({"spec": {"template": {"spec": {"containers": {}}}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            DAEMON_SET,
            json!([]),
            "json: cannot unmarshal array into Go value of type v1.DaemonSet",
        ),
        (
            POD,
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            POD,
            json!({"metadata": {"labels": "a"}}),
            "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            POD,
            json!({"spec": {"restartPolicy": true}}),
            "json: cannot unmarshal bool into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            POD,
            json!({"metadata": {"creationTimestamp": "now"}}),
            r#"parsing time "now" as "2006-01-02T15:04:05Z07:00": cannot parse "now" as "2006""#,
        ),
        (
            POD,
            json!({"spec": {"containers": [{"resources": {"limits": {"memory": "lots"}}}]}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            ("", "v1", "Secret"),
            json!({"data": {"a": "no base64!"}}),
            "illegal base64 data at input byte 2",
        ),
        (
            POD,
            json!({"spec": {"containers": [{"livenessProbe": {"httpGet": {"port": true}}}]}}),
            "json: cannot unmarshal bool into Go value of type int32",
        ),
    ] {
        assert_eq!(complaint(kind, value), expected);
    }
}

#[test]
fn null_and_unknown_fields_fit() {
    let ty = lookup("apps", "v1", "DaemonSet").expect("served");
    assert_eq!(
        check(
            ty,
            &json!({"spec": null, "what": [1], "metadata": {"labels": null, "finalizers": [null]}})
        ),
        Ok(())
    );
}
