//! Free ports for servers in tests.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

/// First port. It is below the range that Linux uses for outgoing connections and for port 0 (32768
/// and up). Otherwise a client that connects to a stopped server may get the server's own port, and
/// the server cannot bind it again.
const FIRST: u16 = 20_000;
/// Number of ports from [`FIRST`].
const COUNT: u16 = 12_000;

/// Returns a TCP port that is not in use and that no other test of this process gets.
///
/// # Errors
/// When all are in use.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin at different ports.
    let start = std::process::id() % u32::from(COUNT);
    let start = u16::try_from(start).context("the first port to try")?;
    (0..COUNT)
        .map(|_| FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .context("every port is taken")
}
