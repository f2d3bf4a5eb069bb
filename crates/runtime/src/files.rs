//! The limit of open files. A server needs one for each connection, and the default limit is
//! usually 1,024.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::{Context as _, Result};

/// The limit before it was raised.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// Environment variable with the limit for a shim's containers. A raised limit slows down programs
/// that close every possible descriptor.
const VARIABLE: &str = "EVERYNODE_OPEN_FILES";

/// Raises the limit as far as possible without privileges. Containers of this process get the
/// previous limit.
pub fn raise_open_files() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context(|| "read the limit on open files")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            .context(|| format!("raise the limit on open files from {soft} to {hard}"))?;
        BEFORE.get_or_init(|| soft);
    }
    Ok(())
}

/// Returns the variable for a shim's environment.
pub(crate) fn variable() -> Option<(&'static str, String)> {
    BEFORE.get().map(|soft| (VARIABLE, soft.to_string()))
}

/// Restores the previous limit in a shim, and therefore in its containers.
pub(crate) fn restore_limit() -> Result<()> {
    let Some(soft) = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok()) else {
        return Ok(());
    };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context(|| "read the limit on open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).context(|| "set the limit on open files back")
}
