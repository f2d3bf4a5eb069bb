//! `everynode logs`: what a container wrote.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use futures::TryStreamExt;
use http::Method;
use http_body_util::BodyExt;

use super::get::print;
use super::{container_of, pod_of};
use crate::client::connection::ConnectArgs;
use crate::client::duration;
use crate::client::resources::{Resources, escape};

/// Show what a container wrote
#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// A pod's name, or `ds/NAME` for one of its pods
    #[arg(value_name = "POD | TYPE/NAME")]
    target: String,

    /// The container (default: the one that the pod names, else the first)
    #[arg(short, long)]
    container: Option<String>,

    /// Go on as the container writes
    #[arg(short, long)]
    follow: bool,

    /// Of the container's run before this one
    #[arg(short, long)]
    previous: bool,

    /// Only this many of the newest lines
    #[arg(long, value_name = "LINES", default_value_t = -1, allow_negative_numbers = true)]
    tail: i64,

    /// Only what is younger: `90s`, `10m`, `2h`
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    since: Option<Duration>,

    /// Begin each line with its time
    #[arg(long)]
    timestamps: bool,

    /// Stop after this many bytes
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
}

impl Logs {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        let pod = pod_of(&connection, &resources, &self.target).await?;
        let container = container_of(&connection, &pod, self.container.clone()).await?;
        let pods = resources.of_kind("v1", "Pod")?;
        let path = format!(
            "{}/log?{}",
            pods.object(&connection.namespace, &pod),
            self.query(container.as_deref())?
        );
        let response = connection.send(Method::GET, &path, "*/*", None).await?;
        let mut chunks = response.into_body().into_data_stream();
        while let Some(chunk) = chunks.try_next().await.context("read the log")? {
            print(&chunk)?;
        }
        Ok(())
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
