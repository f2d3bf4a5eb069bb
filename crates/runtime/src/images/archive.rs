//! Image archives: OCI layouts in a tar, and what `docker save` writes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Image, ImageInfo, Images, layer_folder, normalize_name, parse_config, unpack};
use crate::error::Context as _;
use crate::{Error, Result};

/// Indexes may name indexes; nobody nests deeper.
const INDEX_DEPTH: usize = 4;

/// Longest JSON document of an archive in bytes; registries draw the line at 4 MiB.
const DOCUMENT_LIMIT: u64 = 4 << 20;

const CONTAINERD_NAME: &str = "io.containerd.image.name";
const OCI_REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: HashMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// One image of an archive: its names and where its parts lie.
struct Found {
    names: Vec<String>,
    config: String,
    layers: Vec<String>,
}

pub(super) fn import(images: &Images, path: &Path, name: Option<&str>) -> Result<Vec<ImageInfo>> {
    let mut archive = Archive::open(images, path)?;
    let mut found = archive.images()?;
    if let Some(name) = name {
        if found.len() != 1 {
            return Err(Error::invalid(format!(
                "the archive holds {} images, so one name cannot be given to it",
                found.len()
            )));
        }
        found[0].names = vec![normalize_name(name)?];
    }
    let mut infos = Vec::new();
    for image in found {
        if image.names.is_empty() {
            return Err(Error::invalid("the archive names no image: give it a name"));
        }
        infos.extend(import_one(images, &mut archive, &image)?);
    }
    Ok(infos)
}

fn import_one(images: &Images, archive: &mut Archive, found: &Found) -> Result<Vec<ImageInfo>> {
    let config = archive.bytes(&found.config)?;
    let (mut image, diff_ids): (Image, _) = parse_config(&config)?;
    if diff_ids.len() != found.layers.len() {
        return Err(Error::invalid(format!(
            "the config lists {} layers, the manifest {}",
            diff_ids.len(),
            found.layers.len()
        )));
    }
    let mut staged: Vec<(String, super::Staging)> = Vec::new();
    for (diff_id, blob) in diff_ids.iter().zip(&found.layers) {
        let folder = layer_folder(diff_id);
        image.size += archive.size(blob)?;
        if images.has_layer(&folder) || staged.iter().any(|(other, _)| *other == folder) {
            continue;
        }
        if let Some(staging) = images.unpack_layer(archive.reader(blob)?, diff_id)? {
            staged.push((folder, staging));
        }
    }
    images.record(&found.names, &image, staged)
}

/// A tar whose members are found by name.
struct Archive {
    file: File,
    members: HashMap<String, (u64, u64)>,
    links: HashMap<String, String>,
}

impl Archive {
    fn open(images: &Images, path: &Path) -> Result<Archive> {
        let mut file = File::open(path).context(|| "open")?;
        let mut magic = [0u8; 4];
        let packed = file.read_exact(&mut magic).is_ok()
            && (magic.starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd]);
        file.rewind().context(|| "read")?;
        if packed {
            // Members are read out of order, so a packed archive is unpacked once; the file is gone when it is closed.
            let staging = images.staging()?;
            let plain = staging.path().join("archive.tar");
            let mut output = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&plain)
                .context(|| format!("create {}", plain.display()))?;
            let mut input = unpack::decompress(file).context(|| "decompress")?;
            io::copy(&mut input, &mut output).context(|| "decompress")?;
            file = output;
        }
        let mut members = HashMap::new();
        let mut links = HashMap::new();
        file.rewind().context(|| "read")?;
        let mut tar = tar::Archive::new(&file);
        for entry in tar.entries_with_seek().context(|| "read the archive")? {
            let entry = entry.map_err(|cause| Error::invalid(format!("not an image archive: {cause}")))?;
            let name = clean(&entry.path().context(|| "read the archive")?);
            match entry.header().entry_type() {
                kind if kind.is_file() => {
                    members.insert(name, (entry.raw_file_position(), entry.size()));
                }
                kind if kind.is_symlink() || kind.is_hard_link() => {
                    let to = entry
                        .link_name()
                        .context(|| "read the archive")?
                        .unwrap_or_default();
                    let to = if kind.is_symlink() {
                        clean(&Path::new(&name).parent().unwrap_or(Path::new("")).join(to))
                    } else {
                        clean(&to)
                    };
                    links.insert(name, to);
                }
                _ => {}
            }
        }
        Ok(Archive { file, members, links })
    }

    fn member(&self, name: &str) -> Result<(u64, u64)> {
        let name = clean(Path::new(name));
        // `docker save` of old shared layers by links, one step deep.
        let target = self.links.get(&name).unwrap_or(&name);
        self.members
            .get(target)
            .copied()
            .ok_or_else(|| Error::invalid(format!("the archive lacks {name}")))
    }

    fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    fn size(&self, name: &str) -> Result<u64> {
        Ok(self.member(name)?.1)
    }

    fn reader(&mut self, name: &str) -> Result<impl Read + '_> {
        let (position, size) = self.member(name)?;
        self.file
            .seek(SeekFrom::Start(position))
            .context(|| format!("read {name}"))?;
        Ok((&self.file).take(size))
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let (_, size) = self.member(name)?;
        if size > DOCUMENT_LIMIT {
            return Err(Error::invalid(format!(
                "{name} has {size} bytes, more than {DOCUMENT_LIMIT}"
            )));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        self.reader(name)?
            .read_to_end(&mut bytes)
            .context(|| format!("read {name}"))?;
        Ok(bytes)
    }

    fn json<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let bytes = self.bytes(name)?;
        serde_json::from_slice(&bytes).map_err(|cause| Error::invalid(format!("{name}: {cause}")))
    }

    fn images(&mut self) -> Result<Vec<Found>> {
        let docker: Vec<DockerEntry> = if self.has("manifest.json") {
            self.json("manifest.json")?
        } else {
            Vec::new()
        };
        if !self.has("index.json") {
            if docker.is_empty() {
                return Err(Error::invalid("neither index.json nor manifest.json is in it"));
            }
            return docker.into_iter().map(docker_image).collect();
        }
        let index: Index = self.json("index.json")?;
        let mut found: Vec<Found> = Vec::new();
        for descriptor in &index.manifests {
            let Some(mut image) = self.oci_image(descriptor, INDEX_DEPTH)? else {
                continue;
            };
            image.names = names_of(descriptor)?;
            match found.iter_mut().find(|other| other.config == image.config) {
                Some(other) => other.names.extend(image.names),
                None => found.push(image),
            }
        }
        // Newer `docker save` writes both; the tags of the older form are whole names.
        for entry in docker {
            let entry = docker_image(entry)?;
            match found
                .iter_mut()
                .find(|other| same_blob(&other.config, &entry.config))
            {
                Some(image) if !entry.names.is_empty() => image.names = entry.names,
                Some(_) => {}
                None => found.push(entry),
            }
        }
        if found.is_empty() {
            return Err(Error::invalid("no image for this machine is in it"));
        }
        Ok(found)
    }

    /// The image of a descriptor, for this machine's platform when it is an index.
    fn oci_image(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Option<Found>> {
        let name = blob_path(&descriptor.digest)?;
        if descriptor.media_type.contains("index") || descriptor.media_type.contains("manifest.list") {
            if depth == 0 {
                return Err(Error::invalid("its indexes are nested too deeply"));
            }
            let index: Index = self.json(&name)?;
            for inner in index.manifests.iter().filter(|inner| fits(inner)) {
                // An archive may hold fewer platforms than its index lists.
                if self.has(&blob_path(&inner.digest)?) {
                    return self.oci_image(inner, depth - 1);
                }
            }
            return Ok(None);
        }
        let manifest: Manifest = self.json(&name)?;
        Ok(Some(Found {
            names: Vec::new(),
            config: blob_path(&manifest.config.digest)?,
            layers: manifest
                .layers
                .iter()
                .map(|layer| blob_path(&layer.digest))
                .collect::<Result<_>>()?,
        }))
    }
}

fn docker_image(entry: DockerEntry) -> Result<Found> {
    Ok(Found {
        names: entry
            .repo_tags
            .unwrap_or_default()
            .iter()
            .map(|tag| normalize_name(tag))
            .collect::<Result<_>>()?,
        config: clean(Path::new(&entry.config)),
        layers: entry.layers,
    })
}

fn names_of(descriptor: &Descriptor) -> Result<Vec<String>> {
    let annotations = &descriptor.annotations;
    if let Some(name) = annotations.get(CONTAINERD_NAME) {
        return Ok(vec![normalize_name(name)?]);
    }
    // A bare tag such as `latest` names no image.
    match annotations
        .get(OCI_REF_NAME)
        .filter(|name| name.contains(['/', ':']))
    {
        Some(name) => Ok(vec![normalize_name(name)?]),
        None => Ok(Vec::new()),
    }
}

fn fits(descriptor: &Descriptor) -> bool {
    let here = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    descriptor
        .platform
        .as_ref()
        .is_none_or(|platform| platform.os == "linux" && platform.architecture == here)
}

fn blob_path(digest: &str) -> Result<String> {
    digest
        .split_once(':')
        .filter(|(algorithm, hex)| !algorithm.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(|(algorithm, hex)| format!("blobs/{algorithm}/{hex}"))
        .ok_or_else(|| Error::invalid(format!("digest {digest:?} is malformed")))
}

/// `docker save` calls a config `<hex>.json` in one form and `blobs/sha256/<hex>` in the other.
fn same_blob(a: &str, b: &str) -> bool {
    let stem = |path: &str| {
        Path::new(path)
            .file_name()
            .map(|name| name.to_string_lossy().trim_end_matches(".json").to_owned())
    };
    stem(a) == stem(b)
}

/// A member's name without `./` and `..`.
fn clean(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    parts.join("/")
}
