//! Validation of a pod's volumes and of the paths in them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::validate::container::{field_ref, resource_field_ref};
use crate::validate::field::{check_name, check_optional_one_of, check_required_name, list, present, text};
use crate::validate::meta::entries;
use crate::validate::name;

const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const VOLUME_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
/// Required fields of volume sources that have no other rules.
const REQUIRED: [(&str, &[&str]); 19] = [
    ("awsElasticBlockStore", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("azureFile", &["secretName", "shareName"]),
    ("cephfs", &["monitors"]),
    ("cinder", &["volumeID"]),
    ("ephemeral", &["volumeClaimTemplate"]),
    ("flexVolume", &["driver"]),
    ("gcePersistentDisk", &["pdName"]),
    ("gitRepo", &["repository"]),
    ("glusterfs", &["endpoints", "path"]),
    ("image", &["reference"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("quobyte", &["registry", "volume"]),
    ("rbd", &["monitors", "image"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("vsphereVolume", &["volumePath"]),
];
/// Lifetime of a token in seconds: 10 minutes to 2^32 seconds, as in Kubernetes.
const TOKEN_SECONDS: (i64, i64) = (600, 1 << 32);

/// Validates `spec.volumes` of a pod.
pub(crate) fn volumes(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let volumes = list(spec, "volumes");
    for (index, volume) in volumes.iter().enumerate() {
        let path = &path.index(index);
        source(volume, path, errors);
        let name_path = path.child("name");
        match text(volume, "name") {
            "" => errors.push(FieldError::required(&name_path, "")),
            found => {
                check_name(found, name::dns_label, &name_path, errors);
                if volumes[..index]
                    .iter()
                    .any(|before| text(before, "name") == found)
                {
                    errors.push(FieldError::duplicate(&name_path, found));
                }
            }
        }
    }
}

/// Validates the source of a volume, which is the only field other than the name.
fn source(volume: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut found = false;
    for (field, value) in
        entries(volume).filter(|(field, value)| field.as_str() != "name" && !value.is_null())
    {
        let path = &path.child(field);
        if found {
            errors.push(FieldError::forbidden(
                path,
                "may not specify more than 1 volume type",
            ));
            continue;
        }
        found = true;
        required_fields(field, value, path, errors);
        match field.as_str() {
            "hostPath" => host_path(value, path, errors),
            "emptyDir" => empty_dir(value, path, errors),
            "secret" => {
                if text(value, "secretName").is_empty() {
                    errors.push(FieldError::required(&path.child("secretName"), ""));
                }
                mode(&value["defaultMode"], &path.child("defaultMode"), errors);
                items(value, path, errors);
            }
            "configMap" => {
                if text(value, "name").is_empty() {
                    errors.push(FieldError::required(&path.child("name"), ""));
                }
                mode(&value["defaultMode"], &path.child("defaultMode"), errors);
                items(value, path, errors);
            }
            "downwardAPI" => {
                mode(&value["defaultMode"], &path.child("defaultMode"), errors);
                downward_items(value, path, errors);
            }
            "projected" => projected(value, path, errors),
            "nfs" => nfs(value, path, errors),
            "csi" => csi(value, path, errors),
            "image" => check_optional_one_of(
                value,
                "pullPolicy",
                &["Always", "IfNotPresent", "Never"],
                path,
                errors,
            ),
            _ => {}
        }
    }
    if !found {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

fn required_fields(kind: &str, source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let fields = REQUIRED.into_iter().find(|(known, _)| *known == kind);
    for field in fields.map(|(_, fields)| fields).into_iter().flatten() {
        let is_missing = match &source[*field] {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        if is_missing {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
}

fn csi(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    check_required_name(source, "driver", name::dns_subdomain, path, errors);
    let secret = &source["nodePublishSecretRef"];
    if !secret.is_null() && text(secret, "name").is_empty() {
        let path = path.child("nodePublishSecretRef");
        errors.push(FieldError::required(&path.child("name"), ""));
    }
}

fn host_path(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match text(source, "path") {
        "" => errors.push(FieldError::required(&path.child("path"), "")),
        found => check_no_backsteps(found, &path.child("path"), errors),
    }
    check_optional_one_of(source, "type", &HOST_PATH_TYPES, path, errors);
}

fn empty_dir(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Ok(limit) = schema::quantity::Quantity::from_value(&source["sizeLimit"])
        && limit.sign() < 0
    {
        let detail = "SizeLimit field must be a valid resource quantity";
        errors.push(FieldError::forbidden(&path.child("sizeLimit"), detail));
    }
}

fn nfs(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in ["server", "path"] {
        if text(source, field).is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
    let target = text(source, "path");
    if !target.is_empty() && !target.starts_with('/') {
        errors.push(FieldError::invalid(
            &path.child("path"),
            target,
            "must be an absolute path",
        ));
    }
}

/// Validates `items` of a secret or configMap: keys and paths.
fn items(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let items = path.child("items");
    for (index, item) in list(source, "items").iter().enumerate() {
        let path = &items.index(index);
        if text(item, "key").is_empty() {
            errors.push(FieldError::required(&path.child("key"), ""));
        }
        file_path(item, path, errors);
        mode(&item["mode"], &path.child("mode"), errors);
    }
}

fn downward_items(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let items = path.child("items");
    for (index, item) in list(source, "items").iter().enumerate() {
        let path = &items.index(index);
        file_path(item, path, errors);
        match (present(item, "fieldRef"), present(item, "resourceFieldRef")) {
            (true, true) => errors.push(FieldError::invalid(
                path,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            )),
            (true, false) => field_ref(&item["fieldRef"], &VOLUME_FIELDS, &path.child("fieldRef"), errors),
            (false, true) => {
                resource_field_ref(
                    &item["resourceFieldRef"],
                    true,
                    &path.child("resourceFieldRef"),
                    errors,
                );
            }
            (false, false) => {
                errors.push(FieldError::required(
                    path,
                    "one of fieldRef and resourceFieldRef is required",
                ));
            }
        }
        mode(&item["mode"], &path.child("mode"), errors);
    }
}

fn projected(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    mode(&source["defaultMode"], &path.child("defaultMode"), errors);
    let sources_path = path.child("sources");
    let sources = list(source, "sources");
    for (index, source) in sources.iter().enumerate() {
        projected_source(source, &sources_path.index(index), errors);
    }
    duplicate_paths(sources, path, errors);
}

/// Validates that the files of a projected volume have different paths. The message names the
/// object of the file, or the path of a file without an object. The path of a token is not checked,
/// as in Kubernetes.
fn duplicate_paths(sources: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    for source in sources {
        let files = ["secret", "configMap", "downwardAPI"]
            .into_iter()
            .flat_map(|kind| {
                let items = list(&source[kind], "items").iter();
                items.map(move |item| (text(&source[kind], "name"), text(item, "path")))
            });
        let bundle = &source["clusterTrustBundle"];
        let bundle = ("", text(bundle, "path"));
        for (from, file) in files.chain([bundle]) {
            if !file.is_empty() && !taken.insert(file) {
                let bad = if from.is_empty() { file } else { from };
                errors.push(FieldError::invalid(path, bad, "conflicting duplicate paths"));
            }
        }
    }
}

fn projected_source(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut found = false;
    for (field, value) in entries(source).filter(|(_, value)| !value.is_null()) {
        let path = &path.child(field);
        if found {
            errors.push(FieldError::forbidden(
                path,
                "may not specify more than 1 volume type",
            ));
            continue;
        }
        found = true;
        match field.as_str() {
            "secret" | "configMap" => {
                if text(value, "name").is_empty() {
                    errors.push(FieldError::required(&path.child("name"), ""));
                }
                items(value, path, errors);
            }
            "downwardAPI" => downward_items(value, path, errors),
            "serviceAccountToken" => {
                let seconds = value["expirationSeconds"].as_i64().unwrap_or_default();
                if seconds < TOKEN_SECONDS.0 {
                    let detail = "may not specify a duration less than 10 minutes";
                    errors.push(FieldError::invalid(
                        &path.child("expirationSeconds"),
                        seconds,
                        detail,
                    ));
                }
                if seconds > TOKEN_SECONDS.1 {
                    let detail = "may not specify a duration larger than 2^32 seconds";
                    errors.push(FieldError::invalid(
                        &path.child("expirationSeconds"),
                        seconds,
                        detail,
                    ));
                }
                file_path(value, path, errors);
            }
            _ => {}
        }
    }
    if !found {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

/// Validates the `path` of an item, which is below the volume's root.
fn file_path(item: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.child("path");
    match text(item, "path") {
        "" => errors.push(FieldError::required(&path, "")),
        found => {
            check_descending_path(found, &path, errors);
            if found.starts_with("..") && !found.starts_with("../") {
                errors.push(FieldError::invalid(&path, found, "must not start with '..'"));
            }
        }
    }
}

fn mode(value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(bits) = value.as_i64()
        && !(0..=0o777).contains(&bits)
    {
        errors.push(FieldError::invalid(path, bits, MODE));
    }
}

/// Checks that a path is relative and has no `..`.
pub(crate) fn check_descending_path(target: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if target.starts_with('/') {
        errors.push(FieldError::invalid(path, target, "must be a relative path"));
    }
    check_no_backsteps(target, path, errors);
}

/// Checks that no part of a path is `..`.
pub(crate) fn check_no_backsteps(target: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if target.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, target, "must not contain '..'"));
    }
}
