//! Names on this node: a DNS server for its pods, kept up to date by the node's own copies of Services and endpoints.
//!
//! It listens on an address of the loopback range that is this data directory's own, so that several instances share a machine.
//! Pods with a network of their own ask at the Service's address, which the network redirects there; pods on the machine's network ask
//! there directly. IPv6 leads nobody to loopback: for the Service's IPv6 address, where it has one, the server also listens on the
//! bridge's own, on the same port, while pods have addresses of that family.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::view::{EndpointSliceView, ServiceView};
use dns::{Server, Sockets, Upstreams, Zone};
use plan::dns_records::{Records, Service, Slice};
use reflector::Key;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::container::{ClusterNames, NameServer};
use crate::mirror::Mirror;
use crate::network;
use crate::options::{Error, Options};

/// The port of DNS.
const PORT: u16 = 53;
/// Whom other names are asked of.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How soon is it tried again to listen on the bridge: its address may be taken away and come back, or its port be somebody else's.
const BIND_RETRY: Duration = Duration::from_millis(500);
/// After how many tries is it said that it fails.
const BIND_TRIES: u32 = 10;

/// The node's DNS server, bound and not yet serving.
pub(crate) struct Names {
    zone: Arc<Zone>,
    sockets: Sockets,
    listen: SocketAddrV4,
    /// Addresses of the Service, its first one first.
    services: Vec<IpAddr>,
}

impl Names {
    /// Binds the server of this node; `None` if it is to have none, or cannot.
    pub(crate) async fn open(options: &Options) -> Result<Option<Names>, Error> {
        let services = options.cluster_dns.clone();
        let zone = Zone::new(Records::new(&options.cluster_domain, &services)).map_err(Error::Domain)?;
        if services.is_empty() {
            return Ok(None);
        }
        let own = own_address(&options.data_dir);
        let bound = match Sockets::bind(SocketAddrV4::new(own, PORT).into()).await {
            Ok(bound) => Ok(bound),
            Err(error) => {
                // Somebody has the port on every address. Pods with a network of their own are redirected to any port.
                tracing::warn!(%own, %error, "cannot listen on port 53; pods on the host network have no cluster DNS");
                Sockets::bind(SocketAddrV4::new(own, 0).into()).await
            }
        };
        let bound = bound.and_then(|sockets| Ok((sockets.address()?, sockets)));
        match bound {
            Ok((SocketAddr::V4(listen), sockets)) => Ok(Some(Names {
                zone: Arc::new(zone),
                sockets,
                listen,
                services,
            })),
            Ok((SocketAddr::V6(_), _)) => Ok(None),
            Err(error) => {
                tracing::warn!(%own, %error, "cannot listen for DNS; this node has no cluster DNS");
                Ok(None)
            }
        }
    }

    /// Where the network leads pods that ask for names.
    pub(crate) fn redirects(&self) -> Vec<runtime::Redirect> {
        let protocols = [runtime::Protocol::Udp, runtime::Protocol::Tcp];
        let redirect = |service: &IpAddr| {
            let from = SocketAddr::new(*service, PORT);
            let to = match service {
                IpAddr::V4(_) => runtime::RedirectTo::Address(self.listen.into()),
                IpAddr::V6(_) => runtime::RedirectTo::Bridge(self.listen.port()),
            };
            protocols.map(|protocol| runtime::Redirect { protocol, from, to })
        };
        self.services.iter().flat_map(redirect).collect()
    }

    /// Where pods ask.
    pub(crate) fn server(&self) -> NameServer {
        NameServer {
            pods: self.services.clone(),
            host: (self.listen.port() == PORT).then(|| (*self.listen.ip()).into()),
        }
    }

    /// Answers until `stop`, on the bridge of the node's network as that says of itself.
    pub(crate) async fn run(
        self,
        mirror: Mirror,
        network: watch::Receiver<network::State>,
        stop: CancellationToken,
    ) {
        let services = self
            .services
            .iter()
            .map(|service| SocketAddr::new(*service, PORT));
        let own = services.chain([self.listen.into()]).collect();
        let server = Server::new(Arc::clone(&self.zone), Upstreams::File(RESOLV_CONF.into()), own);
        let has_ipv6 = self.services.iter().any(IpAddr::is_ipv6);
        let on_bridge = async {
            match has_ipv6 {
                true => serve_on_bridge(server.clone(), network, self.listen.port(), &stop).await,
                false => stop.cancelled().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = server.clone().serve(self.sockets, stop.clone()) => {}
            () = on_bridge => {}
            () = follow(&self.zone, &mirror) => {}
        }
    }
}

/// Answers on the bridge's IPv6 address, whenever it has one, until `stop`.
async fn serve_on_bridge(
    server: Server,
    mut network: watch::Receiver<network::State>,
    port: u16,
    stop: &CancellationToken,
) {
    loop {
        let address = bridge_ipv6(&network.borrow_and_update());
        let end = stop.child_token();
        let serving = async {
            match address {
                Some(address) => serve_at(&server, SocketAddr::new(address, port), &end).await,
                None => end.cancelled().await,
            }
        };
        let moved = async {
            // The sender is dropped when the agent ends.
            while network.changed().await.is_ok() {
                if bridge_ipv6(&network.borrow_and_update()) != address {
                    return;
                }
            }
            stop.cancelled().await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = moved => {}
            () = serving => {}
        }
    }
}

/// Answers at an address, as soon as it can be listened at.
async fn serve_at(server: &Server, address: SocketAddr, end: &CancellationToken) {
    let mut tries = 0_u32;
    loop {
        match Sockets::bind(address).await {
            Ok(sockets) => return server.clone().serve(sockets, end.clone()).await,
            Err(error) => {
                tries = tries.saturating_add(1);
                if tries == BIND_TRIES {
                    tracing::warn!(%address, %error, "cannot listen for DNS on the bridge; pods have no cluster DNS over IPv6");
                }
            }
        }
        tokio::time::sleep(BIND_RETRY).await;
    }
}

fn bridge_ipv6(network: &network::State) -> Option<IpAddr> {
    let ranges = network.ranges.iter().map(runtime::Range::gateway);
    ranges.into_iter().find(IpAddr::is_ipv6)
}

/// Returns the settings of the cluster's DNS for pods.
pub(crate) fn told(options: &Options, names: Option<&Names>) -> ClusterNames {
    ClusterNames {
        domain: options.cluster_domain.trim_end_matches('.').to_owned(),
        server: names.map(Names::server),
    }
}

/// Keeps the zone as the node's copies are.
async fn follow(zone: &Zone, mirror: &Mirror) {
    let mut services = mirror.services.changes();
    let mut slices = mirror.slices.changes();
    // Half of what there is would deny names that are there.
    let (first_services, first_slices) = tokio::join!(services.next(), slices.next());
    apply_slices(zone, first_slices);
    apply_services(zone, first_services);
    zone.whole();
    loop {
        tokio::select! {
            changed = services.next() => apply_services(zone, changed),
            changed = slices.next() => apply_slices(zone, changed),
        }
    }
}

fn apply_services(zone: &Zone, changed: Vec<(Key, Option<Arc<ServiceView>>)>) {
    zone.update(|records| {
        for ((namespace, name), view) in changed {
            records.set_service(&namespace, &name, view.as_deref().map(Service::from));
        }
    });
}

fn apply_slices(zone: &Zone, changed: Vec<(Key, Option<Arc<EndpointSliceView>>)>) {
    zone.update(|records| {
        for ((namespace, name), view) in changed {
            records.set_slice(&namespace, &name, view.as_deref().and_then(Slice::of));
        }
    });
}

/// An address of 127.96.0.0/16 that follows from the data directory: the same after every start, so that what speaks to it keeps
/// finding it.
fn own_address(data_dir: &Path) -> Ipv4Addr {
    // FNV-1a.
    let hash = data_dir
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let [third, fourth, ..] = (hash ^ (hash >> 32)).to_le_bytes();
    Ipv4Addr::new(127, 96, third, fourth.clamp(1, 254))
}
