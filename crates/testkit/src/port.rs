//! Ports for servers that are started by number.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

/// Below what Linux gives to connections and to those who ask for any port (32768 and up). Otherwise a client that tries to reach a
/// server which is down may be given the server's own port, and the server cannot come back to it.
const FIRST: u16 = 20_000;
/// How many ports there are, from [`FIRST`] on.
const COUNT: u16 = 12_000;

/// A TCP port on which nobody listens, and which no other test of this process gets.
///
/// # Errors
/// When all are taken.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin at different places.
    let start = std::process::id() % u32::from(COUNT);
    let start = u16::try_from(start).context("the first port to try")?;
    (0..COUNT)
        .map(|_| FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .context("every port is taken")
}
