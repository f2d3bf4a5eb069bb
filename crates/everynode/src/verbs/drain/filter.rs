//! Decides which pods a drain removes, which stay, and which prevent it. The rules and messages are
//! kubectl's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

/// Pods that the user's flags allow to remove.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Allowed {
    pub(super) force: bool,
    pub(super) ignore_daemon_sets: bool,
    pub(super) delete_empty_dir_data: bool,
    /// Pods that have been terminating for more than this many seconds are skipped; 0 skips none.
    pub(super) skip_ending_for: i64,
}

/// What the drain does with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Goes,
    GoesWith(String),
    Stays,
    StaysWith(String),
    Stops(String),
}

/// Pods of a node by what the drain does with them.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Pods to remove.
    pub(super) going: Vec<Value>,
    /// Warning to print first.
    pub(super) warning: Option<String>,
    /// Reasons why nothing is removed; empty if the drain can continue.
    pub(super) errors: Vec<String>,
}

/// Sorts `pods`. `daemon_set` returns the error if the DaemonSet that controls a pod cannot be
/// read.
pub(super) fn sort(
    pods: Vec<Value>,
    allowed: Allowed,
    daemon_set: impl Fn(&Value) -> Result<(), Missing>,
    now: Timestamp,
) -> Sorted {
    let mut sorted = Sorted::default();
    let mut warnings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut errors: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in pods {
        let name = display(&pod);
        match fate(&pod, allowed, &daemon_set, now) {
            Fate::Goes => sorted.going.push(pod),
            Fate::GoesWith(warning) => {
                warnings.entry(warning).or_default().push(name);
                sorted.going.push(pod);
            }
            Fate::Stays => {}
            Fate::StaysWith(warning) => warnings.entry(warning).or_default().push(name),
            Fate::Stops(error) => errors.entry(error).or_default().push(name),
        }
    }
    let lines = |all: BTreeMap<String, Vec<String>>| {
        all.into_iter()
            .map(|(message, pods)| format!("{message}: {}", pods.join(", ")))
            .collect::<Vec<_>>()
    };
    let warnings = lines(warnings);
    sorted.warning = (!warnings.is_empty()).then(|| warnings.join("; "));
    sorted.errors = lines(errors)
        .into_iter()
        .map(|line| format!("cannot delete {line}"))
        .collect();
    sorted
}

/// Why a DaemonSet cannot be read.
pub(super) struct Missing {
    /// Whether the server returned that it does not exist.
    pub(super) not_found: bool,
    pub(super) message: String,
}

/// `namespace/name`.
pub(super) fn display(pod: &Value) -> String {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

/// Returns the owner that manages a pod.
fn controller(pod: &Value) -> Option<&Value> {
    let mut owners = pod["metadata"]["ownerReferences"].as_array()?.iter();
    owners.find(|owner| owner["controller"] == true)
}

/// Returns namespace and name of the DaemonSet that manages a pod; `None` if the pod
/// has ended.
pub(super) fn daemon_set_of(pod: &Value) -> Option<(&str, &str)> {
    let owner =
        controller(pod).filter(|owner| owner["kind"] == "DaemonSet" && owner["apiVersion"] == "apps/v1")?;
    (!is_finished(pod)).then_some(())?;
    Some((pod["metadata"]["namespace"].as_str()?, owner["name"].as_str()?))
}

fn is_finished(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Returns whether the pod has been terminating for longer than the user wants to wait.
pub(super) fn is_skipped(pod: &Value, seconds: i64, now: Timestamp) -> bool {
    let deleted = pod["metadata"]["deletionTimestamp"]
        .as_str()
        .and_then(api::time::parse);
    seconds > 0 && deleted.is_some_and(|deleted| now.as_second() - deleted.as_second() > seconds)
}

fn fate(
    pod: &Value,
    allowed: Allowed,
    daemon_set: impl Fn(&Value) -> Result<(), Missing>,
    now: Timestamp,
) -> Fate {
    if is_skipped(pod, allowed.skip_ending_for, now) {
        return Fate::Stays;
    }
    let mut orphan = None;
    if daemon_set_of(pod).is_some() {
        match daemon_set(pod) {
            Err(missing) if missing.not_found && allowed.force => orphan = Some(missing.message),
            Err(missing) => return Fate::Stops(missing.message),
            Ok(()) if allowed.ignore_daemon_sets => {
                return Fate::StaysWith("ignoring DaemonSet-managed Pods".to_owned());
            }
            Ok(()) => {
                return Fate::Stops("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)".to_owned());
            }
        }
    }
    // A mirror pod represents a file on the node's disk, so the API server cannot remove it.
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return Fate::Stays;
    }
    if is_finished(pod) {
        return Fate::Goes;
    }
    let volumes = pod["spec"]["volumes"].as_array();
    let mut volumes = volumes.into_iter().flatten();
    if volumes.any(|volume| volume["emptyDir"].is_object()) && !allowed.delete_empty_dir_data {
        return Fate::Stops("Pods with local storage (use --delete-emptydir-data to override)".to_owned());
    }
    match (controller(pod), allowed.force, orphan) {
        (Some(_), _, Some(orphan)) => Fate::GoesWith(orphan),
        (Some(_), ..) => Fate::Goes,
        (None, true, _) => Fate::GoesWith("deleting Pods that declare no controller".to_owned()),
        (None, false, _) => {
            Fate::Stops("cannot delete Pods that declare no controller (use --force to override)".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, owner: Option<&str>) -> Value {
        let owners = owner
            .map(|kind| json!([{"apiVersion": "apps/v1", "kind": kind, "name": "o", "controller": true}]));
        json!({"metadata": {"namespace": "n", "name": name, "ownerReferences": owners}})
    }

    fn with(mut pod: Value, more: &Value) -> Value {
        for (field, value) in more.as_object().unwrap() {
            pod[field] = value.clone();
        }
        pod
    }

    fn told(pods: Vec<Value>, allowed: Allowed) -> (usize, Option<String>, Vec<String>) {
        let sorted = sort(pods, allowed, |_| Ok(()), Timestamp::UNIX_EPOCH);
        (sorted.going.len(), sorted.warning, sorted.errors)
    }

    #[test]
    fn daemons_stop_a_drain_or_are_left_and_never_taken() {
        let pods = || vec![pod("a", Some("DaemonSet")), pod("b", Some("DaemonSet"))];
        assert_eq!(
            told(pods(), Allowed::default()).2,
            ["cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): n/a, n/b"]
        );
        let ignoring = Allowed {
            ignore_daemon_sets: true,
            force: true,
            ..Allowed::default()
        };
        let (going, warning, errors) = told(pods(), ignoring);
        assert_eq!((going, errors.len()), (0, 0));
        assert_eq!(warning.unwrap(), "ignoring DaemonSet-managed Pods: n/a, n/b");
        let ended = with(
            pod("a", Some("DaemonSet")),
            &json!({"status": {"phase": "Failed"}}),
        );
        assert_eq!(
            told(vec![ended], Allowed::default()).0,
            1,
            "what has ended may go"
        );
    }

    #[test]
    fn a_daemon_whose_set_is_gone_goes_by_force_alone() {
        let gone = |_: &Value| {
            Err(Missing {
                not_found: true,
                message: "daemonsets.apps \"o\" not found".to_owned(),
            })
        };
        let sorted = |force| {
            let allowed = Allowed {
                force,
                ..Allowed::default()
            };
            sort(
                vec![pod("a", Some("DaemonSet"))],
                allowed,
                gone,
                Timestamp::UNIX_EPOCH,
            )
        };
        assert_eq!(
            sorted(false).errors,
            ["cannot delete daemonsets.apps \"o\" not found: n/a"]
        );
        assert_eq!(sorted(true).going.len(), 1);
        assert_eq!(
            sorted(true).warning.unwrap(),
            "daemonsets.apps \"o\" not found: n/a"
        );
    }

    #[test]
    fn what_nobody_would_make_again_goes_by_force_alone() {
        assert_eq!(
            told(vec![pod("a", None)], Allowed::default()).2,
            ["cannot delete cannot delete Pods that declare no controller (use --force to override): n/a"]
        );
        let force = Allowed {
            force: true,
            ..Allowed::default()
        };
        assert_eq!(
            told(vec![pod("a", None)], force).1.unwrap(),
            "deleting Pods that declare no controller: n/a"
        );
        assert_eq!(told(vec![pod("a", Some("ReplicaSet"))], Allowed::default()).0, 1);
    }

    #[test]
    fn data_on_the_node_and_mirror_pods_are_heeded() {
        let local = with(
            pod("a", Some("ReplicaSet")),
            &json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
        );
        assert_eq!(
            told(vec![local.clone()], Allowed::default()).2,
            ["cannot delete Pods with local storage (use --delete-emptydir-data to override): n/a"]
        );
        let allowed = Allowed {
            delete_empty_dir_data: true,
            ..Allowed::default()
        };
        assert_eq!(told(vec![local], allowed).0, 1);
        let mut mirror = pod("a", None);
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        assert_eq!(told(vec![mirror], Allowed::default()), (0, None, Vec::new()));
    }
}
