//! How many files this process may open. A server needs one for each connection, and machines give 1,024 unless asked for more.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::{Context as _, Result};

/// The limit before it was raised.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// The variable by which a shim learns of the limit that its containers get: a raised one slows down programs that close every file they may have.
const VARIABLE: &str = "EVERYNODE_OPEN_FILES";

/// Raises the limit as far as it goes without a privilege. Containers of this process get the limit that was there before.
pub fn raise_open_files() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context(|| "read the limit on open files")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            .context(|| format!("raise the limit on open files from {soft} to {hard}"))?;
        BEFORE.get_or_init(|| soft);
    }
    Ok(())
}

/// What a shim gets in its environment.
pub(crate) fn variable() -> Option<(&'static str, String)> {
    BEFORE.get().map(|soft| (VARIABLE, soft.to_string()))
}

/// Sets the limit of a shim, and of its containers, back to what it was before this executable raised it.
pub(crate) fn restore_limit() -> Result<()> {
    let Some(soft) = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok()) else {
        return Ok(());
    };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context(|| "read the limit on open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).context(|| "set the limit on open files back")
}
