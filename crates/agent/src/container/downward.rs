//! What a pod may be told of itself: fieldRef and resourceFieldRef, in the environment and in files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use schema::quantity::Quantity;

use super::{Surroundings, find};

/// The value of a pod's field. Whole maps (`metadata.labels`) are only for files, but are answered here too.
pub(crate) fn field(pod: &Pod, path: &str, surroundings: &Surroundings) -> Result<String, String> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |value: &Option<String>| Ok(value.clone().unwrap_or_default());
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        let value = map.as_ref().and_then(|map| map.get(key));
        return Ok(value.cloned().unwrap_or_default());
    }
    match path {
        "metadata.name" => text(&metadata.name),
        "metadata.namespace" => text(&metadata.namespace),
        "metadata.uid" => text(&metadata.uid),
        "metadata.labels" => Ok(lines(&metadata.labels)),
        "metadata.annotations" => Ok(lines(&metadata.annotations)),
        "spec.nodeName" => Ok(surroundings.node_name.clone()),
        "spec.serviceAccountName" => {
            spec.map_or_else(|| Ok(String::new()), |spec| text(&spec.service_account_name))
        }
        "status.hostIP" => Ok(surroundings.host_ips.first().cloned().unwrap_or_default()),
        "status.hostIPs" => Ok(surroundings.host_ips.join(",")),
        "status.podIP" => Ok(surroundings.pod_ips.first().cloned().unwrap_or_default()),
        "status.podIPs" => Ok(surroundings.pod_ips.join(",")),
        _ => Err(format!("unsupported fieldPath: {path}")),
    }
}

/// `metadata.labels['key']` as map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    Some((map, key))
}

/// `key="value"` lines, sorted, values quoted as Go quotes them.
fn lines(map: &Option<BTreeMap<String, String>>) -> String {
    let lines = map
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if (control as u32) < 0x20 => out.push_str(&format!("\\x{:02x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// The amount of a container's resource in units of the divisor, rounded up. Without a limit, the node's allocatable.
pub(crate) fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    surroundings: &Surroundings,
) -> Result<String, String> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let spec = pod.spec.as_ref();
    let container = match named {
        Some(name) => spec.and_then(|spec| find(spec, name)),
        None => own,
    };
    let container = container.ok_or_else(|| format!("container {} not found", named.unwrap_or("")))?;
    let (list, name) = selector.resource.split_once('.').unwrap_or(("", ""));
    let resources = container.resources.clone().unwrap_or_default();
    let limit = || {
        resources
            .limits
            .as_ref()
            .and_then(|list| list.get(name))
            .map(|amount| amount.0.clone())
    };
    let request = || {
        resources
            .requests
            .as_ref()
            .and_then(|list| list.get(name))
            .map(|amount| amount.0.clone())
    };
    let amount = match list {
        "limits" => limit().or_else(|| surroundings.allocatable.get(name).cloned()),
        "requests" => request().or_else(limit),
        _ => return Err(format!("unsupported container resource: {}", selector.resource)),
    };
    let parse = |text: &str| Quantity::parse(text).map_err(|error| format!("{}: {error}", selector.resource));
    let amount = parse(amount.as_deref().unwrap_or("0"))?;
    let divisor = selector
        .divisor
        .as_ref()
        .map_or("1", |divisor| divisor.0.as_str());
    let divisor = parse(if divisor == "0" { "1" } else { divisor })?;
    let in_units = if name == "cpu" {
        ceiling(amount.milli(), divisor.milli())
    } else {
        ceiling(amount.value(), divisor.value())
    };
    Ok(in_units.to_string())
}

fn ceiling(amount: i64, divisor: i64) -> i64 {
    let divisor = divisor.max(1);
    amount / divisor + i64::from(amount % divisor > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        let pod = json!({
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u",
                "labels": {"b": "2", "a": "say \"hi\"\n"},
            },
            "spec": {"serviceAccountName": "sa", "containers": [{
                "name": "c",
                "resources": {"limits": {"cpu": "1500m", "memory": "100Mi"}, "requests": {"cpu": "250m"}},
            }]},
        });
        serde_json::from_value(pod).expect("a pod")
    }

    fn surroundings() -> Surroundings {
        Surroundings {
            alone: false,
            node_name: "n".into(),
            host_ips: vec!["192.0.2.1".into()],
            pod_ips: vec!["10.0.0.2".into()],
            allocatable: [("ephemeral-storage".to_owned(), "5Gi".to_owned())].into(),
            api_address: ([127, 0, 0, 1], 6443).into(),
        }
    }

    #[test]
    fn fields_are_read_by_their_path() {
        let cases = [
            ("metadata.name", Ok("web")),
            ("metadata.labels['b']", Ok("2")),
            ("metadata.labels['none']", Ok("")),
            ("metadata.labels", Ok("a=\"say \\\"hi\\\"\\n\"\nb=\"2\"")),
            ("spec.nodeName", Ok("n")),
            ("spec.serviceAccountName", Ok("sa")),
            ("status.hostIP", Ok("192.0.2.1")),
            ("status.podIP", Ok("10.0.0.2")),
            ("spec.x", Err("unsupported fieldPath: spec.x")),
        ];
        for (path, expected) in cases {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(field(&pod(), path, &surroundings()), expected, "{path}");
        }
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let cases = [
            ("limits.cpu", "1", "2"),
            ("limits.cpu", "1m", "1500"),
            ("requests.cpu", "1m", "250"),
            ("limits.memory", "1Mi", "100"),
            ("limits.memory", "0", "104857600"),
            ("requests.memory", "1Mi", "100"),
            ("limits.ephemeral-storage", "1Gi", "5"),
        ];
        for (name, divisor, expected) in cases {
            let selector = json!({"resource": name, "divisor": divisor, "containerName": "c"});
            let selector = serde_json::from_value(selector).expect("a selector");
            let amount = resource(&pod(), None, &selector, &surroundings());
            assert_eq!(amount.as_deref(), Ok(expected), "{name} in {divisor}");
        }
    }
}
