//! Pulling images from OCI registries.

use tokio::io::AsyncWriteExt as _;

use super::manifest::{Config, DOCUMENT_LIMIT, Descriptor, Document, Platform, digest_of, wrong_platform};
use super::name::{Reference, parse_name};
use super::registry::{Credentials, Registry};
use super::{ImageInfo, Images, Staging, layer_folder};
use crate::error::Context as _;
use crate::{Error, Result};

/// Depth limit of indexes that refer to indexes. Registries have one level.
const INDEX_DEPTH: usize = 2;

/// The manifest of a name for this machine.
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
    /// Digests of the document of the name, then of the manifest, if it was selected from an index.
    digests: Vec<String>,
}

impl Images {
    /// Pulls an image for this machine's platform. Does not fetch layers that exist already. Uses
    /// plain HTTP for registries on loopback addresses. Fails with [`RegistryUnavailable`],
    /// [`Unauthorized`] or [`ImageNotFound`], and with [`Invalid`] if the image is damaged, too
    /// large or for another platform.
    ///
    /// [`RegistryUnavailable`]: crate::ErrorKind::RegistryUnavailable
    /// [`Unauthorized`]: crate::ErrorKind::Unauthorized
    /// [`ImageNotFound`]: crate::ErrorKind::ImageNotFound
    /// [`Invalid`]: crate::ErrorKind::Invalid
    pub async fn pull(&self, name: &str, credentials: &Credentials) -> Result<ImageInfo> {
        let reference = parse_name(name)?;
        self.pull_reference(&reference, credentials)
            .await
            .map_err(|error| {
                Error::new(
                    error.kind,
                    format!("failed to pull image \"{reference}\": {}", error.message),
                )
            })
    }

    async fn pull_reference(&self, reference: &Reference, credentials: &Credentials) -> Result<ImageInfo> {
        let mut registry = Registry::new(reference, credentials)?;
        let Manifest {
            config,
            layers,
            digests,
        } = manifest(&mut registry, reference).await?;
        let packed = layers
            .iter()
            .try_fold(0u64, |sum, layer| sum.checked_add(layer.size));
        if packed.is_none_or(|packed| packed > self.limits.bytes) {
            return Err(self.limits.too_many_bytes("the packed image"));
        }
        let bytes = registry.document(&config, DOCUMENT_LIMIT).await?;
        let Config {
            platform,
            mut image,
            diff_ids,
        } = Config::parse(&bytes, layers.len())?;
        if !platform.fits() {
            return Err(wrong_platform("the image", &[platform]));
        }
        image.size = packed.unwrap_or(0);
        let mut allowance = self.allowance();
        let mut staged: Vec<(String, Staging)> = Vec::new();
        for (diff_id, layer) in diff_ids.iter().zip(&layers) {
            let folder = layer_folder(diff_id);
            if self.has_layer(&folder) || staged.iter().any(|(other, _)| *other == folder) {
                continue;
            }
            // The blob is stored on the disk, not in memory, because layers can have gigabytes.
            let blob = self.download(&mut registry, layer).await?;
            let (images, diff_id) = (self.clone(), diff_id.clone());
            let unpacked = tokio::task::spawn_blocking(move || {
                let path = blob.path().join(BLOB);
                let file = std::fs::File::open(&path).context(|| format!("open {}", path.display()))?;
                let staging = images.unpack_layer(file, &diff_id, &mut allowance)?;
                Ok::<_, Error>((staging, allowance))
            });
            let (staging, left) = unpacked.await.context(|| "unpack a layer")??;
            allowance = left;
            staged.push((folder, staging));
        }
        self.record_one(reference.to_string(), &image, &digests, staged)
    }

    /// Fetches a layer into a temporary folder, as [`BLOB`].
    async fn download(&self, registry: &mut Registry, layer: &Descriptor) -> Result<Staging> {
        let folder = self.staging()?;
        let path = folder.path().join(BLOB);
        let write = || format!("write {}", path.display());
        let mut file = tokio::fs::File::create(&path).await.context(write)?;
        let mut body = registry.blob(layer).await?;
        while let Some(piece) = body.next().await? {
            file.write_all(&piece).await.context(write)?;
        }
        body.check()?;
        file.flush().await.context(write)?;
        Ok(folder)
    }
}

/// Name of a layer's blob in its temporary folder.
const BLOB: &str = "blob";

/// Returns the manifest of a name. Selects it from an index if there is one.
async fn manifest(registry: &mut Registry, reference: &Reference) -> Result<Manifest> {
    let mut version = reference.version().to_owned();
    let mut pinned = reference.digest().map(str::to_owned);
    let mut digests = Vec::new();
    for _ in 0..=INDEX_DEPTH {
        let bytes = registry.manifest(&version, pinned.as_deref()).await?;
        digests.push(pinned.unwrap_or_else(|| digest_of(&bytes)));
        match Document::parse(&bytes)? {
            Document::Manifest { config, layers } => {
                return Ok(Manifest {
                    config,
                    layers,
                    digests,
                });
            }
            Document::Index(manifests) => {
                let fits = |one: &&Descriptor| one.platform.as_ref().is_none_or(Platform::fits);
                let Some(chosen) = manifests.iter().find(fits) else {
                    let platforms: Vec<Platform> =
                        manifests.into_iter().filter_map(|one| one.platform).collect();
                    return Err(wrong_platform("the image", &platforms));
                };
                version.clone_from(&chosen.digest);
                pinned = Some(chosen.digest.clone());
            }
        }
    }
    Err(Error::invalid("its indexes are nested too deeply"))
}
