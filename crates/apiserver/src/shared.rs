//! What all requests of a server share.

use std::net::IpAddr;
use std::sync::atomic::AtomicU32;

use api::status::Status;
use clock::Clock;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authorization::Rbac;
use crate::discovery::Discovery;
use crate::limits::REQUESTS_IN_FLIGHT_MAX;
use crate::metrics::Metrics;
use crate::objects::Objects;
use crate::openapi::Openapi;
use crate::parsed::Parsed;
use crate::random::Random;
use crate::token::Tokens;
use crate::tunnels::Tunnels;

/// What all requests of a server share.
pub(crate) struct Shared {
    pub(crate) objects: Objects,
    /// Roles and bindings.
    pub(crate) rbac: Rbac,
    pub(crate) tokens: Tokens,
    pub(crate) tunnels: Tunnels,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: Openapi,
    pub(crate) metrics: Metrics,
    /// The certificate authority, PEM.
    pub(crate) authority: Box<str>,
    /// Cancelled when the server stops: watches and streams end.
    pub(crate) stopping: CancellationToken,
    /// Turns of requests that are no watch or stream.
    pub(crate) turns: Semaphore,
    /// What runs beside the requests: upgraded connections.
    pub(crate) tasks: TaskTracker,
    /// Held while a Service gets its addresses and ports, so that no two get the same.
    pub(crate) service_allocation: Mutex<()>,
    /// Where in the range of Service addresses the next free one is looked for.
    pub(crate) service_cursor: AtomicU32,
    /// What admission reads for every new pod.
    pub(crate) parsed: Parsed,
    pub(crate) clock: Clock,
    random: Random,
}

impl Shared {
    pub(crate) fn new(
        objects: Objects,
        tokens: Tokens,
        authority: &str,
        clock: Clock,
        random: Random,
    ) -> Shared {
        Shared {
            rbac: Rbac::new(&objects),
            objects,
            tokens,
            tunnels: Tunnels::default(),
            discovery: Discovery::default(),
            openapi: Openapi::default(),
            authority: authority.into(),
            metrics: Metrics::default(),
            stopping: CancellationToken::new(),
            turns: Semaphore::new(REQUESTS_IN_FLIGHT_MAX),
            tasks: TaskTracker::new(),
            service_allocation: Mutex::new(()),
            service_cursor: AtomicU32::new(0),
            parsed: Parsed::default(),
            clock,
            random,
        }
    }

    /// Random bytes.
    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], Status> {
        let mut bytes = [0; N];
        self.random
            .fill(&mut bytes)
            .ok_or_else(|| Status::internal("the kernel gives no random bytes"))?;
        Ok(bytes)
    }

    /// A new `metadata.uid`.
    pub(crate) fn uid(&self) -> Result<String, Status> {
        Ok(api::meta::uuid(self.random()?))
    }
}

/// The range of Service addresses, 10.96.0.0/12, as Kubernetes' own installers set it.
pub(crate) const SERVICE_NETWORK: (u32, u8) = (0x0a60_0000, 12);

/// The address of the Service `kube-dns`, the tenth of the range, as Kubernetes' own installers choose it. Each node answers there
/// itself.
pub(crate) const DNS_SERVICE_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 10));

/// The address of the Service `kubernetes`: the first of the range.
pub(crate) const KUBERNETES_SERVICE_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1));
