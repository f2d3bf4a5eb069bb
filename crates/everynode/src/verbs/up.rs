//! `everynode up`: all of it in one process on one machine.

mod demo;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use apiserver::User;
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::control_plane::{ControlPlane, ControlPlaneArgs, EndSignals};

/// How long pods get to end by themselves when `up` ends; what is left then is killed.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// Run everything on this machine, in the foreground; stopping it stops its pods
#[derive(Args, Debug)]
pub(crate) struct Up {
    #[command(flatten)]
    control_plane: ControlPlaneArgs,

    /// Name of the node (default: this machine's hostname)
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,

    /// Address of the node (default: that of this machine's default route)
    #[arg(long, value_name = "ADDRESS")]
    node_ip: Option<IpAddr>,

    /// Addresses for the pods of this machine
    #[arg(long, value_name = "RANGE", default_value = "10.244.0.0/24")]
    pod_cidr: runtime::Range,

    /// Run a DaemonSet to look at
    #[arg(long)]
    demo: bool,
}

impl Up {
    pub(crate) async fn run(self) -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Err(anyhow!(
                "containers need root: run this with sudo, or run `everynode server` alone"
            ));
        }
        let mut end = EndSignals::listen()?;
        let mut control_plane = ControlPlane::start(&self.control_plane).await?;
        let options = self.agent(&control_plane)?;
        let shutdown = CancellationToken::new();
        let mut agent = tokio::spawn(agent::run(options.clone(), shutdown.clone()));
        eprintln!("serving on {}", control_plane.server.url());
        eprintln!("kubeconfig: {}", control_plane.server.kubeconfig().display());
        if self.demo {
            demo::start(&control_plane.server, &self.control_plane.data_dir).await?;
        }
        tokio::select! {
            () = end.next() => {}
            error = control_plane.failed() => return Err(error),
            ended = &mut agent => {
                ended.context("run the node's agent")?.context("run the node's agent")?;
                return Err(anyhow!("the node's agent ended by itself"));
            }
        }
        eprintln!("stopping the pods; press Ctrl-C again to leave them running");
        shutdown.cancel();
        let stopped = async {
            agent
                .await
                .context("end the node's agent")?
                .context("end the node's agent")?;
            agent::stop_all(&options, STOP_GRACE)
                .await
                .context("stop the pods")
        };
        let result = tokio::select! {
            stopped = stopped => stopped,
            () = end.next() => Err(anyhow!("interrupted: the pods that are left run on; the next `everynode up` adopts them")),
        };
        control_plane.stop().await;
        result
    }

    fn agent(&self, control_plane: &ControlPlane) -> Result<agent::Options> {
        let server = &control_plane.server;
        let node_name = match &self.node_name {
            Some(name) => name.clone(),
            None => rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .to_lowercase(),
        };
        let credential = server
            .node_credential(&node_name)
            .context("issue the node's certificate")?;
        let address = server.address();
        Ok(agent::Options {
            client: server.client(User::node(&node_name)),
            tunnel: Some(agent::Tunnel {
                address: address.to_string(),
                server_name: "localhost".to_owned(),
                ca_pem: server.authority().as_bytes().to_vec(),
                certificate_pem: credential.certificate.into_bytes(),
                key_pem: credential.key.into_bytes(),
            }),
            api_address: (address.ip().to_string(), address.port()),
            data_dir: self.control_plane.data_dir.clone(),
            node_name,
            node_ip: self.node_ip,
            pod_range: self.pod_cidr,
            shim: runtime::ShimCommand::default(),
            labels: std::collections::BTreeMap::new(),
            taints: Vec::new(),
        })
    }
}
