//! `--dry-run`: whether a verb changes anything.

use clap::{Args, ValueEnum};

/// The flag, for every verb that changes objects.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct DryRunArgs {
    /// Change nothing. `server` (the default for a bare --dry-run): the server validates the
    /// request. `client`: nothing is sent
    #[arg(long = "dry-run", value_name = "HOW", value_enum, default_value_t = DryRun::None, default_missing_value = "server", num_args = 0..=1, require_equals = true)]
    pub(crate) mode: DryRun,
}

/// Whether the server stores a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum DryRun {
    /// Send the request
    #[default]
    None,
    /// Send no request that changes objects
    Client,
    /// The server validates the request and stores nothing
    Server,
}

impl DryRun {
    /// Returns the end of a message about what was done.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }

    /// Returns the query parameter, with `&` before it.
    pub(crate) fn query(self) -> &'static str {
        match self {
            DryRun::Server => "&dryRun=All",
            DryRun::None | DryRun::Client => "",
        }
    }
}
