//! `everynode label`: sets and removes labels.

use anyhow::Result;
use clap::Args;

use super::pairs::{PairArgs, Sort};
use crate::client::connection::ConnectArgs;

/// Add, change or remove labels
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  everynode label nodes node-7 disk=ssd            set one
  everynode label ds/fluentd tier=b --overwrite    change one
  everynode label nodes --all maintenance-         take one away everywhere")]
pub(crate) struct Label {
    #[command(flatten)]
    pairs: PairArgs,
}

impl Label {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        self.pairs.run(connect, Sort::Labels).await
    }
}
