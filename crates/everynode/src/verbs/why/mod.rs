//! `everynode why`: how a DaemonSet stands on every node, or the whole story of one, by the planner's own verdicts.
//!
//! The verb reads nodes, pods, DaemonSets and revisions as any client may, gives them to the planner's index and asks it to
//! explain itself. So it works against any Kubernetes API server, whoever runs the DaemonSet there.

mod report;
mod story;
mod verdict;

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

/// Explain how a DaemonSet stands on each node
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  everynode why ds/fluentd -n kube-system           all nodes, those of one state together
  everynode why ds/fluentd -n kube-system node-7    the whole story of one node")]
pub(crate) struct Why {
    /// `ds/NAME` or `ds NAME`, and a node for its whole story
    #[arg(required = true, value_name = "TYPE/NAME [NODE]")]
    target: Vec<String>,

    /// List every node, not just some of each state
    #[arg(long)]
    all: bool,

    /// The same as data
    #[arg(short, long, value_enum)]
    output: Option<output::Data>,
}

/// How many warnings of the DaemonSet and events of a pod are told.
const EVENTS: usize = 5;

impl Why {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
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
            // The server's own words for a node that does not exist.
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
                let report = Report::new(&set, &sight, &explanation, warning);
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

/// Type, name and node of `ds/NAME [NODE]` or `ds NAME [NODE]`.
fn target(words: &[String]) -> Result<(String, String, Option<String>)> {
    let (set, rest) = match words {
        [first, rest @ ..] if first.contains('/') => (std::slice::from_ref(first), rest),
        [_, _, rest @ ..] => (&words[..2], rest),
        _ => bail!("name the DaemonSet: `everynode why ds/NAME [NODE]`"),
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
    match Targets::parse(set)?.pairs.as_slice() {
        [(kind, Some(name))] => Ok((kind.clone(), name.clone(), node)),
        _ => bail!("name one DaemonSet: `everynode why ds/NAME [NODE]`"),
    }
}

/// The pods of the set on a node, the one that the decision is about first.
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

/// The last warnings about the set, oldest first: a creation that is refused stands there and nowhere else.
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
