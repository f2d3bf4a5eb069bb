//! `everynode delete`: deletes objects and waits until they are gone.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::get::print;
use crate::client::connection::{ConnectArgs, Connection, JSON, Payload, WatchEnd};
use crate::client::dry_run::{DryRun, DryRunArgs};
use crate::client::error::{Failures, is_not_found};
use crate::client::manifest;
use crate::client::resources::{Resource, Resources, Targets, escape};

/// Delete objects
#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// Objects to delete: `ds NAME`, `ds/NAME`, or a type with -l or --all
    #[arg(value_name = "TYPE NAME | TYPE/NAME")]
    targets: Vec<String>,

    /// Delete the objects of a manifest
    #[arg(short, long, value_name = "FILE", conflicts_with = "targets")]
    filename: Vec<PathBuf>,

    /// Select objects by labels
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "filename")]
    selector: Option<String>,

    /// Select all objects of the type in the namespace
    #[arg(long, conflicts_with_all = ["selector", "filename"])]
    all: bool,

    /// Deletion of dependents, such as a DaemonSet's pods: background, foreground or orphan
    #[arg(long, value_parser = cascade, default_value = "background", default_missing_value = "background", num_args = 0..=1, require_equals = true, value_name = "HOW")]
    cascade: Cascade,

    /// Seconds each pod has to shut down (default: the pod's own grace period)
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<i64>,

    /// Delete pods at once, without confirmation by their node
    #[arg(long)]
    force: bool,

    /// The same as --grace-period=1
    #[arg(long, conflicts_with_all = ["grace_period", "force"])]
    now: bool,

    /// Wait until the objects are gone
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    wait: bool,

    /// Succeed if an object does not exist
    #[arg(long)]
    ignore_not_found: bool,

    #[command(flatten)]
    dry_run: DryRunArgs,

    /// Print only `resource/name`
    #[arg(short, long, value_parser = ["name"])]
    output: Option<String>,
}

/// Propagation of the deletion to dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cascade {
    policy: &'static str,
    /// The old boolean form, which still works with a warning.
    deprecated: Option<(&'static str, &'static str)>,
}

fn cascade(text: &str) -> Result<Cascade, String> {
    let (policy, deprecated) = match text {
        "background" => ("Background", None),
        "foreground" => ("Foreground", None),
        "orphan" => ("Orphan", None),
        "true" => ("Background", Some(("true", "background"))),
        "false" => ("Orphan", Some(("false", "orphan"))),
        _ => {
            return Err(
                "invalid cascade value; must be \"background\", \"foreground\", or \"orphan\"".to_owned(),
            );
        }
    };
    Ok(Cascade { policy, deprecated })
}

/// An object to delete.
struct Victim<'a> {
    resource: &'a Resource,
    namespace: String,
    name: String,
}

impl Delete {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        if let Some((old, new)) = self.cascade.deprecated {
            eprintln!(
                "warning: --cascade={old} is deprecated (boolean value) and can be replaced with --cascade={new}."
            );
        }
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        let victims = self.victims(&connection, &resources).await?;
        if victims.is_empty() && self.filename.is_empty() {
            eprintln!("No resources found");
        }
        let mut failures = Failures::default();
        let mut awaited = Vec::new();
        for victim in victims {
            match self.delete(&connection, &victim).await {
                Ok(answer) => awaited.push((victim, answer)),
                Err(error) if self.ignore_not_found && is_not_found(&error) => {}
                Err(error) => {
                    failures.note::<()>(Err(error));
                }
            }
        }
        if self.wait && !self.force && self.dry_run.mode == DryRun::None {
            for (victim, answer) in &awaited {
                wait_until_gone(&connection, victim, answer).await?;
            }
        }
        failures.finish()
    }

    async fn victims<'a>(
        &self,
        connection: &Connection,
        resources: &'a Resources,
    ) -> Result<Vec<Victim<'a>>> {
        let mut victims = Vec::new();
        if !self.filename.is_empty() {
            for document in manifest::read(&self.filename)? {
                let resource = resources.of_kind(document.api_version(), document.kind())?;
                let namespace = document
                    .namespace(&connection.namespace, connection.namespace_given)?
                    .to_owned();
                victims.push(Victim {
                    resource,
                    namespace,
                    name: document.name().to_owned(),
                });
            }
            return Ok(victims);
        }
        if self.targets.is_empty() {
            bail!("you must name what to delete: `delete ds NAME`, or `delete -f FILE`");
        }
        for (kind, name) in Targets::parse(&self.targets)?.pairs {
            let resource = resources.named(&kind)?;
            match name {
                Some(_) if self.selector.is_some() || self.all => {
                    bail!("name cannot be provided when a selector or --all is specified")
                }
                Some(name) => victims.push(Victim {
                    resource,
                    namespace: connection.namespace.clone(),
                    name,
                }),
                None if self.selector.is_some() || self.all => {
                    victims.extend(self.selected(connection, resource).await?);
                }
                None => bail!("resource(s) were provided, but no name was specified"),
            }
        }
        Ok(victims)
    }

    async fn selected<'a>(&self, connection: &Connection, resource: &'a Resource) -> Result<Vec<Victim<'a>>> {
        let mut path = resource.collection(Some(&connection.namespace));
        if let Some(selector) = &self.selector {
            path = format!("{path}?labelSelector={}", escape(selector));
        }
        let list = connection.get(&path).await?;
        let items = list["items"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(items
            .map(|item| Victim {
                resource,
                namespace: text(&item["metadata"]["namespace"]),
                name: text(&item["metadata"]["name"]),
            })
            .collect())
    }

    async fn delete(&self, connection: &Connection, victim: &Victim<'_>) -> Result<Value> {
        let mut options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": self.cascade.policy});
        let grace = if self.force && self.grace_period.is_none() {
            Some(0)
        } else {
            self.grace_period
        };
        if let Some(seconds) = grace.or(self.now.then_some(1)) {
            options["gracePeriodSeconds"] = seconds.into();
        }
        if self.force && self.dry_run.mode == DryRun::None {
            eprintln!(
                "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely."
            );
        }
        let path = victim.resource.object(&victim.namespace, &victim.name);
        let answer = match self.dry_run.mode {
            // A dry run on the client also reports an object that does not exist.
            DryRun::Client => connection.get(&path).await?,
            DryRun::None | DryRun::Server => {
                if self.dry_run.mode == DryRun::Server {
                    options["dryRun"] = json!(["All"]);
                }
                let payload = Payload::json(&options);
                connection
                    .request(Method::DELETE, &path, JSON, Some(payload))
                    .await?
            }
        };
        let display = victim.resource.display();
        match &self.output {
            Some(_) => print(format!("{display}/{}\n", victim.name).as_bytes())?,
            None => {
                let how = if self.force { "force deleted" } else { "deleted" };
                let dry_run = self.dry_run.mode.suffix();
                print(format!("{display} \"{}\" {how}{dry_run}\n", victim.name).as_bytes())?;
            }
        }
        Ok(answer)
    }
}

/// Timeout of a watch for a deletion; it is then opened again.
const WATCH_FOR: Duration = Duration::from_secs(300);

/// Watches the object until the one with the deleted UID is gone.
async fn wait_until_gone(connection: &Connection, victim: &Victim<'_>, answer: &Value) -> Result<()> {
    // The response is the object itself, or a Status whose details have its UID.
    let uid = answer["metadata"]["uid"]
        .as_str()
        .or_else(|| answer["details"]["uid"].as_str())
        .unwrap_or_default();
    let path = victim.resource.object(&victim.namespace, &victim.name);
    loop {
        let current = match connection.get(&path).await {
            Err(error) if is_not_found(&error) => return Ok(()),
            current => current?,
        };
        if !uid.is_empty() && current["metadata"]["uid"] != uid {
            return Ok(());
        }
        let revision = current["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        let watch = format!(
            "{}?watch=true&fieldSelector=metadata.name%3D{}&resourceVersion={revision}&timeoutSeconds={}",
            victim.resource.collection(Some(&victim.namespace)),
            escape(&victim.name),
            WATCH_FOR.as_secs(),
        );
        let gone = connection.watch(&watch, JSON, |kind, _| Ok((kind == "DELETED").then_some(())));
        if gone.await? == WatchEnd::Answer(()) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_boolean_cascade_still_works_and_is_named_deprecated() {
        assert_eq!(cascade("false").unwrap().policy, "Orphan");
        assert_eq!(cascade("true").unwrap().policy, "Background");
        assert!(cascade("false").unwrap().deprecated.is_some());
        assert_eq!(cascade("foreground").unwrap().policy, "Foreground");
        assert!(cascade("sideways").is_err());
    }
}
