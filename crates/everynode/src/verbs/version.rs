//! `everynode version`: prints the versions of this program and of the server.

use anyhow::Result;
use clap::Args;

use super::get::print;
use crate::client::connection::ConnectArgs;

/// Print the versions of this program and of the server
#[derive(Args, Debug)]
pub(crate) struct Version {
    /// Ask no server
    #[arg(long)]
    client: bool,
}

impl Version {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        print(format!("Client Version: {}\n", env!("CARGO_PKG_VERSION")).as_bytes())?;
        if self.client {
            return Ok(());
        }
        let server = connect.connect().await?.get("/version").await?;
        let version = server["gitVersion"].as_str().unwrap_or_default();
        print(format!("Server Version: {version}\n").as_bytes())
    }
}
