//! Deleting a namespace: first everything in it, then itself.
//!
//! A deleted namespace stays, Terminating, while its finalizer `kubernetes` is there; the server lets nothing new in. Its pods
//! go first and the rest after them, so that no pod outlives the ConfigMaps, Secrets and policies that it runs by (Kubernetes'
//! ordered namespace deletion). When nothing is left the finalizer is removed, and with the last finalizer the namespace goes.

use std::collections::BTreeMap;
use std::time::Duration;

use api::time::rfc3339;
use jiff::Timestamp;
use serde_json::{Value, json};

/// The finalizer that this decision is about.
pub const KUBERNETES_FINALIZER: &str = "kubernetes";

/// How long to wait before looking again at content that takes its time: pods end within their grace period, and each look
/// lists every kind.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What a namespace still holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Objects by resource (`pods`, `daemonsets.apps`), only those of which there are any.
    pub objects: BTreeMap<String, usize>,
    /// Finalizers on those objects, by how many carry them.
    pub finalizers: BTreeMap<String, usize>,
    /// What could not be read or deleted, in the server's words.
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

/// What to do about a namespace now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is not being deleted, or no longer waits for us.
    Nothing,
    /// Delete all pods in it; look again after [`LOOK_AGAIN`].
    DeletePods,
    /// Delete everything in it; look again after [`LOOK_AGAIN`].
    DeleteAll,
    /// It is empty: take [`KUBERNETES_FINALIZER`] away.
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

/// The conditions of `status` that tell a user what the deletion waits for: type, whether it holds, reason and message.
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

/// Those of `wanted` that are not what `known` says already, with the time since when their status holds.
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
    fn only_changed_conditions_are_written_and_a_status_keeps_its_time() {
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
    fn pods_go_first_then_the_rest_then_the_namespace() {
        let own = [KUBERNETES_FINALIZER];
        assert_eq!(step(true, &own, &holding(&["pods", "secrets"])), Step::DeletePods);
        assert_eq!(step(true, &own, &holding(&["secrets"])), Step::DeleteAll);
        assert_eq!(step(true, &own, &holding(&[])), Step::Finalize);
    }

    #[test]
    fn a_living_or_a_finalized_namespace_is_left_alone() {
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
    fn a_namespace_whose_content_could_not_be_read_is_not_empty() {
        let mut unknown = holding(&[]);
        unknown.failures.push("widgets.example.com: no answer".into());
        assert_eq!(step(true, &[KUBERNETES_FINALIZER], &unknown), Step::DeleteAll);
    }

    #[test]
    fn the_conditions_say_what_is_waited_for() {
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
