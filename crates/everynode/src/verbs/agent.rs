//! `everynode agent`: runs this machine as a node of a cluster on another server.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use agent::{Join, Membership, ServerAddress};
use anyhow::{Context, Result, anyhow, bail};
use api::bootstrap_token::JoinToken;
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::client::kubeconfig;
use crate::control_plane::EndSignals;
use crate::node_args::NodeArgs;
use crate::well_known::WellKnown;

/// Timeout for reading the addresses of the Services `kubernetes` and `kube-dns`.
const ASK: Duration = Duration::from_secs(5);

/// Run this machine as a node of a cluster
#[derive(Args, Debug)]
#[command(after_help = "\
`everynode token create` on the server prints the command that joins a machine. Afterwards the machine has a certificate of \
its own, and the agent starts without a token, also while no server answers: it then runs the pods that it was told of before.")]
pub(crate) struct Agent {
    /// URL of the API server. Can be repeated: the agent uses one that answers
    #[arg(
        long,
        value_name = "https://HOST:PORT",
        value_delimiter = ',',
        required_unless_present = "clean_up",
        env = "EVERYNODE_SERVER"
    )]
    server: Vec<ServerAddress>,

    /// Token from `everynode token create`. Every user of the machine can see command lines: prefer
    /// --token-file
    #[arg(long, value_name = "TOKEN", env = "EVERYNODE_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// File that contains the token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,

    /// Data directory: the node's certificate, images, pod files, and the last state received from
    /// the server (used to start pods while no server answers)
    #[arg(long, value_name = "DIR", default_value = crate::verbs::DATA_DIR)]
    data_dir: PathBuf,

    /// Store the Secrets of this machine's pods on disk, so that these pods start after a boot
    /// while no server answers. Default: in /run, which a boot empties
    #[arg(long)]
    keep_secrets: bool,

    /// Stop all pods of this machine, remove everything that the agent created on it, and exit. The
    /// objects and keys of a server in the same data directory stay
    #[arg(long)]
    clean_up: bool,

    #[command(flatten)]
    node: NodeArgs,
}

/// Exit code of the agent after its Node was deleted. A service manager can distinguish it from a
/// failure and not restart the agent.
const NODE_DELETED: u8 = 3;

/// Time for pods to end when the machine leaves the cluster.
const STOP_GRACE: Duration = Duration::from_secs(30);

impl Agent {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        NodeArgs::check_root()?;
        if self.clean_up {
            self.clean_up().await?;
            return Ok(ExitCode::SUCCESS);
        }
        let join = Join {
            servers: self.server.clone(),
            token: self.token()?,
            data_dir: self.data_dir.clone(),
            node_name: self.node.name()?,
        };
        let mut end = EndSignals::listen()?;
        let shutdown = CancellationToken::new();
        let member = tokio::select! {
            member = join.run(&shutdown) => member?,
            () = end.next() => return Ok(ExitCode::SUCCESS),
        };
        let options = self.options(&member, join.node_name.clone()).await?;
        eprintln!("node {} of the cluster at {}", join.node_name, first(&member));
        let mut agent = tokio::spawn(agent::run(options.clone(), shutdown.clone()));
        tokio::select! {
            () = end.next() => {}
            ended = &mut agent => {
                let ended = ended.context("run the node's agent")?.context("run the node's agent")?;
                if ended == agent::Ended::Shutdown {
                    return Err(anyhow!("the node's agent ended by itself"));
                }
                return leave(&options, &member).await;
            }
        }
        shutdown.cancel();
        agent
            .await
            .context("end the node's agent")?
            .context("end the node's agent")?;
        eprintln!("the agent has ended; its pods run on, and the next one takes them over");
        Ok(ExitCode::SUCCESS)
    }

    /// Restores the machine to the state before it joined. The server need not be reachable.
    async fn clean_up(&self) -> Result<()> {
        let data_dir = &self.data_dir;
        let beside_a_server = data_dir.join("pki").exists();
        if beside_a_server {
            refuse_while_it_runs(data_dir).await?;
        }
        if !data_dir.exists() {
            bail!("{} is not there: name the agent's --data-dir", data_dir.display());
        }
        let options = agent::Options {
            client: agent::no_client()?,
            tunnel: None,
            membership: None,
            api_address: (Ipv4Addr::LOCALHOST, 0).into(),
            api_service: None,
            cluster_dns: Vec::new(),
            cluster_domain: String::new(),
            data_dir: data_dir.clone(),
            keep_secrets: false,
            pod_logs_dir: self.node.folders.pod_logs_dir.clone(),
            kubelet_dir: self.node.folders.root_dir.clone(),
            image_limits: self.node.images.limits(),
            node_name: self.node.name()?,
            node_ips: Vec::new(),
            network: agent::NetworkOptions::default(),
            policy: agent::PodPolicy::default(),
            stalled_after: agent::STALLED_AFTER,
            shim: runtime::ShimCommand::default(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
        };
        agent::stop_all(&options, STOP_GRACE)
            .await
            .context("stop the pods")?;
        agent::remove_shared_folders(&options)?;
        if beside_a_server {
            eprintln!(
                "nothing of the node is left on this machine. {} still holds the server's objects and keys: remove it to delete the cluster",
                data_dir.display()
            );
            return Ok(());
        }
        std::fs::remove_dir_all(data_dir).with_context(|| format!("remove {}", data_dir.display()))?;
        eprintln!(
            "nothing of the agent is left on this machine; delete its node with `everynode delete node NAME`"
        );
        Ok(())
    }

    /// Returns the token that the user gave. It is read before anything is created.
    fn token(&self) -> Result<Option<JoinToken>> {
        let text = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => match std::fs::read_to_string(file) {
                Ok(text) => text,
                // A machine that has joined needs no token, but the command of its service still
                // names the file.
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound && agent::has_joined(&self.data_dir) =>
                {
                    return Ok(None);
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("read the token file {}", file.display()));
                }
            },
            (None, None) => return Ok(None),
        };
        match JoinToken::parse(&text) {
            Ok(token) => Ok(Some(token)),
            Err(why) => bail!(
                "the token cannot be used: {why}. Give the whole of what `everynode token create` prints on the server"
            ),
        }
    }

    async fn options(&self, member: &Membership, node_name: String) -> Result<agent::Options> {
        let api_address = api_address(member).await?;
        let services = well_known(member, &self.data_dir, &node_name).await;
        Ok(agent::Options {
            client: member.client.clone(),
            tunnel: Some(member.dialer.clone()),
            membership: Some(member.clone()),
            api_address,
            api_service: services.api,
            cluster_dns: self.node.cluster_dns(services.dns),
            cluster_domain: self.node.cluster_domain.clone(),
            data_dir: self.data_dir.clone(),
            keep_secrets: self.keep_secrets,
            pod_logs_dir: self.node.folders.pod_logs_dir.clone(),
            kubelet_dir: self.node.folders.root_dir.clone(),
            image_limits: self.node.images.limits(),
            node_name,
            node_ips: self.node.network.node_ip.clone(),
            network: self.node.network.options(None),
            policy: self.node.policy(),
            stalled_after: agent::STALLED_AFTER,
            shim: runtime::ShimCommand::default(),
            labels: self.node.labels()?,
            taints: self.node.taints.clone(),
        })
    }
}

/// Fails if a server runs on this data directory, because it would start the pods again.
async fn refuse_while_it_runs(data_dir: &Path) -> Result<()> {
    let file = data_dir.join("admin.kubeconfig");
    let Ok(source) = kubeconfig::read(Some(&file), None).await else {
        return Ok(());
    };
    let url = source.config.cluster_url;
    let address = (url.host().unwrap_or_default(), url.port_u16().unwrap_or_default());
    if let Ok(Ok(_)) = tokio::time::timeout(ASK, tokio::net::TcpStream::connect(address)).await {
        bail!(
            "the server of {} still runs at {url}: stop `everynode up` first",
            data_dir.display()
        );
    }
    Ok(())
}

/// Stops the pods and removes the cluster's data from the machine, because the node was deleted.
async fn leave(options: &agent::Options, member: &Membership) -> Result<ExitCode> {
    eprintln!(
        "node {} was deleted from the cluster: its pods are being stopped",
        options.node_name
    );
    agent::stop_all(options, STOP_GRACE)
        .await
        .context("stop the pods")?;
    member.forget().context("forget the node's certificate")?;
    eprintln!(
        "the pods of node {} are stopped. To join again, run `everynode token create` on the server, and start the agent with the token",
        options.node_name
    );
    Ok(ExitCode::from(NODE_DELETED))
}

fn first(member: &Membership) -> String {
    let servers = member.dialer.servers();
    servers.first().map(ToString::to_string).unwrap_or_default()
}

/// Returns the address of a server. The DNS name of a server may not resolve when a site is cut
/// off, but the servers that the cluster published have addresses.
async fn api_address(member: &Membership) -> Result<SocketAddr> {
    let mut failure = anyhow!("no server is named");
    for server in member.dialer.servers() {
        match server.resolve().await {
            Ok(address) => return Ok(address),
            Err(error) => failure = anyhow!(error).context(format!("find the address of {server}")),
        }
    }
    Err(failure)
}

/// Returns the addresses of the cluster's own Services. If the server is unreachable, the agent
/// still adopts its pods.
async fn well_known(member: &Membership, data_dir: &Path, node_name: &str) -> WellKnown {
    let read = tokio::time::timeout(ASK, WellKnown::read(&member.client));
    match read.await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) | Err(_) => WellKnown::kept(data_dir, node_name).unwrap_or_else(WellKnown::usual),
    }
}
