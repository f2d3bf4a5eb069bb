//! A container's mounts: its volumes, the shared files in `/etc`, and the file for its last words.

use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::{fs, process};

use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use runtime::{Mount, Propagation};

use super::environment::Environment;
use super::{PodFiles, expansion};
use crate::volumes;

/// Where a container leaves its last words when its spec does not say.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// The mounts of a run.
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
            mounts.push(own_file(name, target, source));
        }
    }
    let message = files.termination_message(&container.name, attempt);
    termination_file(&message).map_err(|error| format!("create {}: {error}", message.display()))?;
    let target = container
        .termination_message_path
        .as_deref()
        .filter(|path| !path.is_empty());
    let target = target.unwrap_or(TERMINATION_LOG).into();
    mounts.push(own_file("termination-log", target, message));
    Ok(mounts)
}

fn own_file(name: &str, target: PathBuf, source: PathBuf) -> Mount {
    Mount {
        name: name.to_owned(),
        target,
        source,
        ..Mount::default()
    }
}

/// Makes the empty file for last words. It is made aside and renamed, so that nothing that lies there already is opened or changed.
fn termination_file(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension(format!("new{}", process::id()));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&fresh)?;
    // The container's user must be able to write here, whichever it is.
    file.set_permissions(fs::Permissions::from_mode(0o666))?;
    fs::rename(&fresh, path)
}

fn volume_mount(
    volume: &Volume,
    mount: &VolumeMount,
    files: &PodFiles,
    env: &Environment,
) -> Result<Mount, String> {
    let host_path = volume.host_path.as_ref();
    let fixed = volumes::is_configuration(volume);
    Ok(Mount {
        name: mount.name.clone(),
        target: PathBuf::from(&mount.mount_path),
        source: match host_path {
            Some(host_path) => PathBuf::from(&host_path.path),
            None => files.volume(&volume.name),
        },
        sub_path: sub_path(mount, env)?,
        kind: host_path.and_then(|host_path| volumes::kind_of_file(host_path.type_.as_deref())),
        read_only: fixed || mount.read_only == Some(true),
        // The node fills it, so a place to mount at in it changes nothing that is somebody else's.
        nests: fixed,
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::None,
        },
    })
}

/// The path below a volume that a mount shows, variables expanded; `None` for the whole volume.
fn sub_path(mount: &VolumeMount, env: &Environment) -> Result<Option<PathBuf>, String> {
    let path = match (&mount.sub_path_expr, &mount.sub_path) {
        (Some(expression), _) if !expression.is_empty() => {
            let expanded = expansion::expand(expression, |name| env.get(name));
            if expanded.contains("$(") {
                return Err(format!(
                    "subPathExpr {expression:?} uses a variable that is not set"
                ));
            }
            expanded
        }
        (_, Some(path)) if !path.is_empty() => path.clone(),
        _ => return Ok(None),
    };
    let path = PathBuf::from(path);
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    match path.components().all(inside) {
        true => Ok(Some(path)),
        false => Err(format!(
            "subPath {:?} of volumeMount {:?} must stay inside the volume: use a relative path without ..",
            path.display().to_string(),
            mount.name
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_must_be_relative_and_without_dots() {
        let env = Environment::default();
        let taken = |path: &str| {
            let mount = VolumeMount {
                sub_path: Some(path.to_owned()),
                ..VolumeMount::default()
            };
            sub_path(&mount, &env)
        };
        assert_eq!(taken("a/./b"), Ok(Some("a/./b".into())));
        assert_eq!(taken(""), Ok(None));
        for path in ["..", "a/../../b", "/etc"] {
            assert!(taken(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_termination_file_replaces_what_lies_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (target, file) = (folder.path().join("target"), folder.path().join("t/c-0"));
        fs::create_dir(folder.path().join("t")).expect("create");
        fs::write(&target, "kept").expect("write");
        std::os::unix::fs::symlink(&target, &file).expect("link");
        termination_file(&file).expect("make");
        assert_eq!(fs::read_to_string(&target).expect("read"), "kept");
        let found = fs::symlink_metadata(&file).expect("stat");
        assert!(found.is_file() && found.len() == 0);
        assert_eq!(found.permissions().mode() & 0o777, 0o666);
    }
}
