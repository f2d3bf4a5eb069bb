//! A pod template, as `describe ds` and `rollout history --revision` print it.

use serde_json::Value;

use super::{array, or_none, pairs};
use crate::client::sheet::Sheet;

/// Prints `Pod Template:` and its content.
pub(crate) fn pod_template(sheet: &mut Sheet, template: &Value) {
    sheet.line(0, "Pod Template:");
    sheet.field(1, "Labels", pairs(&template["metadata"]["labels"], "="));
    if template["metadata"]["annotations"].is_object() {
        sheet.field(
            1,
            "Annotations",
            pairs(&template["metadata"]["annotations"], ": "),
        );
    }
    let spec = &template["spec"];
    if let Some(account) = spec["serviceAccountName"].as_str() {
        sheet.field(1, "Service Account", account);
    }
    containers(sheet, 1, "Init Containers", &spec["initContainers"], &Value::Null);
    containers(sheet, 1, "Containers", &spec["containers"], &Value::Null);
    volumes(sheet, 1, &spec["volumes"]);
    if let Some(class) = spec["priorityClassName"].as_str() {
        sheet.field(1, "Priority Class Name", class);
    }
    sheet.field(1, "Node-Selectors", pairs(&spec["nodeSelector"], "="));
    sheet.field(1, "Tolerations", tolerations(&spec["tolerations"]));
}

/// Prints containers; `statuses` are those of a pod, null for a template.
pub(super) fn containers(sheet: &mut Sheet, depth: usize, title: &str, containers: &Value, statuses: &Value) {
    if array(containers).next().is_none() {
        return;
    }
    sheet.line(depth, format_args!("{title}:"));
    for container in array(containers) {
        let name = container["name"].as_str().unwrap_or_default();
        sheet.line(depth + 1, format_args!("{name}:"));
        let status = array(statuses).find(|status| status["name"] == name);
        self::container(sheet, depth + 2, container, status);
    }
}

fn container(sheet: &mut Sheet, depth: usize, container: &Value, status: Option<&Value>) {
    if let Some(status) = status {
        sheet.field(depth, "Container ID", or_none(&status["containerID"]));
    }
    sheet.field(depth, "Image", or_none(&container["image"]));
    if let Some(status) = status {
        sheet.field(depth, "Image ID", or_none(&status["imageID"]));
    }
    let port = |field: &str| {
        let ports: Vec<String> = array(&container["ports"])
            .map(|port| {
                let protocol = port["protocol"].as_str().unwrap_or("TCP");
                format!("{}/{protocol}", port[field].as_i64().unwrap_or(0))
            })
            .collect();
        if ports.is_empty() {
            "<none>".to_owned()
        } else {
            ports.join(", ")
        }
    };
    sheet.field(depth, "Port", port("containerPort"));
    sheet.field(depth, "Host Port", port("hostPort"));
    words(sheet, depth, "Command", &container["command"]);
    words(sheet, depth, "Args", &container["args"]);
    if let Some(status) = status {
        state(sheet, depth, "State", &status["state"]);
        if status["lastState"]
            .as_object()
            .is_some_and(|state| !state.is_empty())
        {
            state(sheet, depth, "Last State", &status["lastState"]);
        }
        sheet.field(
            depth,
            "Ready",
            if status["ready"] == true { "True" } else { "False" },
        );
        sheet.field(
            depth,
            "Restart Count",
            status["restartCount"].as_i64().unwrap_or(0),
        );
    }
    quantities(sheet, depth, "Limits", &container["resources"]["limits"]);
    quantities(sheet, depth, "Requests", &container["resources"]["requests"]);
    for (title, field) in [
        ("Liveness", "livenessProbe"),
        ("Readiness", "readinessProbe"),
        ("Startup", "startupProbe"),
    ] {
        if container[field].is_object() {
            sheet.field(depth, title, probe(&container[field]));
        }
    }
    let environment: Vec<String> = array(&container["env"]).map(variable).collect();
    list(sheet, depth, "Environment", &environment);
    let mounts: Vec<String> = array(&container["volumeMounts"])
        .map(|mount| {
            let mode = if mount["readOnly"] == true { "ro" } else { "rw" };
            format!(
                "{} from {} ({mode})",
                or_none(&mount["mountPath"]),
                or_none(&mount["name"])
            )
        })
        .collect();
    list(sheet, depth, "Mounts", &mounts);
}

fn words(sheet: &mut Sheet, depth: usize, title: &str, words: &Value) {
    if array(words).next().is_some() {
        sheet.line(depth, format_args!("{title}:"));
        for word in array(words) {
            sheet.line(
                depth + 1,
                word.as_str().unwrap_or_default().replace(['\n', '\t'], " "),
            );
        }
    }
}

fn list(sheet: &mut Sheet, depth: usize, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return sheet.field(depth, title, "<none>");
    }
    sheet.line(depth, format_args!("{title}:"));
    for line in lines {
        sheet.line(depth + 1, line);
    }
}

fn quantities(sheet: &mut Sheet, depth: usize, title: &str, resources: &Value) {
    let Some(resources) = resources.as_object().filter(|resources| !resources.is_empty()) else {
        return;
    };
    sheet.line(depth, format_args!("{title}:"));
    for (name, quantity) in resources {
        sheet.field(depth + 1, name, or_none(quantity));
    }
}

fn state(sheet: &mut Sheet, depth: usize, title: &str, state: &Value) {
    let Some((kind, detail)) = state.as_object().and_then(|state| state.iter().next()) else {
        return sheet.field(depth, title, "Waiting");
    };
    let mut name = kind.clone();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    sheet.field(depth, title, name);
    for (label, field) in [
        ("Reason", "reason"),
        ("Message", "message"),
        ("Exit Code", "exitCode"),
        ("Started", "startedAt"),
        ("Finished", "finishedAt"),
    ] {
        if !detail[field].is_null() {
            sheet.field(depth + 1, label, or_none(&detail[field]));
        }
    }
}

fn probe(probe: &Value) -> String {
    let seconds = |field: &str, default: i64| probe[field].as_i64().unwrap_or(default);
    let action = if let Some(get) = probe["httpGet"].as_object() {
        let scheme = get
            .get("scheme")
            .and_then(Value::as_str)
            .unwrap_or("HTTP")
            .to_lowercase();
        let text = |field: &str| get.get(field).map(or_none).unwrap_or_default();
        format!(
            "http-get {scheme}://{}:{}{}",
            text("host"),
            text("port"),
            text("path")
        )
    } else if probe["tcpSocket"].is_object() {
        format!("tcp-socket :{}", or_none(&probe["tcpSocket"]["port"]))
    } else if probe["grpc"].is_object() {
        format!("grpc <pod>:{}", or_none(&probe["grpc"]["port"]))
    } else {
        let command: Vec<&str> = array(&probe["exec"]["command"])
            .filter_map(Value::as_str)
            .collect();
        format!("exec [{}]", command.join(" "))
    };
    format!(
        "{action} delay={}s timeout={}s period={}s #success={} #failure={}",
        seconds("initialDelaySeconds", 0),
        seconds("timeoutSeconds", 1),
        seconds("periodSeconds", 10),
        seconds("successThreshold", 1),
        seconds("failureThreshold", 3)
    )
}

fn variable(variable: &Value) -> String {
    let name = variable["name"].as_str().unwrap_or_default();
    let from = &variable["valueFrom"];
    let value = if from["fieldRef"].is_object() {
        format!(
            "({}:{})",
            or_none(&from["fieldRef"]["apiVersion"]),
            or_none(&from["fieldRef"]["fieldPath"])
        )
    } else if from["resourceFieldRef"].is_object() {
        format!("({})", or_none(&from["resourceFieldRef"]["resource"]))
    } else if from["configMapKeyRef"].is_object() {
        let source = &from["configMapKeyRef"];
        format!(
            "<set to the key '{}' of config map '{}'>",
            or_none(&source["key"]),
            or_none(&source["name"])
        )
    } else if from["secretKeyRef"].is_object() {
        let source = &from["secretKeyRef"];
        format!(
            "<set to the key '{}' in secret '{}'>",
            or_none(&source["key"]),
            or_none(&source["name"])
        )
    } else {
        variable["value"]
            .as_str()
            .unwrap_or_default()
            .replace(['\n', '\t'], " ")
    };
    format!("{name}:\t{value}")
}

/// Prints the volumes: the kind and the source of each.
pub(super) fn volumes(sheet: &mut Sheet, depth: usize, volumes: &Value) {
    if array(volumes).next().is_none() {
        return sheet.field(depth, "Volumes", "<none>");
    }
    sheet.line(depth, "Volumes:");
    for volume in array(volumes) {
        sheet.line(
            depth + 1,
            format_args!("{}:", volume["name"].as_str().unwrap_or_default()),
        );
        let fields = volume.as_object().into_iter().flatten();
        for (kind, source) in fields.filter(|(field, _)| *field != "name") {
            sheet.field(depth + 2, "Type", kind);
            for (field, value) in source.as_object().into_iter().flatten() {
                sheet.field(
                    depth + 2,
                    field,
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                );
            }
        }
    }
}

/// Returns one toleration for each line: `key=value:Effect op=Exists for 300s`.
pub(super) fn tolerations(tolerations: &Value) -> String {
    let lines: Vec<String> = array(tolerations)
        .map(|toleration| {
            let text = |field: &str| toleration[field].as_str().unwrap_or_default();
            let mut line = text("key").to_owned();
            if !text("value").is_empty() {
                line = format!("{line}={}", text("value"));
            }
            if !text("effect").is_empty() {
                line = format!("{line}:{}", text("effect"));
            }
            if text("operator") == "Exists" {
                line = format!("{line} op=Exists");
            }
            match toleration["tolerationSeconds"].as_i64() {
                Some(seconds) => format!("{line} for {seconds}s"),
                None => line,
            }
        })
        .collect();
    if lines.is_empty() {
        "<none>".to_owned()
    } else {
        lines.join("\n")
    }
}
