//! `everynode plan -f`: shows the effect of a manifest on the nodes before anything is written.
//!
//! The server checks each object in a dry run and returns it with defaults. The planner then
//! simulates the DaemonSets among them. The verb also reports likely mistakes that the server
//! accepts.

mod mistakes;
mod outlook;
mod references;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use api::view::DaemonSetView;
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use self::mistakes::Fleetwide;
use self::outlook::Outlook;
use super::apply::{annotated, apply};
use super::create::create;
use super::get::print;
use crate::client::connection::{ConnectArgs, Connection};
use crate::client::dry_run::DryRun;
use crate::client::error::{Failures, ServerError, is_not_found};
use crate::client::fleet::{Sight, views};
use crate::client::manifest::{self, Document};
use crate::client::output;
use crate::client::resources::{Resource, Resources};

/// Show what a manifest would change on each node; writes nothing
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  everynode plan -f daemon.yaml                  before `apply -f daemon.yaml`
  everynode plan -f - -o json < daemon.yaml      for a program")]
pub(crate) struct Plan {
    /// Manifest: a file, a folder, or `-` for standard input
    #[arg(short, long, value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,

    /// List every node and every wave, not only examples
    #[arg(long)]
    all: bool,

    /// Print the result as data
    #[arg(short, long, value_enum)]
    output: Option<output::Data>,
}

/// Query of `apply`, as a dry run.
const QUERY: &str = "fieldManager=everynode-apply&fieldValidation=Strict&dryRun=All";

impl Plan {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        let documents = manifest::read(&self.filename)?;
        let mut planning = Planning {
            connection: &connection,
            resources: &resources,
            new_namespaces: new_namespaces(&documents),
            made: made(&documents, &connection.namespace),
            sights: BTreeMap::new(),
            fleetwide: None,
        };
        let (mut failures, mut data, mut first) = (Failures::default(), Vec::new(), true);
        for document in &documents {
            let Some(planned) = failures.note(planning.plan(document).await) else {
                continue;
            };
            match self.output {
                None => {
                    let gap = if std::mem::take(&mut first) { "" } else { "\n" };
                    print(format!("{gap}{}", planned.text(self.all)).as_bytes())?;
                }
                Some(_) => data.push(planned.data()),
            }
        }
        if let Some(form) = self.output {
            print(form.text(&json!({"objects": data}))?.as_bytes())?;
        }
        failures.finish()
    }
}

/// Returns the namespaces that the manifest creates. The server cannot check their objects before
/// they exist.
fn new_namespaces(documents: &[Document]) -> BTreeSet<String> {
    let namespaces = documents.iter().filter(|document| document.kind() == "Namespace");
    namespaces.map(|document| document.name().to_owned()).collect()
}

/// Returns kind, namespace and name of the objects in the manifest.
fn made(documents: &[Document], fallback: &str) -> BTreeSet<(String, String, String)> {
    let made = documents.iter().filter_map(|document| {
        let namespace = document.namespace(fallback, false).ok()?;
        Some((
            document.kind().to_owned(),
            namespace.to_owned(),
            document.name().to_owned(),
        ))
    });
    made.collect()
}

/// Result for one document.
struct Planned {
    display: String,
    /// `created`, `configured` or `unchanged`.
    done: &'static str,
    outlook: Option<Outlook>,
}

impl Planned {
    fn text(&self, all: bool) -> String {
        let would = match self.done {
            "created" => "would be created",
            "configured" => "would be changed",
            _ => "would stay as it is",
        };
        let outlook = self
            .outlook
            .as_ref()
            .map_or_else(String::new, |outlook| outlook.text(all));
        format!("{} {would}\n{outlook}", self.display)
    }

    fn data(&self) -> Value {
        let mut data = self.outlook.as_ref().map_or_else(|| json!({}), Outlook::data);
        data["object"] = self.display.clone().into();
        data["would"] = self.done.into();
        data
    }
}

struct Planning<'a> {
    connection: &'a Connection,
    resources: &'a Resources,
    new_namespaces: BTreeSet<String>,
    made: BTreeSet<(String, String, String)>,
    /// Objects that were read, by namespace.
    sights: BTreeMap<String, Sight>,
    fleetwide: Option<Fleetwide>,
}

impl Planning<'_> {
    async fn plan(&mut self, document: &Document) -> Result<Planned> {
        let resource = self.resources.of_kind(document.api_version(), document.kind())?;
        let (connection, fallback) = (self.connection, &self.connection.namespace);
        let namespace = document
            .namespace(fallback, connection.namespace_given)?
            .to_owned();
        let (object, done) = self
            .dry_run(document, resource, &namespace)
            .await
            .map_err(|error| match error.downcast::<ServerError>() {
                Ok(server) => server
                    .when(format!("error when planning {:?}", document.source))
                    .into(),
                Err(other) => other,
            })?;
        let outlook = match resource.kind.as_str() {
            "DaemonSet" => Some(self.outlook(&namespace, &object).await?),
            _ => None,
        };
        Ok(Planned {
            display: format!("{}/{}", resource.display(), document.name()),
            done,
            outlook,
        })
    }

    /// Returns the object as the server would store it, and what would be done to it.
    async fn dry_run(
        &self,
        document: &Document,
        resource: &Resource,
        namespace: &str,
    ) -> Result<(Value, &'static str)> {
        let modified = annotated(document, namespace, resource.namespaced)?;
        let applied = apply(
            self.connection,
            resource,
            namespace,
            &modified,
            QUERY,
            DryRun::Server,
        );
        match applied.await {
            Err(error)
                if resource.namespaced && self.new_namespaces.contains(namespace) && is_not_found(&error) =>
            {
                // The namespace does not exist yet, so the server checks the object in another
                // namespace.
                let mut elsewhere = modified;
                elsewhere["metadata"]["namespace"] = STAND_IN.into();
                let mut object = create(self.connection, resource, STAND_IN, &elsewhere, QUERY).await?;
                object["metadata"]["namespace"] = namespace.into();
                Ok((object, "created"))
            }
            answer => answer,
        }
    }

    async fn outlook(&mut self, namespace: &str, object: &Value) -> Result<Outlook> {
        if self.fleetwide.is_none() {
            let sets: Vec<Arc<DaemonSetView>> = views(self.connection, None, |_, _| {}).await?;
            self.fleetwide = Some(Fleetwide::new(&sets));
        }
        if !self.sights.contains_key(namespace) {
            let sight = Sight::read(self.connection, namespace).await?;
            self.sights.insert(namespace.to_owned(), sight);
        }
        let (Some(sight), Some(fleetwide)) = (self.sights.get(namespace), &self.fleetwide) else {
            unreachable!("both were read just now")
        };
        let view = DaemonSetView::deserialize(object).context("read the server's answer to the dry run")?;
        let set = Arc::new(view);
        let forecast = sight.fleet.forecast(&set, sight.now);
        let mut mistakes = mistakes::find(&set, sight, fleetwide);
        mistakes.extend(references::missing(self.connection, namespace, &set.template, &self.made).await);
        Ok(Outlook::new(object, &forecast, sight, mistakes))
    }
}

/// A namespace that exists in every cluster.
const STAND_IN: &str = "default";
