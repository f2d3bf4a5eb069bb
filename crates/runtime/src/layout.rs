//! Paths in a data directory, and names on the machine.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bounded;
use crate::error::Context as _;
use crate::{Error, Result, beneath};

/// Prefix of the names of all instances' bridges.
pub(crate) const BRIDGES: &str = "pods-";

/// Paths and names of one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    data_dir: PathBuf,
    hash: String,
}

impl Layout {
    /// Creates the data directory if it is missing. Different spellings of one directory give the
    /// same name.
    pub(crate) fn new(data_dir: &Path) -> Result<Layout> {
        fs::create_dir_all(data_dir).context(|| format!("create {}", data_dir.display()))?;
        let data_dir = data_dir
            .canonicalize()
            .context(|| format!("resolve {}", data_dir.display()))?;
        let hash = short_hash(data_dir.as_os_str().as_encoded_bytes(), 8);
        Ok(Layout { data_dir, hash })
    }

    /// Returns the name of the instance's cgroup and nftables table.
    pub(crate) fn name(&self) -> String {
        format!("everynode-{}", self.hash)
    }

    /// Returns the name of the bridge. Interface names have at most 15 characters.
    ///
    /// The names of our links do not start like those of network cards (`en`, `eth`, `wl`, `ib`).
    /// Otherwise a network manager that configures all cards, by `Name=e*`, would give them the
    /// machine's address.
    pub(crate) fn bridge(&self) -> String {
        format!("{BRIDGES}{}", self.hash)
    }

    /// Returns the name of the tunnel's device.
    pub(crate) fn tunnel(&self) -> String {
        format!("vxlan-{}", self.hash)
    }

    /// Returns the metric that identifies this instance's routes.
    pub(crate) fn metric(&self) -> u32 {
        // Positive also for programs that read it as a signed number.
        u32::from_str_radix(&self.hash[..6], 16).unwrap_or(0) | 1 << 24
    }

    /// Returns the name of the host's end of a pod's veth. Network managers and monitors ignore
    /// links with its prefix.
    pub(crate) fn cable(&self, pod: &str) -> String {
        format!("veth{}{}", &self.hash[..4], short_hash(pod.as_bytes(), 7))
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    /// Lock of the one process that runs this directory's pods.
    pub(crate) fn agent_lock(&self) -> PathBuf {
        self.data_dir.join("runtime.lock")
    }

    /// Mounted on itself as a private mount, so that mounts of shims below it stay in their own
    /// namespaces.
    pub(crate) fn run(&self) -> PathBuf {
        self.data_dir.join("run")
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.run().join("pods")
    }

    pub(crate) fn pod(&self, id: &str) -> PodLayout {
        PodLayout(self.pods().join(id))
    }

    /// Saved ranges of the pods' network.
    pub(crate) fn network(&self) -> PathBuf {
        self.run().join("network.json")
    }

    /// Folder with one file for each address in use, which contains the pod's id.
    pub(crate) fn addresses(&self) -> PathBuf {
        self.run().join("addresses")
    }
}

/// Paths of one pod.
#[derive(Clone, Debug)]
pub(crate) struct PodLayout(pub(crate) PathBuf);

impl PodLayout {
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("pod.json")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("shim.sock")
    }

    /// Record of the input of CNI plugins, with which the pod is deleted later.
    pub(crate) fn attachment(&self) -> PathBuf {
        self.0.join("cni.json")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    /// libcontainer's own state.
    pub(crate) fn oci(&self) -> PathBuf {
        self.0.join("oci")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }

    pub(crate) fn container(&self, id: &str) -> ContainerLayout {
        ContainerLayout(self.containers().join(id))
    }
}

/// Paths of one container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerLayout(pub(crate) PathBuf);

impl ContainerLayout {
    pub(crate) fn status(&self) -> PathBuf {
        self.0.join("status.json")
    }

    pub(crate) fn bundle_config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// Names of the image's layers, so that the image store can find the layers in use.
    pub(crate) fn layers(&self) -> PathBuf {
        self.0.join("layers.json")
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }
}

/// Returns the first `digits` hexadecimal digits of the SHA-256 of `bytes`.
pub(crate) fn short_hash(bytes: &[u8], digits: usize) -> String {
    let mut hex = hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    hex.truncate(digits);
    hex
}

/// Returns lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Extension of a file that is being written and then replaces another one. A file has one writer
/// at a time, so the next one overwrites the remains of a killed writer.
const UNFINISHED: &str = "unfinished";

/// Writes a JSON file. A reader sees the old or the new content, never a part. It is not synced to
/// the disk, because the processes and mounts that it describes do not survive the machine either.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).context(|| format!("encode {}", path.display()))?;
    let temporary = path.with_extension(UNFINISHED);
    let written = fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(&bytes)?;
        fs::rename(&temporary, path)
    });
    written.context(|| format!("write {}", path.display()))
}

/// Limit of our JSON files in bytes. A pod has at most 3 MiB, and escaping may need six bytes for
/// one.
const RECORD_LIMIT: u64 = 32 << 20;

/// Reads a JSON file. Returns `None` if it does not exist.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match bounded::read(path, RECORD_LIMIT) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .context(|| format!("read {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::machine(format!("read {}: {error}", path.display()))),
    }
}

/// Checks an id, because ids become file names, cgroups and socket paths.
pub(crate) fn check_id(what: &str, id: &str, longest: usize) -> Result<()> {
    let fits = !id.is_empty()
        && id.len() <= longest
        && !id.starts_with('.')
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if fits {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "{what} id {id:?}: want 1 to {longest} of [A-Za-z0-9_.-], not starting with a dot"
        )))
    }
}

/// Returns the names of the folders in a folder. Empty if it does not exist.
pub(crate) fn folders(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Removes a folder with its content. Succeeds if it does not exist.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    beneath::remove_tree(path).context(|| format!("remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_named_as_network_cards_are() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        // The prefixes of systemd.net-naming-scheme(7), `eth0`, and the matches of `Name=e*` or
        // `Name=w*` in a network manager.
        for name in [layout.bridge(), layout.tunnel(), layout.cable("pod")] {
            assert!(!name.starts_with(['e', 'i', 's', 'w']), "{name}");
            assert!(name.len() < libc::IFNAMSIZ, "{name}");
        }
    }
}
