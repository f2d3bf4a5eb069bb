//! `everynode drain`: evicts the pods of nodes for maintenance. Pods of DaemonSets stay, because
//! their controller would create them again.
//!
//! The flags, the order of the steps, the messages and the exit codes are kubectl's. Unlike
//! kubectl, one watch for each node reports when pods are gone, instead of a request for each pod
//! every second.

mod filter;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::Args;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::filter::{Allowed, Missing, Sorted};
use super::cordon::{NodeArgs, cordon};
use super::get::print;
use crate::client::connection::{ConnectArgs, Connection, JSON, Payload};
use crate::client::dry_run::DryRun;
use crate::client::duration;
use crate::client::error::{Failures, ServerError};
use crate::client::resources::{Resource, Resources, escape};

/// Cordon nodes and evict their pods, for maintenance
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  everynode drain node-7 --ignore-daemonsets                           pods leave, daemons stay
  everynode drain node-7 --ignore-daemonsets --dry-run                 what would happen
  everynode uncordon node-7                                            when the work is done")]
pub(crate) struct Drain {
    #[command(flatten)]
    nodes: NodeArgs,

    /// Leave DaemonSet pods running. Without this flag, they make the drain fail
    #[arg(long)]
    ignore_daemonsets: bool,

    /// Also delete pods that no controller will recreate
    #[arg(long)]
    force: bool,

    /// Also delete pods with emptyDir volumes, whose data is lost
    #[arg(long)]
    delete_emptydir_data: bool,

    /// Seconds each pod has to shut down (negative: use the pod's own grace period)
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = -1,
        allow_negative_numbers = true
    )]
    grace_period: i64,

    /// Time after which to give up: `90s`, `10m`; 0: never
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    timeout: Duration,

    /// Select pods by labels
    #[arg(long, value_name = "SELECTOR")]
    pod_selector: Option<String>,

    /// Delete pods instead of evicting them, which ignores PodDisruptionBudgets
    #[arg(long)]
    disable_eviction: bool,

    /// Do not wait for pods that have been terminating for more than this many seconds; 0: wait for
    /// all
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    skip_wait_for_delete_timeout: i64,
}

/// Wait before an eviction that a disruption budget forbids is retried, as in kubectl.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Wait before a watch that the server ended is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// How pods are removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Removal {
    Evict,
    Delete,
}

/// Pods on a node by UID, from the watch; `None` before the first list.
type Present = Option<BTreeMap<String, Value>>;

impl Drain {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        self.nodes.check("drain")?;
        if let Some(selector) = &self.pod_selector
            && api::selector::LabelSelector::parse(selector).is_err()
        {
            bail!("--pod-selector=<pod_selector> must be a valid label selector");
        }
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        let nodes = self.nodes.read(&connection, &resources).await?;
        let resource = resources.of_kind("v1", "Node")?;
        cordon(&connection, resource, &nodes, true, self.nodes.dry_run.mode).await?;
        let removal = self.removal(&connection).await?;
        let (mut pending, mut failures) = (Vec::new(), Failures::default());
        for node in &nodes {
            let name = node["metadata"]["name"].as_str().unwrap_or_default();
            let draining = Draining {
                drain: &self,
                connection: &connection,
                pods: resources.of_kind("v1", "Pod")?,
                daemon_sets: resources.of_kind("apps/v1", "DaemonSet")?,
                node: name,
                removal,
            };
            let errors = draining.run().await?;
            if errors.is_empty() {
                let suffix = self.nodes.dry_run.mode.suffix();
                print(format!("{}/{name} drained{suffix}\n", resource.display()).as_bytes())?;
                continue;
            }
            eprintln!(
                "error: unable to drain node \"{name}\" due to error: {}, continuing command...",
                joined(&errors)
            );
            pending.push(name);
            for error in errors {
                failures.note::<()>(Err(anyhow!(error)));
            }
        }
        if !pending.is_empty() {
            eprintln!("There are pending nodes to be drained:\n {}", pending.join("\n "));
        }
        failures.finish_as_list()
    }

    /// Uses the eviction API if the server has it.
    async fn removal(&self, connection: &Connection) -> Result<Removal> {
        if self.disable_eviction {
            return Ok(Removal::Delete);
        }
        let core = connection.get("/api/v1").await?;
        let mut resources = core["resources"].as_array().into_iter().flatten();
        let evicts =
            resources.any(|resource| resource["name"] == "pods/eviction" && resource["kind"] == "Eviction");
        Ok(if evicts { Removal::Evict } else { Removal::Delete })
    }
}

/// Joins several errors in one line, like Go.
fn joined(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

/// A node that is being drained.
struct Draining<'a> {
    drain: &'a Drain,
    connection: &'a Connection,
    pods: &'a Resource,
    daemon_sets: &'a Resource,
    node: &'a str,
    removal: Removal,
}

impl Draining<'_> {
    /// Drains the node. Returns the errors.
    async fn run(&self) -> Result<Vec<String>> {
        let sorted = self.sorted().await?;
        if !sorted.errors.is_empty() {
            return Ok(sorted.errors);
        }
        if let Some(warning) = &sorted.warning {
            eprintln!("Warning: {warning}");
        }
        if self.drain.nodes.dry_run.mode == DryRun::Client {
            for pod in &sorted.going {
                let name = filter::display(pod);
                print(format!("evicting pod {name}{}\n", DryRun::Client.suffix()).as_bytes())?;
            }
            return Ok(Vec::new());
        }
        let errors = self.remove_all(&sorted.going).await?;
        if !errors.is_empty() {
            self.tell_pending(&joined(&errors)).await?;
        }
        Ok(errors)
    }

    /// Returns the pods of the node and what to do with each.
    async fn sorted(&self) -> Result<Sorted> {
        let mut query = format!(
            "fieldSelector={}",
            escape(&format!("spec.nodeName={}", self.node))
        );
        if let Some(selector) = &self.drain.pod_selector {
            query.push_str(&format!("&labelSelector={}", escape(selector)));
        }
        let pods = self
            .connection
            .list(&self.pods.collection(None), &query, |pod| Ok(pod.clone()))
            .await?;
        let daemon_sets = self.daemon_sets(&pods).await?;
        let allowed = Allowed {
            force: self.drain.force,
            ignore_daemon_sets: self.drain.ignore_daemonsets,
            delete_empty_dir_data: self.drain.delete_emptydir_data,
            skip_ending_for: self.drain.skip_wait_for_delete_timeout,
        };
        let is_there = |pod: &Value| {
            let refused = filter::daemon_set_of(pod)
                .and_then(|(namespace, name)| daemon_sets.get(&(namespace.to_owned(), name.to_owned())));
            match refused {
                Some(Some(error)) => Err(Missing {
                    not_found: error.code == 404,
                    message: error.message.clone(),
                }),
                _ => Ok(()),
            }
        };
        Ok(filter::sort(pods, allowed, is_there, Timestamp::now()))
    }

    /// Returns the DaemonSets that manage `pods`, each with the error if it cannot be read.
    async fn daemon_sets(&self, pods: &[Value]) -> Result<BTreeMap<(String, String), Option<ServerError>>> {
        let named: BTreeSet<_> = pods.iter().filter_map(filter::daemon_set_of).collect();
        let mut answers = BTreeMap::new();
        for (namespace, name) in named {
            let path = self.daemon_sets.object(namespace, name);
            let refused = match self.connection.get(&path).await {
                Ok(_) => None,
                Err(error) => Some(error.downcast::<ServerError>()?),
            };
            answers.insert((namespace.to_owned(), name.to_owned()), refused);
        }
        Ok(answers)
    }

    async fn remove_all(&self, pods: &[Value]) -> Result<Vec<String>> {
        if pods.is_empty() {
            return Ok(Vec::new());
        }
        let (tell, present) = watch::channel(None);
        let work = async {
            // All at once: a pod that a budget protects must not delay the others. The pods of a
            // node are a bounded number.
            let mut removals: FuturesUnordered<_> =
                pods.iter().map(|pod| self.remove(pod, present.clone())).collect();
            let mut errors = Vec::new();
            while let Some(removed) = removals.next().await {
                errors.extend(removed.err().map(|error| error.to_string()));
            }
            errors
        };
        tokio::select! {
            never = self.follow(&tell) => match never? {},
            errors = work => Ok(errors),
        }
    }

    /// Watches the pods of the node.
    async fn follow(&self, tell: &watch::Sender<Present>) -> Result<Infallible> {
        let uid = |pod: &Value| pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let path = format!(
            "{}?fieldSelector={}",
            self.pods.collection(None),
            escape(&format!("spec.nodeName={}", self.node))
        );
        loop {
            let list = self.connection.get(&path).await?;
            let items = list["items"].as_array().into_iter().flatten();
            tell.send_replace(Some(items.map(|pod| (uid(pod), pod.clone())).collect()));
            let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            let watch = format!("{path}&watch=true&resourceVersion={revision}");
            let each = |kind: &str, pod: &Value| {
                tell.send_modify(|present| {
                    let present = present.get_or_insert_default();
                    match kind {
                        "DELETED" => present.remove(&uid(pod)),
                        _ => present.insert(uid(pod), pod.clone()),
                    };
                });
                Ok(None::<Infallible>)
            };
            self.connection.watch(&watch, JSON, each).await?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Removes a pod and waits until it is gone, up to the user's timeout.
    async fn remove(&self, pod: &Value, present: watch::Receiver<Present>) -> Result<()> {
        let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let limit = self.drain.timeout;
        let reached = format!("global timeout reached: {}", duration::display(limit));
        let started = tokio::time::Instant::now();
        let asked = match duration::bounded(limit, self.ask(pod, namespace, name)).await {
            Some(asked) => asked?,
            None => bail!("error when evicting pods/{name:?} -n {namespace:?}: {reached}"),
        };
        if !asked || self.drain.nodes.dry_run.mode == DryRun::Server {
            return Ok(());
        }
        let left = match limit {
            Duration::ZERO => limit,
            // A remaining time of zero must not become "no timeout".
            _ => limit
                .saturating_sub(started.elapsed())
                .max(Duration::from_millis(1)),
        };
        match duration::bounded(left, self.until_gone(pod, name, present)).await {
            Some(gone) => gone,
            None => bail!(
                "error when waiting for pod {name:?} in namespace {namespace:?} to terminate: {reached}"
            ),
        }
    }

    /// Requests the removal of the pod until the server accepts. Returns false if the pod is gone
    /// already.
    async fn ask(&self, pod: &Value, namespace: &str, name: &str) -> Result<bool> {
        let mut options = json!({});
        if self.drain.grace_period >= 0 {
            options["gracePeriodSeconds"] = self.drain.grace_period.into();
        }
        if self.drain.nodes.dry_run.mode == DryRun::Server {
            options["dryRun"] = json!(["All"]);
        }
        let path = self.pods.object(namespace, name);
        if self.removal == Removal::Delete {
            // Only the pod that was read, not a later one of the same name.
            options["preconditions"] = json!({"uid": pod["metadata"]["uid"]});
            let sent = self
                .connection
                .request(Method::DELETE, &path, JSON, Some(Payload::json(&options)))
                .await;
            return match refusal(sent)? {
                Some(refused) if refused.code == 404 => Ok(false),
                Some(refused) => bail!(refused.message),
                None => Ok(true),
            };
        }
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace}, "deleteOptions": options,
        });
        loop {
            let suffix = self.drain.nodes.dry_run.mode.suffix();
            print(format!("evicting pod {namespace}/{name}{suffix}\n").as_bytes())?;
            let sent = self
                .connection
                .request(
                    Method::POST,
                    &format!("{path}/eviction"),
                    JSON,
                    Some(Payload::json(&eviction)),
                )
                .await;
            let Some(refused) = refusal(sent)? else {
                return Ok(true);
            };
            // In a terminating namespace the server rejects evictions; its pods are deleted anyway.
            let going = refused.code == 403 && refused.message.contains("is being terminated");
            match refused.code {
                404 => return Ok(false),
                429 => eprintln!(
                    "error when evicting pods/{name:?} -n {namespace:?} (will retry after 5s): {}",
                    refused.message
                ),
                _ if going && pod["metadata"]["deletionTimestamp"].is_string() => return Ok(true),
                _ if going => eprintln!(
                    "error when evicting pod {name:?} from terminating namespace {namespace:?} (will retry after 5s): {}",
                    refused.message
                ),
                _ => bail!(
                    "error when evicting pods/{name:?} -n {namespace:?}: {}",
                    refused.message
                ),
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn until_gone(&self, pod: &Value, name: &str, mut present: watch::Receiver<Present>) -> Result<()> {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let patience = self.drain.skip_wait_for_delete_timeout;
        loop {
            let now = Timestamp::now();
            let state = present
                .borrow_and_update()
                .as_ref()
                .map(|present| present.get(uid).cloned());
            match state {
                None => {}
                Some(None) => {
                    let done = match self.removal {
                        Removal::Evict => "evicted",
                        Removal::Delete => "deleted",
                    };
                    return print(format!("{}/{name} {done}\n", self.pods.display()).as_bytes());
                }
                Some(Some(pod)) if filter::is_skipped(&pod, patience, now) => {
                    return print(
                        format!(
                            "pod {name:?} has DeletionTimestamp older than {patience} seconds, skipping\n"
                        )
                        .as_bytes(),
                    );
                }
                Some(Some(_)) => {}
            }
            // A pod's timeout does not cause an event, so check every second.
            tokio::select! {
                changed = present.changed() => changed?,
                () = tokio::time::sleep(PAUSE), if patience > 0 => {}
            }
        }
    }

    /// Prints the pods that remain after a failure.
    async fn tell_pending(&self, error: &str) -> Result<()> {
        let pending = self.sorted().await?.going;
        if pending.is_empty() {
            return Ok(());
        }
        eprintln!(
            "There are pending pods in node \"{}\" when an error occurred: {error}",
            self.node
        );
        for pod in pending {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            eprintln!("pod/{name}");
        }
        Ok(())
    }
}

/// Returns the server's error, if it rejected the request.
fn refusal(sent: Result<Value>) -> Result<Option<ServerError>> {
    match sent {
        Ok(_) => Ok(None),
        Err(error) => error.downcast::<ServerError>().map(Some),
    }
}
