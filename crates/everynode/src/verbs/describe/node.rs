//! `describe node`.

use anyhow::Result;
use serde_json::Value;

use super::{age, annotations, array, or_none, pairs};
use crate::client::connection::Connection;
use crate::client::resources::{Resources, escape};
use crate::client::sheet::Sheet;

pub(super) async fn describe(
    sheet: &mut Sheet,
    connection: &Connection,
    resources: &Resources,
    object: &Value,
) -> Result<()> {
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let name = or_none(&metadata["name"]);
    sheet.field(0, "Name", &name);
    sheet.field(0, "Roles", roles(&metadata["labels"]));
    sheet.field(0, "Labels", pairs(&metadata["labels"], "="));
    sheet.field(0, "Annotations", annotations(object));
    sheet.field(0, "CreationTimestamp", or_none(&metadata["creationTimestamp"]));
    sheet.field(0, "Taints", taints(&spec["taints"]));
    sheet.field(0, "Unschedulable", spec["unschedulable"] == true);
    sheet.line(0, "Conditions:");
    sheet.line(
        1,
        "Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage",
    );
    sheet.line(
        1,
        "----\t------\t-----------------\t------------------\t------\t-------",
    );
    for condition in array(&status["conditions"]) {
        let fields = [
            "type",
            "status",
            "lastHeartbeatTime",
            "lastTransitionTime",
            "reason",
            "message",
        ];
        let cells: Vec<String> = fields.iter().map(|field| or_none(&condition[field])).collect();
        sheet.line(1, cells.join("\t"));
    }
    sheet.line(0, "Addresses:");
    for address in array(&status["addresses"]) {
        sheet.field(1, &or_none(&address["type"]), or_none(&address["address"]));
    }
    for (title, resources) in [
        ("Capacity", &status["capacity"]),
        ("Allocatable", &status["allocatable"]),
    ] {
        sheet.line(0, format_args!("{title}:"));
        for (resource, quantity) in resources.as_object().into_iter().flatten() {
            sheet.field(1, resource, or_none(quantity));
        }
    }
    sheet.line(0, "System Info:");
    for (field, value) in status["nodeInfo"].as_object().into_iter().flatten() {
        sheet.field(1, field, or_none(value));
    }
    if let Some(range) = spec["podCIDR"].as_str() {
        sheet.field(0, "PodCIDR", range);
    }
    pods(sheet, connection, resources, &name).await
}

async fn pods(sheet: &mut Sheet, connection: &Connection, resources: &Resources, node: &str) -> Result<()> {
    let fields = format!("spec.nodeName={node},status.phase!=Failed,status.phase!=Succeeded");
    let path = format!(
        "{}?fieldSelector={}",
        resources.of_kind("v1", "Pod")?.collection(None),
        escape(&fields)
    );
    let list = connection.get(&path).await?;
    let count = array(&list["items"]).count();
    sheet.line(0, format_args!("Non-terminated Pods:\t({count} in total)"));
    if count == 0 {
        return Ok(());
    }
    sheet.line(1, "Namespace\tName\tAge");
    sheet.line(1, "---------\t----\t---");
    for pod in array(&list["items"]) {
        let metadata = &pod["metadata"];
        let age = age(metadata["creationTimestamp"].as_str().unwrap_or_default());
        sheet.line(
            1,
            format_args!(
                "{}\t{}\t{age}",
                or_none(&metadata["namespace"]),
                or_none(&metadata["name"])
            ),
        );
    }
    Ok(())
}

fn roles(labels: &Value) -> String {
    let keys = labels.as_object().into_iter().flatten().map(|(key, _)| key);
    let roles: Vec<&str> = keys
        .filter_map(|key| key.strip_prefix("node-role.kubernetes.io/"))
        .collect();
    if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.join(",")
    }
}

fn taints(taints: &Value) -> String {
    let lines: Vec<String> = array(taints)
        .map(|taint| {
            let text = |field: &str| taint[field].as_str().unwrap_or_default();
            match text("value") {
                "" => format!("{}:{}", text("key"), text("effect")),
                value => format!("{}={value}:{}", text("key"), text("effect")),
            }
        })
        .collect();
    if lines.is_empty() {
        "<none>".to_owned()
    } else {
        lines.join("\n")
    }
}
