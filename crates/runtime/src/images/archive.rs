//! Image archives: OCI layouts in a tar file, and the output of `docker save`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::limits::{ImageLimits, Meter, PATH_LIMIT};
use super::manifest::{
    Config, DOCUMENT_LIMIT, Descriptor, Document, Platform, check_digest, parse_digest, wrong_platform,
};
use super::{ImageInfo, Images, layer_folder, normalize_name, unpack};
use crate::bounded;
use crate::error::Context as _;
use crate::{Error, Result};

/// Depth limit of indexes that refer to indexes. None in use are deeper.
const INDEX_DEPTH: usize = 4;

/// Limit of members in an archive. Each layer, config and manifest is one, so this is enough for
/// hundreds of images.
const MEMBERS_LIMIT: usize = 50_000;

/// Limit of names that one archive may give to its images. Each name is a file that is synced to
/// the disk.
const NAMES_LIMIT: usize = 1_000;

const CONTAINERD_NAME: &str = "io.containerd.image.name";
const OCI_REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An image of an archive: its names and the members with its parts.
struct Found {
    names: Vec<String>,
    config: String,
    layers: Vec<String>,
    /// Digests of the document in the index, then of the manifest. Empty for the older form, which
    /// has no manifests.
    digests: Vec<String>,
}

/// Images of an archive for other platforms.
#[derive(Default)]
struct Foreign {
    names: Vec<String>,
    platforms: Vec<Platform>,
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
    let config = archive.config(&found.config, found.layers.len())?;
    let mut image = config.image;
    let mut allowance = images.allowance();
    let mut staged: Vec<(String, super::Staging)> = Vec::new();
    for (diff_id, blob) in config.diff_ids.iter().zip(&found.layers) {
        let folder = layer_folder(diff_id);
        image.size += archive.size(blob)?;
        if images.has_layer(&folder) || staged.iter().any(|(other, _)| *other == folder) {
            continue;
        }
        let staging = images.unpack_layer(archive.reader(blob)?, diff_id, &mut allowance)?;
        staged.push((folder, staging));
    }
    images.record(&found.names, &image, &found.digests, staged)
}

/// Position and size of members, by name.
type Places = HashMap<String, (u64, u64)>;
/// Targets of links among the members.
type Links = HashMap<String, String>;

/// A tar file whose members can be read by name.
struct Archive {
    file: File,
    members: Places,
    links: Links,
    foreign: Foreign,
}

impl Archive {
    fn open(images: &Images, path: &Path) -> Result<Archive> {
        let mut file = File::open(path).context(|| "open")?;
        let mut magic = [0u8; 4];
        let packed = file.read_exact(&mut magic).is_ok()
            && (magic.starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd]);
        file.rewind().context(|| "read")?;
        if packed {
            // Members are read out of order, so a compressed archive is decompressed once. The file
            // is deleted when it is closed.
            let staging = images.staging()?;
            let plain = staging.path().join("archive.tar");
            let mut output = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&plain)
                .context(|| format!("create {}", plain.display()))?;
            unpack_whole(file, &mut output, images.limits)?;
            file = output;
        }
        let (members, links) = members(&mut file)?;
        Ok(Archive {
            file,
            members,
            links,
            foreign: Foreign::default(),
        })
    }

    fn member(&self, name: &str) -> Result<(u64, u64)> {
        let name = clean(Path::new(name));
        // Old versions of `docker save` share layers by links with one step.
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
        // The archive may be shorter than the size in its header.
        bounded::all(self.reader(name)?, DOCUMENT_LIMIT).context(|| format!("read {name}"))
    }

    fn json<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let bytes = self.bytes(name)?;
        serde_json::from_slice(&bytes).map_err(|cause| Error::invalid(format!("{name}: {cause}")))
    }

    fn config(&mut self, name: &str, layers: usize) -> Result<Config> {
        Config::parse(&self.bytes(name)?, layers)
    }

    /// Returns the images for this machine, with their names.
    fn images(&mut self) -> Result<Vec<Found>> {
        let docker: Vec<DockerEntry> = if self.has("manifest.json") {
            self.json("manifest.json")?
        } else {
            Vec::new()
        };
        let mut found: Vec<Found> = Vec::new();
        if self.has("index.json") {
            self.oci_images(&mut found)?;
        } else if docker.is_empty() {
            return Err(Error::invalid("neither index.json nor manifest.json is in it"));
        }
        // Newer versions of `docker save` write both forms. The tags of the older form are full
        // names.
        for entry in docker {
            let entry = docker_image(entry)?;
            let same = |other: &&mut Found| same_blob(&other.config, &entry.config);
            match found.iter_mut().find(same) {
                Some(image) if !entry.names.is_empty() => image.names = entry.names,
                Some(_) => {}
                None if self.is_for_this_machine(&entry)? => found.push(entry),
                None => {}
            }
        }
        self.refuse_foreign(&found)?;
        let names: usize = found.iter().map(|image| image.names.len()).sum();
        if found.len().max(names) > NAMES_LIMIT {
            return Err(Error::invalid(format!(
                "it holds more than {NAMES_LIMIT} images or names"
            )));
        }
        Ok(found)
    }

    fn oci_images(&mut self, found: &mut Vec<Found>) -> Result<()> {
        let Document::Index(manifests) = Document::parse(&self.bytes("index.json")?)? else {
            return Err(Error::invalid("index.json: it lists no manifests"));
        };
        for descriptor in &manifests {
            let names = names_of(descriptor)?;
            match self.oci_image(descriptor, INDEX_DEPTH)? {
                Some(mut image) => {
                    image.names = names;
                    match found.iter_mut().find(|other| other.config == image.config) {
                        Some(other) => other.names.extend(image.names),
                        None => found.push(image),
                    }
                }
                None => self.foreign.names.extend(names),
            }
        }
        Ok(())
    }

    /// Returns the image of a descriptor. Selects this machine's platform from an index.
    fn oci_image(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Option<Found>> {
        let blob = blob_path(&descriptor.digest)?;
        let bytes = self.bytes(&blob)?;
        check_digest(&descriptor.digest, &bytes)?;
        match Document::parse(&bytes)? {
            Document::Index(_) if depth == 0 => Err(Error::invalid("its indexes are nested too deeply")),
            Document::Index(manifests) => {
                for inner in manifests {
                    let fits = inner.platform.as_ref().is_none_or(Platform::fits);
                    if !fits {
                        self.foreign.platforms.extend(inner.platform);
                    } else if self.has(&blob_path(&inner.digest)?)
                        // An archive may contain fewer platforms than its index lists.
                        && let Some(mut found) = self.oci_image(&inner, depth - 1)?
                    {
                        found.digests.insert(0, descriptor.digest.clone());
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
            Document::Manifest { config, layers } => {
                let found = Found {
                    names: Vec::new(),
                    config: blob_path(&config.digest)?,
                    layers: layers
                        .iter()
                        .map(|layer| blob_path(&layer.digest))
                        .collect::<Result<_>>()?,
                    digests: vec![descriptor.digest.clone()],
                };
                check_digest(&config.digest, &self.bytes(&found.config)?)?;
                Ok(self.is_for_this_machine(&found)?.then_some(found))
            }
        }
    }

    fn is_for_this_machine(&mut self, image: &Found) -> Result<bool> {
        let platform = self.config(&image.config, image.layers.len())?.platform;
        let fits = platform.fits();
        if !fits {
            self.foreign.platforms.push(platform);
            self.foreign.names.extend(image.names.iter().cloned());
        }
        Ok(fits)
    }

    /// Returns an error if a name in the archive refers only to an image for another platform, or
    /// if no image is left.
    fn refuse_foreign(&self, found: &[Found]) -> Result<()> {
        let Foreign { names, platforms } = &self.foreign;
        let mut lost = names
            .iter()
            .filter(|name| !found.iter().any(|image| image.names.contains(name)));
        match lost.next() {
            Some(name) => Err(wrong_platform(&format!("image {name}"), platforms)),
            None if found.is_empty() && platforms.is_empty() => Err(Error::invalid("it holds no image")),
            None if found.is_empty() => Err(wrong_platform("its image", platforms)),
            None => Ok(()),
        }
    }
}

/// Decompresses an archive that is compressed as a whole.
fn unpack_whole(packed: File, plain: &mut File, limits: ImageLimits) -> Result<()> {
    let input = unpack::decompress(packed).context(|| "decompress")?;
    let size = io::copy(&mut input.take(limits.bytes.saturating_add(1)), plain).context(|| "decompress")?;
    match size > limits.bytes {
        true => Err(limits.too_many_bytes("the unpacked archive")),
        false => Ok(()),
    }
}

/// Returns the positions of a tar file's members, and the links among them.
fn members(file: &mut File) -> Result<(Places, Links)> {
    let mut members = HashMap::new();
    let mut links = HashMap::new();
    file.rewind().context(|| "read")?;
    let (meter, gate) = Meter::new(&*file, u64::MAX);
    let mut tar = tar::Archive::new(meter);
    let mut entries = tar.entries_with_seek().context(|| "read the archive")?;
    loop {
        gate.begin();
        let Some(entry) = entries.next() else { break };
        let entry = entry.map_err(|cause| Error::invalid(format!("not an image archive: {cause}")))?;
        let name = clean(&entry.path().context(|| "read the archive")?);
        let link = entry.link_name().context(|| "read the archive")?;
        let longest = link
            .as_ref()
            .map_or(0, |link| link.as_os_str().len())
            .max(name.len());
        if longest > PATH_LIMIT || members.len() + links.len() >= MEMBERS_LIMIT {
            return Err(Error::invalid(format!(
                "not an image archive: it has more than {MEMBERS_LIMIT} members, or a name of more than {PATH_LIMIT} bytes"
            )));
        }
        match entry.header().entry_type() {
            kind if kind.is_file() => {
                members.insert(name, (entry.raw_file_position(), entry.size()));
            }
            kind if kind.is_symlink() || kind.is_hard_link() => {
                let to = link.unwrap_or_default();
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
    Ok((members, links))
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
        digests: Vec::new(),
    })
}

fn names_of(descriptor: &Descriptor) -> Result<Vec<String>> {
    let annotations = &descriptor.annotations;
    if let Some(name) = annotations.get(CONTAINERD_NAME) {
        return Ok(vec![normalize_name(name)?]);
    }
    // A tag without a name, such as `latest`, does not name an image.
    match annotations
        .get(OCI_REF_NAME)
        .filter(|name| name.contains(['/', ':']))
    {
        Some(name) => Ok(vec![normalize_name(name)?]),
        None => Ok(Vec::new()),
    }
}

fn blob_path(digest: &str) -> Result<String> {
    parse_digest(digest)?;
    Ok(format!("blobs/{}", digest.replacen(':', "/", 1)))
}

/// Compares member names of a config. `docker save` writes `<hex>.json` in one form and
/// `blobs/sha256/<hex>` in the other.
fn same_blob(a: &str, b: &str) -> bool {
    let stem = |path: &str| {
        Path::new(path)
            .file_name()
            .map(|name| name.to_string_lossy().trim_end_matches(".json").to_owned())
    };
    stem(a) == stem(b)
}

/// Returns a member's name without `./` and `..`.
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
