//! ControllerRevisions: the templates that a set has had, so that `rollout history` can show them and `rollout undo`
//! return to one.
//!
//! A revision *is* the set's current one when its data equals the template's, byte for byte; hashes and names are only
//! labels. So an old revision that fits again is renumbered, not written anew, and its pods are left running.

use std::sync::Arc;

use api::view::{ControllerRevisionView, DaemonSetView};
use serde_json::{Value, json};

use crate::daemonset::{HASH_LABEL, owner_reference};

/// What a revision of `template` holds: `{"spec":{"template":{"$patch":"replace",…}}}` as Go writes it.
pub fn data(template: &Value) -> Vec<u8> {
    let mut template = match template {
        Value::Object(fields) => fields.clone(),
        _ => serde_json::Map::new(),
    };
    template.insert("$patch".to_owned(), "replace".into());
    schema::gojson::to_vec(&json!({"spec": {"template": template}}))
}

/// The hash that names a revision and labels its pods: FNV-1a of the data and of the number of collisions so far,
/// in the characters that Kubernetes uses.
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

/// One thing to do to a set's history.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Write the current template's revision.
    Write {
        /// `<set>-<hash>`.
        name: Arc<str>,
        /// Its number.
        revision: i64,
    },
    /// Make an ownerless revision that fits the selector ours.
    Adopt(Arc<ControllerRevisionView>),
    /// Let go of one that does not fit the selector any more.
    Release(Arc<ControllerRevisionView>),
    /// Give one that lacks it its hash label: its own name.
    Label(Arc<ControllerRevisionView>),
    /// The current template was had before: its revision becomes the newest.
    Renumber(Arc<ControllerRevisionView>, i64),
    /// Two revisions hold the current template; the pods of this one are labelled anew before it is dropped.
    Relabel {
        /// The hash that pods carry.
        from: Arc<str>,
        /// The hash that they get.
        to: Arc<str>,
    },
    /// Delete one that is double, or older than the limit allows.
    Drop(Arc<ControllerRevisionView>),
}

/// Where a set's history stands.
#[derive(Clone, PartialEq, Debug)]
pub struct History {
    /// The hash that pods of the current template carry, or will carry once the revision is written.
    pub hash: Arc<str>,
    /// Whether the current template's revision exists and is ours: only then are pods made of it.
    pub settled: bool,
    /// What is to be done; steps of one answer do not depend on each other.
    pub steps: Vec<Step>,
}

/// Judges the history of `set`.
///
/// `data` is [`data`] of its template, `revisions` are those of its namespace in any order, and `in_use` says whether
/// any of the set's pods, finished ones included, carries a hash.
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

    // The last is the highest; on a tie, the last by name.
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

/// How much of a set's name its revisions have in theirs, so that a dash and any hash fit into a name's 253 characters.
const LONGEST_PREFIX: usize = 223;

/// `<set>-<hash>`.
pub fn revision_name(set: &DaemonSetView, hash: &str) -> String {
    let name = &set.meta.name;
    format!("{}-{hash}", &name[..name.floor_char_boundary(LONGEST_PREFIX)])
}

/// The hash that a revision stands for; one without the label stands for its own name.
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

/// Which revisions are ours: those that we control and select, and those without a controller that we select.
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

/// The oldest of the old revisions beyond the limit, but none that a pod was made of. The current one never counts.
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
