//! The server: what it opens, where it listens, how it ends.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use http::Response;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::authenticate::Peer;
use crate::body::Body;
use crate::client::InProcess;
use crate::limits::{
    CONNECTIONS_MAX, DRAIN_TIMEOUT, HANDSHAKE_TIMEOUT, HEADER_LIST_BYTES_MAX, HTTP1_BUFFER_BYTES_MAX,
    STREAMS_PER_CONNECTION_MAX,
};
use crate::pki::{self, Credential, Pki, PkiError};
use crate::shared::{KUBERNETES_SERVICE_ADDRESS, Shared};
use crate::tls::{self, ServedCertificate, TlsError};
use crate::token::{SigningKeyError, Tokens};
use crate::user::User;
use crate::{bootstrap, objects, service};

/// The file in the data directory that kubectl needs.
const ADMIN_KUBECONFIG: &str = "admin.kubeconfig";
/// How often a running server looks whether its certificate nears its end.
const RENEWAL_PERIOD: Duration = Duration::from_secs(12 * 3600);
/// After a failure to accept (no file descriptor is left, as a rule) the listener rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the store, the keys and the admin's kubeconfig are kept.
    pub data_dir: PathBuf,
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names and addresses under which clients know the server, beyond those it finds itself.
    pub names: Vec<String>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Keys and certificates.
    #[error("cannot set up keys and certificates")]
    Pki(#[source] PkiError),
    /// TLS.
    #[error("cannot set up TLS")]
    Tls(#[source] TlsError),
    /// The service account key.
    #[error("cannot set up service account tokens")]
    Tokens(#[source] SigningKeyError),
    /// The store.
    #[error("cannot open the store")]
    Store(#[source] store::OpenError),
    /// The address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// An object that every cluster has could not be made.
    #[error("cannot create {object}: {message}")]
    Bootstrap {
        /// Its path.
        object: String,
        /// What the API said.
        message: String,
    },
}

/// A running API server.
pub struct Server {
    shared: Arc<Shared>,
    pki: Arc<Pki>,
    address: SocketAddr,
    kubeconfig: PathBuf,
    /// Cut off what has not drained.
    abort: CancellationToken,
}

impl Server {
    /// Opens the data directory, listens, and answers once this returns. Blocks shortly on the disk.
    pub async fn start(config: Config) -> Result<Server, StartError> {
        // First, so that a port that is taken leaves no keys and no store behind.
        let failed = |source| StartError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let clock = Clock::system();
        let now = clock.now();
        let pki = Arc::new(Pki::open(&config.data_dir, now).map_err(StartError::Pki)?);
        let tokens = Tokens::new(pki.service_account_key()).map_err(StartError::Tokens)?;
        let objects = objects::open(&config.data_dir.join("store")).map_err(StartError::Store)?;
        let shared = Arc::new(Shared::new(objects, tokens, clock));

        let names = server_names(&config, address.ip());
        let credential = pki.server(&names, now).map_err(StartError::Pki)?;
        let (tls, served) = tls::server_config(pki.authority(), &credential).map_err(StartError::Tls)?;

        bootstrap::bootstrap(
            &InProcess::new(shared.clone(), User::admin()),
            pki.authority(),
            address,
        )
        .await?;

        let abort = CancellationToken::new();
        let acceptor = TlsAcceptor::from(tls);
        shared
            .tasks
            .spawn(accept(shared.clone(), listener, acceptor, abort.clone()));
        shared
            .tasks
            .spawn(renew(shared.clone(), pki.clone(), names, served));

        let kubeconfig = config.data_dir.join(ADMIN_KUBECONFIG);
        let server = Server {
            shared,
            pki,
            address,
            kubeconfig,
            abort,
        };
        server.write_kubeconfig(now).map_err(StartError::Pki)?;
        tracing::info!(%address, data_dir = %config.data_dir.display(), "the API server listens");
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL under which this machine reaches it.
    pub fn url(&self) -> String {
        let ip = match self.address.ip() {
            ip if ip.is_unspecified() && ip.is_ipv4() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        format!("https://{}", SocketAddr::new(ip, self.address.port()))
    }

    /// The admin's kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The certificate authority, PEM.
    pub fn authority(&self) -> &str {
        self.pki.authority()
    }

    /// Issues, or gives again, the credential of a node's agent, kept under `<data-dir>/pki/node-<name>.{crt,key}`.
    pub fn node_credential(&self, name: &str) -> Result<Credential, PkiError> {
        self.pki.node(name, self.shared.clock.now())
    }

    /// A client for a component of this process, acting as `user`.
    pub fn client(&self, user: User) -> kube::Client {
        kube::Client::new(InProcess::new(self.shared.clone(), user), "default")
    }

    /// Stops: watches and streams end, requests in hand are finished within a bound, the store is closed.
    pub async fn shutdown(self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                seconds = DRAIN_TIMEOUT.as_secs(),
                "connections did not drain in time and are cut"
            );
            self.abort.cancel();
            self.shared.tasks.wait().await;
        }
        let objects = self.shared.objects.clone();
        match tokio::task::spawn_blocking(move || objects.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the store could not be closed"),
            Err(error) => tracing::error!(%error, "the store's closing panicked"),
        }
    }

    fn write_kubeconfig(&self, now: Timestamp) -> Result<(), PkiError> {
        const OWNER_ONLY: u32 = 0o600;
        let admin = User::admin();
        let credential = self.pki.client("admin", &admin, now)?;
        let text = pki::kubeconfig(&self.url(), self.pki.authority(), &admin.name, &credential);
        pki::write_atomically(&self.kubeconfig, text.as_bytes(), OWNER_ONLY)
    }
}

/// The names that the server's certificate is good for.
fn server_names(config: &Config, listen: IpAddr) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    names.insert(IpAddr::V4(Ipv4Addr::LOCALHOST).to_string());
    names.insert(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST).to_string());
    names.insert(KUBERNETES_SERVICE_ADDRESS.to_string());
    // Also when only loopback is listened at: the endpoint of the Service `kubernetes` names the machine.
    names.extend(outward_address().map(|address| address.to_string()));
    if !listen.is_unspecified() {
        names.insert(listen.to_string());
    }
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        let host = host.trim().to_ascii_lowercase();
        if !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        {
            names.insert(host);
        }
    }
    names.extend(config.names.iter().cloned());
    names
}

/// The address from which this machine speaks to others: that of its default route. No packet is sent.
pub(crate) fn outward_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address for documentation: it is never on the same link, so the default route answers.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// Takes connections until the server stops.
async fn accept(shared: Arc<Shared>, listener: TcpListener, acceptor: TlsAcceptor, abort: CancellationToken) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let permit = connections.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = shared.stopping.cancelled() => return,
        };
        match (permit, accepted) {
            (Ok(permit), Ok((stream, _peer))) => {
                let connection = connection(shared.clone(), stream, acceptor.clone(), permit);
                let abort = abort.clone();
                shared.tasks.spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        () = abort.cancelled() => {}
                    }
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Err(_closed), Ok(_)) => return,
        }
    }
}

/// Serves one connection to its end.
async fn connection(
    shared: Arc<Shared>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    _permit: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off Nagle's algorithm");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(stream, acceptor)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let user = certificate
        .and_then(|certificate| pki::certificate_user_der(certificate))
        .map(Arc::new);
    let peer = Peer::Connection(user);
    let stopping = shared.stopping.clone();
    let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (shared, peer) = (shared.clone(), peer.clone());
        async move {
            Ok::<Response<Body>, std::convert::Infallible>(
                service::serve(shared, peer, request.map(Body::stream)).await,
            )
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT)
        .max_buf_size(HTTP1_BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended");
    }
}

/// Does the TLS handshake. Who speaks plain HTTP is told so in plain HTTP, as Go's server does.
async fn handshake(mut stream: TcpStream, acceptor: TlsAcceptor) -> std::io::Result<TlsStream<TcpStream>> {
    const HINT: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    let mut first = [0];
    // A method begins with a letter, a TLS record does not.
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        // A connection that is closed over unread bytes is reset, and the hint might be lost.
        let mut request = [0; 4096];
        let _bytes = stream.read(&mut request).await?;
        stream.write_all(HINT).await?;
        stream.shutdown().await?;
        return Err(std::io::Error::other("plain HTTP on the port for HTTPS"));
    }
    acceptor.accept(stream).await
}

/// Renews the server's certificate before it ends.
async fn renew(shared: Arc<Shared>, pki: Arc<Pki>, names: BTreeSet<String>, served: Arc<ServedCertificate>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEWAL_PERIOD) => {}
            () = shared.stopping.cancelled() => return,
        }
        let renewed = pki
            .server(&names, shared.clock.now())
            .map_err(|error| error.to_string());
        let replaced =
            renewed.and_then(|credential| served.replace(&credential).map_err(|error| error.to_string()));
        if let Err(error) = replaced {
            tracing::error!(error, "the server's certificate could not be renewed");
        }
    }
}
