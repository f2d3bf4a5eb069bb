//! `everynode create -f`: creates the objects of a manifest.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::Value;

use super::get::print;
use crate::client::connection::{ConnectArgs, Connection, JSON, Payload};
use crate::client::dry_run::{DryRun, DryRunArgs};
use crate::client::error::{Failures, ServerError};
use crate::client::manifest::{self, Document};
use crate::client::output::{self, Output};
use crate::client::resources::{Resource, Resources};

/// Create the objects of a manifest
#[derive(Args, Debug)]
pub(crate) struct Create {
    #[command(flatten)]
    write: WriteArgs,
}

/// Flags of the verbs that send manifests.
#[derive(Args, Debug)]
pub(crate) struct WriteArgs {
    /// Manifest: a file, a folder, or `-` for standard input
    #[arg(short, long, value_name = "FILE", required = true)]
    pub(crate) filename: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) dry_run: DryRunArgs,

    /// Handling of unknown or duplicate fields
    #[arg(long, value_enum, default_value_t = Validate::Strict, default_missing_value = "strict", num_args = 0..=1, require_equals = true)]
    pub(crate) validate: Validate,

    /// Output format
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Output>,
}

/// What the server does about fields that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Validate {
    /// Refuse the object
    #[value(alias = "true")]
    Strict,
    /// Warn
    Warn,
    /// Ignore them
    #[value(alias = "false")]
    Ignore,
}

impl WriteArgs {
    /// Returns the query with the flags; `manager` is the field manager.
    pub(crate) fn query(&self, manager: &str) -> String {
        let validation = match self.validate {
            Validate::Strict => "Strict",
            Validate::Warn => "Warn",
            Validate::Ignore => "Ignore",
        };
        let dry_run = self.dry_run.mode.query();
        format!("fieldManager={manager}&fieldValidation={validation}{dry_run}")
    }

    /// Prints what was done to an object, or the object if `-o` is given.
    pub(crate) fn report(&self, resource: &Resource, object: &Value, done: &str) -> Result<()> {
        match self.output {
            Some(form) => print(output::object(form, resource, object)?.as_bytes()),
            None => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let dry_run = self.dry_run.mode.suffix();
                print(format!("{}/{name} {done}{dry_run}\n", resource.display()).as_bytes())
            }
        }
    }
}

/// Calls `send` for every document and continues after an error. Fails at the end if any failed.
pub(crate) async fn each_document(
    write: &WriteArgs,
    connection: &Connection,
    resources: &Resources,
    verb: &str,
    mut send: impl AsyncFnMut(&Document, &Resource, &str) -> Result<()>,
) -> Result<()> {
    let mut failures = Failures::default();
    for document in manifest::read(&write.filename)? {
        let result = async {
            let resource = resources.of_kind(document.api_version(), document.kind())?;
            let namespace = document.namespace(&connection.namespace, connection.namespace_given)?;
            send(&document, resource, namespace).await
        };
        failures.note(result.await.map_err(|error| {
            match error.downcast::<ServerError>() {
                Ok(server) => server
                    .when(format!("error when {verb} \"{}\"", document.source))
                    .into(),
                Err(other) => other,
            }
        }));
    }
    failures.finish()
}

impl Create {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        each_document(
            &self.write,
            &connection,
            &resources,
            "creating",
            async |document, resource, namespace| {
                if self.write.dry_run.mode == DryRun::Client {
                    return self.write.report(resource, &document.object, "created");
                }
                let created = create(
                    &connection,
                    resource,
                    namespace,
                    &document.object,
                    &self.write.query("everynode-create"),
                )
                .await?;
                self.write.report(resource, &created, "created")
            },
        )
        .await
    }
}

/// POSTs an object to its collection.
pub(crate) async fn create(
    connection: &Connection,
    resource: &Resource,
    namespace: &str,
    object: &Value,
    query: &str,
) -> Result<Value> {
    let path = format!("{}?{query}", resource.collection(Some(namespace)));
    connection
        .request(Method::POST, &path, JSON, Some(Payload::json(object)))
        .await
}
