//! The server: what it opens, where it listens, how it ends.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::bootstrap::{self, BootstrapError};
use crate::client::InProcess;
use crate::limits::DRAIN_TIMEOUT;
use crate::pki::{self, Credential, Pki, PkiError};
use crate::random::Random;
use crate::service_ranges::ServiceRanges;
use crate::shared::Shared;
use crate::tls::{self, ServedCertificate, TlsError};
use crate::token::{SigningKeyError, Tokens};
use crate::user::User;
use crate::{connection, names, node_credential, objects, stray_services};

/// The file in the data directory that kubectl needs.
const ADMIN_KUBECONFIG: &str = "admin.kubeconfig";
/// How often a running server looks whether its certificate nears its end.
const RENEWAL_PERIOD: Duration = Duration::from_secs(12 * 3600);

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the store, the keys and the admin's kubeconfig are kept.
    pub data_dir: PathBuf,
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The address under which other machines reach the server; without one, where it listens.
    pub advertise: Option<IpAddr>,
    /// Names and addresses under which clients know the server, beyond those it finds itself.
    pub names: Vec<String>,
    /// Where Services' addresses come from. Services that have others keep them.
    pub service_ranges: ServiceRanges,
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
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
}

/// Why the agent beside a server got no credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// It could not be made.
    #[error("cannot issue the node's certificate")]
    Pki(#[source] PkiError),
    /// Another machine is this node.
    #[error(
        "node {0} joined from another machine: choose another name with --node-name, or delete the node first (`everynode delete node {0}`)"
    )]
    Taken(String),
    /// It could not be recorded.
    #[error("cannot record the certificate of node {node}: {message}")]
    Record {
        /// The node.
        node: String,
        /// What the API said.
        message: String,
    },
}

/// Signs client certificates with the authority's key. Whether somebody should have one is for others to say.
#[derive(Clone)]
pub struct Signer {
    pki: Arc<Pki>,
    shared: Arc<Shared>,
}

impl Signer {
    /// A client certificate (PEM) for `user`, with the key of a signing request (PEM).
    pub fn sign(&self, request: &str, user: &User, life: Duration) -> Result<String, PkiError> {
        let life = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
        self.pki.sign(request, user, life, self.shared.clock.now())
    }
}

/// A running API server.
pub struct Server {
    shared: Arc<Shared>,
    pki: Arc<Pki>,
    address: SocketAddr,
    advertised: SocketAddr,
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
        let shared = Arc::new(Shared::new(
            objects,
            tokens,
            pki.authority(),
            config.service_ranges,
            clock,
            Random::kernel(),
        ));

        let advertised = names::advertised(config.advertise, address.ip());
        let advertised = SocketAddr::new(advertised, address.port());
        let services = stray_services::kubernetes_addresses(&shared);
        let names = names::certified(&config.names, &services, address.ip(), advertised.ip());
        let credential = pki.server(&names, now).map_err(StartError::Pki)?;
        let (tls, served) = tls::server_config(pki.authority(), &credential).map_err(StartError::Tls)?;

        bootstrap::bootstrap(
            &InProcess::new(shared.clone(), User::admin()),
            pki.authority(),
            advertised,
            &shared.service_ranges,
        )
        .await?;
        stray_services::tell_outside(&shared).await;

        let abort = CancellationToken::new();
        let acceptor = TlsAcceptor::from(tls);
        shared.tasks.spawn(connection::accept(
            shared.clone(),
            listener,
            acceptor,
            abort.clone(),
        ));
        shared
            .tasks
            .spawn(renew(shared.clone(), pki.clone(), names, served));

        let kubeconfig = config.data_dir.join(ADMIN_KUBECONFIG);
        let server = Server {
            shared,
            pki,
            address,
            advertised,
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

    /// Where other machines reach it.
    pub fn advertised(&self) -> SocketAddr {
        self.advertised
    }

    /// The URL under which this machine reaches it.
    pub fn url(&self) -> String {
        let ip = match self.address.ip() {
            ip if ip.is_unspecified() && ip.is_ipv4() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
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

    /// Issues, or gives again, the credential of the agent that runs beside this server, kept under
    /// `<data-dir>/pki/node-<name>.{crt,key}`. Refused while a machine that joined has the name.
    pub async fn node_credential(&self, name: &str) -> Result<Credential, CredentialError> {
        let before = self.pki.node_fingerprint(name).map_err(CredentialError::Pki)?;
        let credential = self
            .pki
            .node(name, self.shared.clock.now())
            .map_err(CredentialError::Pki)?;
        let admin = InProcess::new(self.shared.clone(), User::admin());
        node_credential::keep(&self.shared, &admin, name, &credential, before.as_deref()).await?;
        Ok(credential)
    }

    /// Signs client certificates with the authority's key.
    pub fn signer(&self) -> Signer {
        Signer {
            pki: self.pki.clone(),
            shared: self.shared.clone(),
        }
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
