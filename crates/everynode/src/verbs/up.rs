//! `everynode up`: runs the control plane and a node in one process.

mod demo;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use apiserver::User;
use clap::Args;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use tokio_util::sync::CancellationToken;

use crate::control_plane::{ControlPlane, ControlPlaneArgs, EndSignals};
use crate::node_args::NodeArgs;
use crate::well_known::WellKnown;

/// Time for pods to end when `up` ends; the rest is then killed.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// Run a server and a node on this machine, in the foreground
#[derive(Args, Debug)]
pub(crate) struct Up {
    #[command(flatten)]
    control_plane: ControlPlaneArgs,

    #[command(flatten)]
    node: NodeArgs,

    /// Also start a demo DaemonSet: a web page on port 8080
    #[arg(long)]
    demo: bool,
}

impl Up {
    pub(crate) async fn run(self) -> Result<()> {
        NodeArgs::check_root()?;
        let node_name = self.node.name()?;
        let mut end = EndSignals::listen()?;
        let mut control_plane = ControlPlane::start(&self.control_plane).await?;
        let done = self.run_node(&mut control_plane, &mut end, node_name).await;
        let stopped = control_plane.stop().await;
        // The first failure is the cause.
        done.and(stopped)?;
        eprintln!("stopped: nothing of it is left running on this machine");
        Ok(())
    }

    /// Runs the node until a signal or a failure ends it.
    async fn run_node(
        &self,
        control_plane: &mut ControlPlane,
        end: &mut EndSignals,
        node_name: String,
    ) -> Result<()> {
        let data_dir = &self.control_plane.data_dir;
        let options = self.agent(control_plane, node_name).await?;
        let shutdown = CancellationToken::new();
        // The agent must end before its server.
        let _ends_with_this = shutdown.clone().drop_guard();
        let mut agent = tokio::spawn(agent::run(options.clone(), shutdown.clone()));
        eprintln!("serving on {}", control_plane.server.url());
        eprintln!("{}", self.control_plane.pod_ranges()?);
        eprintln!(
            "export KUBECONFIG={}",
            control_plane.server.kubeconfig().display()
        );
        let admin = control_plane.server.client(User::admin());
        let nodes: Api<Node> = Api::all(admin.clone());
        let mut ready = std::pin::pin!(ready(nodes, options.node_name.clone()));
        let mut said_ready = false;
        let kubeconfig = control_plane.server.kubeconfig().to_owned();
        let demo = async {
            if self.demo {
                demo::start(admin, &kubeconfig, data_dir).await?;
            }
            std::future::pending::<Result<()>>().await
        };
        let mut demo = std::pin::pin!(demo);
        let mut node_deleted = false;
        loop {
            tokio::select! {
                failed = &mut demo => return failed,
                () = end.next() => break,
                () = &mut ready, if !said_ready => {
                    said_ready = true;
                    eprintln!("node {} is Ready", options.node_name);
                }
                error = control_plane.failed() => return Err(error),
                ended = &mut agent, if !node_deleted => {
                    let ended = ended.context("run the node's agent")?.context("run the node's agent")?;
                    if ended == agent::Ended::Shutdown {
                        return Err(anyhow!("the node's agent ended by itself"));
                    }
                    node_deleted = true;
                    eprintln!(
                        "node {} was deleted: its pods are stopped, and this machine runs none until `everynode up` is started again",
                        options.node_name
                    );
                    agent::stop_all(&options, STOP_GRACE).await.context("stop the pods")?;
                }
            }
        }
        eprintln!("stopping the pods; press Ctrl-C again to leave them running");
        shutdown.cancel();
        let stopped = async {
            if node_deleted {
                return Ok(());
            }
            agent
                .await
                .context("end the node's agent")?
                .context("end the node's agent")?;
            agent::stop_all(&options, STOP_GRACE)
                .await
                .context("stop the pods")
        };
        tokio::select! {
            stopped = stopped => stopped,
            () = end.next() => Err(anyhow!("interrupted: the pods that are left run on; the next `everynode up` adopts them")),
        }
    }

    async fn agent(&self, control_plane: &ControlPlane, node_name: String) -> Result<agent::Options> {
        let server = &control_plane.server;
        let labels = self.node.labels()?;
        let credential = server
            .node_credential(&node_name)
            .await
            .context("issue the node's certificate")?;
        let address = reachable(server.address());
        let services = WellKnown::read(&server.client(User::admin()))
            .await
            .context("read the Services kubernetes and kube-dns")?;
        let identity = agent::Identity {
            certificate: credential.certificate.into_bytes(),
            key: credential.key.into_bytes(),
        };
        let authority = server.authority().as_bytes();
        let dialer = agent::Dialer::new(vec![address.into()], authority, Some(identity))
            .context("use the node's certificate")?;
        Ok(agent::Options {
            client: server.client(User::node(&node_name)),
            tunnel: Some(dialer),
            membership: None,
            api_address: address,
            api_service: services.api,
            cluster_dns: self.node.cluster_dns(services.dns),
            cluster_domain: self.node.cluster_domain.clone(),
            data_dir: self.control_plane.data_dir.clone(),
            // The server starts with the agent, so the agent need not store Secrets.
            keep_secrets: false,
            pod_logs_dir: self.node.folders.pod_logs_dir.clone(),
            kubelet_dir: self.node.folders.root_dir.clone(),
            image_limits: self.node.images.limits(),
            node_name,
            node_ips: self.node.network.node_ip.clone(),
            network: self
                .node
                .network
                .options(Some(&self.control_plane.cluster_ranges()?)),
            policy: self.node.policy(),
            stalled_after: agent::STALLED_AFTER,
            shim: runtime::ShimCommand::default(),
            labels,
            taints: self.node.taints.clone(),
        })
    }
}

/// Returns when the node is Ready. Errors of the watch are ignored, because the message is only for
/// information.
async fn ready(nodes: Api<Node>, name: String) {
    let is_ready = |node: Option<&Node>| {
        let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
    };
    if let Err(error) = kube::runtime::wait::await_condition(nodes, &name, is_ready).await {
        tracing::warn!(%error, "cannot watch the node");
        std::future::pending::<()>().await;
    }
}

/// Returns the address at which this machine connects to a server that may listen on all addresses.
fn reachable(listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        return (Ipv4Addr::LOCALHOST, listen.port()).into();
    }
    listen
}
