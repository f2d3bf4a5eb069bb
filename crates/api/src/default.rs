//! Defaults of pod specs, in Pods and in templates.
//!
//! Only missing fields are set, so a second call changes nothing.

use serde_json::{Map, Value, json};

/// Mode of projected files.
const FILE_MODE: i32 = 0o644;
/// Default lifetime of a projected token in seconds.
const TOKEN_SECONDS: i64 = 3600;

type Fields = Map<String, Value>;

/// Returns the object in `field`, if there is one.
pub(crate) fn object<'a>(owner: &'a mut Value, field: &str) -> Option<&'a mut Fields> {
    owner.get_mut(field)?.as_object_mut()
}

/// Returns the object in `field`, which is created when the field is missing. `None` when the field
/// has another type.
pub(crate) fn object_or_new<'a>(fields: &'a mut Fields, field: &str) -> Option<&'a mut Fields> {
    set_missing(fields, field, || json!({}));
    fields.get_mut(field)?.as_object_mut()
}

/// Sets a field that is missing or null.
pub(crate) fn set_missing(fields: &mut Fields, field: &str, value: impl FnOnce() -> Value) {
    if fields.get(field).is_none_or(Value::is_null) {
        fields.insert(field.to_owned(), value());
    }
}

/// Sets a string that is missing or empty.
pub(crate) fn set_text(fields: &mut Fields, field: &str, value: &str) {
    if fields
        .get(field)
        .is_none_or(|found| found.is_null() || found == "")
    {
        fields.insert(field.to_owned(), value.into());
    }
}

/// Sets a number that is missing or 0.
fn set_number(fields: &mut Fields, field: &str, value: i64) {
    if fields
        .get(field)
        .is_none_or(|found| found.is_null() || *found == 0)
    {
        fields.insert(field.to_owned(), value.into());
    }
}

/// Returns the objects in a list field.
pub(crate) fn items<'a>(fields: &'a mut Fields, field: &str) -> impl Iterator<Item = &'a mut Fields> {
    fields
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// Sets the defaults of a pod spec that also apply to templates.
pub(crate) fn pod_spec(spec: &mut Fields) {
    set_text(spec, "dnsPolicy", "ClusterFirst");
    set_text(spec, "restartPolicy", "Always");
    set_text(spec, "schedulerName", "default-scheduler");
    set_missing(spec, "securityContext", || json!({}));
    set_missing(spec, "terminationGracePeriodSeconds", || 30.into());
    service_account_alias(spec);
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        items(spec, field).for_each(container);
    }
    items(spec, "volumes").for_each(volume);
}

/// Copies `serviceAccountName` to its old name `serviceAccount`, or the other way round.
fn service_account_alias(spec: &mut Fields) {
    let name = |field: &str| {
        spec.get(field)
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
    };
    if let Some(name) = name("serviceAccountName")
        .or_else(|| name("serviceAccount"))
        .map(str::to_owned)
    {
        set_text(spec, "serviceAccountName", &name);
        if spec.get("serviceAccount").and_then(Value::as_str) != Some(&name) {
            spec.insert("serviceAccount".to_owned(), name.into());
        }
    }
}

fn container(container: &mut Fields) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = pull_policy(image);
    set_text(container, "imagePullPolicy", policy);
    set_text(container, "terminationMessagePath", "/dev/termination-log");
    set_text(container, "terminationMessagePolicy", "File");
    set_missing(container, "resources", || json!({}));
    items(container, "ports").for_each(|port| set_text(port, "protocol", "TCP"));
    for variable in items(container, "env") {
        if let Some(source) = variable.get_mut("valueFrom") {
            field_ref(source);
        }
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(field).and_then(Value::as_object_mut) {
            set_number(probe, "timeoutSeconds", 1);
            set_number(probe, "periodSeconds", 10);
            set_number(probe, "successThreshold", 1);
            set_number(probe, "failureThreshold", 3);
            http_get(probe);
            if let Some(grpc) = probe.get_mut("grpc").and_then(Value::as_object_mut) {
                set_missing(grpc, "service", || "".into());
            }
        }
    }
    if let Some(lifecycle) = container.get_mut("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(handler) = object(lifecycle, hook) {
                http_get(handler);
            }
        }
    }
}

fn http_get(handler: &mut Fields) {
    if let Some(action) = handler.get_mut("httpGet").and_then(Value::as_object_mut) {
        set_text(action, "path", "/");
        set_text(action, "scheme", "HTTP");
    }
}

fn field_ref(source: &mut Value) {
    if let Some(reference) = object(source, "fieldRef") {
        set_text(reference, "apiVersion", "v1");
    }
}

/// Returns `Always` for an image with the tag `latest` or without tag and digest, else
/// `IfNotPresent`.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !digest => "Always",
        _ => "IfNotPresent",
    }
}

fn volume(volume: &mut Fields) {
    for field in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(field).and_then(Value::as_object_mut) {
            set_missing(source, "defaultMode", || FILE_MODE.into());
        }
    }
    if let Some(source) = volume.get_mut("downwardAPI").and_then(Value::as_object_mut) {
        downward_items(source);
    }
    if let Some(source) = volume.get_mut("projected").and_then(Value::as_object_mut) {
        items(source, "sources").for_each(projected_source);
    }
    if let Some(source) = volume.get_mut("hostPath").and_then(Value::as_object_mut) {
        set_missing(source, "type", || "".into());
    }
    let has_source = volume
        .iter()
        .any(|(field, value)| field != "name" && !value.is_null());
    if !has_source {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
}

fn projected_source(source: &mut Fields) {
    if let Some(downward) = source.get_mut("downwardAPI").and_then(Value::as_object_mut) {
        downward_items(downward);
    }
    if let Some(token) = source
        .get_mut("serviceAccountToken")
        .and_then(Value::as_object_mut)
    {
        set_missing(token, "expirationSeconds", || TOKEN_SECONDS.into());
    }
}

fn downward_items(source: &mut Fields) {
    for item in items(source, "items") {
        if let Some(reference) = item.get_mut("fieldRef").and_then(Value::as_object_mut) {
            set_text(reference, "apiVersion", "v1");
        }
    }
}

/// Sets the defaults that apply to Pods and not to templates.
pub(crate) fn pod_only(spec: &mut Fields) {
    set_missing(spec, "enableServiceLinks", || true.into());
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for field in ["containers", "initContainers"] {
        for container in items(spec, field) {
            requests_from_limits(container);
            if host_network {
                items(container, "ports").for_each(host_port);
            }
        }
    }
}

fn requests_from_limits(container: &mut Fields) {
    let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
        return;
    };
    let Some(requests) = object_or_new(resources, "requests") else {
        return;
    };
    for (resource, limit) in limits {
        requests.entry(resource).or_insert(limit);
    }
}

fn host_port(port: &mut Fields) {
    if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
        set_number(port, "hostPort", number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_without_tag_or_with_latest_is_always_pulled() {
        for image in [
            "nginx",
            "nginx:latest",
            "registry:5000/nginx",
            "r.io/a/b:latest",
            "a:latest@sha256:1",
        ] {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        for image in [
            "nginx:1",
            "registry:5000/nginx:1",
            "nginx@sha256:1",
            "a:1@sha256:1",
        ] {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }

    fn check(mut spec: Value, expected: Value) {
        let fields = spec.as_object_mut().expect("an object");
        pod_spec(fields);
        let once = fields.clone();
        pod_spec(fields);
        assert_eq!(*fields, once, "defaulting twice changes nothing");
        for (field, value) in expected.as_object().expect("an object") {
            assert_eq!(&spec[field], value, "{field}");
        }
    }

    #[test]
    fn minimal_pod_spec_gets_its_policies() {
        check(
            json!({"containers": [{"name": "a", "image": "a:1"}]}),
            json!({"dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "securityContext": {}, "terminationGracePeriodSeconds": 30,
                "containers": [{"name": "a", "image": "a:1", "imagePullPolicy": "IfNotPresent", "resources": {},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}]}),
        );
    }

    #[test]
    fn values_of_the_user_stay() {
        check(
            json!({"dnsPolicy": "Default", "terminationGracePeriodSeconds": 0, "serviceAccount": "x"}),
            json!({"dnsPolicy": "Default", "terminationGracePeriodSeconds": 0, "serviceAccountName": "x", "serviceAccount": "x"}),
        );
    }

    #[test]
    fn volumes_get_modes_types_and_versions() {
        check(
            json!({"volumes": [{"name": "a"}, {"name": "b", "hostPath": {"path": "/"}}, {"name": "c", "secret": {"secretName": "s"}},
                {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}},
                    {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}}]}),
            json!({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/", "type": ""}},
                {"name": "c", "secret": {"secretName": "s", "defaultMode": 420}},
                {"name": "d", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}},
                    {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}]}}]}}]}),
        );
    }

    #[test]
    fn probes_get_their_numbers_and_ports_their_protocol() {
        let mut spec = json!({"containers": [{"image": "a", "ports": [{"containerPort": 1}],
            "livenessProbe": {"httpGet": {"port": 1}}}]});
        pod_spec(spec.as_object_mut().expect("an object"));
        assert_eq!(spec["containers"][0]["ports"][0]["protocol"], "TCP");
        assert_eq!(
            spec["containers"][0]["livenessProbe"],
            json!({"httpGet": {"port": 1, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3})
        );
    }

    #[test]
    fn pods_get_defaults_that_templates_do_not_get() {
        let mut spec = json!({"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}}]});
        pod_only(spec.as_object_mut().expect("an object"));
        assert_eq!(spec["enableServiceLinks"], true);
        assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], 80);
        assert_eq!(
            spec["containers"][0]["resources"]["requests"],
            json!({"cpu": "100m", "memory": "1Gi"})
        );
    }
}
