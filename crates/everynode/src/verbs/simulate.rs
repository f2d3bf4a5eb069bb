//! `everynode simulate`: simulates nodes that run no containers.

use anyhow::{Context, Result};
use clap::Args;
use ipnet::Ipv4Net;
use tokio_util::sync::CancellationToken;

use crate::client::connection::ConnectArgs;
use crate::control_plane::EndSignals;

/// Simulate nodes without containers, to try a manifest on a fleet
#[derive(Args, Debug)]
pub(crate) struct Simulate {
    /// Number of nodes
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    nodes: u32,

    /// Prefix of the names: PREFIX-0, PREFIX-1, ...
    #[arg(long, default_value = "node")]
    prefix: String,

    /// Image that cannot be pulled: pods with it stay in ErrImagePull, as after a mistyped tag
    #[arg(long, value_name = "IMAGE")]
    missing_image: Vec<String>,

    /// A range of which each node brings a /25 for its pods, where no controller gives nodes their
    /// ranges (default: a node waits for the range that the server gives it, and is not ready until
    /// then)
    #[arg(long, value_name = "RANGE")]
    pod_cidr: Option<Ipv4Net>,
}

impl Simulate {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let mut end = EndSignals::listen()?;
        let client = simulate::connect(&connect.source().await?.config).context("prepare the connection")?;
        let shutdown = CancellationToken::new();
        let options = simulate::Options {
            nodes: self.nodes,
            prefix: self.prefix,
            missing_images: self.missing_image,
            pod_range: self.pod_cidr,
            ..simulate::Options::default()
        };
        let mut simulation = tokio::spawn(simulate::run(client, options, shutdown.clone()));
        tokio::select! {
            ended = &mut simulation => return ended.context("play the nodes")?.context("play the nodes"),
            () = end.next() => shutdown.cancel(),
        }
        simulation
            .await
            .context("play the nodes")?
            .context("play the nodes")
    }
}
