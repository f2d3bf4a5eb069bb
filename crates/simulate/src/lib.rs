//! Plays nodes that run nothing: enough of a kubelet's talk with the API server that the control plane cannot tell.
//!
//! Each node registers with realistic labels and capacity; is Ready once the server gave it a pod range; renews its Lease; reports the pods that
//! are bound to it as Running and Ready; and finishes those that are deleted. All nodes of a process share one watch over pods and a few
//! connections, so a hundred thousand fit in one process: a node costs some bytes and one small request every ten seconds.
//!
//! Bounds: registrations and reports of pods have a fixed number of requests in flight each ([`Options::in_flight`]). Renewals wait for nothing: a
//! node has one in flight. The pods' watch is read only while there is room, so a backlog stays in the server, which ends a watch that lags too far; then the present state is
//! read anew. What waits for a pod range is no request in flight: at most the nodes without one, and their pods. A node that was deleted falls silent; it does not come back by itself.

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

/// How many nodes, and how they behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes.
    pub nodes: u32,
    /// The nodes are named PREFIX-N.
    pub prefix: String,
    /// The first node's number.
    pub start: u32,
    /// How often each node renews its Lease.
    pub heartbeat: Duration,
    /// How long a bound pod takes to run.
    pub start_up: Duration,
    /// Images that no registry has: a pod with one of them stays Pending, its container waiting to pull it.
    pub missing_images: Vec<String>,
    /// A range of which each node brings a part for its pods. Without one, the nodes wait for the ranges that the server gives.
    pub pod_range: Option<Ipv4Net>,
    /// Registrations in flight, and reports of pods.
    pub in_flight: usize,
    /// What time it is on the nodes.
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

/// Plays the nodes until `shutdown`. Registration that fails for good is an error; everything later is tried again.
pub async fn run(client: kube::Client, options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    let api = Api::new(client);
    let ranges = Ranges::new(&options)?;
    let play = async {
        // The watches first, so that no pod waits for the last node's registration.
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
