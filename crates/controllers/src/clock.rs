//! Waiting for a time of the wall clock.

use std::time::Duration;

use jiff::Timestamp;

/// The longest single wait: a clock that is set back must not stall a controller for longer.
const LONGEST: Duration = Duration::from_secs(60);

/// Returns at `at` or somewhat before (the caller looks and waits again); never, when there is nothing to wait for.
pub(crate) async fn until(at: Option<Timestamp>) {
    let Some(at) = at else {
        return std::future::pending().await;
    };
    let left = at.duration_since(Timestamp::now());
    match Duration::try_from(left) {
        Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(LONGEST)).await,
        _ => tokio::task::yield_now().await,
    }
}

/// RFC 3339 in whole seconds, as `metav1.Time` is written.
pub(crate) fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
