//! State that all requests of a server share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as SyncMutex};

use api::status::Status;
use clock::Clock;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Taken;
use crate::attempts::Attempts;
use crate::authorization::Rbac;
use crate::connections::{Bounds, Connections};
use crate::discovery::Discovery;
use crate::flow::FlowControl;
use crate::metrics::Metrics;
use crate::node_credential::NodeStreams;
use crate::objects::Objects;
use crate::openapi::Openapi;
use crate::parsed::Parsed;
use crate::random::Random;
use crate::service_ranges::ServiceRanges;
use crate::token::Tokens;
use crate::tunnels::Tunnels;

/// Part of the start that follows the opening of the store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Creation of the objects that every cluster has.
    Objects,
    /// The administrator's kubeconfig.
    Kubeconfig,
}

/// Parts of the start that are done.
#[derive(Debug, Default)]
pub(crate) struct Started {
    objects: AtomicBool,
    kubeconfig: AtomicBool,
}

impl Started {
    fn flag(&self, part: Part) -> &AtomicBool {
        match part {
            Part::Objects => &self.objects,
            Part::Kubeconfig => &self.kubeconfig,
        }
    }

    pub(crate) fn done(&self, part: Part) {
        self.flag(part).store(true, Ordering::Release);
    }

    /// Returns what is missing, or `None` if the part is done.
    pub(crate) fn lacks(&self, part: Part) -> Option<String> {
        let missing = match part {
            Part::Objects => "the objects that every cluster has are not created yet",
            Part::Kubeconfig => "the administrator's kubeconfig is not written yet",
        };
        (!self.flag(part).load(Ordering::Acquire)).then(|| missing.to_owned())
    }
}

/// State that all requests of a server share.
pub(crate) struct Shared {
    pub(crate) objects: Objects,
    /// Roles and bindings.
    pub(crate) rbac: Rbac,
    pub(crate) tokens: Tokens,
    pub(crate) tunnels: Tunnels,
    /// Watches and tunnels of nodes, which end when the node's certificate becomes invalid.
    pub(crate) node_streams: NodeStreams,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: Openapi,
    pub(crate) metrics: Metrics,
    /// The certificate authority, PEM.
    pub(crate) authority: Box<str>,
    /// Progress of the start.
    pub(crate) started: Started,
    /// Cancelled when the server stops, so that watches and streams end.
    pub(crate) stopping: CancellationToken,
    /// Seats of requests.
    pub(crate) flow: FlowControl,
    /// Rate limits on invalid credentials.
    pub(crate) attempts: Attempts,
    /// Open connections.
    pub(crate) connections: Arc<Connections>,
    /// Tasks of upgraded connections, which outlive their requests.
    pub(crate) tasks: TaskTracker,
    /// Held while a Service gets its addresses and ports, so that no two get the same.
    pub(crate) service_allocation: Mutex<()>,
    /// Addresses and ports that Services have taken.
    pub(crate) services_taken: SyncMutex<Taken>,
    /// Address ranges of Services.
    pub(crate) service_ranges: ServiceRanges,
    /// Parsed objects that admission reads for every new pod.
    pub(crate) parsed: Parsed,
    pub(crate) clock: Clock,
    random: Random,
}

impl Shared {
    pub(crate) fn new(
        objects: Objects,
        tokens: Tokens,
        authority: &str,
        service_ranges: ServiceRanges,
        clock: Clock,
        random: Random,
    ) -> Shared {
        Shared {
            rbac: Rbac::new(&objects),
            objects,
            tokens,
            tunnels: Tunnels::default(),
            node_streams: NodeStreams::default(),
            discovery: Discovery::default(),
            openapi: Openapi::default(),
            authority: authority.into(),
            metrics: Metrics::default(),
            started: Started::default(),
            stopping: CancellationToken::new(),
            flow: FlowControl::default(),
            attempts: Attempts::default(),
            connections: Connections::new(Bounds::of_this_process()),
            tasks: TaskTracker::new(),
            service_allocation: Mutex::new(()),
            services_taken: SyncMutex::default(),
            service_ranges,
            parsed: Parsed::default(),
            clock,
            random,
        }
    }

    /// Returns random bytes.
    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], Status> {
        let mut bytes = [0; N];
        self.random
            .fill(&mut bytes)
            .ok_or_else(|| Status::internal("the kernel gives no random bytes"))?;
        Ok(bytes)
    }

    /// Returns a new `metadata.uid`.
    pub(crate) fn uid(&self) -> Result<String, Status> {
        Ok(api::meta::uuid(self.random()?))
    }
}
