//! `everynode annotate`: sets and removes annotations.

use anyhow::Result;
use clap::Args;

use super::pairs::{PairArgs, Sort};
use crate::client::connection::ConnectArgs;

/// Add, change or remove annotations
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  everynode annotate ds/fluentd owner='the storage team'
  everynode annotate ds/fluentd kubernetes.io/change-cause='new buffer size'    shown by rollout history
  everynode annotate nodes -l disk=ssd note-")]
pub(crate) struct Annotate {
    #[command(flatten)]
    pairs: PairArgs,
}

impl Annotate {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        self.pairs.run(connect, Sort::Annotations).await
    }
}
