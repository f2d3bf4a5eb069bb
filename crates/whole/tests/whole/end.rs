//! The expected final state of a cluster.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::history::STRANGER;
use crate::picture::{Key, Picture, Pod, min_ready};
use crate::placement::{Place, place, scaled};

/// Returns everything that is not as expected, whether it is late or wrong.
pub(crate) fn faults(picture: &Picture, now: Timestamp) -> Vec<String> {
    let mut faults = Vec::new();
    for (key, set) in picture.present_sets() {
        if set["metadata"]["deletionTimestamp"].is_string() {
            faults.push(format!("set {} is still being deleted", key.1));
            continue;
        }
        pods_of(picture, key, set, now, &mut faults);
        revisions_of(picture, key, set, &mut faults);
    }
    for (key, budget) in &picture.budgets {
        budget_of(picture, key, budget, &mut faults);
    }
    for pod in picture.pods.values() {
        let name = &pod.key.1;
        if pod.deleting {
            faults.push(format!("pod {name} is still terminating"));
        }
        // No controller removes a pod that is unscheduled and has no owner.
        if let Some(node) = &pod.target
            && (pod.bound || pod.owner.is_some())
            && !picture.present_nodes().any(|(there, _)| there == node)
        {
            faults.push(format!("pod {name} is on {node}, which is gone"));
        }
        if let Some((kind, owner, _)) = &pod.owner
            && kind == "DaemonSet"
            && picture.set_of(pod).is_none()
        {
            faults.push(format!("pod {name} outlived its set {owner}"));
        }
    }
    for revision in picture.revisions.values() {
        let owner = &revision["metadata"]["ownerReferences"][0]["uid"];
        let there = picture
            .present_sets()
            .any(|(_, set)| set["metadata"]["uid"] == *owner);
        if !owner.is_null() && !there {
            faults.push(format!(
                "revision {} outlived its set",
                revision["metadata"]["name"]
            ));
        }
    }
    for (name, node) in picture.present_nodes() {
        let taints = node["spec"]["taints"].as_array();
        let automatic =
            |key: &str| key == "node.kubernetes.io/not-ready" || key == "node.kubernetes.io/unreachable";
        let stale = taints
            .into_iter()
            .flatten()
            .any(|taint| taint["key"].as_str().is_some_and(automatic));
        if stale {
            faults.push(format!("node {name} speaks and is tainted as if it did not"));
        }
    }
    faults
}

/// Expected numbers of nodes in the status.
#[derive(Debug, Default, PartialEq, Eq)]
struct Numbers {
    desired: u64,
    current: u64,
    misscheduled: u64,
    ready: u64,
    available: u64,
    updated: u64,
}

fn pods_of(picture: &Picture, key: &Key, set: &Value, now: Timestamp, faults: &mut Vec<String>) {
    let mut by_node: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in picture.pods.values().filter(|pod| pod.is_of(set)) {
        by_node
            .entry(pod.target.as_deref().unwrap_or_default())
            .or_default()
            .push(pod);
    }
    let updates = set["spec"]["updateStrategy"]["type"] != "OnDelete";
    let available = |pod: &Pod| {
        pod.available_since(min_ready(set))
            .is_some_and(|since| since <= now)
    };
    // A pod that waits for a port counts as unavailable for an update.
    let held_up = by_node.values().flatten().any(|pod| picture.is_blocked(pod));
    let mut numbers = Numbers::default();
    for (name, node) in picture.present_nodes() {
        let Place { run, stay } = place(set, node);
        let pods = by_node.remove(name.as_str()).unwrap_or_default();
        let what = || {
            let pods: Vec<String> = pods
                .iter()
                .map(|pod| format!("{} {} ready since {:?}", pod.key.1, pod.phase, pod.ready_since))
                .collect();
            format!("set {} on {name}: {pods:?}", key.1)
        };
        if !run {
            numbers.misscheduled += u64::from(!pods.is_empty());
            if !stay && !pods.is_empty() || pods.len() > 1 {
                faults.push(format!("{}, where none should be", what()));
            }
            continue;
        }
        numbers.desired += 1;
        let blocked = pods.iter().any(|pod| picture.is_blocked(pod));
        // During a surge, a new pod that waits for a port may exist beside the old one.
        if pods.is_empty() || pods.len() > 1 + usize::from(blocked) {
            faults.push(format!("{}, not one", what()));
        }
        let Some(pod) = pods.iter().min_by_key(|pod| pod.seniority()) else {
            continue;
        };
        numbers.current += 1;
        let ready = pod.phase == "Running" && pod.ready_since.is_some();
        let fits = picture.fits(pod, set);
        numbers.ready += u64::from(ready);
        numbers.available += u64::from(available(pod));
        numbers.updated += u64::from(fits);
        // With OnDelete a pod of an old template stays, even if it can never start.
        let left = !updates && !fits && !pod.bound;
        if !blocked && !left && (!ready || !available(pod)) {
            faults.push(format!("{}, which is not available", what()));
        }
        if updates && !held_up && !fits {
            faults.push(format!("{}, which is of an old template", what()));
        }
    }
    for (node, pods) in by_node {
        faults.push(format!(
            "set {} has {} pods on {node}, which is none",
            key.1,
            pods.len()
        ));
    }
    status_of(key, set, &numbers, faults);
}

fn status_of(key: &Key, set: &Value, numbers: &Numbers, faults: &mut Vec<String>) {
    let status = |field: &str| set["status"][field].as_u64().unwrap_or(0);
    let told = Numbers {
        desired: status("desiredNumberScheduled"),
        current: status("currentNumberScheduled"),
        misscheduled: status("numberMisscheduled"),
        ready: status("numberReady"),
        available: status("numberAvailable"),
        updated: status("updatedNumberScheduled"),
    };
    if told != *numbers {
        faults.push(format!("set {} says {told:?} of {numbers:?}", key.1));
    }
    let unavailable = numbers.desired - numbers.available;
    if status("numberUnavailable") != unavailable {
        faults.push(format!("set {} does not say {unavailable} unavailable", key.1));
    }
    if set["status"]["observedGeneration"] != set["metadata"]["generation"] {
        faults.push(format!("set {} has not been observed as it is", key.1));
    }
}

fn revisions_of(picture: &Picture, key: &Key, set: &Value, faults: &mut Vec<String>) {
    let uid = &set["metadata"]["uid"];
    let of_set = |revision: &&Value| revision["metadata"]["ownerReferences"][0]["uid"] == *uid;
    let revisions: Vec<&Value> = picture.revisions.values().filter(of_set).collect();
    let in_use = |revision: &&&Value| {
        let hash = revision["metadata"]["labels"]["controller-revision-hash"].as_str();
        let current = revision["data"]["spec"]["template"]["spec"] == set["spec"]["template"]["spec"];
        current
            || picture
                .pods
                .values()
                .any(|pod| pod.is_of(set) && Some(pod.hash()) == hash)
    };
    let limit = set["spec"]["revisionHistoryLimit"].as_u64().unwrap_or(10);
    let old = revisions.iter().filter(|revision| !in_use(revision)).count();
    if old as u64 > limit {
        faults.push(format!("set {} keeps {old} old revisions, {limit} may", key.1));
    }
    if !revisions.iter().any(|revision| in_use(&revision)) {
        faults.push(format!("set {} has no revision of its template", key.1));
    }
}

/// Checks the status of a disruption budget for the pods with a DaemonSet's name.
fn budget_of(picture: &Picture, key: &Key, budget: &Value, faults: &mut Vec<String>) {
    let (spec, status) = (&budget["spec"], &budget["status"]);
    if status["observedGeneration"] != budget["metadata"]["generation"] {
        faults.push(format!("budget {} has not been observed as it is", key.1));
    }
    let guarded = |pod: &&Pod| pod.labels.get("app") == Some(&key.1) && !pod.labels.contains_key(STRANGER);
    let pods: Vec<&Pod> = picture.pods.values().filter(guarded).collect();
    let set = picture.present_sets().find(|(there, _)| *there == key);
    let of_set = |pod: &&Pod| set.is_some_and(|(_, set)| pod.is_of(set));
    let counts = spec["minAvailable"].is_u64();
    if !counts && !pods.iter().all(of_set) {
        // The base of the percentage is not defined here.
        return;
    }
    let wanted = set.and_then(|(_, set)| set["status"]["desiredNumberScheduled"].as_u64());
    let expected = match counts {
        true => pods.len() as u64,
        false if pods.is_empty() => 0,
        false => wanted.unwrap_or(0),
    };
    let desired = match &spec["maxUnavailable"] {
        Value::Null => scaled(&spec["minAvailable"], expected),
        most => expected.saturating_sub(scaled(most, expected)),
    };
    let healthy = pods.iter().filter(|pod| pod.ready_since.is_some()).count() as u64;
    let allowed = match expected {
        0 => 0,
        _ => healthy.saturating_sub(desired),
    };
    let number = |field: &str| status[field].as_u64().unwrap_or(0);
    let told = [
        "expectedPods",
        "desiredHealthy",
        "currentHealthy",
        "disruptionsAllowed",
    ]
    .map(number);
    if told != [expected, desired, healthy, allowed] {
        faults.push(format!(
            "budget {} says {told:?} of {:?}",
            key.1,
            [expected, desired, healthy, allowed]
        ));
    }
}
