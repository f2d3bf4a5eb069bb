//! `everynode logs`: prints the logs of containers.

use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use clap::Args;
use futures::{Stream, StreamExt, TryStreamExt};
use http::Method;
use http_body_util::BodyExt;

use super::get::print;
use super::{container_of, list_pods, pods_of};
use crate::client::connection::{ConnectArgs, Connection};
use crate::client::duration;
use crate::client::error::Failures;
use crate::client::resources::{Resources, escape};

/// Print the logs of containers
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  everynode logs fluentd-x7k2p                        one pod
  everynode logs ds/fluentd -n kube-system --node n7  the pod of a DaemonSet on one node
  everynode logs -l app=fluentd -f                    several pods, each line with its pod")]
pub(crate) struct Logs {
    /// Pod, or `ds/NAME` for one of its pods
    #[arg(value_name = "POD | TYPE/NAME", required_unless_present = "selector")]
    target: Option<String>,

    /// Select pods by labels
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "target")]
    selector: Option<String>,

    /// Select pods on this node
    #[arg(long, value_name = "NODE")]
    node: Option<String>,

    /// Print the logs of all pods of `ds/NAME`, not only one
    #[arg(long, requires = "target")]
    all_pods: bool,

    /// Prefix each line with pod and container (default for several pods)
    #[arg(long)]
    prefix: bool,

    /// Largest number of logs to follow at the same time
    #[arg(long, value_name = "PODS", default_value_t = FOLLOWED)]
    max_log_requests: usize,

    /// Container (default: from the pod's annotation kubectl.kubernetes.io/default-container, or
    /// the first)
    #[arg(short, long)]
    container: Option<String>,

    /// Keep printing new lines
    #[arg(short, long)]
    follow: bool,

    /// Print the log of the previous run, before the last restart
    #[arg(short, long)]
    previous: bool,

    /// Number of newest lines to print; -1: all
    #[arg(long, value_name = "LINES", default_value_t = -1, allow_negative_numbers = true)]
    tail: i64,

    /// Print only lines newer than this: `90s`, `10m`, `2h`
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    since: Option<Duration>,

    /// Prefix each line with its time
    #[arg(long)]
    timestamps: bool,

    /// Stop after this many bytes
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
}

/// Default of `--max-log-requests`, as in kubectl.
const FOLLOWED: usize = 5;
/// Longest part of a line that is buffered until its end arrives, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;

impl Logs {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        let pods = self.pods(&connection, &resources).await?;
        if self.follow && pods.len() > self.max_log_requests {
            bail!(
                "{} pods match, and at most {} are followed at the same time: choose fewer, or use --max-log-requests {}",
                pods.len(),
                self.max_log_requests,
                pods.len()
            );
        }
        if let ([pod], false) = (pods.as_slice(), self.prefix) {
            let (_, mut chunks) = self.open(&connection, pod).await?;
            while let Some(chunk) = chunks.try_next().await? {
                print(&chunk)?;
            }
            return Ok(());
        }
        let mut failures = Failures::default();
        let copies = pods.iter().map(|pod| self.copy(&connection, pod));
        // Without `--follow`, print one log after the other, so that its lines stay together.
        let at_once = if self.follow {
            self.max_log_requests.max(1)
        } else {
            1
        };
        let mut copies = futures::stream::iter(copies).buffered(at_once);
        while let Some(copied) = copies.next().await {
            failures.note(copied);
        }
        failures.finish()
    }

    /// Returns the names of the pods to print.
    async fn pods(&self, connection: &Connection, resources: &Resources) -> Result<Vec<String>> {
        let found = match (&self.target, &self.selector) {
            (Some(target), _) => pods_of(connection, resources, target, self.node.as_deref()).await?,
            (None, Some(selector)) => {
                list_pods(connection, resources, selector, self.node.as_deref()).await?
            }
            (None, None) => bail!("name a pod, `ds/NAME`, or pods with -l"),
        };
        let whole = self.selector.is_some() || self.all_pods;
        match found.as_slice() {
            [] => {
                let place = self
                    .node
                    .as_ref()
                    .map_or_else(String::new, |node| format!(" on node {node}"));
                bail!("no pod matches{place} in the namespace {}", connection.namespace)
            }
            [first, _, ..] if !whole => {
                eprintln!("Found {} pods, using pod/{first}", found.len());
                Ok(vec![first.clone()])
            }
            _ => Ok(found),
        }
    }

    /// Returns the name of a pod's container and its log.
    async fn open(
        &self,
        connection: &Connection,
        pod: &str,
    ) -> Result<(String, impl Stream<Item = Result<Bytes>> + use<>)> {
        let container = container_of(connection, pod, self.container.clone()).await?;
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/log?{}",
            escape(&connection.namespace),
            escape(pod),
            self.query(container.as_deref())?
        );
        let response = connection.send(Method::GET, &path, "*/*", None).await?;
        let chunks = response.into_body().into_data_stream();
        let chunks = chunks.map_err(|error| anyhow::Error::new(error).context("read the log"));
        Ok((container.unwrap_or_default(), Box::pin(chunks)))
    }

    /// Prints a pod's log, with the names of the pod and the container before each line.
    async fn copy(&self, connection: &Connection, pod: &str) -> Result<()> {
        let (container, mut chunks) = self.open(connection, pod).await?;
        let prefix = format!("[pod/{pod}/{container}] ");
        let mut line = prefix.clone().into_bytes();
        while let Some(chunk) = chunks.try_next().await? {
            for byte in chunk {
                line.push(byte);
                if byte == b'\n' || line.len() >= LINE_BYTES_MAX {
                    print(&line)?;
                    line.truncate(0);
                    if byte == b'\n' {
                        line.extend_from_slice(prefix.as_bytes());
                    }
                }
            }
        }
        match line.len() > prefix.len() {
            true => print(&[&line[..], b"\n"].concat()),
            false => Ok(()),
        }
    }

    fn query(&self, container: Option<&str>) -> Result<String> {
        let mut query = vec![format!("follow={}", self.follow)];
        if let Some(container) = container {
            query.push(format!("container={}", escape(container)));
        }
        if self.previous {
            query.push("previous=true".to_owned());
        }
        if self.timestamps {
            query.push("timestamps=true".to_owned());
        }
        match self.tail {
            -1 => {}
            0.. => query.push(format!("tailLines={}", self.tail)),
            _ => bail!("--tail must be greater than or equal to -1"),
        }
        if let Some(since) = &self.since {
            query.push(format!("sinceSeconds={}", since.as_secs().max(1)));
        }
        if let Some(limit) = self.limit_bytes {
            query.push(format!("limitBytes={limit}"));
        }
        Ok(query.join("&"))
    }
}
