//! The node's own addresses. Those that it was told are its own for good; one that it found itself it follows, as leases of a network end
//! and machines move.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::node;

/// How often it is looked whether the machine still has its address.
const LOOK: Duration = Duration::from_secs(10);

/// Returns both ends of a channel of the node's addresses, the main one first. It holds `told`, or the
/// address of the default route.
pub(crate) fn open(told: &[IpAddr]) -> (watch::Sender<Vec<IpAddr>>, watch::Receiver<Vec<IpAddr>>) {
    let addresses = match told {
        [] => vec![node::primary_address()],
        told => told.to_vec(),
    };
    watch::channel(addresses)
}

/// Follows the machine's address until `stop`. One that it still has stays the node's, also when it reaches others from another one now; and
/// a machine that reaches nobody keeps the last.
pub(crate) async fn follow(addresses: watch::Sender<Vec<IpAddr>>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let was = addresses.borrow().first().copied();
        if was.is_none_or(node::has_address) {
            continue;
        }
        if let Some(now) = node::routed_address().filter(|now| !now.is_loopback()) {
            tracing::warn!(?was, %now, "the node's address has changed");
            addresses.send_replace(vec![now]);
        }
    }
}
