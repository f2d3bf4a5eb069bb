//! Selects the objects of a verb: by words, a selector, all of a type, or a manifest.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use super::connection::Connection;
use super::manifest;
use super::resources::{Resource, Resources, Targets, escape};

/// Flags that choose objects beside the words.
#[derive(Args, Debug)]
pub(crate) struct SelectArgs {
    /// Select the objects of a manifest
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<PathBuf>,

    /// Select objects by labels: `a=b,c!=d,e in (f,g)`
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,

    /// Select objects by fields: `metadata.name=a`
    #[arg(long, value_name = "SELECTOR")]
    field_selector: Option<String>,

    /// Select all objects of the type in the namespace
    #[arg(long)]
    all: bool,

    /// Include all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// A selected object, as the server returned it.
pub(crate) struct Chosen<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) object: Value,
}

/// Selected objects. An object that cannot be read has an error in its place.
pub(crate) struct Selection<'a> {
    pub(crate) chosen: Vec<Result<Chosen<'a>>>,
    /// Whether a single object was named, instead of selected from a list.
    pub(crate) single: bool,
}

impl Chosen<'_> {
    pub(crate) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Returns its path on the server.
    pub(crate) fn path(&self) -> String {
        let namespace = self.object["metadata"]["namespace"].as_str();
        self.resource.object(namespace.unwrap_or_default(), self.name())
    }

    /// Returns `node/x` or `daemonset.apps/x`.
    pub(crate) fn display(&self) -> String {
        format!("{}/{}", self.resource.display(), self.name())
    }
}

impl SelectArgs {
    /// Checks the arguments that need no server. `words` are types and objects.
    pub(crate) fn check(&self, words: &[String]) -> Result<()> {
        if self.all && self.selector.is_some() {
            bail!("cannot set --all and --selector at the same time");
        }
        if self.all && self.field_selector.is_some() {
            bail!("cannot set --all and --field-selector at the same time");
        }
        if words.is_empty() && self.filename.is_empty() {
            bail!("one or more resources must be specified as <resource> <name> or <resource>/<name>");
        }
        Ok(())
    }

    /// Reads the selected objects.
    pub(crate) async fn select<'a>(
        &self,
        connection: &Connection,
        resources: &'a Resources,
        words: &[String],
    ) -> Result<Selection<'a>> {
        let mut chosen = Vec::new();
        let mut lists = false;
        let read = async |resource: &'a Resource, namespace: &str, name: &str| {
            let object = connection.get(&resource.object(namespace, name)).await?;
            Ok(Chosen { resource, object })
        };
        if !self.filename.is_empty() {
            for document in manifest::read(&self.filename)? {
                let resource = resources.of_kind(document.api_version(), document.kind())?;
                let namespace = document.namespace(&connection.namespace, connection.namespace_given)?;
                chosen.push(read(resource, namespace, document.name()).await);
            }
        }
        let pairs = match words {
            [] => Vec::new(),
            words => Targets::parse(words)?.pairs,
        };
        let selects = self.selector.is_some() || self.field_selector.is_some();
        for (kind, name) in pairs {
            let resource = resources.named(&kind)?;
            match name {
                Some(_) if selects => bail!("name cannot be provided when a selector is specified"),
                Some(name) => chosen.push(read(resource, &connection.namespace, &name).await),
                None if selects || self.all => {
                    lists = true;
                    chosen.extend(self.list(connection, resource).await?.into_iter().map(Ok));
                }
                None => bail!("resource(s) were provided, but no name was specified"),
            }
        }
        let single = chosen.len() == 1 && !lists;
        Ok(Selection { chosen, single })
    }

    async fn list<'a>(&self, connection: &Connection, resource: &'a Resource) -> Result<Vec<Chosen<'a>>> {
        let namespace = (!self.all_namespaces).then_some(connection.namespace.as_str());
        let selectors = [
            ("labelSelector", &self.selector),
            ("fieldSelector", &self.field_selector),
        ];
        let query: Vec<String> = selectors
            .into_iter()
            .filter_map(|(name, selector)| Some(format!("{name}={}", escape(selector.as_ref()?))))
            .collect();
        connection
            .list(&resource.collection(namespace), &query.join("&"), |item| {
                // Items of a list have no kind of their own; a single object needs one.
                let mut object = item.clone();
                object["apiVersion"] = resource.api_version().into();
                object["kind"] = resource.kind.clone().into();
                Ok(Chosen { resource, object })
            })
            .await
    }
}
