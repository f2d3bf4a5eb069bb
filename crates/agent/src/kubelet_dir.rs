//! The kubelet's folder, `/var/lib/kubelet`. Charts of storage drivers, device plugins and monitoring mount parts of it as folders that
//! exist, so they are made when the agent starts.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::options::Error;

/// The folders that the kubelet makes at its start.
const FOLDERS: [&str; 5] = [
    "pods",
    "plugins",
    "plugins_registry",
    "device-plugins",
    "pod-resources",
];

/// The kubelet's mode of all of them.
const MODE: u32 = 0o750;

/// Makes the folders that are missing. Those that are there stay as they are: another agent or a kubelet may have made them.
pub(crate) fn make(root: &Path) -> Result<(), Error> {
    for path in FOLDERS.map(|folder| root.join(folder)) {
        let made = DirBuilder::new().recursive(true).mode(MODE).create(&path);
        made.map_err(|source| Error::KubeletDir { path, source })?;
    }
    Ok(())
}

/// Removes the folders when nothing is in them, and nothing else beside them: a driver, another agent or a kubelet uses them still.
pub(crate) fn remove_if_unused(root: &Path) {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let is_own = |name: &std::ffi::OsStr| FOLDERS.iter().any(|own| name == *own);
    let mut names = entries.map(|entry| entry.file_name());
    if !names.all(|name| is_own(&name)) {
        return;
    }
    for path in FOLDERS
        .iter()
        .map(|folder| root.join(folder))
        .chain([root.to_owned()])
    {
        match std::fs::remove_dir(&path) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                tracing::debug!(path = %path.display(), %error, "remove a folder of the kubelet's");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn folders_are_made_and_what_is_used_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("kubelet");
        make(&root).expect("make");
        make(&root).expect("make again");
        for name in FOLDERS {
            let found = std::fs::symlink_metadata(root.join(name)).expect("stat");
            assert!(found.is_dir());
            assert_eq!(found.permissions().mode() & 0o7777, MODE, "{name}");
        }
        for used in ["config.yaml", "plugins/socket"] {
            std::fs::write(root.join(used), "").expect("write");
            remove_if_unused(&root);
            assert!(root.join(used).exists());
            assert_eq!(root.join("pods").exists(), used == "config.yaml");
            std::fs::remove_file(root.join(used)).expect("remove");
        }
        remove_if_unused(&root);
        assert!(!root.exists());
    }
}
