//! Where things lie in a data directory, and what they are called on the machine.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bounded;
use crate::error::Context as _;
use crate::{Error, Result, beneath};

/// How the names of all instances' bridges begin.
pub(crate) const BRIDGES: &str = "pods-";

/// Paths and names of one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    data_dir: PathBuf,
    hash: String,
}

impl Layout {
    /// Makes the data directory if it is missing; two spellings of one directory give one name.
    pub(crate) fn new(data_dir: &Path) -> Result<Layout> {
        fs::create_dir_all(data_dir).context(|| format!("create {}", data_dir.display()))?;
        let data_dir = data_dir
            .canonicalize()
            .context(|| format!("resolve {}", data_dir.display()))?;
        let hash = short_hash(data_dir.as_os_str().as_encoded_bytes(), 8);
        Ok(Layout { data_dir, hash })
    }

    /// The name of everything of this instance: its cgroup and its nftables table.
    pub(crate) fn name(&self) -> String {
        format!("everynode-{}", self.hash)
    }

    /// The bridge's name; interface names hold 15 characters.
    ///
    /// Neither it nor the other links begin as network cards do (`en`, `eth`, `wl`, `ib`): a network manager that sets up all cards, by `Name=e*`, would
    /// take them from us and give them the machine's address.
    pub(crate) fn bridge(&self) -> String {
        format!("{BRIDGES}{}", self.hash)
    }

    /// The name of the device that leads to nodes on other links.
    pub(crate) fn tunnel(&self) -> String {
        format!("vxlan-{}", self.hash)
    }

    /// The metric of this instance's routes, by which it knows them.
    pub(crate) fn metric(&self) -> u32 {
        // Positive, and below what some programs take for a number with a sign.
        u32::from_str_radix(&self.hash[..6], 16).unwrap_or(0) | 1 << 24
    }

    /// The machine's end of a pod's cable. Network managers and monitors know links that begin so, and leave them alone.
    pub(crate) fn cable(&self, pod: &str) -> String {
        format!("veth{}{}", &self.hash[..4], short_hash(pod.as_bytes(), 7))
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    /// Held by the one process that runs this directory's pods.
    pub(crate) fn agent_lock(&self) -> PathBuf {
        self.data_dir.join("runtime.lock")
    }

    /// Mounted on itself and private, so that what shims mount below stays in their own namespaces.
    pub(crate) fn run(&self) -> PathBuf {
        self.data_dir.join("run")
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.run().join("pods")
    }

    pub(crate) fn pod(&self, id: &str) -> PodLayout {
        PodLayout(self.pods().join(id))
    }

    /// Ranges of the pods' network.
    pub(crate) fn network(&self) -> PathBuf {
        self.run().join("network.json")
    }

    /// One file an address in use, holding the pod's id.
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

    /// What was given to network plugins, for the time when it is taken from them.
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

    /// Names of the image's layers, for whoever asks which layers are needed.
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

/// The first `digits` hexadecimal digits of the SHA-256 of `bytes`.
pub(crate) fn short_hash(bytes: &[u8], digits: usize) -> String {
    let mut hex = hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    hex.truncate(digits);
    hex
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Extension of a file that is being written and then takes the place of another. A file has one writer at a time, so what a killed
/// one left is overwritten by the next.
const UNFINISHED: &str = "unfinished";

/// Writes a JSON file so that a reader sees the old or the new one, never a part. It is not forced to the disk: what it
/// describes (processes, mounts) does not outlive the machine either.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).context(|| format!("encode {}", path.display()))?;
    let temporary = path.with_extension(UNFINISHED);
    let written = fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(&bytes)?;
        fs::rename(&temporary, path)
    });
    written.context(|| format!("write {}", path.display()))
}

/// Bytes of a JSON file of ours. A pod has at most 3 MiB, of which each byte may be escaped by six.
const RECORD_LIMIT: u64 = 32 << 20;

/// Reads a JSON file; `None` when there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match bounded::read(path, RECORD_LIMIT) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .context(|| format!("read {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::machine(format!("read {}: {error}", path.display()))),
    }
}

/// Ids become file names, cgroups and socket paths.
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

/// The folders of a folder by name; none when it does not exist.
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

/// Removes a folder and what it holds; fine when it is gone already.
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
        // The beginnings of systemd.net-naming-scheme(7), `eth0`, and what `Name=e*` or `Name=w*` of a network manager takes.
        for name in [layout.bridge(), layout.tunnel(), layout.cable("pod")] {
            assert!(!name.starts_with(['e', 'i', 's', 'w']), "{name}");
            assert!(name.len() < libc::IFNAMSIZ, "{name}");
        }
    }
}
