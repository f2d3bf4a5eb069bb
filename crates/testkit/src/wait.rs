//! Waiting on a state, never on time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a test looks at the same thing. It only ends a test that has failed; the machines that run it are slow and shared.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest wait of any test, while what it looks at still changes: three times what the slowest takes on one busy processor.
const LIMIT: Duration = Duration::from_secs(600);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long to go on looking.
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

/// Looks again and again until `look` gives a value, and gives it.
///
/// # Errors
/// When `look` fails, or after two minutes in which it saw nothing new, or ten in all: the error holds `what` and the newest
/// thing that was seen.
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
/// After two minutes in which `look` saw nothing new, or ten in all: the error holds `what` and the newest thing that was seen.
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

/// Looks until `look` is true.
///
/// # Errors
/// When `look` fails, or after two minutes.
pub fn eventually(what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, || {
        Ok(if look()? { Ok(()) } else { Err("not so".to_owned()) })
    })
}
