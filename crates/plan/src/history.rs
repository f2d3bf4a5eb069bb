//! ControllerRevisions: the templates that a set has had, for `rollout history` and `rollout undo`.
//!
//! A revision is the set's current one if its data equals the template's, byte for byte. Hashes and
//! names are only labels. So an old revision that fits again is renumbered, not written again, and
//! its pods keep running.

use std::sync::Arc;

use api::view::{ControllerRevisionView, DaemonSetView};
use serde_json::{Value, json};

use crate::daemonset::{HASH_LABEL, owner_reference};

/// The data of a revision of `template`: `{"spec":{"template":{"$patch":"replace",…}}}`, as Go
/// encodes it.
pub fn data(template: &Value) -> Vec<u8> {
    let mut template = match template {
        Value::Object(fields) => fields.clone(),
        _ => serde_json::Map::new(),
    };
    template.insert("$patch".to_owned(), "replace".into());
    schema::gojson::to_vec(&json!({"spec": {"template": template}}))
}

/// The hash that names a revision and labels its pods: FNV-1a of the data and the number of
/// collisions so far, in the characters that Kubernetes uses.
pub fn hash(data: &[u8], collisions: Option<i32>) -> String {
    const OFFSET: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    // Go pads the number's four bytes to eight.
    let salt = collisions.map(|count| i64::from(count).to_le_bytes());
    let salt = salt.iter().flatten();
    let hash = data
        .iter()
        .chain(salt)
        .fold(OFFSET, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME));
    hash.to_string()
        .bytes()
        .map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()]))
        .collect()
}

/// One change of a set's history.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Write the current template's revision.
    Write {
        /// `<set>-<hash>`.
        name: Arc<str>,
        /// Its number.
        revision: i64,
    },
    /// Adopt a revision without a controller that the selector matches.
    Adopt(Arc<ControllerRevisionView>),
    /// Release one that the selector no longer matches.
    Release(Arc<ControllerRevisionView>),
    /// Add the missing hash label: its own name.
    Label(Arc<ControllerRevisionView>),
    /// An old revision has the current template: make it the newest.
    Renumber(Arc<ControllerRevisionView>, i64),
    /// Two revisions hold the current template. Relabel the pods of this one before it is deleted.
    Relabel {
        /// The hash that pods carry.
        from: Arc<str>,
        /// The hash that they get.
        to: Arc<str>,
    },
    /// Delete a duplicate, or one beyond the limit.
    Drop(Arc<ControllerRevisionView>),
}

/// State of a set's history.
#[derive(Clone, PartialEq, Debug)]
pub struct History {
    /// The hash that pods of the current template carry, or will carry once the revision is
    /// written.
    pub hash: Arc<str>,
    /// Whether the current template's revision exists and is ours. Pods are created only then.
    pub settled: bool,
    /// What to do. The steps do not depend on each other.
    pub steps: Vec<Step>,
}

/// Judges the history of `set`.
///
/// `data` is [`data`] of its template. `revisions` are those of its namespace, in any order.
/// `in_use` returns whether any of the set's pods, including terminated ones, has a hash.
pub fn judge(
    set: &DaemonSetView,
    data: &[u8],
    revisions: &[Arc<ControllerRevisionView>],
    in_use: impl Fn(&str) -> bool,
) -> History {
    let mut claims = claim(set, revisions);
    claims.ours.sort_by(|a, b| {
        a.revision
            .cmp(&b.revision)
            .then_with(|| a.meta.name.cmp(&b.meta.name))
    });
    let (current, old): (Vec<_>, Vec<_>) = claims
        .ours
        .iter()
        .cloned()
        .partition(|revision| schema::gojson::to_vec(&revision.data) == data);
    let newest_old = old.iter().map(|revision| revision.revision).max().unwrap_or(0);
    let mut steps = claims.steps;

    // The last one has the highest number, and among equals the last name.
    let Some(kept) = current.last() else {
        let hash: Arc<str> = hash(data, set.status.collision_count).into();
        steps.push(Step::Write {
            name: revision_name(set, &hash).into(),
            revision: newest_old + 1,
        });
        return History {
            hash,
            settled: false,
            steps,
        };
    };
    let hash = hash_of(kept);
    let settled = is_controlled_by(kept, set) && kept.meta.labels.get(HASH_LABEL).is_some();
    if kept.revision <= newest_old {
        steps.push(Step::Renumber(kept.clone(), newest_old + 1));
    }
    for double in &current[..current.len() - 1] {
        let from = hash_of(double);
        steps.push(match in_use(&from) && from != hash {
            true => Step::Relabel {
                from,
                to: hash.clone(),
            },
            false => Step::Drop(double.clone()),
        });
    }
    if steps.is_empty() {
        steps = surplus(set, &old, in_use);
    }
    History { hash, settled, steps }
}

/// Longest part of the set's name in a revision's name, in bytes, so that a dash and any hash fit
/// into 253 characters.
const LONGEST_PREFIX: usize = 223;

/// `<set>-<hash>`.
pub fn revision_name(set: &DaemonSetView, hash: &str) -> String {
    let name = &set.meta.name;
    format!("{}-{hash}", &name[..name.floor_char_boundary(LONGEST_PREFIX)])
}

/// The hash of a revision: its label, or else its own name.
fn hash_of(revision: &ControllerRevisionView) -> Arc<str> {
    revision
        .meta
        .labels
        .get(HASH_LABEL)
        .map_or_else(|| revision.meta.name.clone(), Into::into)
}

fn is_controlled_by(revision: &ControllerRevisionView, set: &DaemonSetView) -> bool {
    revision
        .meta
        .controller()
        .is_some_and(|owner| owner.uid == set.meta.uid)
}

struct Claims {
    ours: Vec<Arc<ControllerRevisionView>>,
    steps: Vec<Step>,
}

/// Finds our revisions: selected ones that we control, or that have no controller.
fn claim(set: &DaemonSetView, revisions: &[Arc<ControllerRevisionView>]) -> Claims {
    let mut claims = Claims {
        ours: Vec::new(),
        steps: Vec::new(),
    };
    for revision in revisions {
        let selected = set.selector.matches_labels(&revision.meta.labels);
        match revision.meta.controller() {
            Some(owner) if owner.uid != set.meta.uid => continue,
            Some(_) if !selected => {
                claims.steps.push(Step::Release(revision.clone()));
                continue;
            }
            None if !selected || revision.meta.is_terminating() => continue,
            None => claims.steps.push(Step::Adopt(revision.clone())),
            Some(_) => {}
        }
        if revision.meta.labels.get(HASH_LABEL).is_none() {
            claims.steps.push(Step::Label(revision.clone()));
        }
        claims.ours.push(revision.clone());
    }
    claims
}

/// The oldest revisions beyond the limit that no pod has. The current one does not count.
fn surplus(
    set: &DaemonSetView,
    old: &[Arc<ControllerRevisionView>],
    in_use: impl Fn(&str) -> bool,
) -> Vec<Step> {
    let limit = usize::try_from(set.revision_history_limit).unwrap_or(0);
    old.iter()
        .filter(|revision| !in_use(&hash_of(revision)))
        .take(old.len().saturating_sub(limit))
        .map(|revision| Step::Drop(revision.clone()))
        .collect()
}

/// The JSON of a new revision.
pub fn body(set: &DaemonSetView, data: &[u8], name: &str, hash: &str, revision: i64) -> Vec<u8> {
    let mut labels = match set.template.pointer("/metadata/labels") {
        Some(Value::Object(labels)) => labels.clone(),
        _ => serde_json::Map::new(),
    };
    labels.insert(HASH_LABEL.to_owned(), hash.into());
    let mut metadata = json!({
        "name": name,
        "namespace": &*set.meta.namespace,
        "labels": labels,
        "ownerReferences": [owner_reference(set)],
    });
    if !set.annotations.is_empty() {
        metadata["annotations"] = json!(*set.annotations);
    }
    let head =
        format!(r#"{{"kind":"ControllerRevision","apiVersion":"apps/v1","metadata":{metadata},"data":"#);
    let tail = format!(r#","revision":{revision}}}"#);
    [head.as_bytes(), data, tail.as_bytes()].concat()
}

#[cfg(test)]
mod tests;
