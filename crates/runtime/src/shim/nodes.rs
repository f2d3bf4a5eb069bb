//! Device nodes of the machine that are created in a container.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::devices::{self, Kind, Rule};
use crate::error::Context as _;
use crate::{ContainerSpec, Error, Result};

/// Paths of devices of which every container has its own instance.
const OWN_DEVICES: &[&str] = &[
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/dev/fd",
    "/dev/console",
    "/dev/ptmx",
];

/// The devices of a container.
pub(super) struct Devices {
    /// What it may open; `None` is everything.
    pub(super) rules: Option<Vec<Rule>>,
    /// Nodes in addition to the standard ones, in the form of the OCI runtime's config.
    pub(super) nodes: Vec<Value>,
}

/// Looks up the devices that a container requests. A privileged container gets all devices of the
/// machine.
pub(super) fn devices(spec: &ContainerSpec) -> Result<Devices> {
    let mut nodes = Vec::new();
    let mut rules = devices::default_rules();
    for device in &spec.devices {
        // Names of a disk, such as those in /dev/disk/by-id, are symbolic links.
        let found = fs::metadata(&device.path).context(|| format!("device {}", device.path.display()))?;
        let Some(kind) = kind_of(&found) else {
            return Err(Error::invalid(format!(
                "device {} is neither a block nor a character device",
                device.path.display()
            )));
        };
        nodes.push(node(&device.target, kind, &found));
        rules.push(Rule {
            kind,
            major: Some(libc::major(found.rdev())),
            minor: Some(libc::minor(found.rdev())),
            access: device.access,
        });
    }
    if spec.security.privileged {
        let asked = |path: &Path| spec.devices.iter().any(|device| device.target == path);
        nodes.extend(machine_nodes(asked));
        return Ok(Devices { rules: None, nodes });
    }
    Ok(Devices {
        rules: Some(rules),
        nodes,
    })
}

fn kind_of(found: &Metadata) -> Option<Kind> {
    let kind = found.file_type();
    if kind.is_block_device() {
        Some(Kind::Block)
    } else {
        kind.is_char_device().then_some(Kind::Character)
    }
}

fn node(path: &Path, kind: Kind, found: &Metadata) -> Value {
    json!({
        "path": path,
        "type": kind.letter(),
        "major": libc::major(found.rdev()),
        "minor": libc::minor(found.rdev()),
        "fileMode": found.mode() & 0o7777,
        "uid": found.uid(),
        "gid": found.gid(),
    })
}

/// Returns every device of the machine, except those that are created otherwise.
fn machine_nodes(made: impl Fn(&Path) -> bool) -> Vec<Value> {
    let mut nodes = Vec::new();
    let mut folders = vec![PathBuf::from("/dev")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if OWN_DEVICES.iter().any(|own| path == Path::new(own)) || made(&path) {
                continue;
            }
            let Ok(found) = fs::symlink_metadata(&path) else {
                continue;
            };
            if found.is_dir() {
                folders.push(path);
            } else if let Some(kind) = kind_of(&found) {
                nodes.push(node(&path, kind, &found));
            }
        }
    }
    nodes
}
