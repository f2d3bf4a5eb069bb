//! Pulling images from OCI registries.

use std::error::Error as _;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use super::name::parse_name;
use super::{ImageInfo, Images, layer_folder, parse_config};
use crate::error::Context as _;
use crate::{Error, ErrorKind, Result};

/// A registry that does not answer within this time is down: name resolution and connection together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A transfer that brings nothing for so long is dead.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Who asks a registry.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A user with a password.
    Basic {
        /// User name.
        username: String,
        /// Password or access token.
        password: String,
    },
    /// A registry token.
    Bearer(String),
}

impl Images {
    /// Pulls an image for this machine's platform; layers that are here are not fetched again. Loopback registries are spoken to
    /// in plain HTTP. Fails with [`ErrorKind::RegistryUnavailable`], [`ErrorKind::Unauthorized`] or [`ErrorKind::ImageNotFound`].
    pub async fn pull(&self, name: &str, credentials: &Credentials) -> Result<ImageInfo> {
        let reference = parse_name(name)?;
        self.pull_reference(&reference, credentials)
            .await
            .map_err(|error| {
                Error::new(
                    error.kind,
                    format!("failed to pull image {:?}: {}", reference.whole(), error.message),
                )
            })
    }

    async fn pull_reference(&self, reference: &Reference, credentials: &Credentials) -> Result<ImageInfo> {
        let registry = reference.resolve_registry();
        let client = client_for(registry);
        let auth = match credentials {
            Credentials::Anonymous => RegistryAuth::Anonymous,
            Credentials::Basic { username, password } => {
                RegistryAuth::Basic(username.clone(), password.clone())
            }
            Credentials::Bearer(token) => RegistryAuth::Bearer(token.clone()),
        };
        let explain = |error: OciDistributionError| explain(registry, &error);
        let (manifest, _, config) = client
            .pull_manifest_and_config(reference, &auth)
            .await
            .map_err(explain)?;
        let (mut image, diff_ids) = parse_config(config.as_bytes())?;
        if diff_ids.len() != manifest.layers.len() {
            return Err(Error::invalid(format!(
                "its config lists {} layers, its manifest {}",
                diff_ids.len(),
                manifest.layers.len()
            )));
        }
        let mut staged: Vec<(String, super::Staging)> = Vec::new();
        for (diff_id, layer) in diff_ids.iter().zip(&manifest.layers) {
            image.size += u64::try_from(layer.size).unwrap_or(0);
            let folder = layer_folder(diff_id);
            if self.has_layer(&folder) || staged.iter().any(|(other, _)| *other == folder) {
                continue;
            }
            // The blob waits on the disk, not in memory: layers have gigabytes.
            let blob = self.staging()?;
            let path = blob.path().join("blob");
            let mut file = tokio::fs::File::create(&path)
                .await
                .context(|| format!("create {}", path.display()))?;
            client
                .pull_blob(reference, layer, &mut file)
                .await
                .map_err(explain)?;
            let (images, diff_id) = (self.clone(), diff_id.clone());
            let unpacked = tokio::task::spawn_blocking(move || {
                let file = std::fs::File::open(&path).context(|| format!("open {}", path.display()))?;
                images.unpack_layer(file, &diff_id)
            })
            .await
            .context(|| "unpack a layer")??;
            if let Some(staging) = unpacked {
                staged.push((folder, staging));
            }
        }
        self.record(&[reference.whole()], &image, staged)?
            .pop()
            .ok_or_else(|| Error::machine("no image was recorded"))
    }
}

fn client_for(registry: &str) -> Client {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may install one at the same moment; either is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let plain = host == "localhost" || host == "[::1]" || host.starts_with("127.");
    Client::new(ClientConfig {
        protocol: if plain {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        ..ClientConfig::default()
    })
}

/// What went wrong, in words that name the registry, and of which kind it is.
fn explain(registry: &str, error: &OciDistributionError) -> Error {
    let (kind, what) = match error {
        OciDistributionError::RequestError(cause)
            if cause.is_connect() || cause.is_timeout() || cause.is_request() =>
        {
            (ErrorKind::RegistryUnavailable, "is not reachable")
        }
        OciDistributionError::RequestError(_) | OciDistributionError::ServerError { .. } => {
            (ErrorKind::RegistryUnavailable, "does not answer as it should")
        }
        OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => {
            (ErrorKind::Unauthorized, "refuses access")
        }
        OciDistributionError::ImageManifestNotFoundError(_) => (ErrorKind::ImageNotFound, "does not have it"),
        OciDistributionError::RegistryError { envelope, .. } => {
            let code =
                |wanted: &[OciErrorCode]| envelope.errors.iter().any(|error| wanted.contains(&error.code));
            if code(&[
                OciErrorCode::ManifestUnknown,
                OciErrorCode::NameUnknown,
                OciErrorCode::NotFound,
            ]) {
                (ErrorKind::ImageNotFound, "does not have it")
            } else if code(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                (ErrorKind::Unauthorized, "refuses access")
            } else {
                (ErrorKind::Machine, "refuses")
            }
        }
        _ => (ErrorKind::Machine, "could not be understood"),
    };
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        cause = inner.source();
    }
    Error::new(kind, format!("registry {registry} {what}: {words}"))
}
