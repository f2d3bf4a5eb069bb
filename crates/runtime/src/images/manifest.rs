//! Documents that describe an image: index, manifest and config, from a registry or an archive.
//! None is trusted.

use std::collections::HashMap;

use ring::digest::{Algorithm, SHA256, SHA384, SHA512};
use serde::Deserialize;

use super::{Image, layer_folder};
use crate::{Error, Result, layout};

/// Limit of an index, manifest or config in bytes. Registries refuse longer manifests (OCI
/// distribution specification, "Pushing Manifests").
pub(super) const DOCUMENT_LIMIT: u64 = 4 << 20;

/// Limit of an image's layers. The options of an overlay mount must fit in one page, and more names
/// do not.
const LAYERS_LIMIT: usize = 127;

/// Limit of the platforms in an error message.
const NAMED_PLATFORMS: usize = 8;

/// Reference to another document or blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) digest: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) annotations: HashMap<String, String>,
    pub(super) platform: Option<Platform>,
}

/// Platform of an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) os: String,
}

impl Platform {
    /// Returns this machine's platform, with Go's names, which images use.
    pub(super) fn here() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
        }
    }

    /// Returns whether this machine can run it. Old builders leave the fields empty.
    pub(super) fn fits(&self) -> bool {
        let here = Platform::here();
        let is = |own: &str, wanted: &str| own.is_empty() || own == wanted;
        is(&self.os, &here.os) && is(&self.architecture, &here.architecture)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The text comes from an image, and is printed in pod statuses and on terminals.
        let plain = |text: &str| -> String {
            let plain = text.chars().filter(char::is_ascii_graphic);
            plain.take(32).collect()
        };
        write!(f, "{}/{}", plain(&self.os), plain(&self.architecture))
    }
}

/// Returns the error for images that are only for other platforms.
pub(super) fn wrong_platform(what: &str, platforms: &[Platform]) -> Error {
    let mut names: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    names.sort();
    names.dedup();
    let others = names.len().saturating_sub(NAMED_PLATFORMS);
    names.truncate(NAMED_PLATFORMS);
    let more = match others {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    let names = names.join(", ");
    Error::invalid(format!(
        "{what} is built for {names}{more}, and this machine is {}: use an image that is built for it",
        Platform::here()
    ))
}

/// An index or a manifest.
#[derive(Debug)]
pub(super) enum Document {
    /// Manifests of one image for several platforms.
    Index(Vec<Descriptor>),
    Manifest {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
}

impl Document {
    pub(super) fn parse(bytes: &[u8]) -> Result<Document> {
        #[derive(Deserialize)]
        struct Either {
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
        }
        let either: Either = serde_json::from_slice(bytes)
            .map_err(|cause| Error::invalid(format!("image manifest: {cause}")))?;
        match (either.manifests, either.config, either.layers) {
            (Some(manifests), None, None) => Ok(Document::Index(manifests)),
            (None, Some(config), Some(layers)) if layers.len() <= LAYERS_LIMIT => {
                Ok(Document::Manifest { config, layers })
            }
            (None, Some(_), Some(layers)) => Err(Error::invalid(format!(
                "image manifest: it lists {} layers, and at most {LAYERS_LIMIT} can be stacked",
                layers.len()
            ))),
            // Two readers could interpret it as two different images.
            (Some(_), _, _) => Err(Error::invalid(
                "image manifest: it is an index and a manifest at once",
            )),
            _ => Err(Error::invalid(
                "image manifest: it has no config and layers (manifests of schema version 1 are not supported)",
            )),
        }
    }
}

/// Hash of bytes that are being received. It is compared with the digest at the end.
pub(super) struct Check {
    context: ring::digest::Context,
    digits: String,
}

impl Check {
    pub(super) fn new(digest: &str) -> Result<Check> {
        let (algorithm, digits) = parse_digest(digest)?;
        Ok(Check {
            context: ring::digest::Context::new(algorithm),
            digits: digits.to_ascii_lowercase(),
        })
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// Returns whether the bytes have the digest.
    pub(super) fn holds(self) -> bool {
        layout::hex(self.context.finish().as_ref()) == self.digits
    }
}

/// Returns an error if the bytes do not have the digest.
pub(super) fn check_digest(digest: &str, bytes: &[u8]) -> Result<()> {
    let mut check = Check::new(digest)?;
    check.update(bytes);
    match check.holds() {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "{digest} is damaged: its content has another digest"
        ))),
    }
}

/// Returns the algorithm and the hexadecimal digits of a digest. Nothing else is accepted, so that
/// a digest can be used as a path.
pub(super) fn parse_digest(digest: &str) -> Result<(&'static Algorithm, &str)> {
    let known = digest.split_once(':').and_then(|(name, digits)| {
        let algorithm = match name {
            "sha256" => &SHA256,
            "sha384" => &SHA384,
            "sha512" => &SHA512,
            _ => return None,
        };
        let is_whole = digits.len() == algorithm.output_len() * 2;
        (is_whole && digits.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some((algorithm, digits))
    });
    // The error does not repeat the registry's text, which has no limit.
    known.ok_or_else(|| {
        let shown: String = digest.chars().take(80).collect();
        Error::invalid(format!("digest {shown:?} is malformed"))
    })
}

/// Returns the digest of bytes, `sha256:…`.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", layout::short_hash(bytes, 64))
}

/// The used parts of an image's config.
#[derive(Debug, Deserialize)]
struct ConfigFile {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<ConfigSection>,
    rootfs: Option<RootFs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigSection {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// A parsed config.
pub(super) struct Config {
    pub(super) platform: Platform,
    /// The image, without its size.
    pub(super) image: Image,
    /// Digests of its unpacked layers, lowest first.
    pub(super) diff_ids: Vec<String>,
}

impl Config {
    /// Parses a config, which must list as many layers as its manifest.
    pub(super) fn parse(bytes: &[u8], layers: usize) -> Result<Config> {
        let file: ConfigFile = serde_json::from_slice(bytes)
            .map_err(|cause| Error::invalid(format!("image config: {cause}")))?;
        let diff_ids = file.rootfs.unwrap_or_default().diff_ids;
        if diff_ids.len() != layers {
            return Err(Error::invalid(format!(
                "the config lists {} layers, the manifest {layers}",
                diff_ids.len(),
            )));
        }
        if diff_ids.len() > LAYERS_LIMIT {
            return Err(Error::invalid(format!(
                "the config lists {} layers, and at most {LAYERS_LIMIT} can be stacked",
                diff_ids.len()
            )));
        }
        for diff_id in &diff_ids {
            parse_digest(diff_id)?;
            if !diff_id.starts_with("sha256:") {
                return Err(Error::invalid(format!(
                    "image config: diff id {diff_id:?} is not a sha256 digest"
                )));
            }
        }
        let section = file.config.unwrap_or_default();
        let image = Image {
            id: digest_of(bytes),
            entrypoint: section.entrypoint.unwrap_or_default(),
            cmd: section.cmd.unwrap_or_default(),
            env: section.env.unwrap_or_default(),
            working_dir: section.working_dir.unwrap_or_default(),
            user: section.user.unwrap_or_default(),
            stop_signal: section.stop_signal.filter(|signal| !signal.is_empty()),
            layers: diff_ids.iter().map(|id| layer_folder(id)).collect(),
            ..Image::default()
        };
        Ok(Config {
            platform: Platform {
                architecture: file.architecture,
                os: file.os,
            },
            image,
            diff_ids,
        })
    }
}
