//! Start, endpoints and shutdown of the API server.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use disk::Disk;
use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::bootstrap::{self, BootstrapError};
use crate::client::InProcess;
use crate::limits::DRAIN_TIMEOUT;
use crate::pki::{self, Credential, Pki, PkiError};
use crate::random::Random;
use crate::service_ranges::ServiceRanges;
use crate::shared::{Part, Shared};
use crate::tls::{self, ServedCertificate, TlsError};
use crate::token::{SigningKeyError, Tokens};
use crate::user::User;
use crate::{backup, connection, names, node_credential, objects, stray_services};

/// Name of the administrator's kubeconfig in the data directory.
const ADMIN_KUBECONFIG: &str = "admin.kubeconfig";
/// Interval at which a running server checks whether its certificate expires soon.
const RENEWAL_PERIOD: Duration = Duration::from_secs(12 * 3600);
/// Backoff between attempts to complete a start when the disk accepts no writes. It doubles with
/// each failure, up to `FINISH_RETRY_MAX`.
const FINISH_RETRY_MIN: Duration = Duration::from_millis(500);
const FINISH_RETRY_MAX: Duration = Duration::from_secs(10);
/// Only the owner may read keys.
const OWNER_ONLY: u32 = 0o600;

/// Configuration of a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of the store, the keys and the administrator's kubeconfig.
    pub data_dir: PathBuf,
    /// Address to listen on. Port 0 selects a free port.
    pub listen: SocketAddr,
    /// Address under which other machines reach the server. Defaults to the listen address, or to
    /// the address of the default route if the server listens on all addresses.
    pub advertise: Option<IpAddr>,
    /// Additional names and addresses for the server's certificate, beyond those that the server
    /// finds itself.
    pub names: Vec<String>,
    /// Ranges of Services' cluster IPs. Existing Services outside the ranges keep their addresses.
    pub service_ranges: ServiceRanges,
}

/// Error of a start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Keys or certificates cannot be read or written.
    #[error("cannot set up keys and certificates")]
    Pki(#[source] PkiError),
    /// TLS cannot be configured.
    #[error("cannot set up TLS")]
    Tls(#[source] TlsError),
    /// The service account key cannot be used.
    #[error("cannot set up service account tokens")]
    Tokens(#[source] SigningKeyError),
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Store(#[source] store::OpenError),
    /// A restore was interrupted, so the data directory holds parts of two clusters.
    #[error("a restore was interrupted, says {0}: repeat `everynode store restore`")]
    Unfinished(PathBuf),
    /// The task that opens the store panicked.
    #[error("the start panicked: {0}")]
    Panic(String),
    /// The server cannot listen on the address.
    #[error("cannot listen on {address}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// An object that every cluster has cannot be created.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
}

impl StartError {
    /// Returns whether a file could not be written because the disk is full or read-only.
    fn is_of_the_disk(&self) -> bool {
        let StartError::Pki(PkiError::File { source, .. }) = self else {
            return false;
        };
        matches!(
            source.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem
        )
    }
}

/// Error of a shutdown.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The store could not be closed. Relaxed writes may be lost, and the next start must recover
    /// the store.
    #[error("the store could not be closed: {0}")]
    Store(String),
}

/// Error of issuing the credential of the agent in the server's process.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The certificate cannot be issued.
    #[error("cannot issue the node's certificate")]
    Pki(#[source] PkiError),
    /// A machine that joined has this node name.
    #[error(
        "node {0} joined from another machine: choose another name with --node-name, or delete the node first (`everynode delete node {0}`)"
    )]
    Taken(String),
    /// The certificate cannot be recorded in the API.
    #[error("cannot record the certificate of node {node}: {message}")]
    Record {
        /// The node.
        node: String,
        /// Error message of the API.
        message: String,
    },
}

/// Signs client certificates with the key of the certificate authority. The caller checks whether
/// the client may have one.
#[derive(Clone)]
pub struct Signer {
    pki: Arc<Pki>,
    shared: Arc<Shared>,
}

impl Signer {
    /// Returns a client certificate (PEM) for `user`, with the public key of a signing request
    /// (PEM).
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
    /// Cancelled to close the connections that did not drain in time.
    abort: CancellationToken,
}

impl Server {
    /// Opens the data directory and starts to serve requests. The server listens when this returns.
    /// Short disk operations block the calling thread.
    pub async fn start(config: Config) -> Result<Server, StartError> {
        // First, so that a start on a port in use creates no keys and no store.
        let failed = |source| StartError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        if let Some(marker) = backup::unfinished(&config.data_dir) {
            return Err(StartError::Unfinished(marker));
        }
        let clock = Clock::system();
        let now = clock.now();
        let store = objects::folder(&config.data_dir);
        let pki = Pki::open(&config.data_dir, &Disk::default(), store::exists(&store), now);
        let pki = Arc::new(pki.map_err(StartError::Pki)?);
        let tokens = Tokens::new(pki.service_account_key()).map_err(StartError::Tokens)?;
        let opened = tokio::task::spawn_blocking(move || objects::open(&store)).await;
        let objects = opened
            .map_err(|panic| StartError::Panic(panic.to_string()))?
            .map_err(StartError::Store)?;
        let shared = Arc::new(Shared::new(
            objects,
            tokens,
            pki.authority(),
            config.service_ranges,
            clock,
            Random::kernel(),
        ));
        let abort = CancellationToken::new();
        let server = Server {
            advertised: SocketAddr::new(names::advertised(config.advertise, address.ip()), address.port()),
            shared,
            pki,
            address,
            kubeconfig: config.data_dir.join(ADMIN_KUBECONFIG),
            abort,
        };
        match server.serve(listener, &config.names).await {
            Ok(()) => Ok(server),
            Err(error) => {
                // The process may exit after the error, which would interrupt the close of the
                // store.
                if let Err(error) = server.stop().await {
                    tracing::error!(%error, "cannot stop cleanly");
                }
                Err(error)
            }
        }
    }

    /// The part of a start after the store is open.
    async fn serve(&self, listener: TcpListener, names: &[String]) -> Result<(), StartError> {
        let Server { shared, pki, .. } = self;
        let now = shared.clock.now();
        let services = stray_services::kubernetes_addresses(shared);
        let names = names::certified(names, &services, self.address.ip(), self.advertised.ip());
        let credential = pki.server(&names, now).map_err(StartError::Pki)?;
        let (tls, served) = tls::server_config(pki.authority(), &credential).map_err(StartError::Tls)?;

        if let Err(error) = self.rest().finish().await {
            if shared.objects.trouble().is_none() && !error.is_of_the_disk() {
                return Err(error);
            }
            // The disk is full or broken. Existing objects can be read, and the start completes
            // when the disk accepts writes.
            tracing::error!(error = %describe(&error), "cannot complete the start; retrying until the disk accepts writes");
            shared.tasks.spawn(self.rest().finish_later());
        }
        shared.tasks.spawn(connection::accept(
            shared.clone(),
            listener,
            TlsAcceptor::from(tls),
            self.abort.clone(),
        ));
        shared
            .tasks
            .spawn(renew(shared.clone(), pki.clone(), names, served));
        tracing::info!(address = %self.address, "listening");
        Ok(())
    }

    fn rest(&self) -> Rest {
        Rest {
            shared: self.shared.clone(),
            pki: self.pki.clone(),
            url: self.url(),
            advertised: self.advertised,
            kubeconfig: self.kubeconfig.clone(),
        }
    }

    /// Returns the address on which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address at which other machines reach the server.
    pub fn advertised(&self) -> SocketAddr {
        self.advertised
    }

    /// Returns the URL at which programs on this machine reach the server.
    pub fn url(&self) -> String {
        let ip = match self.address.ip() {
            ip if ip.is_unspecified() && ip.is_ipv4() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        format!("https://{}", SocketAddr::new(ip, self.address.port()))
    }

    /// Returns the path of the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns the certificate authority, PEM.
    pub fn authority(&self) -> &str {
        self.pki.authority()
    }

    /// Returns the credential of the agent that runs beside this server, and issues it if
    /// necessary. Its files are `<data-dir>/pki/node-<name>.{crt,key}`. Fails while a machine that
    /// joined has the name.
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

    /// Returns a signer of client certificates.
    pub fn signer(&self) -> Signer {
        Signer {
            pki: self.pki.clone(),
            shared: self.shared.clone(),
        }
    }

    /// Returns a client for a component of this process that acts as `user`.
    pub fn client(&self, user: User) -> kube::Client {
        kube::Client::new(InProcess::new(self.shared.clone(), user), "default")
    }

    /// Stops the server: ends watches and streams, waits for active requests up to
    /// [`DRAIN_TIMEOUT`], and closes the store.
    pub async fn shutdown(self) -> Result<(), StopError> {
        self.stop().await
    }

    async fn stop(&self) -> Result<(), StopError> {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                seconds = DRAIN_TIMEOUT.as_secs(),
                "closing connections that did not drain in time"
            );
            self.abort.cancel();
            self.shared.tasks.wait().await;
        }
        let objects = self.shared.objects.clone();
        match tokio::task::spawn_blocking(move || objects.close()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(StopError::Store(error.to_string())),
            Err(panic) => Err(StopError::Store(panic.to_string())),
        }
    }
}

/// Writes at the end of a start: the objects that every cluster has, and the administrator's
/// kubeconfig.
struct Rest {
    shared: Arc<Shared>,
    pki: Arc<Pki>,
    url: String,
    advertised: SocketAddr,
    kubeconfig: PathBuf,
}

impl Rest {
    async fn finish(&self) -> Result<(), StartError> {
        let Rest { shared, pki, .. } = self;
        let admin = User::admin();
        bootstrap::bootstrap(
            &InProcess::new(shared.clone(), admin.clone()),
            pki.authority(),
            self.advertised,
            &shared.service_ranges,
        )
        .await?;
        shared.started.done(Part::Objects);
        stray_services::tell_outside(shared).await;
        let credential = pki
            .client("admin", &admin, shared.clock.now())
            .map_err(StartError::Pki)?;
        let text = pki::kubeconfig(&self.url, pki.authority(), &admin.name, &credential);
        pki.keep(&self.kubeconfig, &text, OWNER_ONLY)
            .map_err(StartError::Pki)?;
        shared.started.done(Part::Kubeconfig);
        Ok(())
    }

    /// Retries until the start is complete or the server stops. `/readyz` lists the missing parts.
    async fn finish_later(self) {
        let mut pause = FINISH_RETRY_MIN;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shared.stopping.cancelled() => return,
            }
            // Without space each attempt would fail and be logged.
            if self.shared.objects.trouble().is_some() {
                continue;
            }
            match self.finish().await {
                Ok(()) => {
                    tracing::warn!("completed the start");
                    return;
                }
                Err(error) => {
                    tracing::debug!(error = %describe(&error), "cannot complete the start");
                    pause = (2 * pause).min(FINISH_RETRY_MAX);
                }
            }
        }
    }
}

/// Returns the message of an error and its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Renews the server's certificate before it expires.
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
            tracing::error!(error, "cannot renew the server's certificate");
        }
    }
}
