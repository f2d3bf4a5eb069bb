//! `everynode cordon` and `uncordon`: mark nodes as unschedulable or schedulable.

use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::get::print;
use crate::client::connection::{ConnectArgs, Connection, JSON, Payload};
use crate::client::dry_run::{DryRun, DryRunArgs};
use crate::client::resources::{Resource, Resources, escape};

/// Mark nodes unschedulable: no new pods except DaemonSet pods
#[derive(Args, Debug)]
pub(crate) struct Cordon {
    #[command(flatten)]
    nodes: NodeArgs,
}

/// Mark nodes schedulable again
#[derive(Args, Debug)]
pub(crate) struct Uncordon {
    #[command(flatten)]
    nodes: NodeArgs,
}

/// Which nodes, and whether anything is stored.
#[derive(Args, Debug)]
pub(crate) struct NodeArgs {
    /// Names of nodes
    #[arg(value_name = "NODE")]
    names: Vec<String>,

    /// Select nodes by labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,

    #[command(flatten)]
    pub(crate) dry_run: DryRunArgs,
}

impl Cordon {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        set_all(&self.nodes, connect, "cordon", true).await
    }
}

impl Uncordon {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        set_all(&self.nodes, connect, "uncordon", false).await
    }
}

async fn set_all(args: &NodeArgs, connect: &ConnectArgs, verb: &str, cordoned: bool) -> Result<()> {
    args.check(verb)?;
    let connection = connect.connect().await?;
    let resources = Resources::discover(&connection).await?;
    let resource = resources.of_kind("v1", "Node")?;
    let nodes = args.read(&connection, &resources).await?;
    cordon(&connection, resource, &nodes, cordoned, args.dry_run.mode).await
}

impl NodeArgs {
    /// Checks the arguments that need no server.
    pub(crate) fn check(&self, verb: &str) -> Result<()> {
        let wrong = match (self.names.as_slice(), &self.selector) {
            ([], None) => format!("USAGE: {verb} NODE [flags]"),
            ([_, ..], Some(_)) => "cannot specify both a node name and a --selector option".to_owned(),
            _ => return Ok(()),
        };
        bail!("{wrong}\nSee 'everynode {verb} -h' for help and examples")
    }

    /// Returns the nodes from the server. Fails if one is missing.
    pub(crate) async fn read(&self, connection: &Connection, resources: &Resources) -> Result<Vec<Value>> {
        let nodes = resources.of_kind("v1", "Node")?;
        if let Some(selector) = &self.selector {
            let query = format!("labelSelector={}", escape(selector));
            return connection
                .list(&nodes.collection(None), &query, |node| Ok(node.clone()))
                .await;
        }
        let mut found = Vec::new();
        for name in &self.names {
            let (kind, name) = name.split_once('/').unwrap_or(("nodes", name));
            let resource = resources.named(kind)?;
            let object = connection
                .get(&resource.object(&connection.namespace, name))
                .await?;
            if resource.kind != "Node" {
                bail!("error: expected resource of type node, got {:?}", resource.plural);
            }
            found.push(object);
        }
        Ok(found)
    }
}

/// Cordons or uncordons each of `nodes` and prints it. After an error it prints the error and
/// continues.
pub(crate) async fn cordon(
    connection: &Connection,
    resource: &Resource,
    nodes: &[Value],
    cordoned: bool,
    dry_run: DryRun,
) -> Result<()> {
    for node in nodes {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        let already = (node["spec"]["unschedulable"] == true) == cordoned;
        if !already && dry_run != DryRun::Client {
            let patch = json!({"spec": {"unschedulable": if cordoned { json!(true) } else { Value::Null }}});
            let path = format!(
                "{}?fieldManager=everynode-drain{}",
                resource.object("", name),
                dry_run.query()
            );
            let payload = Payload::patch("application/merge-patch+json", &patch);
            let sent = connection
                .request(Method::PATCH, &path, JSON, Some(payload))
                .await;
            if let Err(error) = sent {
                let verb = if cordoned { "cordon" } else { "uncordon" };
                eprintln!("error: unable to {verb} node \"{name}\": {error}");
                continue;
            }
        }
        let done = match (already, cordoned) {
            (false, true) => "cordoned",
            (false, false) => "uncordoned",
            (true, true) => "already cordoned",
            (true, false) => "already uncordoned",
        };
        print(format!("{}/{name} {done}{}\n", resource.display(), dry_run.suffix()).as_bytes())?;
    }
    Ok(())
}
