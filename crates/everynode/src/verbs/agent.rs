//! `everynode agent`: this machine as a node of a cluster whose server is elsewhere.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use agent::{Join, Membership, ServerAddress};
use anyhow::{Context, Result, anyhow, bail};
use api::bootstrap_token::JoinToken;
use clap::Args;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use tokio_util::sync::CancellationToken;

use crate::control_plane::EndSignals;
use crate::node_args::NodeArgs;

/// How long the server may take to tell the address of the Service `kubernetes`.
const ASK: Duration = Duration::from_secs(5);
/// That address, where nobody tells another.
const API_SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 1), 443);

/// Run this machine as a node of a cluster
#[derive(Args, Debug)]
#[command(after_help = "\
`everynode token create` on the server prints the command that joins a machine. Afterwards the machine has a certificate of \
its own, and the agent starts without a token.")]
pub(crate) struct Agent {
    /// Where the API server is; several may be given, and one that answers is used
    #[arg(
        long,
        value_name = "https://HOST:PORT",
        value_delimiter = ',',
        required = true,
        env = "EVERYNODE_SERVER"
    )]
    server: Vec<ServerAddress>,

    /// The token that `everynode token create` prints. On the command line every user of the machine sees it
    #[arg(long, value_name = "TOKEN", env = "EVERYNODE_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// A file that holds the token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,

    /// Where everything is kept: the node's certificate, images, the pods' files
    #[arg(long, value_name = "DIR", default_value = crate::verbs::DATA_DIR)]
    data_dir: PathBuf,

    #[command(flatten)]
    node: NodeArgs,
}

impl Agent {
    pub(crate) async fn run(self) -> Result<()> {
        NodeArgs::check_root()?;
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
            () = end.next() => return Ok(()),
        };
        let options = self.options(&member, join.node_name.clone()).await?;
        eprintln!("node {} of the cluster at {}", join.node_name, first(&member));
        let mut agent = tokio::spawn(agent::run(options, shutdown.clone()));
        tokio::select! {
            () = end.next() => {}
            ended = &mut agent => {
                ended.context("run the node's agent")?.context("run the node's agent")?;
                return Err(anyhow!("the node's agent ended by itself"));
            }
        }
        shutdown.cancel();
        agent
            .await
            .context("end the node's agent")?
            .context("end the node's agent")?;
        eprintln!("the agent has ended; its pods run on, and the next one takes them over");
        Ok(())
    }

    /// The token that the user gave, read before anything is made.
    fn token(&self) -> Result<Option<JoinToken>> {
        let text = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .with_context(|| format!("read the token file {}", file.display()))?,
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
        let server = member.dialer.servers().into_iter().next();
        let server = server.context("no server is named")?;
        let api_address = server
            .resolve()
            .await
            .with_context(|| format!("find the address of {server}"))?;
        Ok(agent::Options {
            client: member.client.clone(),
            tunnel: Some(member.dialer.clone()),
            membership: Some(member.clone()),
            api_address,
            api_service: Some(api_service(member).await),
            cluster_dns: self.node.cluster_dns.0,
            cluster_domain: self.node.cluster_domain.clone(),
            data_dir: self.data_dir.clone(),
            node_name,
            node_ips: self.node.network.node_ip.clone(),
            network: self.node.network.options(None),
            shim: runtime::ShimCommand::default(),
            labels: self.node.labels()?,
            taints: self.node.taints.clone(),
        })
    }
}

fn first(member: &Membership) -> String {
    let servers = member.dialer.servers();
    servers.first().map(ToString::to_string).unwrap_or_default()
}

/// Address and port of the Service `kubernetes`. A server that is away does not keep the agent from taking its pods over.
async fn api_service(member: &Membership) -> SocketAddrV4 {
    let services: Api<Service> = Api::namespaced(member.client.clone(), "default");
    let Ok(Ok(service)) = tokio::time::timeout(ASK, services.get("kubernetes")).await else {
        return API_SERVICE;
    };
    let spec = service.spec.unwrap_or_default();
    let address = spec.cluster_ip.and_then(|address| address.parse().ok());
    let port = spec.ports.iter().flatten().next().map(|port| port.port);
    let port = port.and_then(|port| u16::try_from(port).ok());
    match (address, port) {
        (Some(address), Some(port)) => SocketAddrV4::new(address, port),
        _ => API_SERVICE,
    }
}
