//! The API servers of a cluster, and connections to whichever of them answers.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::options::Error;

/// The port of an API server that is named without one.
const PORT: u16 = 6443;
/// How long one server may take to answer until the next is tried.
const CONNECT: Duration = Duration::from_secs(5);
/// Servers that are remembered: clusters have one, three or five.
const SERVERS: usize = 16;

/// Where an API server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    host: ServerName<'static>,
    port: u16,
}

impl ServerAddress {
    /// The host, a name or an address.
    pub fn host(&self) -> String {
        self.host.to_str().into_owned()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, where the name is one or stands for one.
    pub async fn resolve(&self) -> std::io::Result<SocketAddr> {
        let mut found = tokio::net::lookup_host((self.host(), self.port)).await?;
        let none = || std::io::Error::other(format!("{} has no address", self.host()));
        found.next().ok_or_else(none)
    }
}

impl From<SocketAddr> for ServerAddress {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: ServerName::IpAddress(address.ip().into()),
            port: address.port(),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host().parse::<Ipv6Addr>() {
            Ok(address) => write!(f, "https://[{address}]:{}", self.port),
            Err(_) => write!(f, "https://{}:{}", self.host(), self.port),
        }
    }
}

impl std::str::FromStr for ServerAddress {
    type Err = String;

    /// Reads `https://host:6443`, `host:6443` or `host`.
    fn from_str(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some(("https", rest)) => rest,
            Some((scheme, _)) => {
                return Err(format!("{text:?}: the API server speaks https, not {scheme}"));
            }
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') {
            return Err(format!("{text:?}: an API server has no path"));
        }
        let bare_address = rest.parse::<IpAddr>().is_ok();
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !bare_address => {
                let port = port
                    .parse()
                    .map_err(|_| format!("{text:?}: {port:?} is no port"))?;
                (host, port)
            }
            _ => (rest, PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = ServerName::try_from(host.to_owned()).map_err(|_| {
            format!("{text:?}: write https://HOST:PORT, as `everynode token create` prints it")
        })?;
        Ok(Self { host, port })
    }
}

/// What a client shows of itself.
#[derive(Clone)]
pub struct Identity {
    /// Its certificate, PEM.
    pub certificate: Vec<u8>,
    /// The key, PEM.
    pub key: Vec<u8>,
}

/// Makes connections to the first server that answers, and stays with it until it no longer does. Cheap to clone.
#[derive(Clone)]
pub struct Dialer {
    shared: Arc<Shared>,
}

struct Shared {
    /// The one that answered last comes first.
    servers: RwLock<Vec<ServerAddress>>,
    /// The certificates of the cluster's authority.
    roots: Arc<rustls::RootCertStore>,
    identity: RwLock<Option<Identity>>,
    /// Counts the identities: who holds a connection sees that it is an older one's.
    generation: std::sync::atomic::AtomicU64,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// What a connection can be turned around in.
    Http1,
    /// Requests.
    Http2,
}

impl Dialer {
    /// A dialer for servers whose certificates `authority` (PEM) signs. Nothing is sent yet.
    pub fn new(
        servers: Vec<ServerAddress>,
        authority: &[u8],
        identity: Option<Identity>,
    ) -> Result<Self, Error> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates(authority)? {
            roots.add(certificate).map_err(|error| unusable(&error))?;
        }
        let dialer = Self {
            shared: Arc::new(Shared {
                servers: RwLock::new(servers),
                roots: Arc::new(roots),
                identity: RwLock::new(None),
                generation: std::sync::atomic::AtomicU64::new(0),
            }),
        };
        if let Some(identity) = identity {
            dialer.identify(identity)?;
        }
        Ok(dialer)
    }

    /// Shows `identity` on all connections to come.
    pub fn identify(&self, identity: Identity) -> Result<(), Error> {
        // Tried before it takes the place of one that works.
        self.config(Some(&identity), Protocol::Http2)?;
        *self
            .shared
            .identity
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(identity);
        self.shared
            .generation
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }

    /// Changes with each identity.
    pub(crate) fn generation(&self) -> u64 {
        self.shared.generation.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// The servers, the one that answered last first.
    pub fn servers(&self) -> Vec<ServerAddress> {
        self.shared
            .servers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes further servers in, which are tried after those that are known.
    pub fn learn(&self, servers: impl IntoIterator<Item = ServerAddress>) {
        let mut known = self
            .shared
            .servers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for server in servers {
            if known.len() < SERVERS && !known.contains(&server) {
                known.push(server);
            }
        }
    }

    /// A connection to a server that answers, and which it is; else why none did.
    pub(crate) async fn connect(&self, protocol: Protocol) -> Result<TlsStream<TcpStream>, String> {
        let identity = self
            .shared
            .identity
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let config = self
            .config(identity.as_ref(), protocol)
            .map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(Arc::new(config));
        let mut failures = Vec::new();
        for server in self.servers() {
            let connected = tokio::time::timeout(CONNECT, open(&connector, &server)).await;
            match connected {
                Ok(Ok(stream)) => {
                    self.prefer(&server);
                    return Ok(stream);
                }
                Ok(Err(error)) => failures.push(format!("{server}: {error}")),
                Err(_) => failures.push(format!("{server}: no answer within {} s", CONNECT.as_secs())),
            }
        }
        Err(failures.join("; "))
    }

    fn prefer(&self, server: &ServerAddress) {
        let mut servers = self
            .shared
            .servers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = servers.iter().position(|known| known == server) {
            servers[..=place].rotate_right(1);
        }
    }

    fn config(&self, identity: Option<&Identity>, protocol: Protocol) -> Result<rustls::ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_root_certificates(self.shared.roots.clone());
        let mut config = match identity {
            Some(identity) => {
                let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(|error| unusable(&error))?;
                builder
                    .with_client_auth_cert(certificates(&identity.certificate)?, key)
                    .map_err(|error| unusable(&error))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.name()];
        Ok(config)
    }
}

impl Protocol {
    fn name(self) -> Vec<u8> {
        match self {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }
    }
}

/// Opens a connection to one server.
pub(crate) async fn open(
    connector: &TlsConnector,
    server: &ServerAddress,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect((server.host(), server.port)).await?;
    stream.set_nodelay(true)?;
    connector.connect(server.host.clone(), stream).await
}

pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&error))
}

fn unusable(why: &dyn fmt::Display) -> Error {
    Error::Identity(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_as_people_write_it() {
        let cases = [
            ("https://10.0.0.1:6443", "https://10.0.0.1:6443"),
            ("https://10.0.0.1", "https://10.0.0.1:6443"),
            ("10.0.0.1", "https://10.0.0.1:6443"),
            ("server.lan:7443", "https://server.lan:7443"),
            ("https://server.lan/", "https://server.lan:6443"),
            ("https://[fd00::1]:7443", "https://[fd00::1]:7443"),
            ("fd00::1", "https://[fd00::1]:6443"),
        ];
        for (text, read) in cases {
            let address: ServerAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), read, "{text}");
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for text in [
            "",
            "http://10.0.0.1:6443",
            "https://10.0.0.1:port",
            "https://10.0.0.1:99999",
            "https://a/b",
            "two words",
        ] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text}");
        }
    }
}
