//! `describe ds`.

use anyhow::Result;
use serde_json::Value;

use super::{annotations, array, or_none, pairs, pod_template};
use crate::client::connection::Connection;
use crate::client::resources::{Resources, escape};
use crate::client::sheet::Sheet;
use crate::verbs::rollout::selector_query;

pub(super) async fn describe(
    sheet: &mut Sheet,
    connection: &Connection,
    resources: &Resources,
    object: &Value,
) -> Result<()> {
    let (metadata, status, template) = (
        &object["metadata"],
        &object["status"],
        &object["spec"]["template"],
    );
    let selector = selector_query(&object["spec"]["selector"]);
    sheet.field(0, "Name", or_none(&metadata["name"]));
    sheet.field(0, "Namespace", or_none(&metadata["namespace"]));
    sheet.field(0, "Selector", selector.as_deref().unwrap_or("<none>"));
    sheet.field(
        0,
        "Node-Selector",
        pairs(&template["spec"]["nodeSelector"], "=").replace('\n', ","),
    );
    sheet.field(0, "Labels", pairs(&metadata["labels"], "="));
    sheet.field(0, "Annotations", annotations(object));
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    sheet.line(
        0,
        format_args!(
            "Desired Number of Nodes Scheduled: {}",
            count("desiredNumberScheduled")
        ),
    );
    sheet.line(
        0,
        format_args!(
            "Current Number of Nodes Scheduled: {}",
            count("currentNumberScheduled")
        ),
    );
    sheet.line(
        0,
        format_args!(
            "Number of Nodes Scheduled with Up-to-date Pods: {}",
            count("updatedNumberScheduled")
        ),
    );
    sheet.line(
        0,
        format_args!(
            "Number of Nodes Scheduled with Available Pods: {}",
            count("numberAvailable")
        ),
    );
    sheet.line(
        0,
        format_args!("Number of Nodes Misscheduled: {}", count("numberMisscheduled")),
    );
    sheet.line(
        0,
        format_args!(
            "Pods Status:\t{}",
            phases(connection, resources, object, selector).await?
        ),
    );
    pod_template(sheet, template);
    Ok(())
}

/// Returns `R Running / W Waiting / S Succeeded / F Failed` for the pods that the DaemonSet owns.
async fn phases(
    connection: &Connection,
    resources: &Resources,
    object: &Value,
    selector: Option<String>,
) -> Result<String> {
    let namespace = object["metadata"]["namespace"].as_str();
    let mut path = resources.of_kind("v1", "Pod")?.collection(namespace);
    if let Some(selector) = selector {
        path = format!("{path}?labelSelector={}", escape(&selector));
    }
    let list = connection.get(&path).await?;
    let owned = |pod: &&Value| {
        array(&pod["metadata"]["ownerReferences"])
            .any(|owner| owner["controller"] == true && owner["uid"] == object["metadata"]["uid"])
    };
    let count = |phase: &str| {
        array(&list["items"])
            .filter(owned)
            .filter(|pod| pod["status"]["phase"] == phase)
            .count()
    };
    Ok(format!(
        "{} Running / {} Waiting / {} Succeeded / {} Failed",
        count("Running"),
        count("Pending"),
        count("Succeeded"),
        count("Failed")
    ))
}
