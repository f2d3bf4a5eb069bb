//! Names on this node: a DNS server for its pods, kept up to date by the node's own copies of Services and endpoints.
//!
//! It listens on an address of the loopback range that is this data directory's own, so that several instances share a machine.
//! Pods with a network of their own ask at the Service's address, which the network redirects there; pods on the machine's network ask
//! there directly.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use api::view::{EndpointSliceView, ServiceView};
use dns::{Server, Sockets, Upstreams, Zone};
use plan::dns_records::{Records, Service, Slice};
use reflector::Key;
use tokio_util::sync::CancellationToken;

use crate::container::{ClusterNames, NameServer};
use crate::mirror::Mirror;
use crate::options::{Error, Options};

/// The port of DNS.
const PORT: u16 = 53;
/// Whom other names are asked of.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The node's DNS server, bound and not yet serving.
pub(crate) struct Names {
    zone: Arc<Zone>,
    sockets: Sockets,
    listen: SocketAddrV4,
    service: Ipv4Addr,
}

impl Names {
    /// Binds the server of this node; `None` if it is to have none, or cannot.
    pub(crate) async fn open(options: &Options) -> Result<Option<Names>, Error> {
        let servers: Vec<IpAddr> = options.cluster_dns.into_iter().map(IpAddr::V4).collect();
        let zone = Zone::new(Records::new(&options.cluster_domain, &servers)).map_err(Error::Domain)?;
        let Some(service) = options.cluster_dns else {
            return Ok(None);
        };
        let own = own_address(&options.data_dir);
        let bound = match Sockets::bind(SocketAddrV4::new(own, PORT).into()).await {
            Ok(bound) => Ok(bound),
            Err(error) => {
                // Somebody has the port on every address. Pods with a network of their own are redirected to any port.
                tracing::warn!(%own, %error, "listen for names on port 53: pods on the machine's network have no cluster DNS");
                Sockets::bind(SocketAddrV4::new(own, 0).into()).await
            }
        };
        let bound = bound.and_then(|sockets| Ok((sockets.address()?, sockets)));
        match bound {
            Ok((SocketAddr::V4(listen), sockets)) => Ok(Some(Names {
                zone: Arc::new(zone),
                sockets,
                listen,
                service,
            })),
            Ok((SocketAddr::V6(_), _)) => Ok(None),
            Err(error) => {
                tracing::warn!(%own, %error, "listen for names: this node has no cluster DNS");
                Ok(None)
            }
        }
    }

    /// Where the network leads pods that ask for names.
    pub(crate) fn redirects(&self) -> [runtime::Redirect; 2] {
        [runtime::Protocol::Udp, runtime::Protocol::Tcp].map(|protocol| runtime::Redirect {
            protocol,
            from: SocketAddrV4::new(self.service, PORT),
            to: self.listen,
        })
    }

    /// Where pods ask.
    pub(crate) fn server(&self) -> NameServer {
        NameServer {
            pods: self.service,
            host: (self.listen.port() == PORT).then(|| (*self.listen.ip()).into()),
        }
    }

    /// Answers until `stop`.
    pub(crate) async fn run(self, mirror: Mirror, stop: CancellationToken) {
        let own = vec![self.listen.into(), SocketAddrV4::new(self.service, PORT).into()];
        let server = Server::new(Arc::clone(&self.zone), Upstreams::File(RESOLV_CONF.into()), own);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = server.serve(self.sockets, stop.clone()) => {}
            () = follow(&self.zone, &mirror) => {}
        }
    }
}

/// What pods are told of the cluster's names.
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
