//! Waiting on a state, never on time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Longest wait of any test. It only ends a test that has failed; the machines that run it are slow and shared.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks again and again until `look` gives a value, and gives it.
///
/// # Errors
/// When `look` fails, or after two minutes: the error holds `what` and the newest thing that was seen.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<Result<T, String>>) -> Result<T> {
    let started = Instant::now();
    loop {
        match look()? {
            Ok(value) => return Ok(value),
            Err(seen) if started.elapsed() > PATIENCE => {
                bail!("waited {PATIENCE:?} for {what}; last seen:\n{seen}")
            }
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// [`wait_for`] inside tokio.
///
/// # Errors
/// After two minutes: the error holds `what` and the newest thing that was seen.
pub async fn wait_for_async<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> Result<T> {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(seen) if started.elapsed() > PATIENCE => {
                bail!("waited {PATIENCE:?} for {what}; last seen:\n{seen}")
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// Looks until `look` is true.
///
/// # Errors
/// When `look` fails, or after two minutes.
pub fn eventually(what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, || {
        Ok(if look()? { Ok(()) } else { Err("not so".to_owned()) })
    })
}
