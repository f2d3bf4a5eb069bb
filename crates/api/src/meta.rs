//! `ObjectMeta` of an object that is a JSON value: reading it, and what the server stamps on it.
//!
//! Readers never fail: what is missing or of the wrong type reads as empty, so that deciders and the server can look at any
//! object that was ever stored.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::time::rfc3339;

/// The finalizer that keeps an object until its dependents are gone.
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// The finalizer that keeps an object until its dependents have forgotten it.
pub const ORPHAN_FINALIZER: &str = "orphan";

/// Letters and digits of generated name suffixes: none that look alike, no vowels (no words).
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many of them a generated name ends with.
pub const SUFFIX_LENGTH: usize = 5;
/// A generated name fits into a DNS label.
const GENERATED_NAME_LENGTH: usize = 63;

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// `metadata.name`, or empty.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata.generateName`, or empty.
pub fn generate_name_base(object: &Value) -> &str {
    text(object, "generateName")
}

/// `metadata.namespace`, or empty.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata.uid`, or empty.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// `metadata.resourceVersion`, or empty.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// `metadata.generation`, or 0.
pub fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or_default()
}

/// `metadata.creationTimestamp`.
pub fn creation_timestamp(object: &Value) -> Option<&str> {
    object["metadata"]["creationTimestamp"].as_str()
}

/// `metadata.deletionTimestamp`: set once the object is going.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    object["metadata"]["deletionTimestamp"].as_str()
}

/// `metadata.labels`.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    object["metadata"]["labels"].as_object()
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    list(&object["metadata"]["finalizers"])
        .iter()
        .filter_map(Value::as_str)
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> &[Value] {
    list(&object["metadata"]["ownerReferences"])
}

/// The owner reference with `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object)
        .iter()
        .find(|owner| owner["controller"] == true)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// `metadata`, made when it is missing or no object. An object that is no JSON object becomes one.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    match metadata {
        Value::Object(map) => map,
        _ => unreachable!("metadata was just made an object"),
    }
}

/// A name from `metadata.generateName`: the base, cut so that the whole fits a DNS label, and five characters made from `random`.
pub fn generate_name(base: &str, random: [u8; SUFFIX_LENGTH]) -> String {
    let mut end = base.len().min(GENERATED_NAME_LENGTH - SUFFIX_LENGTH);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    name.push_str(&suffix(random));
    name
}

/// Five characters from an alphabet that is safe in names and makes no words.
pub fn suffix(random: [u8; SUFFIX_LENGTH]) -> String {
    random
        .iter()
        .map(|byte| SUFFIX_ALPHABET[usize::from(*byte) % SUFFIX_ALPHABET.len()] as char)
        .collect()
}

/// A random (version 4) UUID in its usual form.
pub fn uuid(mut random: [u8; 16]) -> String {
    use std::fmt::Write as _;
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in random.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

/// What the server alone decides about a new object: its uid and time of creation; what only a stored object can have is dropped.
pub fn stamp_create(object: &mut Value, uid: &str, now: Timestamp) {
    let metadata = metadata_mut(object);
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
    ] {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), uid.into());
    metadata.insert("creationTimestamp".to_owned(), rfc3339(now).into());
}

/// What an update cannot change: the fields that the server stamped are carried over from `old`. A name, namespace or uid that the
/// client gives stays, so that validation can refuse a foreign one; who leaves out the name (a patch can) has changed it.
pub fn carry_over(new: &mut Value, old: &Value) {
    const SERVER_ONLY: [&str; 4] = [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ];
    let metadata = metadata_mut(new);
    metadata.remove("selfLink");
    for field in SERVER_ONLY {
        copy(metadata, &old["metadata"], field);
    }
    for field in ["uid", "namespace"] {
        let given = metadata.get(field).and_then(Value::as_str).unwrap_or_default();
        if given.is_empty() {
            copy(metadata, &old["metadata"], field);
        }
    }
    if !metadata.contains_key("generateName") {
        copy(metadata, &old["metadata"], "generateName");
    }
}

fn copy(to: &mut Map<String, Value>, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => {
            to.insert(field.to_owned(), value.clone());
        }
        None => {
            to.remove(field);
        }
    }
}

/// Sets `metadata.generation`.
pub fn set_generation(object: &mut Value, generation: i64) {
    metadata_mut(object).insert("generation".to_owned(), generation.into());
}

/// Marks an object as going: `deletionTimestamp` is `now` plus the grace period, and a kind that counts generations counts this.
pub fn stamp_deletion(object: &mut Value, now: Timestamp, grace_seconds: i64) {
    let bumped = generation(object) + 1;
    let counts_generations = generation(object) > 0;
    let at = now
        .saturating_add(jiff::SignedDuration::from_secs(grace_seconds))
        .unwrap_or(Timestamp::MAX);
    let metadata = metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), rfc3339(at).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace_seconds.into());
    if counts_generations {
        metadata.insert("generation".to_owned(), bumped.into());
    }
}

/// The five fields of an owner reference that makes `owner` the managing controller and blocks its foreground deletion.
pub fn controller_reference(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_name_fits_a_label_and_ends_in_five_safe_characters() {
        assert_eq!(generate_name("web-", [0, 1, 26, 27, 255]), "web-bc9bq");
        let long = generate_name(&"é".repeat(40), [0; 5]);
        assert_eq!(long, format!("{}bbbbb", "é".repeat(29)));
        assert!(long.len() <= 63);
    }

    #[test]
    fn a_uid_is_a_version_4_uuid() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn an_update_keeps_what_the_server_stamped_and_shows_a_foreign_uid() {
        let old = json!({"metadata": {"name": "x", "uid": "1", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"}});
        let mut new =
            json!({"metadata": {"name": "x", "generation": 9, "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        carry_over(&mut new, &old);
        assert_eq!(new, old);
        let mut foreign = json!({"metadata": {"uid": "2"}});
        carry_over(&mut foreign, &old);
        assert_eq!(uid(&foreign), "2");
    }

    #[test]
    fn odd_objects_read_as_empty() {
        for odd in [
            json!(null),
            json!([1]),
            json!({"metadata": 3}),
            json!({"metadata": {"name": 1, "ownerReferences": {}}}),
        ] {
            assert_eq!((name(&odd), uid(&odd), generation(&odd)), ("", "", 0));
            assert!(controller_of(&odd).is_none());
            assert_eq!(finalizers(&odd).count(), 0);
            let mut stamped = odd;
            stamp_create(&mut stamped, "u", Timestamp::UNIX_EPOCH);
            assert_eq!(uid(&stamped), "u");
        }
    }

    #[test]
    fn a_deletion_is_stamped_with_its_grace_and_counted() {
        let mut object = json!({"metadata": {"generation": 1}});
        stamp_deletion(&mut object, Timestamp::UNIX_EPOCH, 30);
        assert_eq!(
            object["metadata"],
            json!({"generation": 2, "deletionTimestamp": "1970-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30})
        );
    }
}
