//! `--dry-run`: whether anything is stored.

use clap::ValueEnum;

/// Whether the server stores what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum DryRun {
    /// Store it
    #[default]
    None,
    /// Send nothing that writes
    Client,
    /// Send it to be checked only
    Server,
}

impl DryRun {
    /// What a sentence about what was done ends with.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }

    /// What a request's query carries, with `&` before it.
    pub(crate) fn query(self) -> &'static str {
        match self {
            DryRun::Server => "&dryRun=All",
            DryRun::None | DryRun::Client => "",
        }
    }
}
