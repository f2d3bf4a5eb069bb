//! Warnings about deprecated volume types, and about files of one volume that overlap.

use serde_json::Value;

use crate::field_error::{Path, quote};
use crate::validate::field::{list, present, text};

/// Deprecated volume sources.
const OLD_SOURCES: [(&str, &str); 9] = [
    (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    ("gitRepo", "deprecated in v1.11"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

pub(super) fn warnings(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let volumes_path = path.child("volumes");
    let volumes = list(spec, "volumes");
    for (index, volume) in volumes.iter().enumerate() {
        for (source, why) in OLD_SOURCES {
            if present(volume, source) {
                // Kubernetes' message has this spelling, from the field's name in Go.
                let shown = if source == "storageos" {
                    "storageOS"
                } else {
                    source
                };
                warnings.push(format!("{}: {why}", volumes_path.index(index).child(shown)));
            }
        }
    }
    for volume in volumes {
        overlapping_files(volume, warnings);
    }
}

/// Warns about files of one volume with the same path, or with a path below another file's.
fn overlapping_files(volume: &Value, warnings: &mut Vec<String>) {
    let name = quote(text(volume, "name"));
    let mut judge = |paths: &[&str], source: &str| {
        overlaps(
            paths,
            &[],
            &format!("volume {name} ({source}): overlapping paths"),
            warnings,
        );
    };
    if let Some(paths) = item_paths(&volume["configMap"]) {
        judge(
            &paths,
            &format!("ConfigMap {}", quote(text(&volume["configMap"], "name"))),
        );
    }
    if let Some(paths) = item_paths(&volume["secret"]) {
        judge(
            &paths,
            &format!("Secret {}", quote(text(&volume["secret"], "secretName"))),
        );
    }
    if let Some(paths) = item_paths(&volume["downwardAPI"]) {
        judge(&paths, "DownwardAPI");
    }
    let mut before: Vec<&str> = Vec::new();
    for source in list(&volume["projected"], "sources") {
        let Some((paths, source)) = projected(source) else {
            continue;
        };
        let prefix = format!("volume {name} (Projected {source}): overlapping paths");
        overlaps(&paths, &before, &prefix, warnings);
        before.extend(paths);
    }
}

/// Returns the paths of a projection's files, and the name of the projection for messages.
fn projected(source: &Value) -> Option<(Vec<&str>, String)> {
    let named = |field: &str, kind: &str| format!("{kind} {}", quote(text(&source[field], "name")));
    if let Some(paths) = item_paths(&source["configMap"]) {
        Some((paths, named("configMap", "ConfigMap")))
    } else if let Some(paths) = item_paths(&source["secret"]) {
        Some((paths, named("secret", "Secret")))
    } else if let Some(paths) = item_paths(&source["downwardAPI"]) {
        Some((paths, "DownwardAPI".to_owned()))
    } else if present(source, "serviceAccountToken") {
        let path = text(&source["serviceAccountToken"], "path");
        Some((vec![path], "ServiceAccountToken".to_owned()))
    } else {
        None
    }
}

fn item_paths(source: &Value) -> Option<Vec<&str>> {
    let items = list(source, "items");
    (!items.is_empty()).then(|| items.iter().map(|item| text(item, "path")).collect())
}

/// Adds a warning for each of `paths` that overlaps an earlier one, or one of `others`.
fn overlaps(paths: &[&str], others: &[&str], prefix: &str, warnings: &mut Vec<String>) {
    let trimmed = |path: &&str| path.trim_end_matches('/').to_owned();
    let mut known: Vec<String> = others.iter().map(trimmed).collect();
    for path in paths.iter().map(trimmed) {
        if let Some(other) = known.iter().find(|other| overlap(other, &path)) {
            warnings.push(format!("{prefix}: {} with {}", quote(&path), quote(other)));
        }
        known.push(path);
    }
}

fn overlap(one: &str, other: &str) -> bool {
    let below = |path: &str, top: &str| path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
    !one.is_empty() && !other.is_empty() && (one == other || below(one, other) || below(other, one))
}
