//! `everynode rollout status|history|undo|restart`: rollouts of a DaemonSet's template.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::describe::pod_template;
use super::get::print;
use crate::client::connection::{ConnectArgs, Connection, JSON, Payload, WatchEnd};
use crate::client::dry_run::{DryRun, DryRunArgs};
use crate::client::duration;
use crate::client::resources::{Resource, Resources, Targets, escape};
use crate::client::sheet::Sheet;
use crate::client::table::columns;

/// Annotation with the cause of a template's change. `kubectl create --record` and users set it.
pub(super) const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
/// Annotation of a template. Changing it starts a rollout without any other change.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// Watch, list, undo or restart rollouts of a DaemonSet
#[derive(Args, Debug)]
pub(crate) struct Rollout {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Wait until every node runs the current template, and print the progress
    Status {
        #[command(flatten)]
        target: Target,
        /// Wait until the rollout is complete; with =false, print the progress and exit
        #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
        watch: bool,
        /// Time after which to give up: `90s`, `10m`; 0: never
        #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
        timeout: Duration,
    },
    /// List the revisions of a DaemonSet
    History {
        #[command(flatten)]
        target: Target,
        /// Print the template of one revision
        #[arg(long, value_name = "REVISION")]
        revision: Option<i64>,
    },
    /// Go back to an earlier revision
    Undo {
        #[command(flatten)]
        target: Target,
        /// Revision to go back to; 0: the previous one
        #[arg(long, value_name = "REVISION", default_value_t = 0)]
        to_revision: i64,
        #[command(flatten)]
        dry_run: DryRunArgs,
    },
    /// Replace every pod without changing the template
    Restart {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        dry_run: DryRunArgs,
    },
}

#[derive(Args, Debug)]
struct Target {
    /// `ds NAME` or `ds/NAME`
    #[arg(required = true, value_name = "TYPE NAME | TYPE/NAME")]
    target: Vec<String>,
}

impl Rollout {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let (Verb::Status { target, .. }
        | Verb::History { target, .. }
        | Verb::Undo { target, .. }
        | Verb::Restart { target, .. }) = &self.verb;
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        let mut pairs = Targets::parse(&target.target)?.pairs;
        let Some((kind, Some(name))) = pairs.pop().filter(|_| pairs.is_empty()) else {
            bail!("name one DaemonSet: `ds/NAME`");
        };
        let resource = resources.named(&kind)?;
        if resource.kind != "DaemonSet" {
            bail!(
                "no rollout for {} objects here: Everynode rolls out DaemonSets",
                resource.kind
            );
        }
        let rollout = DaemonSetRollout {
            connection: &connection,
            resources: &resources,
            resource,
            name,
        };
        match self.verb {
            Verb::Status { watch, timeout, .. } => {
                match duration::bounded(timeout, rollout.status(watch)).await {
                    Some(ended) => ended,
                    None => bail!("timed out waiting for the condition"),
                }
            }
            Verb::History { revision, .. } => rollout.history(revision).await,
            Verb::Undo {
                to_revision, dry_run, ..
            } => rollout.undo(to_revision, dry_run.mode).await,
            Verb::Restart { dry_run, .. } => rollout.restart(dry_run.mode).await,
        }
    }
}

struct DaemonSetRollout<'a> {
    connection: &'a Connection,
    resources: &'a Resources,
    resource: &'a Resource,
    name: String,
}

/// Progress of a rollout.
#[derive(Debug, PartialEq, Eq)]
struct Progress {
    message: String,
    done: bool,
}

/// Returns the progress of a DaemonSet in the words of `kubectl rollout status`.
fn progress(daemon_set: &Value) -> Result<Progress> {
    if daemon_set["spec"]["updateStrategy"]["type"] != "RollingUpdate" {
        bail!("rollout status is only available for RollingUpdate strategy type");
    }
    let name = daemon_set["metadata"]["name"].as_str().unwrap_or_default();
    let status = &daemon_set["status"];
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let (desired, updated, available) = (
        count("desiredNumberScheduled"),
        count("updatedNumberScheduled"),
        count("numberAvailable"),
    );
    let observed = count("observedGeneration") >= daemon_set["metadata"]["generation"].as_i64().unwrap_or(0);
    let waiting = |message: String| Progress { message, done: false };
    Ok(if !observed {
        waiting("Waiting for daemon set spec update to be observed...".to_owned())
    } else if updated < desired {
        waiting(format!(
            "Waiting for daemon set \"{name}\" rollout to finish: {updated} out of {desired} new pods have been updated..."
        ))
    } else if available < desired {
        waiting(format!(
            "Waiting for daemon set \"{name}\" rollout to finish: {available} of {desired} updated pods are available..."
        ))
    } else {
        Progress {
            message: format!("daemon set \"{name}\" successfully rolled out"),
            done: true,
        }
    })
}

impl DaemonSetRollout<'_> {
    fn path(&self) -> String {
        self.resource.object(&self.connection.namespace, &self.name)
    }

    async fn status(&self, watch: bool) -> Result<()> {
        let mut said = String::new();
        loop {
            let current = self.connection.get(&self.path()).await?;
            if say(&progress(&current)?, &mut said)? || !watch {
                return Ok(());
            }
            let revision = current["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default();
            let path = format!(
                "{}?watch=true&fieldSelector=metadata.name%3D{}&resourceVersion={revision}",
                self.resource.collection(Some(&self.connection.namespace)),
                escape(&self.name),
            );
            let done = self.connection.watch(&path, JSON, |kind, object| match kind {
                "DELETED" => bail!("object has been deleted"),
                _ => Ok(say(&progress(object)?, &mut said)?.then_some(())),
            });
            if done.await? == WatchEnd::Answer(()) {
                return Ok(());
            }
        }
    }

    /// Returns the DaemonSet and its revisions, oldest first.
    async fn revisions(&self) -> Result<(Value, Vec<Value>)> {
        let daemon_set = self.connection.get(&self.path()).await?;
        let resource = self.resources.of_kind("apps/v1", "ControllerRevision")?;
        let mut path = resource.collection(Some(&self.connection.namespace));
        if let Some(selector) = selector_query(&daemon_set["spec"]["selector"]) {
            path = format!("{path}?labelSelector={}", escape(&selector));
        }
        let mut list = self.connection.get(&path).await?;
        let Value::Array(mut revisions) = list["items"].take() else {
            bail!("the server sent no list of revisions")
        };
        let uid = &daemon_set["metadata"]["uid"];
        revisions.retain(|revision| {
            let mut owners = revision["metadata"]["ownerReferences"]
                .as_array()
                .into_iter()
                .flatten();
            owners.any(|owner| owner["uid"] == *uid && owner["controller"] == true)
        });
        revisions.sort_by_key(|revision| revision["revision"].as_i64());
        Ok((daemon_set, revisions))
    }

    async fn history(&self, wanted: Option<i64>) -> Result<()> {
        let (_, revisions) = self.revisions().await?;
        let title = format!("{}/{}", self.resource.display(), self.name);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != 0) {
            let Some(found) = revisions.iter().find(|revision| revision["revision"] == wanted) else {
                bail!("unable to find the specified revision");
            };
            let mut sheet = Sheet::default();
            sheet.line(0, format_args!("{title} with revision #{wanted}"));
            pod_template(&mut sheet, &found["data"]["spec"]["template"]);
            return print(sheet.finish().as_bytes());
        }
        if revisions.is_empty() {
            return print(b"No rollout history found.\n");
        }
        let mut rows = vec![vec!["REVISION".to_owned(), "CHANGE-CAUSE".to_owned()]];
        rows.extend(revisions.iter().map(|revision| {
            let cause = revision["metadata"]["annotations"][CHANGE_CAUSE]
                .as_str()
                .unwrap_or("<none>");
            vec![revision["revision"].to_string(), cause.to_owned()]
        }));
        print(format!("{title} \n{}\n", columns(&rows, 2)).as_bytes())
    }

    async fn undo(&self, to_revision: i64, dry_run: DryRun) -> Result<()> {
        let (daemon_set, revisions) = self.revisions().await?;
        let target = match to_revision {
            0 if revisions.len() <= 1 => bail!("no last revision to roll back to"),
            0 => &revisions[revisions.len() - 2],
            wanted => match revisions.iter().find(|revision| revision["revision"] == wanted) {
                Some(found) => found,
                None => bail!("unable to find specified revision {wanted} in history"),
            },
        };
        let title = format!("{}/{}", self.resource.display(), self.name);
        let mut template = target["data"]["spec"]["template"].clone();
        if let Some(template) = template.as_object_mut() {
            template.remove("$patch");
        }
        if template == daemon_set["spec"]["template"] {
            let revision = target["revision"].as_i64().unwrap_or(0);
            let note =
                format!("{title} skipped rollback (current template already matches revision {revision})\n");
            return print(note.as_bytes());
        }
        if dry_run == DryRun::Client {
            let mut sheet = Sheet::default();
            pod_template(&mut sheet, &template);
            let outlook = format!(
                "{title} will roll back to {}{}\n",
                sheet.finish(),
                dry_run.suffix()
            );
            return print(outlook.as_bytes());
        }
        self.patch(&target["data"], dry_run).await?;
        print(format!("{title} rolled back{}\n", dry_run.suffix()).as_bytes())
    }

    async fn patch(&self, patch: &Value, dry_run: DryRun) -> Result<()> {
        let path = format!(
            "{}?fieldManager=everynode-rollout{}",
            self.path(),
            dry_run.query()
        );
        let payload = Payload::patch(STRATEGIC, patch);
        self.connection
            .request(Method::PATCH, &path, JSON, Some(payload))
            .await?;
        Ok(())
    }

    async fn restart(&self, dry_run: DryRun) -> Result<()> {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let current = self.connection.get(&self.path()).await?;
        if current["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT] == now {
            bail!(
                "if restart has already been triggered within the past second, please wait before attempting to trigger another"
            );
        }
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: now}}}}});
        if dry_run != DryRun::Client {
            self.patch(&patch, dry_run).await?;
        }
        let title = format!("{}/{}", self.resource.display(), self.name);
        print(format!("{title} restarted{}\n", dry_run.suffix()).as_bytes())
    }
}

/// Prints a message if it differs from the last one. Returns whether the rollout is complete.
fn say(progress: &Progress, said: &mut String) -> Result<bool> {
    if progress.message != *said {
        print(format!("{}\n", progress.message).as_bytes())?;
        progress.message.clone_into(said);
    }
    Ok(progress.done)
}

/// Converts a LabelSelector object to a query.
pub(super) fn selector_query(selector: &Value) -> Option<String> {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let mut terms: Vec<String> = labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let values = values.join(",");
        terms.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    (!terms.is_empty()).then(|| terms.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon_set(generation: i64, observed: i64, desired: i64, updated: i64, available: i64) -> Value {
        json!({
            "metadata": {"name": "x", "generation": generation},
            "spec": {"updateStrategy": {"type": "RollingUpdate"}},
            "status": {"observedGeneration": observed, "desiredNumberScheduled": desired, "updatedNumberScheduled": updated, "numberAvailable": available},
        })
    }

    #[test]
    fn progress_speaks_kubectls_sentences() {
        let message = |value: &Value| progress(value).unwrap().message;
        assert_eq!(
            message(&daemon_set(2, 1, 3, 3, 3)),
            "Waiting for daemon set spec update to be observed..."
        );
        assert_eq!(
            message(&daemon_set(2, 2, 3, 1, 3)),
            "Waiting for daemon set \"x\" rollout to finish: 1 out of 3 new pods have been updated..."
        );
        assert_eq!(
            message(&daemon_set(2, 2, 3, 3, 2)),
            "Waiting for daemon set \"x\" rollout to finish: 2 of 3 updated pods are available..."
        );
        let done = progress(&daemon_set(2, 2, 3, 3, 3)).unwrap();
        assert_eq!(
            done,
            Progress {
                message: "daemon set \"x\" successfully rolled out".into(),
                done: true
            }
        );
    }

    #[test]
    fn on_delete_has_no_rollout_to_wait_for() {
        let mut value = daemon_set(1, 1, 1, 1, 1);
        value["spec"]["updateStrategy"]["type"] = "OnDelete".into();
        let error = progress(&value).unwrap_err().to_string();
        assert_eq!(
            error,
            "rollout status is only available for RollingUpdate strategy type"
        );
    }

    #[test]
    fn a_selector_object_becomes_a_query() {
        let selector = json!({"matchLabels": {"a": "1"}, "matchExpressions": [
            {"key": "b", "operator": "In", "values": ["2", "3"]}, {"key": "c", "operator": "DoesNotExist"}]});
        assert_eq!(selector_query(&selector).unwrap(), "a=1,b in (2,3),!c");
        assert_eq!(selector_query(&json!({})), None);
    }
}
