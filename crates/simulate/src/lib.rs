//! Simulates nodes that run no containers. They make the same requests to the API server as a
//! kubelet.
//!
//! Each node registers with realistic labels and capacity. It is Ready when the server has assigned
//! a pod range. It renews its Lease, reports the pods that are bound to it as Running and Ready,
//! and finishes those that are deleted. All nodes of a process share one watch of pods and a few
//! connections, so 100,000 nodes fit in one process. A node costs some bytes and one small request
//! every ten seconds.
//!
//! Bounds: registrations and reports of pods each have a fixed number of requests in flight
//! ([`Options::in_flight`]). Each node has at most one renewal in flight, and renewals do not wait
//! for other requests. The watch of pods is read only while there is room, so a backlog stays in
//! the server. The server ends a watch that is too slow; the simulation then reads the current
//! state again. Actions that wait for a pod range are not requests in flight: there are at most as
//! many as nodes without a range, and their pods. A deleted node stops; it does not register again.

mod connect;
mod node;
mod pods;
mod ranges;
mod request;

use std::time::Duration;

use clock::Clock;
use ipnet::Ipv4Net;
use tokio_util::sync::CancellationToken;

pub use self::connect::connect;
use self::ranges::Ranges;
use self::request::Api;
pub use self::request::Error;

/// Number of nodes, and how they behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of nodes.
    pub nodes: u32,
    /// The nodes are named PREFIX-N.
    pub prefix: String,
    /// Number of the first node.
    pub start: u32,
    /// Period of each node's Lease renewal.
    pub heartbeat: Duration,
    /// Time until a bound pod runs.
    pub start_up: Duration,
    /// Images that cannot be pulled. A pod with one of them stays Pending.
    pub missing_images: Vec<String>,
    /// Range from which each node takes a part for its pods. Without it, the nodes wait for ranges
    /// from the server.
    pub pod_range: Option<Ipv4Net>,
    /// Maximum of registrations in flight, and of reports of pods.
    pub in_flight: usize,
    /// Clock of the nodes.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            nodes: 1,
            prefix: "node".to_owned(),
            start: 0,
            heartbeat: Duration::from_secs(10),
            start_up: Duration::ZERO,
            missing_images: Vec::new(),
            pod_range: None,
            in_flight: 64,
            clock: Clock::system(),
        }
    }
}

/// Simulates the nodes until `shutdown`. It fails if a registration fails for good; everything
/// later is retried.
pub async fn run(client: kube::Client, options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    let api = Api::new(client);
    let ranges = Ranges::new(&options)?;
    let play = async {
        // Start the watches first, so that no pod waits until the last node is registered.
        let given = ranges.follow(&api, &options);
        let pods = pods::play(&api, &options, &ranges);
        let nodes = node::play(&api, &options, &ranges);
        tokio::pin!(given, pods, nodes);
        tokio::select! {
            biased;
            never = given => match never {},
            never = pods => match never {},
            ended = nodes => ended.map(|never| match never {}),
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        ended = play => ended,
    }
}
