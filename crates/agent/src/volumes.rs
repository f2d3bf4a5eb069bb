//! A pod's volumes on the node.
//!
//! Volumes of configuration are written as the kubelet writes them: each version in a folder of its own, `..data` pointing to
//! the newest, so that a reader sees a whole old or a whole new version. They are looked at again now and then
//! ([`REFRESH`]), which is also when tokens are renewed.

mod atomic;
mod host_path;
mod payload;
mod tmpfs;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use disk::Disk;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use schema::quantity::Quantity;

use crate::cluster::Cluster;
use crate::container::{PodFiles, Surroundings};
use crate::sources::Sources;
use payload::Payload;

pub(crate) use host_path::kind_of_file;

/// How often a running pod's volumes of configuration are compared with what the API says: the kubelet's period.
pub(crate) const REFRESH: Duration = Duration::from_secs(60);

/// A token in use and when to ask for its successor.
#[derive(Clone, Debug)]
pub(crate) struct HeldToken {
    token: String,
    renew_at: Timestamp,
}

/// Tokens by volume and path.
pub(crate) type Tokens = HashMap<(String, String), HeldToken>;

/// Who knows what goes into volumes.
#[derive(Clone, Copy)]
pub(crate) struct Origins<'a> {
    /// Makes tokens.
    pub(crate) cluster: &'a Cluster,
    /// ConfigMaps and Secrets.
    pub(crate) sources: &'a Sources,
}

/// Makes all volumes of a pod, or brings them up to date. The error is the message of a `FailedMount` event.
pub(crate) async fn prepare(
    origins: Origins<'_>,
    pod: &Pod,
    files: &PodFiles,
    surroundings: &Surroundings,
    tokens: &mut Tokens,
) -> Result<(), String> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.clone());
    for volume in volumes.unwrap_or_default() {
        let made = one(origins, pod, &volume, files, surroundings, tokens).await;
        made.map_err(|error| format!("MountVolume.SetUp failed for volume {:?} : {error}", volume.name))?;
    }
    Ok(())
}

/// Whether a pod has volumes whose content may change.
pub(crate) fn may_change(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes.into_iter().flatten().any(is_configuration)
}

/// Whether the node writes what a volume holds, and containers only read it.
pub(crate) fn is_configuration(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
}

async fn one(
    origins: Origins<'_>,
    pod: &Pod,
    volume: &Volume,
    files: &PodFiles,
    surroundings: &Surroundings,
    tokens: &mut Tokens,
) -> Result<(), String> {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let group = context
        .and_then(|context| context.fs_group)
        .and_then(|group| u32::try_from(group).ok());
    let folder = files.volume(&volume.name);
    let failed = |error: io::Error| format!("{}: {error}", folder.display());
    if let Some(source) = &volume.host_path {
        return host_path::check(Path::new(&source.path), source.type_.as_deref().unwrap_or(""));
    }
    if let Some(source) = &volume.empty_dir {
        let most = memory_of(pod, surroundings);
        return empty_dir(source, &folder, group, most).map_err(failed);
    }
    if is_configuration(volume) {
        let mut payload = Payload::new(origins, pod, &folder, surroundings, tokens);
        payload.add_volume(volume).await?;
        fs::create_dir_all(&folder).map_err(failed)?;
        return atomic::write(&Disk::default(), &folder, &payload.into_files(), group).map_err(failed);
    }
    Err(format!("this node cannot mount volumes of kind {}", kind(volume)))
}

/// The field that says what a volume is.
fn kind(volume: &Volume) -> String {
    let fields = serde_json::to_value(volume).unwrap_or_default();
    let kinds = fields
        .as_object()
        .into_iter()
        .flatten()
        .map(|(field, _)| field.clone());
    kinds
        .filter(|field| field != "name")
        .collect::<Vec<_>>()
        .join(", ")
}

/// Bytes of memory that a pod may take: the sum of its containers' limits if all have one, else what the node gives to pods.
fn memory_of(pod: &Pod, surroundings: &Surroundings) -> Option<u64> {
    let of_pod = pod.spec.as_ref().map(crate::container::pod_resources);
    let of_node = surroundings.allocatable.get("memory");
    let of_node = of_node.and_then(|amount| Quantity::parse(amount).ok());
    let of_node = of_node.and_then(|amount| u64::try_from(amount.value()).ok());
    of_pod.and_then(|limits| limits.memory_limit).or(of_node)
}

/// Makes an emptyDir. One in memory holds `most` bytes, or less if its own limit says so.
fn empty_dir(
    source: &EmptyDirVolumeSource,
    folder: &Path,
    group: Option<u32>,
    most: Option<u64>,
) -> io::Result<()> {
    if let Some(medium) = source
        .medium
        .as_deref()
        .filter(|medium| medium.starts_with("HugePages"))
    {
        let why = format!("medium {medium}: this node gives pods no huge pages");
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    let mut fresh = !folder.exists();
    if fresh {
        fs::DirBuilder::new().recursive(true).mode(0o777).create(folder)?;
    }
    if source.medium.as_deref() == Some("Memory") {
        let limit = source.size_limit.as_ref();
        let limit = limit.and_then(|limit| Quantity::parse(&limit.0).ok());
        let limit = limit.and_then(|limit| u64::try_from(limit.value()).ok());
        let limit = limit.filter(|bytes| *bytes > 0);
        fresh |= tmpfs::mount(folder, limit.into_iter().chain(most).min())?;
    }
    if !fresh {
        // What its pod made of it stays.
        return Ok(());
    }
    std::os::unix::fs::chown(folder, None, group)?;
    // New files take the group of the folder.
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))
}

/// Unmounts what was mounted below the pod's volumes, and removes them.
pub(crate) fn remove(files: &PodFiles) -> io::Result<()> {
    remove_below(&files.volumes())
}

/// Unmounts what is mounted below `folder`, and removes it; fine when there is none.
pub(crate) fn remove_below(folder: &Path) -> io::Result<()> {
    runtime::unmount_below(folder)?;
    runtime::beneath::remove_tree(folder)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_volume_is_named_by_its_kind() {
        let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        let volume: Volume = serde_json::from_value(volume).expect("a volume");
        assert_eq!(kind(&volume), "persistentVolumeClaim");
    }

    #[test]
    fn an_empty_dir_is_writable_by_everyone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("volumes/v");
        empty_dir(&EmptyDirVolumeSource::default(), &path, None, None).expect("make");
        let mode = fs::metadata(&path).expect("stat").permissions().mode();
        assert_eq!(mode & 0o7777, 0o777);
        let files = PodFiles(folder.path().to_owned());
        remove(&files).expect("remove");
        remove(&files).expect("remove again");
        assert!(!path.exists());
    }
}
