//! `describe pod`.

use serde_json::Value;

use super::template::{containers, tolerations, volumes};
use super::{annotations, array, controlled_by, or_none, pairs};
use crate::client::sheet::Sheet;

pub(super) fn describe(sheet: &mut Sheet, object: &Value) {
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    sheet.field(0, "Name", or_none(&metadata["name"]));
    sheet.field(0, "Namespace", or_none(&metadata["namespace"]));
    if !spec["priority"].is_null() {
        sheet.field(0, "Priority", or_none(&spec["priority"]));
    }
    if let Some(class) = spec["priorityClassName"].as_str() {
        sheet.field(0, "Priority Class Name", class);
    }
    sheet.field(0, "Service Account", or_none(&spec["serviceAccountName"]));
    let node = match (spec["nodeName"].as_str(), status["hostIP"].as_str()) {
        (Some(node), Some(address)) => format!("{node}/{address}"),
        (node, _) => node.unwrap_or("<none>").to_owned(),
    };
    sheet.field(0, "Node", node);
    if let Some(started) = status["startTime"].as_str() {
        sheet.field(0, "Start Time", started);
    }
    sheet.field(0, "Labels", pairs(&metadata["labels"], "="));
    sheet.field(0, "Annotations", annotations(object));
    sheet.field(0, "Status", state(object));
    for (name, field) in [("Reason", "reason"), ("Message", "message")] {
        if let Some(text) = status[field].as_str() {
            sheet.field(0, name, text);
        }
    }
    sheet.field(0, "IP", status["podIP"].as_str().unwrap_or_default());
    if let Some(controller) = controlled_by(object) {
        sheet.field(0, "Controlled By", controller);
    }
    containers(
        sheet,
        0,
        "Init Containers",
        &spec["initContainers"],
        &status["initContainerStatuses"],
    );
    containers(
        sheet,
        0,
        "Containers",
        &spec["containers"],
        &status["containerStatuses"],
    );
    sheet.line(0, "Conditions:");
    sheet.line(1, "Type\tStatus");
    for condition in array(&status["conditions"]) {
        sheet.line(
            1,
            format_args!(
                "{}\t{}",
                or_none(&condition["type"]),
                or_none(&condition["status"])
            ),
        );
    }
    volumes(sheet, 0, &spec["volumes"]);
    sheet.field(0, "QoS Class", or_none(&status["qosClass"]));
    sheet.field(0, "Node-Selectors", pairs(&spec["nodeSelector"], "="));
    sheet.field(0, "Tolerations", tolerations(&spec["tolerations"]));
}

fn state(object: &Value) -> String {
    match object["metadata"]["deletionGracePeriodSeconds"].as_i64() {
        Some(grace) if object["metadata"]["deletionTimestamp"].is_string() => {
            format!("Terminating (grace period {grace}s)")
        }
        _ => or_none(&object["status"]["phase"]),
    }
}
