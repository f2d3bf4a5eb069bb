//! What a pod takes of the node's disk, against what it may: `sizeLimit` of its emptyDirs and limits of `ephemeral-storage`.
//!
//! Files are counted by a walk, as the kubelet counts them where the file system keeps no accounts of its own. It follows no links and crosses no
//! mounts, and only pods with such a limit are walked.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use plan::pod_sync::Failure;
use runtime::{ErrorKind, beneath};
use schema::quantity::Quantity;

use crate::container::{PodFiles, run_id};

/// How often a pod is measured: the period of the kubelet's eviction manager.
pub(crate) const PERIOD: Duration = Duration::from_secs(10);

/// Most files of one volume, layer or log folder, which bounds the time of a walk. A pod with more of
/// them cannot be measured, so it is evicted. Images may have as many.
const FILES: u64 = 2_000_000;

/// What a pod may take of the disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    /// emptyDirs: name, bytes, and the limit as it was written.
    volumes: Vec<(String, u64, String)>,
    /// Containers: name, bytes, and the limit as it was written.
    containers: Vec<(String, u64, String)>,
    /// All emptyDirs on the disk.
    on_disk: Vec<String>,
}

impl Limits {
    /// The limits of a pod; `None` when it has none.
    pub(crate) fn of(pod: &Pod) -> Option<Limits> {
        let spec = pod.spec.as_ref()?;
        let mut limits = Limits::default();
        for volume in spec.volumes.iter().flatten() {
            let Some(source) = &volume.empty_dir else { continue };
            if source.medium.as_deref().is_some_and(|medium| !medium.is_empty()) {
                // In memory: its file system holds the limit.
                continue;
            }
            limits.on_disk.push(volume.name.clone());
            if let Some((bytes, text)) = source.size_limit.as_ref().and_then(|limit| positive(&limit.0)) {
                limits.volumes.push((volume.name.clone(), bytes, text));
            }
        }
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        for container in containers {
            let resources = container.resources.as_ref();
            let asked = resources.and_then(|resources| resources.limits.as_ref());
            let asked = asked.and_then(|limits| limits.get("ephemeral-storage"));
            if let Some((bytes, text)) = asked.and_then(|limit| positive(&limit.0)) {
                limits.containers.push((container.name.clone(), bytes, text));
            }
        }
        (!limits.volumes.is_empty() || !limits.containers.is_empty()).then_some(limits)
    }

    /// Measures the pod. Returns why it must be evicted, in the kubelet's words.
    pub(crate) fn exceeded(
        &self,
        files: &PodFiles,
        logs: &runtime::PodLog,
        sandbox: &runtime::Pod,
        attempts: &[(String, u32)],
    ) -> runtime::Result<Option<Failure>> {
        match self.compare(files, logs, sandbox, attempts) {
            Ok(found) => Ok(found),
            Err(Unmeasured::Failed(error)) => Err(error),
            Err(Unmeasured::TooLarge) => Ok(Some(evicted(format!(
                "Pod ephemeral local storage cannot be measured: it has more than {FILES} files in one place, \
                 or too many nested folders. "
            )))),
        }
    }

    fn compare(
        &self,
        files: &PodFiles,
        logs: &runtime::PodLog,
        sandbox: &runtime::Pod,
        attempts: &[(String, u32)],
    ) -> Result<Option<Failure>, Unmeasured> {
        let measure = |path: PathBuf| match beneath::usage(&path, FILES) {
            Ok(used) => bytes_of(used),
            Err(error) => Err(Unmeasured::Failed(runtime::Error {
                kind: ErrorKind::Machine,
                message: format!("measure {}: {error}", path.display()),
            })),
        };
        for (name, limit, text) in &self.volumes {
            if measure(files.volume(name))? > *limit {
                return Ok(Some(evicted(format!(
                    "Usage of EmptyDir volume {name:?} exceeds the limit {text:?}. "
                ))));
            }
        }
        if self.containers.is_empty() {
            return Ok(None);
        }
        let mut of_pod = measure(files.etc())? + measure(files.terminations())?;
        for name in &self.on_disk {
            of_pod += measure(files.volume(name))?;
        }
        for (name, attempt) in attempts {
            let mut used = measure(logs.folder(name))?;
            // The run before is kept, too.
            for attempt in [Some(*attempt), attempt.checked_sub(1)].into_iter().flatten() {
                let written = sandbox.written(&run_id(name, attempt), FILES);
                used += bytes_of(written.map_err(Unmeasured::Failed)?)?;
            }
            let limit = self.containers.iter().find(|(limited, ..)| limited == name);
            if let Some((_, limit, text)) = limit
                && used > *limit
            {
                return Ok(Some(evicted(format!(
                    "Container {name} exceeded its local ephemeral storage limit {text:?}. "
                ))));
            }
            of_pod += used;
        }
        let limit: u64 = self.containers.iter().map(|(_, bytes, _)| bytes).sum();
        let text = match self.containers.as_slice() {
            [(_, _, text)] => text.clone(),
            _ => limit.to_string(),
        };
        let message =
            format!("Pod ephemeral local storage usage exceeds the total limit of containers {text}. ");
        Ok((of_pod > limit).then(|| evicted(message)))
    }
}

/// Why no usage is known.
#[derive(Debug)]
enum Unmeasured {
    Failed(runtime::Error),
    /// There is more than a walk counts.
    TooLarge,
}

fn bytes_of(used: beneath::Usage) -> Result<u64, Unmeasured> {
    if used.is_partial {
        Err(Unmeasured::TooLarge)
    } else {
        Ok(used.bytes)
    }
}

fn positive(text: &str) -> Option<(u64, String)> {
    let value = Quantity::parse(text).ok()?.value();
    let bytes = u64::try_from(value).ok().filter(|bytes| *bytes > 0)?;
    Some((bytes, text.to_owned()))
}

fn evicted(message: String) -> Failure {
    Failure {
        reason: "Evicted".into(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limits(spec: serde_json::Value) -> Option<Limits> {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec});
        Limits::of(&serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn only_limits_of_the_disk_are_measured() {
        let plain = json!({"name": "c"});
        let memory = json!({"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
        let disk = json!({"name": "d", "emptyDir": {"sizeLimit": "8Mi"}});
        let free = json!({"name": "f", "emptyDir": {}});
        assert_eq!(
            limits(json!({"containers": [plain], "volumes": [memory, free]})),
            None
        );
        let found = limits(json!({"containers": [plain], "volumes": [memory, free, disk]})).expect("limits");
        assert_eq!(found.volumes, [("d".to_owned(), 8 << 20, "8Mi".to_owned())]);
        assert_eq!(found.on_disk, ["f", "d"]);
        let limited = json!({"name": "l", "resources": {"limits": {"ephemeral-storage": "1Ki"}}});
        let found = limits(json!({"containers": [plain, limited]})).expect("limits");
        assert_eq!(found.containers, [("l".to_owned(), 1024, "1Ki".to_owned())]);
    }
}
