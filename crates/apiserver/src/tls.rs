//! The server's TLS: its certificate, which it can replace while it runs, and optional client
//! certificates.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use crate::pki::Credential;

/// Error of the TLS setup.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key is malformed.
    #[error("cannot read {what}: {reason}")]
    Pem {
        /// Name of the certificate or key.
        what: &'static str,
        /// The cause.
        reason: String,
    },
    /// The key does not match the certificate, or no protocol version is left.
    #[error("cannot set up TLS with the server certificate")]
    Rustls(#[source] rustls::Error),
    /// The authority cannot verify client certificates.
    #[error("cannot set up the verification of client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// Certificate that the server uses. A renewal replaces it for new connections.
pub(crate) struct ServedCertificate {
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl std::fmt::Debug for ServedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServedCertificate")
    }
}

impl ServedCertificate {
    fn new(provider: Arc<CryptoProvider>, credential: &Credential) -> Result<ServedCertificate, TlsError> {
        let current = RwLock::new(certified_key(&provider, credential)?);
        Ok(ServedCertificate { provider, current })
    }

    /// Serves with `credential` from now on.
    pub(crate) fn replace(&self, credential: &Credential) -> Result<(), TlsError> {
        let key = certified_key(&self.provider, credential)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }
}

impl ResolvesServerCert for ServedCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

/// Returns the server's TLS configuration. A client may present a certificate of `authority`. A
/// certificate of another authority ends the handshake. A client without one may use a token.
pub(crate) fn server_config(
    authority: &str,
    credential: &Credential,
) -> Result<(Arc<rustls::ServerConfig>, Arc<ServedCertificate>), TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(certificate(authority, "the authority's certificate")?)
        .map_err(TlsError::Rustls)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(TlsError::Verifier)?;
    let served = Arc::new(ServedCertificate::new(provider.clone(), credential)?);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Rustls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(served.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(config), served))
}

fn certificate(pem: &str, what: &'static str) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| TlsError::Pem {
        what,
        reason: e.to_string(),
    })
}

fn certified_key(provider: &CryptoProvider, credential: &Credential) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = vec![certificate(&credential.certificate, "the server's certificate")?];
    let key = PrivateKeyDer::from_pem_slice(credential.key.as_bytes()).map_err(|e| TlsError::Pem {
        what: "the server's key",
        reason: e.to_string(),
    })?;
    CertifiedKey::from_der(chain, key, provider)
        .map(Arc::new)
        .map_err(TlsError::Rustls)
}
