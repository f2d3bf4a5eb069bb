//! Decides how many pods may be disrupted now: the status of PodDisruptionBudgets.
//!
//! A budget counts the pods in its namespace that its selector matches. An eviction reduces
//! `disruptionsAllowed` and records the pod in `disruptedPods` (see [`api::eviction`]). [`Budgets`]
//! computes both again from its copy of the pods. Its write is valid only for the resourceVersion
//! that it read, so it includes all evictions before. A recorded pod does not count, even if its
//! deletion is not visible yet. So evictions never disrupt one pod too many, however late the
//! watches are.
//!
//! Counts are updated with each pod event. An event costs as much as the namespace has budgets, not
//! pods.
//!
//! A percentage, and `maxUnavailable`, need the expected number of pods. Kubernetes reads the
//! `scale` of the pods' controllers. A DaemonSet has none, so Kubernetes then allows nothing. Here
//! a DaemonSet counts with its `desiredNumberScheduled`.

mod count;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::kinds::policy;
use api::time::rfc3339;
use api::view::{DaemonSetView, PodDisruptionBudgetView, PodView};
use jiff::{SignedDuration, Timestamp};
use schema::int_or_percent::IntOrPercent;
use serde_json::{Map, Value, json};

use self::count::{Count, is_healthy};
use crate::scheduling::PodKey;

/// An evicted pod counts again if it was not deleted within this time. Here eviction and deletion
/// are one write. With other servers, and clients that record pods themselves, the deletion may
/// never follow.
pub const DELETION_TIMEOUT: Duration = Duration::from_secs(120);

/// A pod with the condition DisruptionTarget that does not terminate within this time loses the
/// condition.
pub const STALE_DISRUPTION_TIMEOUT: Duration = Duration::from_secs(120);

/// Reason of a disruption without a time limit, because the node itself decided it.
const BY_KUBELET: &str = "TerminationByKubelet";

/// Namespace and name of a budget.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BudgetKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// One action.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Merge this patch into the budget's status. It is valid for one resourceVersion only.
    SetStatus {
        /// The budget.
        budget: BudgetKey,
        /// A JSON merge patch.
        patch: Value,
    },
    /// Clear the pod's condition DisruptionTarget, which is too old.
    ClearDisruption {
        /// The pod.
        pod: PodKey,
        /// Its uid.
        uid: Arc<str>,
    },
    /// Record an event about a budget.
    RecordBudgetEvent {
        /// The budget.
        budget: BudgetKey,
        /// Its uid.
        uid: Arc<str>,
        /// Whether it is a Warning; otherwise it is Normal.
        warning: bool,
        /// The event's reason.
        reason: &'static str,
        /// The event's message.
        message: String,
    },
    /// Record a Warning event about a pod.
    RecordPodWarning {
        /// The pod.
        pod: PodKey,
        /// Its uid.
        uid: Arc<str>,
        /// The event's reason.
        reason: &'static str,
        /// The event's message.
        message: String,
    },
}

struct Budget {
    view: Arc<PodDisruptionBudgetView>,
    count: Count,
    /// The resourceVersion that a write in flight is for.
    writing: Option<u64>,
    recheck: Option<Timestamp>,
    /// The last event about it: reason and message. It is not repeated.
    reported: Option<(&'static str, String)>,
}

#[derive(Default)]
struct Namespace {
    pods: BTreeMap<Arc<str>, Arc<PodView>>,
    budgets: BTreeMap<Arc<str>, Budget>,
}

/// Desired numbers of a budget.
struct Numbers {
    expected: i32,
    desired: i32,
}

/// All budgets, the pods that they count, and the DaemonSets of those.
#[derive(Default)]
pub struct Budgets {
    namespaces: HashMap<Arc<str>, Namespace>,
    /// Desired number of pods of each DaemonSet, by its uid.
    sets: HashMap<Arc<str>, i32>,
    dirty: BTreeSet<BudgetKey>,
    rechecks: BTreeSet<(Timestamp, BudgetKey)>,
    /// Disrupted pods that do not terminate, by the time at which they lose the condition.
    disrupted: BTreeSet<(Timestamp, PodKey)>,
    disrupted_of: HashMap<PodKey, Timestamp>,
    /// Pods of several budgets that need an event.
    crowded: BTreeSet<PodKey>,
}

impl Budgets {
    /// An empty index. All existing objects must be added before the first plan.
    pub fn new() -> Self {
        Self::default()
    }

    /// A budget was added or changed.
    pub fn put_budget(&mut self, view: &Arc<PodDisruptionBudgetView>) {
        let key = BudgetKey::of(view);
        let namespace = self.namespaces.entry(key.namespace.clone()).or_default();
        let known = namespace.budgets.get_mut(&key.name);
        match known {
            Some(known) if known.view.selector == view.selector && known.view.meta.uid == view.meta.uid => {
                known.view = view.clone();
            }
            _ => {
                let matching = |pod: &&Arc<PodView>| view.selector.matches_labels(&pod.meta.labels);
                let count = Count::of(namespace.pods.values().filter(matching));
                let budget = Budget {
                    view: view.clone(),
                    count,
                    writing: None,
                    recheck: None,
                    reported: None,
                };
                namespace.budgets.insert(key.name.clone(), budget);
            }
        }
        self.dirty.insert(key);
    }

    /// A budget was deleted.
    pub fn delete_budget(&mut self, key: &BudgetKey) {
        self.dirty.remove(key);
        let Some(namespace) = self.namespaces.get_mut(&key.namespace) else {
            return;
        };
        if let Some(budget) = namespace.budgets.remove(&key.name)
            && let Some(at) = budget.recheck
        {
            self.rechecks.remove(&(at, key.clone()));
        }
        self.tidy(&key.namespace);
    }

    /// A pod was added or changed.
    pub fn put_pod(&mut self, pod: &Arc<PodView>) {
        let key = PodKey::of(pod);
        self.watch_disruption(&key, pod);
        let namespace = self.namespaces.entry(key.namespace.clone()).or_default();
        let old = namespace.pods.insert(key.name.clone(), pod.clone());
        let (mut before, mut after) = (0, 0);
        for (name, budget) in &mut namespace.budgets {
            let old = old.as_ref().filter(|old| budget.matches(old));
            let new = budget.matches(pod);
            before += usize::from(old.is_some());
            after += usize::from(new);
            if let Some(old) = old {
                if new && Count::is_same(old, pod) {
                    continue;
                }
                budget.count.remove(old);
            }
            if new {
                budget.count.add(pod);
            }
            if new || old.is_some() {
                self.dirty.insert(BudgetKey {
                    namespace: key.namespace.clone(),
                    name: name.clone(),
                });
            }
        }
        if before < 2 && after >= 2 {
            self.crowded.insert(key);
        }
    }

    /// A pod was deleted.
    pub fn delete_pod(&mut self, key: &PodKey) {
        self.unwatch_disruption(key);
        self.crowded.remove(key);
        let Some(namespace) = self.namespaces.get_mut(&key.namespace) else {
            return;
        };
        let Some(old) = namespace.pods.remove(&key.name) else {
            return;
        };
        for (name, budget) in &mut namespace.budgets {
            if budget.matches(&old) {
                budget.count.remove(&old);
                self.dirty.insert(BudgetKey {
                    namespace: key.namespace.clone(),
                    name: name.clone(),
                });
            }
        }
        self.tidy(&key.namespace);
    }

    /// A DaemonSet was added or changed.
    pub fn put_set(&mut self, set: &DaemonSetView) {
        let desired = set.status.desired_number_scheduled;
        if self.sets.insert(set.meta.uid.clone(), desired) != Some(desired) {
            self.mark_budgets_of(&set.meta.namespace, &set.meta.uid);
        }
    }

    /// A DaemonSet was deleted.
    pub fn delete_set(&mut self, set: &DaemonSetView) {
        self.sets.remove(&set.meta.uid);
        self.mark_budgets_of(&set.meta.namespace, &set.meta.uid);
    }

    /// A write about this budget failed, so it is decided again.
    pub fn retry_budget(&mut self, key: &BudgetKey) {
        if let Some(budget) = self.budget_mut(key) {
            budget.writing = None;
            self.dirty.insert(key.clone());
        }
    }

    /// A write about this pod failed, so it is retried.
    pub fn retry_pod(&mut self, key: &PodKey, now: Timestamp) {
        let pod = self
            .namespaces
            .get(&key.namespace)
            .and_then(|n| n.pods.get(&key.name));
        if pod.is_some_and(|pod| cleared_at(pod).is_some()) {
            self.disrupted.insert((now, key.clone()));
            self.disrupted_of.insert(key.clone(), now);
        }
    }

    /// When [`Budgets::plan`] has something to do even if no event comes.
    pub fn next_look(&self) -> Option<Timestamp> {
        let recheck = self.rechecks.first().map(|(at, _)| *at);
        let disrupted = self.disrupted.first().map(|(at, _)| *at);
        [recheck, disrupted].into_iter().flatten().min()
    }

    /// Returns whether events left something to decide.
    pub fn has_work(&self) -> bool {
        !self.dirty.is_empty() || !self.crowded.is_empty()
    }

    /// Decides about everything that events marked or that is due, at most `limit` of each.
    pub fn plan(&mut self, now: Timestamp, limit: usize) -> Vec<Action> {
        let mut actions = Vec::new();
        while self.rechecks.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.rechecks.pop_first() else {
                break;
            };
            if let Some(budget) = self.budget_mut(&key) {
                budget.recheck = None;
                self.dirty.insert(key);
            }
        }
        for _ in 0..limit {
            let Some(key) = self.dirty.pop_first() else { break };
            self.judge(&key, now, &mut actions);
        }
        for _ in 0..limit {
            let Some(key) = self.crowded.pop_first() else {
                break;
            };
            actions.extend(self.report_crowded(key));
        }
        for _ in 0..limit {
            if self.disrupted.first().is_none_or(|(at, _)| *at > now) {
                break;
            }
            let Some((_, key)) = self.disrupted.pop_first() else {
                break;
            };
            self.disrupted_of.remove(&key);
            let pod = self
                .namespaces
                .get(&key.namespace)
                .and_then(|n| n.pods.get(&key.name));
            if let Some(uid) = pod.map(|pod| pod.meta.uid.clone()) {
                actions.push(Action::ClearDisruption { pod: key, uid });
            }
        }
        actions
    }

    fn judge(&mut self, key: &BudgetKey, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(namespace) = self.namespaces.get_mut(&key.namespace) else {
            return;
        };
        let Some(budget) = namespace.budgets.get_mut(&key.name) else {
            return;
        };
        if let Some(at) = budget.recheck.take() {
            self.rechecks.remove(&(at, key.clone()));
        }
        let view = budget.view.clone();
        let version = view.meta.resource_version;
        if budget.writing == Some(version) {
            // The result of the write comes as the budget's next version.
            return;
        }
        budget.writing = None;
        let numbers = numbers(&view, &budget.count, &self.sets);
        report(budget, key, numbers.as_ref().err(), actions);
        let noted = Noted::of(&view, &namespace.pods, now);
        for pod in &noted.overdue {
            actions.push(Action::RecordPodWarning {
                pod: PodKey::of(pod),
                uid: pod.meta.uid.clone(),
                reason: "NotDeleted",
                message: format!(
                    "Pod was expected by PDB {}/{} to be deleted but it wasn't",
                    key.namespace, key.name
                ),
            });
        }
        if let Some(at) = noted.next {
            budget.recheck = Some(at);
            self.rechecks.insert((at, key.clone()));
        }
        let healthy = number(budget.count.healthy).saturating_sub(number(noted.healthy));
        if let Some(patch) = patch(&view, numbers.as_ref(), healthy, &noted, now) {
            budget.writing = Some(version);
            actions.push(Action::SetStatus {
                budget: key.clone(),
                patch,
            });
        }
    }

    fn report_crowded(&self, key: PodKey) -> Option<Action> {
        let namespace = self.namespaces.get(&key.namespace)?;
        let pod = namespace.pods.get(&key.name)?;
        let names: Vec<String> = namespace
            .budgets
            .iter()
            .filter(|(_, budget)| budget.matches(pod))
            .map(|(name, _)| format!("{name:?}"))
            .collect();
        let message = format!(
            "Pod {:?}/{:?} matches multiple PodDisruptionBudgets, so it cannot be evicted: {}",
            key.namespace,
            key.name,
            names.join(", ")
        );
        (names.len() > 1).then(|| Action::RecordPodWarning {
            uid: pod.meta.uid.clone(),
            pod: key,
            reason: "MultiplePodDisruptionBudgets",
            message,
        })
    }

    fn budget_mut(&mut self, key: &BudgetKey) -> Option<&mut Budget> {
        self.namespaces
            .get_mut(&key.namespace)?
            .budgets
            .get_mut(&key.name)
    }

    fn mark_budgets_of(&mut self, namespace: &Arc<str>, set: &Arc<str>) {
        let Some(known) = self.namespaces.get(namespace) else {
            return;
        };
        let concerned = known
            .budgets
            .iter()
            .filter(|(_, budget)| budget.count.has_controller(set));
        self.dirty.extend(concerned.map(|(name, _)| BudgetKey {
            namespace: namespace.clone(),
            name: name.clone(),
        }));
    }

    fn tidy(&mut self, namespace: &Arc<str>) {
        let empty = |n: &Namespace| n.pods.is_empty() && n.budgets.is_empty();
        if self.namespaces.get(namespace).is_some_and(empty) {
            self.namespaces.remove(namespace);
        }
    }

    fn watch_disruption(&mut self, key: &PodKey, pod: &PodView) {
        self.unwatch_disruption(key);
        if let Some(at) = cleared_at(pod) {
            self.disrupted.insert((at, key.clone()));
            self.disrupted_of.insert(key.clone(), at);
        }
    }

    fn unwatch_disruption(&mut self, key: &PodKey) {
        if let Some(at) = self.disrupted_of.remove(key) {
            self.disrupted.remove(&(at, key.clone()));
        }
    }
}

impl BudgetKey {
    /// The key of a budget.
    pub fn of(budget: &PodDisruptionBudgetView) -> Self {
        Self {
            namespace: budget.meta.namespace.clone(),
            name: budget.meta.name.clone(),
        }
    }
}

impl Budget {
    fn matches(&self, pod: &PodView) -> bool {
        self.view.selector.matches_labels(&pod.meta.labels)
    }
}

/// When a pod that was to be disrupted, but still runs, loses the condition.
fn cleared_at(pod: &PodView) -> Option<Timestamp> {
    let disruption = pod.disruption.as_ref()?;
    if pod.is_terminating() || pod.is_terminal() || &*disruption.reason == BY_KUBELET {
        return None;
    }
    let since = disruption.since.unwrap_or(Timestamp::MIN);
    Some(
        since
            .checked_add(STALE_DISRUPTION_TIMEOUT)
            .unwrap_or(Timestamp::MAX),
    )
}

/// How many pods there should be, and how many must be healthy; `Err` has the reason if this is
/// unknown.
fn numbers(
    budget: &PodDisruptionBudgetView,
    count: &Count,
    sets: &HashMap<Arc<str>, i32>,
) -> Result<Numbers, String> {
    if let Some(away) = budget.max_unavailable {
        let expected = count.expected(sets)?;
        let desired = expected.saturating_sub(away.scaled(expected, true)).max(0);
        return Ok(Numbers { expected, desired });
    }
    match budget.min_available {
        Some(IntOrPercent::Int(desired)) => Ok(Numbers {
            expected: number(count.pods),
            desired,
        }),
        Some(percent) => {
            let expected = count.expected(sets)?;
            let desired = percent.scaled(expected, true);
            Ok(Numbers { expected, desired })
        }
        None => Ok(Numbers {
            expected: 0,
            desired: 0,
        }),
    }
}

/// The evicted pods that a budget records and whose deletion is not visible yet.
struct Noted<'a> {
    kept: BTreeMap<&'a str, Timestamp>,
    dropped: Vec<&'a str>,
    /// Number of kept pods that look healthy.
    healthy: usize,
    /// Pods that were not deleted in time.
    overdue: Vec<&'a PodView>,
    /// When the next of the kept pods is overdue.
    next: Option<Timestamp>,
}

impl<'a> Noted<'a> {
    fn of(
        budget: &'a PodDisruptionBudgetView,
        pods: &'a BTreeMap<Arc<str>, Arc<PodView>>,
        now: Timestamp,
    ) -> Noted<'a> {
        let mut noted = Noted {
            kept: BTreeMap::new(),
            dropped: Vec::new(),
            healthy: 0,
            overdue: Vec::new(),
            next: None,
        };
        for (name, at) in &budget.status.disrupted_pods {
            let pod = pods.get(&**name);
            let guarded = pod.is_none_or(|pod| budget.selector.matches_labels(&pod.meta.labels));
            let Some(at) = at.filter(|at| guarded && pod.is_none_or(|pod| awaits_end(pod, *at))) else {
                noted.dropped.push(name);
                continue;
            };
            let until = at.checked_add(DELETION_TIMEOUT).unwrap_or(Timestamp::MAX);
            if until < now {
                noted.dropped.push(name);
                noted.overdue.extend(pod.map(|pod| &**pod));
                continue;
            }
            noted.kept.insert(name, at);
            noted.healthy += usize::from(pod.is_some_and(|pod| is_healthy(pod)));
            // The first second at which it is overdue.
            let after = until
                .checked_add(Duration::from_secs(1))
                .unwrap_or(Timestamp::MAX);
            noted.next = Some(noted.next.map_or(after, |next| next.min(after)));
        }
        noted
    }
}

/// Returns whether the deletion of this pod, allowed at `at`, is not visible yet: it does not
/// terminate since then, and it is not a later pod with the same name. (A pod that is not visible
/// at all may still appear, and counts as not deleted.)
fn awaits_end(pod: &PodView, at: Timestamp) -> bool {
    let grace = SignedDuration::from_secs(pod.meta.deletion_grace_period_seconds.unwrap_or(0));
    let went = pod
        .meta
        .deletion_timestamp
        .and_then(|end| end.checked_sub(grace).ok());
    let made_later = pod.meta.creation_timestamp.is_some_and(|made| made > at);
    !made_later && went.is_none_or(|went| went < at)
}

/// The merge patch that updates the status; `None` if it is up to date.
fn patch(
    budget: &PodDisruptionBudgetView,
    numbers: Result<&Numbers, &String>,
    healthy: i32,
    noted: &Noted<'_>,
    now: Timestamp,
) -> Option<Value> {
    let known = &budget.status;
    // Numbers that cannot be computed stay unchanged, and nothing is allowed.
    let (expected, desired, current) = match numbers {
        Ok(numbers) => (numbers.expected, numbers.desired, healthy),
        Err(_) => (known.expected_pods, known.desired_healthy, known.current_healthy),
    };
    // A budget without pods allows nothing: its first pods may appear before they are counted.
    let allowed = match numbers {
        Ok(_) if expected > 0 => current.saturating_sub(desired).max(0),
        _ => 0,
    };
    let mut status = json!({
        "observedGeneration": budget.meta.generation, "disruptionsAllowed": allowed,
        "currentHealthy": current, "desiredHealthy": desired, "expectedPods": expected,
        "conditions": known.conditions,
    });
    policy::set_disruption_allowed(&mut status, numbers.err().map(String::as_str), now);
    let is_up_to_date = known.observed_generation == budget.meta.generation
        && known.disruptions_allowed == allowed
        && (known.current_healthy, known.desired_healthy, known.expected_pods)
            == (current, desired, expected)
        && noted.dropped.is_empty()
        && status["conditions"].as_array() == Some(&known.conditions);
    if is_up_to_date {
        return None;
    }
    let kept = noted
        .kept
        .iter()
        .map(|(name, at)| ((*name).to_owned(), rfc3339(*at).into()));
    let dropped = noted.dropped.iter().map(|name| ((*name).to_owned(), Value::Null));
    let pods: Map<String, Value> = kept.chain(dropped).collect();
    if !pods.is_empty() {
        status["disruptedPods"] = pods.into();
    }
    Some(json!({
        "metadata": {"uid": &*budget.meta.uid, "resourceVersion": budget.meta.resource_version.to_string()},
        "status": status,
    }))
}

/// Records an event about a problem with a budget's pods, once.
fn report(budget: &mut Budget, key: &BudgetKey, failure: Option<&String>, actions: &mut Vec<Action>) {
    let scaled = matches!(budget.view.min_available, Some(IntOrPercent::Percent(_)));
    let needs_scale = budget.view.max_unavailable.is_some() || scaled;
    let (warning, reason, message) = if let Some(failure) = failure {
        let message = format!("Failed to calculate the number of expected pods: {failure}");
        (true, "CalculateExpectedPodCountFailed", message)
    } else if budget.count.pods == 0 {
        (false, "NoPods", "No matching pods found".to_owned())
    } else if needs_scale && budget.count.unmanaged > 0 {
        let message = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of the PDB \
             cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \
             \".spec.minAvailable\" field of the PDB to an integer value.";
        (true, "UnmanagedPods", message.to_owned())
    } else {
        budget.reported = None;
        return;
    };
    if budget
        .reported
        .as_ref()
        .is_some_and(|(r, m)| *r == reason && *m == message)
    {
        return;
    }
    budget.reported = Some((reason, message.clone()));
    actions.push(Action::RecordBudgetEvent {
        budget: key.clone(),
        uid: budget.view.meta.uid.clone(),
        warning,
        reason,
        message,
    });
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
