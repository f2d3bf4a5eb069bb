//! `everynode why`: explains the state of a DaemonSet on all nodes, or on one node in detail.
//!
//! The verb reads nodes, pods, DaemonSets and revisions like any client and gives them to the
//! planner, which explains its decisions. So it works with any Kubernetes API server and any
//! DaemonSet controller.

mod details;
mod report;
mod story;
mod verdict;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use self::report::Report;
pub(super) use self::report::nodes;
use self::story::Story;
use super::get::print;
use crate::client::connection::{ConnectArgs, Connection};
use crate::client::fleet::Sight;
use crate::client::output;
use crate::client::resources::{Resources, Targets, escape};

/// Explain the state of a DaemonSet on each node
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  everynode why -A                                  all DaemonSets, a line each, those in trouble first
  everynode why fluentd -n kube-system              all nodes, those of one state together
  everynode why ds/fluentd -n kube-system node-7    the whole story of one node")]
pub(crate) struct Why {
    /// DaemonSet: NAME, `ds/NAME` or `ds NAME`. With a node: all details of that node
    #[arg(required_unless_present = "all_namespaces", value_name = "NAME [NODE]")]
    target: Vec<String>,

    /// Print one line for each DaemonSet of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["target", "all", "output"])]
    all_namespaces: bool,

    /// List every node, not only examples of each state
    #[arg(long)]
    all: bool,

    /// Print the result as data
    #[arg(short, long, value_enum)]
    output: Option<output::Data>,
}

/// Most warnings of the DaemonSet and events of a pod in the output.
const EVENTS: usize = 5;

impl Why {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        if self.all_namespaces {
            return everywhere(&connection, &resources).await;
        }
        let (kind, name, node) = target(&self.target)?;
        let resource = resources.named(&kind)?;
        if resource.kind != "DaemonSet" {
            bail!(
                "`why` explains DaemonSets, not {} objects: `everynode why ds/NAME [NODE]`",
                resource.kind
            );
        }
        let namespace = connection.namespace.as_str();
        let set = connection.get(&resource.object(namespace, &name)).await?;
        if let Some(node) = &node {
            // Returns the server's error for a node that does not exist.
            connection
                .get(&resources.of_kind("v1", "Node")?.object("", node))
                .await?;
        }
        let sight = Sight::read(&connection, namespace).await?;
        let explanation = sight
            .fleet
            .explain(namespace, &name, sight.now)
            .with_context(|| format!("the DaemonSet {name} was deleted just now"))?;
        let text = match node {
            None => {
                let warning = warnings(&connection, &resources, &set).await?.pop();
                let mut report = Report::new(&set, &sight, &explanation, warning);
                for (group, pod) in report.broken_pods() {
                    let details = details::of(&connection, &resources, &pod).await;
                    report.add_details(group, details);
                }
                match self.output {
                    None => report.text(self.all),
                    Some(form) => form.text(&report.data())?,
                }
            }
            Some(node) => {
                let decision = explanation.decisions.iter().find(|one| *one.node == *node);
                let decision = decision.with_context(|| format!("the node {node} was deleted just now"))?;
                let pods = pods_on(&connection, &set, decision, &node).await?;
                let events = match pods.first() {
                    Some(pod) => events_of(&connection, &resources, pod, "").await?,
                    None => warnings(&connection, &resources, &set).await?,
                };
                let story = Story::new(&set, &sight, decision, &pods, events);
                match self.output {
                    None => story.text(),
                    Some(form) => form.text(&story.data())?,
                }
            }
        };
        print(text.as_bytes())
    }
}

/// Prints the state of each DaemonSet of the cluster, those with failures first.
async fn everywhere(connection: &Connection, resources: &Resources) -> Result<()> {
    let path = resources.of_kind("apps/v1", "DaemonSet")?.collection(None);
    let sets = connection.list(&path, "", |set| Ok(set.clone())).await?;
    let mut by_namespace: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for set in &sets {
        let namespace = set["metadata"]["namespace"].as_str().unwrap_or_default();
        by_namespace.entry(namespace).or_default().push(set);
    }
    let mut reports = Vec::new();
    for (namespace, sets) in by_namespace {
        let sight = Sight::read(connection, namespace).await?;
        for set in sets {
            let name = set["metadata"]["name"].as_str().unwrap_or_default();
            // A DaemonSet that was deleted meanwhile has no explanation.
            if let Some(explanation) = sight.fleet.explain(namespace, name, sight.now) {
                reports.push(Report::new(set, &sight, &explanation, None));
            }
        }
    }
    if reports.is_empty() {
        eprintln!("No DaemonSets found");
    }
    reports.sort_by_key(|report| !report.is_broken());
    let text: String = reports.iter().map(Report::headline).collect();
    print(text.as_bytes())
}

/// Names of the DaemonSet type. Any other first word is a name.
const TYPE_NAMES: [&str; 4] = ["ds", "daemonset", "daemonsets", "daemonsets.apps"];

/// Parses type, name and node from `NAME [NODE]`, `ds/NAME [NODE]` or `ds NAME [NODE]`.
fn target(words: &[String]) -> Result<(String, String, Option<String>)> {
    let (set, rest) = match words {
        [first, rest @ ..] if first.contains('/') => (vec![first.clone()], rest),
        [kind] if TYPE_NAMES.contains(&kind.as_str()) => {
            bail!("name the DaemonSet: `everynode why {kind}/NAME [NODE]`")
        }
        [kind, _, rest @ ..] if TYPE_NAMES.contains(&kind.as_str()) => (words[..2].to_vec(), rest),
        [name, rest @ ..] => (vec![format!("ds/{name}")], rest),
        [] => bail!("name the DaemonSet: `everynode why NAME [NODE]`"),
    };
    let node = match rest {
        [] => None,
        [node] => {
            let named = ["node/", "nodes/", "no/"]
                .iter()
                .find_map(|kind| node.strip_prefix(kind));
            Some(named.unwrap_or(node).to_owned())
        }
        _ => bail!("name one node, or none: `everynode why ds/NAME [NODE]`"),
    };
    match Targets::parse(&set)?.pairs.as_slice() {
        [(kind, Some(name))] => Ok((kind.clone(), name.clone(), node)),
        _ => bail!("name one DaemonSet: `everynode why ds/NAME [NODE]`"),
    }
}

/// Returns the pods of the DaemonSet on a node, with the pod of the decision first.
async fn pods_on(
    connection: &Connection,
    set: &Value,
    decision: &plan::fleet::Decision,
    node: &str,
) -> Result<Vec<Value>> {
    let path = format!("/api/v1/namespaces/{}/pods", escape(&connection.namespace));
    let named = decision.pod.as_ref().map(|pod| &*pod.meta.name);
    let query = format!("fieldSelector={}", escape(&format!("spec.nodeName={node}")));
    let mut pods = connection.list(&path, &query, |pod| Ok(pod.clone())).await?;
    pods.retain(|pod| {
        let mut owners = pod["metadata"]["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten();
        owners.any(|owner| owner["uid"] == set["metadata"]["uid"] && owner["controller"] == true)
            || pod["metadata"]["name"].as_str() == named
    });
    if let Some(name) = named {
        match pods.iter().position(|pod| pod["metadata"]["name"] == name) {
            Some(place) => pods.swap(0, place),
            None => {
                let pod = connection.get(&format!("{path}/{}", escape(name))).await;
                pods.splice(0..0, pod);
            }
        }
    }
    Ok(pods)
}

/// Returns the last warnings about the DaemonSet, oldest first. A rejected creation of a pod
/// appears only there.
async fn warnings(connection: &Connection, resources: &Resources, set: &Value) -> Result<Vec<Value>> {
    events_of(connection, resources, set, ",type=Warning").await
}

async fn events_of(
    connection: &Connection,
    resources: &Resources,
    object: &Value,
    more: &str,
) -> Result<Vec<Value>> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let path = resources
        .of_kind("v1", "Event")?
        .collection(Some(&connection.namespace));
    let fields = format!(
        "involvedObject.name={},involvedObject.uid={}{more}",
        text("name"),
        text("uid")
    );
    let query = format!("fieldSelector={}", escape(&fields));
    let mut events = connection.list(&path, &query, |event| Ok(event.clone())).await?;
    events.sort_by_key(|event| crate::client::event::last_seen(event).to_owned());
    let surplus = events.len().saturating_sub(EVENTS);
    events.drain(..surplus);
    Ok(events)
}

#[cfg(test)]
mod tests;
