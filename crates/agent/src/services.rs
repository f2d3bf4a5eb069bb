//! Services on this node: what the cluster says of them, made true in the machine's rules.
//!
//! [`plan::services`] decides, [`runtime::Services`] does; this is the shell between. It begins once Services, endpoints and Nodes are known whole, so
//! that an agent that restarts never replaces good rules by half of them. After a rest a change is made at once, and those that come within
//! [`GATHER`] of it are made together: a rollout of a thousand pods costs twenty calls of nft a second at most.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::view::{EndpointSliceView, IpFamily, NodeNetworkView, ServiceView};
use futures::FutureExt;
use plan::services::{Changes, Destination, Protocol, Route};
use reflector::Key;
use runtime::{ServiceChanges, ServiceCost, ServiceRoute};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::calls::blocking;
use crate::hold;
use crate::mirror::Mirror;

/// Least time from one change of the rules to the next.
const GATHER: Duration = Duration::from_millis(50);
/// How often is it looked whether the rules are still there. A look is one start of nft.
const LOOK: Duration = Duration::from_secs(30);
/// How soon after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// The label of a Node that names its zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Keeps the rules of this node's machine true until `stop`, and tells `led_to` to which of its pods they lead. They stand afterwards, as pods do.
pub(crate) async fn run(
    mirror: Mirror,
    node: String,
    rules: runtime::Services,
    led_to: hold::Teller,
    stop: CancellationToken,
) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = Keeper::new(&mirror, node, rules, led_to).run() => {}
    }
}

struct Keeper {
    node: String,
    index: plan::services::Services,
    rules: Arc<Mutex<runtime::Services>>,
    services: reflector::Changes<ServiceView>,
    slices: reflector::Changes<EndpointSliceView>,
    nodes: reflector::Changes<NodeNetworkView>,
    led_to: hold::Teller,
    /// Whether the last change failed; said once, until one succeeds.
    failed: bool,
}

type Changed<V> = Vec<(Key, Option<Arc<V>>)>;

impl Keeper {
    fn new(mirror: &Mirror, node: String, rules: runtime::Services, led_to: hold::Teller) -> Self {
        Self {
            index: plan::services::Services::new(&node),
            node,
            rules: Arc::new(Mutex::new(rules)),
            services: mirror.services.changes(),
            slices: mirror.slices.changes(),
            nodes: mirror.nodes.changes(),
            led_to,
            failed: false,
        }
    }

    async fn run(mut self) {
        let (services, slices, nodes) =
            tokio::join!(self.services.next(), self.slices.next(), self.nodes.next());
        self.take(services, slices, nodes);
        self.apply().await;
        let mut rested = Instant::now() + GATHER;
        loop {
            let look = if self.failed { RETRY } else { LOOK };
            tokio::select! {
                biased;
                services = self.services.next() => self.take(services, vec![], vec![]),
                slices = self.slices.next() => self.take(vec![], slices, vec![]),
                nodes = self.nodes.next() => self.take(vec![], vec![], nodes),
                () = tokio::time::sleep(look) => {
                    self.look().await;
                    continue;
                }
            }
            // Over long ago, unless the rules have just changed.
            tokio::time::sleep_until(rested).await;
            let services = self.services.next().now_or_never().unwrap_or_default();
            let slices = self.slices.next().now_or_never().unwrap_or_default();
            self.take(services, slices, vec![]);
            self.apply().await;
            rested = Instant::now() + GATHER;
        }
    }

    fn take(
        &mut self,
        services: Changed<ServiceView>,
        slices: Changed<EndpointSliceView>,
        nodes: Changed<NodeNetworkView>,
    ) {
        for (key, service) in services {
            self.index.set_service(key, service);
        }
        for (key, slice) in slices {
            self.index.set_slice(key, slice);
        }
        for (key, node) in nodes {
            if *key.1 == *self.node {
                let zone = node.as_ref().and_then(|node| node.meta.labels.get(ZONE));
                self.index.set_zone(zone);
            }
        }
    }

    async fn apply(&mut self) {
        let changes = self.index.changes();
        if changes.is_empty() && !self.failed && self.made_once() {
            return self.led_to.tell(self.index.led_to());
        }
        // The kernel leads there before this task hears that it does.
        self.led_to.announce(self.index.led_to());
        let changes = told(changes);
        let routes = changes.routes.len();
        let cost = self.with_rules(move |rules| rules.update(&changes)).await;
        self.report(cost, |cost| {
            let ServiceCost {
                bytes,
                anew,
                forgotten,
            } = cost;
            tracing::debug!(routes, bytes, anew, forgotten, "changed the rules of Services");
        });
        if !self.failed {
            self.led_to.tell(self.index.led_to());
        }
    }

    /// Looks whether the rules are still there.
    async fn look(&mut self) {
        let found = self.with_rules(runtime::Services::check).await;
        self.report(found, |restored| {
            if restored {
                tracing::warn!("another program removed the rules of Services; creating them again");
            }
        });
    }

    fn made_once(&self) -> bool {
        self.rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_made()
    }

    fn report<T>(&mut self, done: Result<T, runtime::Error>, success: impl FnOnce(T)) {
        match done {
            Ok(done) => {
                self.failed = false;
                success(done);
            }
            Err(error) if !self.failed => {
                self.failed = true;
                tracing::error!(%error, "cannot write the rules of Services; retrying");
            }
            Err(_) => {}
        }
    }

    async fn with_rules<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut runtime::Services) -> Result<T, runtime::Error> + Send + 'static,
    ) -> Result<T, runtime::Error> {
        let rules = Arc::clone(&self.rules);
        // Nobody else waits for it: one call at a time.
        blocking(move || work(&mut rules.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

/// A plan's words as the runtime's.
fn told(changes: Changes) -> ServiceChanges {
    let routes = changes.routes.into_iter();
    ServiceChanges {
        routes: routes
            .map(|(to, route)| (destination(to), route.map(service_route)))
            .collect(),
        cluster_ips: changes.cluster_ips,
        local: changes.local,
    }
}

fn destination(destination: Destination) -> runtime::Destination {
    let transport = |protocol| match protocol {
        Protocol::Tcp => runtime::Protocol::Tcp,
        Protocol::Udp => runtime::Protocol::Udp,
        Protocol::Sctp => runtime::Protocol::Sctp,
    };
    match destination {
        Destination::Address(address, protocol, port) => {
            runtime::Destination::Address(address, transport(protocol), port)
        }
        Destination::NodePort(family, protocol, port) => runtime::Destination::NodePort {
            ipv6: family == IpFamily::V6,
            protocol: transport(protocol),
            port,
        },
    }
}

fn service_route(route: Route) -> ServiceRoute {
    let Route {
        endpoints,
        inside,
        silent,
        affinity_seconds,
        masquerade,
        sources,
    } = route;
    ServiceRoute {
        endpoints,
        inside,
        silent,
        affinity_seconds,
        masquerade,
        sources,
    }
}
