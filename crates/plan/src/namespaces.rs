//! Deletes a namespace: first its content, then the namespace.
//!
//! A deleted namespace stays Terminating while it has the finalizer `kubernetes`, and the server
//! creates nothing in it. Its pods are deleted first, so that no pod outlives its ConfigMaps,
//! Secrets and policies (Kubernetes' ordered namespace deletion). When it is empty, the finalizer
//! is removed. Without finalizers the namespace is deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use api::time::rfc3339;
use jiff::Timestamp;
use serde_json::{Value, json};

/// The finalizer that this controller removes.
pub const KUBERNETES_FINALIZER: &str = "kubernetes";

/// Delay before the content is listed again. Pods end within their grace period, and each pass
/// lists every kind.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Content of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Number of objects by resource (`pods`, `daemonsets.apps`), without zeros.
    pub objects: BTreeMap<String, usize>,
    /// Number of those objects by finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// Errors of reads and deletions, in the server's words.
    pub failures: Vec<String>,
}

impl Content {
    /// Counts one object.
    pub fn add(&mut self, resource: &str, finalizers: impl IntoIterator<Item = impl Into<String>>) {
        *self.objects.entry(resource.to_owned()).or_default() += 1;
        for finalizer in finalizers {
            *self.finalizers.entry(finalizer.into()).or_default() += 1;
        }
    }
}

/// The next step for a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is not being deleted, or the finalizer is removed already.
    Nothing,
    /// Delete all pods in it, and list again after [`LOOK_AGAIN`].
    DeletePods,
    /// Delete everything in it, and list again after [`LOOK_AGAIN`].
    DeleteAll,
    /// It is empty: remove [`KUBERNETES_FINALIZER`].
    Finalize,
}

/// Decides the next step for a namespace with these `spec.finalizers`.
pub fn step(terminating: bool, finalizers: &[impl AsRef<str>], content: &Content) -> Step {
    if !terminating || !finalizers.iter().any(|f| f.as_ref() == KUBERNETES_FINALIZER) {
        return Step::Nothing;
    }
    if content.objects.contains_key("pods") {
        return Step::DeletePods;
    }
    if !content.objects.is_empty() || !content.failures.is_empty() {
        return Step::DeleteAll;
    }
    Step::Finalize
}

/// The status conditions that show users what the deletion waits for: type, status, reason and
/// message.
pub fn conditions(content: &Content) -> Vec<Value> {
    let listed = |counts: &BTreeMap<String, usize>, word: &str| {
        let parts: Vec<_> = counts
            .iter()
            .map(|(what, n)| format!("{what}{word}{n} resource instances"))
            .collect();
        parts.join(", ")
    };
    let condition = |kind: &str, holds: bool, reason: &str, message: String| {
        let status = if holds { "True" } else { "False" };
        json!({"type": kind, "status": status, "reason": reason, "message": message})
    };
    let failure = match content.failures.first() {
        None => condition(
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".into(),
        ),
        Some(_) => condition(
            "NamespaceDeletionContentFailure",
            true,
            "ContentDeletionFailed",
            format!(
                "Failed to delete all resource types, {} remaining: {}",
                content.failures.len(),
                content.failures.join(", ")
            ),
        ),
    };
    let remaining = match content.objects.is_empty() {
        true => condition(
            "NamespaceContentRemaining",
            false,
            "ContentRemoved",
            "All content successfully removed".into(),
        ),
        false => condition(
            "NamespaceContentRemaining",
            true,
            "SomeResourcesRemain",
            format!(
                "Some resources are remaining: {}",
                listed(&content.objects, " has ")
            ),
        ),
    };
    let finalizers = match content.finalizers.is_empty() {
        true => condition(
            "NamespaceFinalizersRemaining",
            false,
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished".into(),
        ),
        false => condition(
            "NamespaceFinalizersRemaining",
            true,
            "SomeFinalizersRemain",
            format!(
                "Some content in the namespace has finalizers remaining: {}",
                listed(&content.finalizers, " in ")
            ),
        ),
    };
    vec![
        condition(
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".into(),
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".into(),
        ),
        failure,
        remaining,
        finalizers,
    ]
}

/// Those of `wanted` that differ from `known`, with the time of their last transition.
pub fn changed(known: &[Value], wanted: Vec<Value>, now: Timestamp) -> Vec<Value> {
    let news = |mut condition: Value| {
        let before = known.iter().find(|known| known["type"] == condition["type"]);
        let same = |field: &str| before.is_some_and(|before| before[field] == condition[field]);
        if ["status", "reason", "message"].into_iter().all(same) {
            return None;
        }
        let since = match before.filter(|_| same("status")) {
            Some(before) => before["lastTransitionTime"].clone(),
            None => rfc3339(now).into(),
        };
        condition["lastTransitionTime"] = since;
        Some(condition)
    };
    wanted.into_iter().filter_map(news).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_conditions_are_written_with_transition_time() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let mut content = holding(&["pods", "pods"]);
        let first = changed(&[], conditions(&content), at(1));
        assert_eq!(first.len(), 5);
        assert_eq!(changed(&first, conditions(&content), at(2)), Vec::<Value>::new());
        content = holding(&["pods"]);
        let second = changed(&first, conditions(&content), at(3));
        let [remaining] = second.as_slice() else {
            panic!("{second:?}")
        };
        assert_eq!(remaining["type"], "NamespaceContentRemaining");
        assert_eq!(
            remaining["lastTransitionTime"],
            rfc3339(at(1)),
            "it is still True"
        );
        let third = changed(&first, conditions(&holding(&[])), at(4));
        assert_eq!(third[0]["lastTransitionTime"], rfc3339(at(4)));
    }

    fn holding(resources: &[&str]) -> Content {
        let mut content = Content::default();
        resources
            .iter()
            .for_each(|r| content.add(r, Vec::<String>::new()));
        content
    }

    #[test]
    fn pods_are_deleted_before_the_rest_and_the_namespace() {
        let own = [KUBERNETES_FINALIZER];
        assert_eq!(step(true, &own, &holding(&["pods", "secrets"])), Step::DeletePods);
        assert_eq!(step(true, &own, &holding(&["secrets"])), Step::DeleteAll);
        assert_eq!(step(true, &own, &holding(&[])), Step::Finalize);
    }

    #[test]
    fn active_or_finalized_namespace_is_left_alone() {
        assert_eq!(
            step(false, &[KUBERNETES_FINALIZER], &holding(&["pods"])),
            Step::Nothing
        );
        assert_eq!(
            step(true, &["someone.else/finalizer"], &holding(&["pods"])),
            Step::Nothing
        );
    }

    #[test]
    fn namespace_with_unreadable_content_is_not_empty() {
        let mut unknown = holding(&[]);
        unknown.failures.push("widgets.example.com: no answer".into());
        assert_eq!(step(true, &[KUBERNETES_FINALIZER], &unknown), Step::DeleteAll);
    }

    #[test]
    fn conditions_name_remaining_content_and_finalizers() {
        let mut content = holding(&["pods", "pods"]);
        content.add("secrets", ["example.com/keep"]);
        let said: Vec<_> = conditions(&content)
            .iter()
            .filter(|c| c["status"] == "True")
            .map(|c| c["message"].as_str().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(
            said,
            [
                "Some resources are remaining: pods has 2 resource instances, secrets has 1 resource instances",
                "Some content in the namespace has finalizers remaining: example.com/keep in 1 resource instances",
            ]
        );
    }
}
