//! A container's mounts: its volumes, the shared files in `/etc`, and the file for its last words.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume, VolumeMount};
use runtime::{Mount, MountSource, Propagation};

use super::environment::Environment;
use super::{PodFiles, expansion};

/// Where a container leaves its last words when its spec does not say.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// The mounts of a run, in the order in which they are made.
pub(super) fn mounts(
    pod: &Pod,
    container: &Container,
    attempt: u32,
    files: &PodFiles,
    env: &Environment,
) -> Result<Vec<Mount>, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let volumes = spec.volumes.unwrap_or_default();
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes.iter().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| format!("volume {:?} not found", mount.name))?;
        mounts.push(volume_mount(volume, mount, files, env)?);
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        let source = files.etc().join(name);
        let target = Path::new("/etc").join(name);
        if source.exists() && !mounts.iter().any(|mount| mount.target == target) {
            mounts.push(bind(target, source, false));
        }
    }
    let message = files.termination_message(&container.name, attempt);
    termination_file(&message).map_err(|error| format!("create {}: {error}", message.display()))?;
    let target = container
        .termination_message_path
        .as_deref()
        .filter(|path| !path.is_empty());
    mounts.push(bind(target.unwrap_or(TERMINATION_LOG).into(), message, false));
    Ok(mounts)
}

/// Whether what is mounted in the pod is to show outside.
pub(super) fn propagates(spec: &PodSpec) -> bool {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut mounts = containers.flat_map(|container| container.volume_mounts.iter().flatten());
    mounts.any(|mount| mount.mount_propagation.as_deref() == Some("Bidirectional"))
}

fn bind(target: PathBuf, path: PathBuf, read_only: bool) -> Mount {
    let propagation = Propagation::None;
    Mount {
        target,
        source: MountSource::Bind { path, propagation },
        read_only,
    }
}

fn termination_file(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, "")?;
    // Whatever user the container runs as must be able to write here.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

fn volume_mount(
    volume: &Volume,
    mount: &VolumeMount,
    files: &PodFiles,
    env: &Environment,
) -> Result<Mount, String> {
    let root = match &volume.host_path {
        Some(host_path) => PathBuf::from(&host_path.path),
        None => files.volume(&volume.name),
    };
    let sub_path = match (&mount.sub_path_expr, &mount.sub_path) {
        (Some(expression), _) if !expression.is_empty() => {
            let expanded = expansion::expand(expression, |name| env.get(name));
            if expanded.contains("$(") {
                return Err(format!(
                    "subPathExpr {expression:?} uses a variable that is not set"
                ));
            }
            Some(expanded)
        }
        (_, Some(path)) if !path.is_empty() => Some(path.clone()),
        _ => None,
    };
    let path = match sub_path {
        Some(sub_path) => inside(&root, &sub_path)?,
        None => root,
    };
    let fixed = volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some();
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => Propagation::HostToContainer,
        Some("Bidirectional") => Propagation::Bidirectional,
        _ => Propagation::None,
    };
    Ok(Mount {
        target: PathBuf::from(&mount.mount_path),
        source: MountSource::Bind { path, propagation },
        read_only: fixed || mount.read_only == Some(true),
    })
}

/// A path inside a volume; made as a folder when missing. Links that lead out of the volume are refused.
fn inside(root: &Path, sub_path: &str) -> Result<PathBuf, String> {
    let relative = Path::new(sub_path);
    let plain = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(format!("subPath {sub_path:?} must stay inside the volume"));
    }
    let failed = |error: std::io::Error| format!("prepare subPath {sub_path:?}: {error}");
    let root = root.canonicalize().map_err(failed)?;
    let mut path = root.clone();
    for part in relative.components() {
        path.push(part);
        match path.canonicalize() {
            Ok(resolved) if resolved.starts_with(&root) => path = resolved,
            Ok(_) => return Err(format!("subPath {sub_path:?} leads out of the volume")),
            Err(_) => fs::DirBuilder::new().mode(0o755).create(&path).map_err(failed)?,
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_sub_path_is_made_and_a_link_out_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("volume");
        fs::create_dir_all(root.join("a")).expect("create");
        std::os::unix::fs::symlink("/etc", root.join("out")).expect("link");
        std::os::unix::fs::symlink("a", root.join("in")).expect("link");
        let root = root.canonicalize().expect("resolve");
        assert_eq!(inside(&root, "a/b/c"), Ok(root.join("a/b/c")));
        assert!(root.join("a/b/c").is_dir());
        assert_eq!(inside(&root, "in/b"), Ok(root.join("a/b")));
        for path in ["out", "out/passwd", "../x", "/etc"] {
            assert!(inside(&root, path).is_err(), "{path}");
        }
    }
}
