//! `everynode server`: runs the control plane without a node.

use anyhow::Result;
use clap::Args;

use crate::control_plane::{ControlPlane, ControlPlaneArgs, EndSignals};

/// Run the control plane: API server, controllers, scheduler
#[derive(Args, Debug)]
pub(crate) struct Server {
    #[command(flatten)]
    control_plane: ControlPlaneArgs,
}

impl Server {
    pub(crate) async fn run(self) -> Result<()> {
        let mut end = EndSignals::listen()?;
        let ranges = self.control_plane.pod_ranges()?;
        let mut control_plane = ControlPlane::start(&self.control_plane).await?;
        eprintln!("serving on {}", control_plane.server.url());
        eprintln!(
            "export KUBECONFIG={}",
            control_plane.server.kubeconfig().display()
        );
        eprintln!("{ranges}");
        let ended = tokio::select! {
            () = end.next() => Ok(()),
            error = control_plane.failed() => Err(error),
        };
        ended.and(control_plane.stop().await)
    }
}
