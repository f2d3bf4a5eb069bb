//! Waits on a state, never for a fixed time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Timeout without any change of the observed state. It only ends tests that have failed; the
/// machines that run them are slow and shared.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest wait of a test while the observed state still changes: three times what the slowest test
/// needs on one busy processor.
const LIMIT: Duration = Duration::from_secs(600);
/// Time between two checks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Deadlines of a wait.
struct Patience {
    started: Instant,
    changed: Instant,
    seen: String,
}

impl Patience {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            changed: now,
            seen: String::new(),
        }
    }

    fn ends(&mut self, seen: &str) -> bool {
        let now = Instant::now();
        if self.seen != seen {
            self.changed = now;
            seen.clone_into(&mut self.seen);
        }
        now - self.changed > PATIENCE || now - self.started > LIMIT
    }
}

/// Calls `look` until it returns a value, and returns that.
///
/// # Errors
/// When `look` fails, after two minutes without a change, or after ten minutes. The error holds
/// `what` and the last observed state.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<Result<T, String>>) -> Result<T> {
    let mut patience = Patience::new();
    loop {
        match look()? {
            Ok(value) => return Ok(value),
            Err(seen) if patience.ends(&seen) => bail!("waited in vain for {what}; last seen:\n{seen}"),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// [`wait_for`] inside tokio.
///
/// # Errors
/// After two minutes without a change, or after ten minutes. The error holds `what` and the last
/// observed state.
pub async fn wait_for_async<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> Result<T> {
    let mut patience = Patience::new();
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(seen) if patience.ends(&seen) => bail!("waited in vain for {what}; last seen:\n{seen}"),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// Calls `look` until it returns true.
///
/// # Errors
/// When `look` fails, or after two minutes.
pub fn eventually(what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, || {
        Ok(if look()? { Ok(()) } else { Err("not so".to_owned()) })
    })
}
