//! Images: names, records, and layers. Layers are unpacked once, and the overlays of all containers
//! share them.
//!
//! Several processes may use one store, such as the agent and `image import`. Each change holds a
//! file lock, and nothing is cached. A layer's folder appears by a rename after it is complete, so
//! an incomplete layer is never used. A process locks the folder of an incomplete layer as long as
//! it lives. The next process that opens the store removes folders without a lock.

mod archive;
mod limits;
mod manifest;
mod name;
mod pull;
mod registry;
mod unpack;

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use disk::Disk;
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::beneath;
use crate::error::Context as _;
use crate::layout::{self, Layout};
use crate::{Error, ErrorKind, Result};

use limits::Allowance;
pub use limits::ImageLimits;
use name::{Reference, parse_name};
pub use name::{normalize_name, registry_of};
pub use registry::Credentials;

/// Mode of a record, in a folder that only root may enter.
const RECORD_MODE: u32 = 0o600;

/// Properties of an image for its containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Full name, such as `docker.io/library/busybox:1.35`.
    pub name: String,
    /// The image id: the digest of its config, `sha256:…`.
    pub digest: String,
    /// `repository@sha256:…` of the index or manifest of this name. `None` if the image has none.
    pub repo_digest: Option<String>,
    /// `Entrypoint` of the config.
    pub entrypoint: Vec<String>,
    /// `Cmd` of the config.
    pub cmd: Vec<String>,
    /// `Env` of the config, `NAME=value`.
    pub env: Vec<String>,
    /// `WorkingDir` of the config; may be empty.
    pub working_dir: String,
    /// `User` of the config; may be empty.
    pub user: String,
    /// `StopSignal` of the config, such as `SIGQUIT`.
    pub stop_signal: Option<String>,
    /// Bytes of its unpacked layers. Layers that images share count for each of them.
    pub size: u64,
    /// Time of the pull or import.
    pub imported_at: Timestamp,
}

/// A file of an image that [`Images::import_scratch`] creates.
#[derive(Clone, Debug)]
pub struct ScratchFile {
    /// Absolute path in the image.
    pub path: PathBuf,
    /// File on this machine to copy.
    pub source: PathBuf,
    /// Permission bits, such as `0o755`.
    pub mode: u32,
}

/// Record of an image, independent of its names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Image {
    pub(crate) id: String,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) user: String,
    pub(crate) stop_signal: Option<String>,
    pub(crate) size: u64,
    /// Names of the layers' folders, lowest first.
    pub(crate) layers: Vec<String>,
    /// The image's id in a pod's status: [`ImageInfo::repo_digest`], or the image id if there is
    /// none.
    #[serde(default)]
    pub(crate) reference: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    image: Image,
    /// Digests of its documents: of the index or manifest that the name refers to, then of the
    /// manifest that was selected from an index.
    #[serde(default)]
    digests: Vec<String>,
    imported_at: Timestamp,
}

impl Record {
    fn repo_digest(&self) -> Option<String> {
        let name = parse_name(&self.name).ok()?;
        self.digests.first().map(|digest| name.with_digest(digest))
    }

    /// Returns whether the image has that name. If the name has a digest, its tag is ignored, as in
    /// Kubernetes.
    fn serves(&self, name: &Reference) -> bool {
        if self.name == name.to_string() {
            return true;
        }
        let known = |digest: &str| self.digests.iter().any(|known| known == digest);
        name.digest().is_some_and(known)
            && parse_name(&self.name).is_ok_and(|own| own.shares_repository(name))
    }

    fn info(self) -> ImageInfo {
        let repo_digest = self.repo_digest();
        let Record {
            name,
            image,
            imported_at,
            ..
        } = self;
        ImageInfo {
            name,
            repo_digest,
            digest: image.id,
            entrypoint: image.entrypoint,
            cmd: image.cmd,
            env: image.env,
            working_dir: image.working_dir,
            user: image.user,
            stop_signal: image.stop_signal,
            size: image.size,
            imported_at,
        }
    }
}

/// The image store of one data directory.
#[derive(Clone, Debug)]
pub struct Images {
    layout: Arc<Layout>,
    limits: ImageLimits,
    disk: Disk,
}

impl Images {
    /// Opens the image store of a data directory. Creates it if it is missing.
    pub fn open(data_dir: &Path) -> Result<Images> {
        Images::with_layout(Arc::new(Layout::new(data_dir)?))
    }

    pub(crate) fn with_layout(layout: Arc<Layout>) -> Result<Images> {
        Images::on(Disk::default(), layout)
    }

    fn on(disk: Disk, layout: Arc<Layout>) -> Result<Images> {
        let images = Images {
            layout,
            limits: ImageLimits::default(),
            disk,
        };
        let all = images.layout.images();
        beneath::make_private(&all).context(|| format!("create {}", all.display()))?;
        for folder in [images.records(), images.layers(), images.temporary()] {
            fs::create_dir_all(&folder).context(|| format!("create {}", folder.display()))?;
        }
        images.remove_leftovers()?;
        Ok(images)
    }

    /// Returns the same store with other limits for new images.
    #[must_use]
    pub fn with_limits(self, limits: ImageLimits) -> Images {
        Images { limits, ..self }
    }

    /// Removes the remains of killed processes.
    fn remove_leftovers(&self) -> Result<()> {
        let lock = self.lock()?;
        let temporary = self.temporary();
        for entry in list(&temporary)? {
            let path = entry.path();
            // Folders are created under the lock that is held here, so those without a lock belong
            // to no process.
            match lock_folder(&path, FlockArg::LockExclusiveNonblock) {
                Ok(Some(_)) => layout::remove_tree(&path)?,
                Ok(None) => {}
                // Not a folder, so it is from another version.
                Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => {
                    fs::remove_file(&path).context(|| format!("remove {}", path.display()))?;
                }
                Err(cause) => return Err(Error::machine(format!("lock {}: {cause}", path.display()))),
            }
        }
        for entry in list(&self.records())? {
            let path = entry.path();
            // Records are written under the lock, too, so files with other names are incomplete.
            if path.extension().is_none_or(|extension| extension != "json") {
                fs::remove_file(&path).context(|| format!("remove {}", path.display()))?;
            }
        }
        drop(lock);
        Ok(())
    }

    fn records(&self) -> PathBuf {
        self.layout.images().join("records")
    }

    fn layers(&self) -> PathBuf {
        self.layout.images().join("layers")
    }

    fn temporary(&self) -> PathBuf {
        self.layout.images().join("tmp")
    }

    fn lock(&self) -> Result<Flock<fs::File>> {
        let path = self.layout.images().join("lock");
        let file = fs::File::create(&path).context(|| format!("open {}", path.display()))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, cause)| Error::machine(format!("lock {}: {cause}", path.display())))
    }

    fn record_path(&self, whole_name: &str) -> PathBuf {
        let file = layout::short_hash(whole_name.as_bytes(), 40);
        self.records().join(format!("{file}.json"))
    }

    /// Imports an OCI or docker archive from a file (tar, optionally compressed with gzip or zstd).
    /// The images get the names in the archive, or `name`, for which the archive must contain a
    /// single image.
    pub fn import(&self, archive: &Path, name: Option<&str>) -> Result<Vec<ImageInfo>> {
        archive::import(self, archive, name)
            .map_err(|error| Error::new(error.kind, format!("import {}: {error}", archive.display())))
    }

    /// Creates an image that contains only a few files.
    pub fn import_scratch(
        &self,
        name: &str,
        files: &[ScratchFile],
        entrypoint: &[String],
    ) -> Result<ImageInfo> {
        let name = normalize_name(name)?;
        let staging = self.staging()?;
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        let mut size = 0;
        for file in files {
            size += unpack::place_file(staging.path(), file, &mut digest)?;
        }
        let layer = layout::hex(digest.finish().as_ref());
        let mut identity = layer.clone();
        for word in entrypoint {
            identity.push('\0');
            identity.push_str(word);
        }
        let image = Image {
            id: format!("sha256:{}", layout::short_hash(identity.as_bytes(), 64)),
            entrypoint: entrypoint.to_vec(),
            size,
            layers: vec![layer_folder(&layer)],
            ..Image::default()
        };
        let staged = vec![(layer_folder(&layer), staging)];
        self.record_one(name, &image, &[], staged)
    }

    /// Returns all images by name.
    pub fn list(&self) -> Result<Vec<ImageInfo>> {
        Ok(self.read_records()?.into_iter().map(Record::info).collect())
    }

    /// Returns the image with that name, in any spelling; `None` if it does not exist.
    pub fn resolve(&self, name: &str) -> Result<Option<ImageInfo>> {
        Ok(self.find(name)?.map(Record::info))
    }

    /// Returns the image and the folders of its layers, lowest first.
    pub(crate) fn for_container(&self, name: &str) -> Result<(Image, Vec<PathBuf>)> {
        let mut record = self
            .find(name)?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("image {name:?} is not on this node")))?;
        record.image.reference = record.repo_digest().unwrap_or_else(|| record.image.id.clone());
        let layers = self.layers();
        let folders = record
            .image
            .layers
            .iter()
            .map(|layer| layers.join(layer))
            .collect();
        Ok((record.image, folders))
    }

    fn find(&self, name: &str) -> Result<Option<Record>> {
        let name = parse_name(name)?;
        let found = layout::read_json(&self.record_path(&name.to_string()))?;
        if found.is_some() || name.digest().is_none() {
            return Ok(found);
        }
        Ok(self
            .read_records()?
            .into_iter()
            .find(|record| record.serves(&name)))
    }

    /// Removes a name. Removes its layers when no image and no container needs them. Fails if a
    /// container was started by this name, because its next run needs it, or if a container uses
    /// the image and this is its last name.
    pub fn remove(&self, name: &str) -> Result<()> {
        let whole = normalize_name(name)?;
        let lock = self.lock()?;
        let records = self.read_records()?;
        let Some(record) = records.iter().find(|record| record.name == whole) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("image {whole} is not on this node"),
            ));
        };
        let others = || records.iter().filter(|other| other.name != whole);
        let is_last = !others().any(|other| other.image.id == record.image.id);
        let uses = |user: &crate::ContainerStatus| {
            let by_name = parse_name(&user.image)
                .is_ok_and(|name| record.serves(&name) && !others().any(|other| other.serves(&name)));
            by_name || (is_last && user.image_id == record.image.id)
        };
        if let Some(user) = self.users().into_iter().find(uses) {
            return Err(Error::new(
                ErrorKind::InUse,
                format!("image {whole} is used by container {}", user.id),
            ));
        }
        let path = self.record_path(&whole);
        self.disk
            .remove(&path)
            .context(|| format!("remove {}", path.display()))?;
        self.sweep()?;
        drop(lock);
        Ok(())
    }

    /// Removes layers that neither an image nor a container needs. Returns their number.
    pub fn collect_garbage(&self) -> Result<usize> {
        let lock = self.lock()?;
        let swept = self.sweep();
        drop(lock);
        swept
    }

    /// Returns the containers of this data directory, running or not.
    fn containers(&self) -> Vec<layout::ContainerLayout> {
        let mut containers = Vec::new();
        for pod in layout::folders(&self.layout.pods()) {
            let pod = self.layout.pod(&pod);
            for container in layout::folders(&pod.containers()) {
                containers.push(pod.container(&container));
            }
        }
        containers
    }

    fn users(&self) -> Vec<crate::ContainerStatus> {
        let read = |container: layout::ContainerLayout| layout::read_json(&container.status()).ok().flatten();
        self.containers().into_iter().filter_map(read).collect()
    }

    fn sweep(&self) -> Result<usize> {
        let mut needed: HashSet<String> = self
            .read_records()?
            .into_iter()
            .flat_map(|record| record.image.layers)
            .collect();
        for container in self.containers() {
            needed.extend(layout::read_json::<Vec<String>>(&container.layers())?.unwrap_or_default());
        }
        let mut layers = layout::folders(&self.layers());
        layers.retain(|layer| !needed.contains(layer));
        if !layers.is_empty() {
            // A record that is restored after a power failure must find its layers.
            let records = self.records();
            self.disk
                .sync_dir_of(&records.join("any"))
                .context(|| format!("sync {}", records.display()))?;
        }
        for layer in &layers {
            layout::remove_tree(&self.layers().join(layer))?;
        }
        Ok(layers.len())
    }

    fn read_records(&self) -> Result<Vec<Record>> {
        let folder = self.records();
        let entries = fs::read_dir(&folder).context(|| format!("list {}", folder.display()))?;
        let mut records = Vec::new();
        for entry in entries.flatten() {
            if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "json")
                && let Some(record) = layout::read_json::<Record>(&entry.path())?
            {
                records.push(record);
            }
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records)
    }

    fn has_layer(&self, folder: &str) -> bool {
        self.layers().join(folder).is_dir()
    }

    /// Creates a temporary folder, which is removed unless it becomes a layer.
    fn staging(&self) -> Result<Staging> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let lock = self.lock()?;
        let path = loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = self.temporary().join(format!("{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => break path,
                // From a process with the same PID in another namespace.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::machine(format!("create {}: {error}", path.display()))),
            }
        };
        let held =
            lock_folder(&path, FlockArg::LockExclusive).context(|| format!("lock {}", path.display()))?;
        drop(lock);
        Ok(Staging { path, _held: held })
    }

    /// Returns the limits for the layers of one image.
    fn allowance(&self) -> Allowance {
        Allowance::new(self.limits)
    }

    fn record_one(
        &self,
        name: String,
        image: &Image,
        digests: &[String],
        staged: Vec<(String, Staging)>,
    ) -> Result<ImageInfo> {
        self.record(&[name], image, digests, staged)?
            .pop()
            .ok_or_else(|| Error::machine("no image was recorded"))
    }

    /// Renames temporary folders to layers and writes the records of the names. A record is written
    /// to the disk only after its layers. After a power failure an image is therefore complete, or
    /// it is pulled again.
    fn record(
        &self,
        names: &[String],
        image: &Image,
        digests: &[String],
        staged: Vec<(String, Staging)>,
    ) -> Result<Vec<ImageInfo>> {
        if !staged.is_empty() {
            // Syncs all files of a layer at once, before it waits for the lock.
            let all = self.temporary();
            self.disk
                .sync_file_system(&all)
                .context(|| format!("sync {}", all.display()))?;
        }
        let lock = self.lock()?;
        for (folder, staging) in staged {
            let target = self.layers().join(&folder);
            if target.is_dir() {
                continue;
            }
            self.disk
                .rename(staging.path(), &target)
                .context(|| format!("create {}", target.display()))?;
        }
        if let Some(missing) = image.layers.iter().find(|layer| !self.has_layer(layer)) {
            return Err(Error::machine(format!(
                "layer {missing} was removed while the image was imported; import it again"
            )));
        }
        let mut infos = Vec::new();
        for name in names {
            let record = Record {
                name: name.clone(),
                image: image.clone(),
                digests: digests.to_vec(),
                imported_at: Timestamp::now(),
            };
            let path = self.record_path(name);
            let bytes = serde_json::to_vec(&record).context(|| format!("encode {}", path.display()))?;
            self.disk
                .replace(&path, &bytes, RECORD_MODE)
                .context(|| format!("write {}", path.display()))?;
            infos.push(record.info());
        }
        drop(lock);
        Ok(infos)
    }

    /// Unpacks one layer.
    fn unpack_layer(&self, blob: impl Read, diff_id: &str, allowance: &mut Allowance) -> Result<Staging> {
        let staging = self.staging()?;
        let got = unpack::unpack(blob, staging.path(), allowance)
            .map_err(|error| Error::new(error.kind, format!("layer {diff_id}: {error}")))?;
        if got != diff_id {
            return Err(Error::invalid(format!(
                "layer {diff_id} is damaged: its digest is {got}"
            )));
        }
        Ok(staging)
    }
}

/// Returns the entries of a folder.
fn list(folder: &Path) -> Result<Vec<fs::DirEntry>> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect());
    entries.context(|| format!("list {}", folder.display()))
}

/// Locks a folder until the lock is dropped or the process ends. Returns `None` if another process
/// holds the lock.
fn lock_folder(path: &Path, how: FlockArg) -> io::Result<Option<Flock<fs::File>>> {
    let folder = fs::File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)?;
    match Flock::lock(folder, how) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

/// A folder below `images/tmp`.
struct Staging {
    path: PathBuf,
    _held: Option<Flock<fs::File>>,
}

impl Staging {
    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = layout::remove_tree(&self.path) {
            tracing::warn!(%error, "cannot remove a temporary folder");
        }
    }
}

/// Returns the folder name of a layer, from its diff id or hexadecimal digest. It is short, because
/// the names of all layers must fit in one page of mount options: 127 layers of 24 digits fit.
fn layer_folder(diff_id: &str) -> String {
    let digits = diff_id.trim_start_matches("sha256:");
    digits.chars().take(24).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use disk::{CutOff, Gate, Operation, Verdict};

    use super::*;

    fn open(folder: &Path, disk: Disk) -> Images {
        Images::on(disk, Arc::new(Layout::new(folder).unwrap())).unwrap()
    }

    fn import(images: &Images, source: &Path) -> Result<ImageInfo> {
        let file = ScratchFile {
            path: "/program".into(),
            source: source.to_owned(),
            mode: 0o755,
        };
        images.import_scratch("a.example/app:1", &[file], &["/program".to_owned()])
    }

    #[test]
    fn a_recorded_image_is_whole_wherever_its_import_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("program");
        for torn in [false, true] {
            for passes in 0.. {
                let store = folder.path().join(format!("{torn}{passes}"));
                fs::write(&source, "old").unwrap();
                import(&open(&store, Disk::default()), &source).unwrap();
                fs::write(&source, "new").unwrap();
                let cut = Arc::new(match torn {
                    false => CutOff::after(passes),
                    true => CutOff::within(passes),
                });
                let done = import(&open(&store, Disk::gated(cut.clone())), &source);
                assert_eq!(done.is_ok(), !cut.has_cut());
                let next = open(&store, Disk::default());
                let (_, layers) = next.for_container("a.example/app:1").unwrap();
                let content = fs::read_to_string(layers[0].join("program")).unwrap();
                let is_old = done.is_err() && content == "old";
                assert!(is_old || content == "new", "{passes}: {content}");
                next.collect_garbage().unwrap();
                assert!(layers[0].is_dir());
                import(&next, &source).unwrap();
                if done.is_ok() {
                    break;
                }
            }
        }
    }

    /// Operations on the disk, in order.
    #[derive(Default)]
    struct Watch(Mutex<Vec<(Operation, PathBuf)>>);

    impl Gate for Watch {
        fn pass(&self, operation: Operation, path: &Path) -> Verdict {
            self.0.lock().unwrap().push((operation, path.to_owned()));
            Verdict::Pass
        }
    }

    #[test]
    fn layers_are_on_the_disk_before_their_record_is() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("program");
        fs::write(&source, "x").unwrap();
        let watch = Arc::new(Watch::default());
        import(&open(folder.path(), Disk::gated(watch.clone())), &source).unwrap();
        let done = watch.0.lock().unwrap();
        let first = |wanted: Operation, below: &str| {
            let found = |(operation, path): &(Operation, PathBuf)| {
                *operation == wanted
                    && path
                        .strip_prefix(folder.path())
                        .is_ok_and(|path| path.starts_with(below))
            };
            done.iter().position(found).unwrap()
        };
        let steps = [
            first(Operation::Sync, "images/tmp"),
            first(Operation::Rename, "images/layers"),
            first(Operation::Sync, "images/layers"),
            first(Operation::Create, "images/records"),
        ];
        assert!(steps.is_sorted(), "{done:?}");
    }
}
