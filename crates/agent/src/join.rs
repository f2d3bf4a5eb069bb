//! How a machine becomes a node, and stays one.
//!
//! With the token that an administrator hands out the machine first learns whom it talks to: the server gives the cluster's authority to
//! anybody, and the token carries its hash. From then on every connection is verified by that authority. Then the machine makes a key, which
//! never leaves it, and asks for a certificate for it, showing the token; the certificate alone is what it acts by afterwards, and it asks for
//! the next one by it in good time.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::bootstrap_token::JoinToken;
use api::certificates::{NODE_CLIENT_SIGNER, public_key_hash};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::api_client::api_client;
use crate::cluster::{Cluster, message};
use crate::credential::{Certificate, CredentialError, Files, signing_request};
use crate::jitter;
use crate::options::Error;
use crate::servers::{self, Dialer, ServerAddress};

/// Wait after a failed call, doubling up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// How long one server may take to tell the authority.
const AUTHORITY: Duration = Duration::from_secs(10);
/// An authority is some hundred bytes.
const AUTHORITY_BYTES: usize = 64 << 10;
/// How often a request is looked at until it is answered.
const POLL: Duration = Duration::from_millis(250);
/// How often the cluster is asked for its servers.
const LEARN: Duration = Duration::from_secs(300);
/// A certificate is renewed when between these shares of its life are over: not all nodes of a fleet at once.
const RENEWAL: (f64, f64) = (0.7, 0.9);

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// What a machine joins with.
#[derive(Clone)]
pub struct Join {
    /// The servers that the user named.
    pub servers: Vec<ServerAddress>,
    /// The token, needed by a machine that has no certificate.
    pub token: Option<JoinToken>,
    /// Where the agent keeps what it has.
    pub data_dir: PathBuf,
    /// The node that the machine is to be.
    pub node_name: String,
}

/// A machine that has joined.
#[derive(Clone)]
pub struct Membership {
    /// The way to the API servers, with the node's certificate.
    pub dialer: Dialer,
    /// The API, as the node.
    pub client: kube::Client,
    node_name: String,
    files: Files,
    certificate: Certificate,
}

/// Why a machine did not join. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It has neither a certificate nor a token.
    #[error(
        "this machine has not joined the cluster yet: run `everynode token create` on the server, and start the agent with the token that it prints"
    )]
    NoToken,
    /// Its certificate has ended, and there is no token.
    #[error(
        "the certificate of node {node} ended at {ends}: run `everynode token create` on the server, and start the agent with the token that it prints"
    )]
    Ended {
        /// The node.
        node: String,
        /// When.
        ends: Timestamp,
    },
    /// It has joined under another name.
    #[error(
        "this machine joined as node {joined}, and --node-name says {asked}: to give it another name, remove it with `everynode agent --clean-up`, and join again"
    )]
    OtherName {
        /// Its name.
        joined: String,
        /// The one that was asked for.
        asked: String,
    },
    /// The server that answers did not create the token.
    #[error(
        "the certificate authority that {server} shows has the hash sha256:{found}, and the token says sha256:{wanted}. Either the token \
         is of another cluster, or something else answers in the server's place. The token was not sent"
    )]
    OtherAuthority {
        /// Who answered.
        server: String,
        /// What it showed.
        found: String,
        /// What the token says.
        wanted: String,
    },
    /// The cluster said no.
    #[error("the cluster refused: {0}")]
    Refused(String),
    /// A file or a key could not be used.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The authority or the key cannot be used for TLS.
    #[error(transparent)]
    Identity(#[from] Error),
    /// The agent was told to end before it was done.
    #[error("the agent was stopped before the machine had joined")]
    Stopped,
}

impl Join {
    /// Joins, or finds that the machine has joined. A server that does not answer is waited for.
    pub async fn run(&self, shutdown: &CancellationToken) -> Result<Membership, JoinError> {
        let files = Files::of(&self.data_dir);
        let present = files.certificate()?;
        if let Some(certificate) = present.as_ref().filter(|known| known.node != self.node_name) {
            return Err(JoinError::OtherName {
                joined: certificate.node.clone(),
                asked: self.node_name.clone(),
            });
        }
        let good = present.filter(|certificate| certificate.ends > Timestamp::now());
        let (certificate, authority) = match (good, files.authority()?) {
            (Some(certificate), Some(authority)) => (certificate, authority),
            _ => tokio::select! {
                () = shutdown.cancelled() => return Err(JoinError::Stopped),
                joined = self.ask(&files) => joined?,
            },
        };
        let dialer = Dialer::new(
            self.servers.clone(),
            &authority,
            Some(certificate.identity.clone()),
        )?;
        dialer.learn(files.servers()?);
        Ok(Membership {
            client: client(&dialer, None)?,
            dialer,
            node_name: self.node_name.clone(),
            files,
            certificate,
        })
    }

    /// Asks for a certificate by the token.
    async fn ask(&self, files: &Files) -> Result<(Certificate, Vec<u8>), JoinError> {
        let Some(token) = &self.token else {
            return Err(match files.certificate()? {
                Some(ended) => JoinError::Ended {
                    node: ended.node,
                    ends: ended.ends,
                },
                None => JoinError::NoToken,
            });
        };
        let authority = self.authority(&token.authority).await?;
        let dialer = Dialer::new(self.servers.clone(), &authority, None)?;
        let cluster = Cluster::new(client(&dialer, Some(&token.token.to_string()))?);
        // The key of a certificate that has ended still says that this is the machine that had the name.
        let key = match files.present_key()? {
            Some(key) => key,
            None => files.next_key()?,
        };
        files.keep_authority(&authority)?;
        let issued = request(&cluster, &self.node_name, &key).await;
        let certificate = files.keep_certificate(&files.unless_refused(issued)?, &key)?;
        Ok((certificate, authority))
    }

    /// The authority of the cluster, once its hash has been found to be this.
    async fn authority(&self, wanted: &str) -> Result<Vec<u8>, JoinError> {
        let mut wait = RETRY.0;
        loop {
            for server in &self.servers {
                let told = tokio::time::timeout(AUTHORITY, fetch_authority(server)).await;
                match told {
                    Ok(Ok(pem)) => {
                        let found = public_key_hash(&pem).unwrap_or_else(|| "(none)".to_owned());
                        if found == wanted {
                            return Ok(pem);
                        }
                        return Err(JoinError::OtherAuthority {
                            server: server.to_string(),
                            found,
                            wanted: wanted.to_owned(),
                        });
                    }
                    Ok(Err(why)) => tracing::warn!(%server, why, "cannot reach the server; retrying"),
                    Err(_) => {
                        tracing::warn!(%server, why = "no response", "cannot reach the server; retrying")
                    }
                }
            }
            tokio::time::sleep(jitter(wait)).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }
}

impl Membership {
    /// Remembers the servers that the cluster tells of, for as long as it runs: a machine that was given one of them finds the others.
    pub(crate) async fn learn_servers(self, shutdown: CancellationToken) {
        let slices: kube::Api<EndpointSlice> = kube::Api::namespaced(self.client.clone(), "default");
        loop {
            if let Ok(slice) = slices.get("kubernetes").await {
                let told = told_servers(&slice);
                self.dialer.learn(told.iter().cloned());
                if let Err(error) = self.files.keep_servers(&told) {
                    tracing::warn!(%error, "cannot save the addresses of the servers");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LEARN) => {}
            }
        }
    }

    /// Renews the certificate for as long as it runs.
    pub(crate) async fn renew(self, shutdown: CancellationToken) {
        let cluster = Cluster::new(self.client.clone());
        let mut certificate = self.certificate.clone();
        loop {
            let wait = until_renewal(&certificate, Timestamp::now(), rand_share());
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let renewed = tokio::select! {
                () = shutdown.cancelled() => return,
                renewed = self.renew_once(&cluster) => renewed,
            };
            match renewed {
                Ok(next) => {
                    tracing::info!(node = self.node_name, ends = %next.ends, "renewed the node's certificate");
                    certificate = next;
                }
                Err(error) => {
                    tracing::warn!(node = self.node_name, ends = %certificate.ends, %error, "cannot renew the node's certificate");
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(jitter(RETRY.1)) => {}
                    }
                }
            }
        }
    }

    async fn renew_once(&self, cluster: &Cluster) -> Result<Certificate, JoinError> {
        let key = self.files.next_key()?;
        let issued = request(cluster, &self.node_name, &key).await;
        let issued = self.files.unless_refused(issued)?;
        let certificate = self.files.keep_certificate(&issued, &key)?;
        self.dialer.identify(certificate.identity.clone())?;
        Ok(certificate)
    }

    /// Forgets what made the machine a node.
    pub fn forget(&self) -> Result<(), CredentialError> {
        self.files.forget()
    }
}

/// Whether a machine has a certificate, so that it needs no token.
pub fn has_joined(data_dir: &Path) -> bool {
    Files::of(data_dir)
        .certificate()
        .is_ok_and(|certificate| certificate.is_some())
}

impl Files {
    /// A request that was refused stays refused, and the next one of the same key would find it: the next has another key.
    fn unless_refused(&self, issued: Result<Vec<u8>, JoinError>) -> Result<Vec<u8>, JoinError> {
        if matches!(issued, Err(JoinError::Refused(_))) {
            self.drop_next_key()?;
        }
        issued
    }
}

/// A client that reaches nobody, for a machine that is cleaned up without its cluster.
pub fn no_client() -> Result<kube::Client, JoinError> {
    client(&Dialer::new(Vec::new(), b"", None)?, None)
}

/// The addresses behind the Service `kubernetes`.
fn told_servers(slice: &EndpointSlice) -> Vec<ServerAddress> {
    let ports = slice.ports.iter().flatten();
    let port = ports.filter_map(|port| u16::try_from(port.port?).ok()).next();
    let addresses = slice
        .endpoints
        .iter()
        .flatten()
        .flat_map(|endpoint| &endpoint.addresses);
    let addresses = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
    addresses
        .zip(std::iter::repeat(port))
        .filter_map(|(address, port)| Some(SocketAddr::new(address, port?).into()))
        .collect()
}

/// How long until a certificate is to be renewed; `share`, from 0 to 1, tells one node from another.
fn until_renewal(certificate: &Certificate, now: Timestamp, share: f64) -> Duration {
    let life = certificate.ends.duration_since(certificate.begins);
    let at = life.mul_f64(RENEWAL.0 + (RENEWAL.1 - RENEWAL.0) * share.clamp(0.0, 1.0));
    let due = certificate.begins.saturating_add(at).unwrap_or(certificate.ends);
    let wait = due.duration_since(now).max(SignedDuration::ZERO);
    Duration::try_from(wait).unwrap_or(Duration::ZERO)
}

fn rand_share() -> f64 {
    jitter(Duration::from_secs(2)).as_secs_f64() - 1.0
}

fn client(dialer: &Dialer, bearer: Option<&str>) -> Result<kube::Client, JoinError> {
    api_client(dialer, bearer).map_err(|error| JoinError::Identity(Error::Identity(error.to_string())))
}

/// Asks for a client certificate for `key` and waits for the answer: the certificate, PEM.
async fn request(cluster: &Cluster, node: &str, key: &KeyPair) -> Result<Vec<u8>, JoinError> {
    let (pem, name) = signing_request(node, key).map_err(|why| Error::Identity(why.to_string()))?;
    let body = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": STANDARD.encode(pem),
            "signerName": NODE_CLIENT_SIGNER,
            "usages": ["digital signature", "client auth"],
        },
    });
    let path = format!("{REQUESTS}/{name}");
    let mut wait = RETRY.0;
    let mut asked = false;
    loop {
        let answer = match asked {
            true => {
                cluster
                    .call(Method::GET, &path, "application/json", &Value::Null)
                    .await
            }
            false => {
                cluster
                    .call(Method::POST, REQUESTS, "application/json", &body)
                    .await
            }
        };
        match answer {
            Ok(csr) => {
                asked = true;
                wait = RETRY.0;
                if let Some(certificate) = outcome(&csr)? {
                    return Ok(certificate);
                }
                tokio::time::sleep(POLL).await;
            }
            // Asked for already, by this agent before it was killed.
            Err(kube::Error::Api(status)) if status.code == 409 => asked = true,
            Err(kube::Error::Api(status)) if status.code == 404 && asked => asked = false,
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403 | 422) => {
                return Err(JoinError::Refused(status.message.clone()));
            }
            Err(error) => {
                tracing::warn!(
                    "ask for the node's certificate: {}; trying again",
                    message(&error)
                );
                tokio::time::sleep(jitter(wait)).await;
                wait = (wait * 2).min(RETRY.1);
            }
        }
    }
}

/// The certificate in an answered request; nothing while it waits.
fn outcome(csr: &Value) -> Result<Option<Vec<u8>>, JoinError> {
    let conditions = csr["status"]["conditions"].as_array().into_iter().flatten();
    let refused = conditions
        .into_iter()
        .find(|condition| matches!(condition["type"].as_str(), Some("Denied" | "Failed")));
    if let Some(refused) = refused {
        let text = |field: &str| refused[field].as_str().unwrap_or_default();
        let why = match text("message") {
            "" => text("reason"),
            message => message,
        };
        return Err(JoinError::Refused(why.to_owned()));
    }
    let certificate = csr["status"]["certificate"].as_str().unwrap_or_default();
    Ok(match certificate {
        "" => None,
        encoded => STANDARD.decode(encoded).ok(),
    })
}

/// Returns the certificate authority that a server claims. The server is not authenticated yet, so
/// nothing is sent to it.
async fn fetch_authority(server: &ServerAddress) -> Result<Vec<u8>, String> {
    let mut config = tls::believing_any_server();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let stream = servers::open(&connector, server)
        .await
        .map_err(|error| error.to_string())?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let request = Request::get("/everynode/v1/authority")
        .header("Host", server.host())
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(format!(
                "it answered {}: is it an everynode server?",
                answer.status()
            ));
        }
        let body = Limited::new(answer.into_body(), AUTHORITY_BYTES).collect().await;
        body.map(|body| body.to_bytes().to_vec())
            .map_err(|error| error.to_string())
    };
    tokio::select! {
        answer = answer => answer,
        ended = connection => Err(match ended {
            Ok(()) => "it closed the connection".to_owned(),
            Err(error) => error.to_string(),
        }),
    }
}
