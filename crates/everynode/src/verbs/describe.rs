//! `everynode describe`: prints an object, related objects and its events.

mod daemon_set;
mod generic;
mod node;
mod pod;
mod template;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use super::get::print;
use crate::client::connection::{ConnectArgs, Connection};
use crate::client::error::is_not_found;
use crate::client::event::last_seen;
use crate::client::resources::{Resource, Resources, Targets, escape};
use crate::client::sheet::Sheet;

pub(super) use template::pod_template;

/// Show an object in detail, with its events
#[derive(Args, Debug)]
pub(crate) struct Describe {
    /// `ds NAME`, `ds/NAME`, or a type with -l
    #[arg(required = true, value_name = "TYPE [NAME] | TYPE/NAME")]
    targets: Vec<String>,

    /// Select objects by labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,

    /// Include all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

impl Describe {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        let mut first = true;
        for (kind, name) in Targets::parse(&self.targets)?.pairs {
            let resource = resources.named(&kind)?;
            for object in self.objects(&connection, resource, name.as_deref()).await? {
                if !std::mem::take(&mut first) {
                    print(b"\n\n")?;
                }
                print(
                    describe(&connection, &resources, resource, &object)
                        .await?
                        .as_bytes(),
                )?;
            }
        }
        if first {
            eprintln!("No resources found in {} namespace.", connection.namespace);
        }
        Ok(())
    }

    /// Returns the named object. If no object has the name, it is a prefix, as in kubectl.
    async fn objects(
        &self,
        connection: &Connection,
        resource: &Resource,
        name: Option<&str>,
    ) -> Result<Vec<Value>> {
        if let Some(name) = name {
            match connection
                .get(&resource.object(&connection.namespace, name))
                .await
            {
                Err(error) if is_not_found(&error) => {
                    let all = self.list(connection, resource).await?;
                    let begins = |object: &Value| {
                        object["metadata"]["name"]
                            .as_str()
                            .is_some_and(|own| own.starts_with(name))
                    };
                    let matching: Vec<Value> = all.into_iter().filter(begins).collect();
                    return if matching.is_empty() {
                        Err(error)
                    } else {
                        Ok(matching)
                    };
                }
                found => return Ok(vec![found?]),
            }
        }
        self.list(connection, resource).await
    }

    async fn list(&self, connection: &Connection, resource: &Resource) -> Result<Vec<Value>> {
        let namespace = (!self.all_namespaces).then_some(connection.namespace.as_str());
        let mut path = resource.collection(namespace);
        if let Some(selector) = &self.selector {
            path = format!("{path}?labelSelector={}", escape(selector));
        }
        let mut list = connection.get(&path).await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => bail!("the server sent no list of {}", resource.plural),
        }
    }
}

async fn describe(
    connection: &Connection,
    resources: &Resources,
    resource: &Resource,
    object: &Value,
) -> Result<String> {
    let mut sheet = Sheet::default();
    match resource.kind.as_str() {
        "DaemonSet" => daemon_set::describe(&mut sheet, connection, resources, object).await?,
        "Pod" => pod::describe(&mut sheet, object),
        "Node" => node::describe(&mut sheet, connection, resources, object).await?,
        _ => generic::describe(&mut sheet, resource, object),
    }
    events(&mut sheet, connection, resources, object).await?;
    Ok(sheet.finish())
}

/// Prints the events about an object, oldest first.
async fn events(
    sheet: &mut Sheet,
    connection: &Connection,
    resources: &Resources,
    object: &Value,
) -> Result<()> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let events = resources.of_kind("v1", "Event")?;
    let namespace = Some(text("namespace")).filter(|namespace| !namespace.is_empty());
    let mut fields = format!("involvedObject.name={}", text("name"));
    // Events that an agent writes about its node have the node's name as UID, like a kubelet's.
    if object["kind"] != "Node" {
        fields.push_str(&format!(",involvedObject.uid={}", text("uid")));
    } else {
        fields.push_str(",involvedObject.kind=Node");
    }
    let path = format!(
        "{}?fieldSelector={}",
        events.collection(namespace),
        escape(&fields)
    );
    let list = connection.get(&path).await?;
    let mut items: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
    if items.is_empty() {
        sheet.field(0, "Events", "<none>");
        return Ok(());
    }
    items.sort_by_key(|event| last_seen(event).to_owned());
    sheet.line(0, "Events:");
    sheet.line(1, "Type\tReason\tAge\tFrom\tMessage");
    sheet.line(1, "----\t------\t----\t----\t-------");
    for event in items {
        let field = |name: &str| event[name].as_str().unwrap_or_default();
        let count = event["count"].as_i64().unwrap_or(1);
        let age = age(last_seen(event));
        let age = if count > 1 {
            format!("{age} (x{count} over {})", self::age(field("firstTimestamp")))
        } else {
            age
        };
        let source = event["source"]["component"]
            .as_str()
            .unwrap_or(field("reportingComponent"));
        let message = field("message").trim().replace(['\n', '\t'], " ");
        sheet.line(
            1,
            format_args!(
                "{}\t{}\t{age}\t{source}\t{message}",
                field("type"),
                field("reason")
            ),
        );
    }
    Ok(())
}

/// Returns the age of `time` in Kubernetes' short form.
fn age(time: &str) -> String {
    api::time::age(Some(time), jiff::Timestamp::now())
}

/// Returns one `a=1` for each line, or `<none>`.
fn pairs(map: &Value, separator: &str) -> String {
    let lines: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}{separator}{}", value.as_str().unwrap_or_default()))
        .collect();
    if lines.is_empty() {
        "<none>".to_owned()
    } else {
        lines.join("\n")
    }
}

/// Returns the annotations without the one that holds a manifest.
fn annotations(object: &Value) -> String {
    let mut annotations = object["metadata"]["annotations"].clone();
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    pairs(&annotations, ": ")
}

/// Returns a field as text, or `<none>` if it does not exist.
fn or_none(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) if text.is_empty() => "<none>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns `kind/name` of the controller, if there is one.
fn controlled_by(object: &Value) -> Option<String> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    Some(format!("{}/{}", owner["kind"].as_str()?, owner["name"].as_str()?))
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
