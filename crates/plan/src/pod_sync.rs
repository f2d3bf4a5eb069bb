//! Decides what a node does next for one pod, and the status that it reports.
//!
//! [`sync`] compares the pod in the API with its state on the node. It returns the actions that
//! reduce the difference, the status to report, and when to sync again. It is total and stateless:
//! the same inputs give the same plan. Actions in flight show in [`Observed`] and are not planned
//! again.
//!
//! The order is that of Kubernetes: the sandbox, then the init containers one by one, then all
//! containers. For a deleted pod, the containers are stopped (sidecars last), the sandbox is
//! removed, the last status is reported, and then the object is deleted. A pod in the phase
//! Succeeded or Failed never starts anything again.

mod backoff;
mod observed;
mod pod;
mod probe;
mod status;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

pub use backoff::{Backoff, INITIAL as BACKOFF_INITIAL, MAXIMUM as BACKOFF_MAXIMUM};
pub use observed::{ContainerSeen, Exit, Failure, ImageSeen, Observed, Run, Sandbox, Verdicts};
pub use pod::{Container, Metadata, Pod, Probe, PullPolicy, ReadinessGate, RestartPolicy, Spec};
pub use probe::{Tally, next_run};
pub use status::{Phase, patch};

/// How often to look for an image that could not be pulled: a user may import it.
const LOOK_FOR_IMPORT: SignedDuration = SignedDuration::from_secs(3);
/// How long the error of a pull is reported before "back-off" replaces it.
const PULL_ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(3);
/// Grace period of a pod that is evicted for its disk use, as in the kubelet.
const EVICTION_GRACE_SECONDS: i64 = 1;
/// Least grace period of sidecars after the pod's containers ended, in seconds.
const SIDECAR_GRACE_SECONDS: i64 = 2;

/// The actions, the status, and the time of the next sync.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In the order in which they must begin.
    pub actions: Vec<Action>,
    /// The fields of the pod's status that its node sets.
    pub status: Value,
    /// When the plan changes without an event.
    pub wake: Option<Timestamp>,
}

/// An action. All are idempotent, and none is planned again while it is in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create the pod's directory, volumes, cgroup, namespaces and network.
    CreateSandbox,
    /// Check whether the image of this container is on the node.
    LookUpImage {
        /// Name of the container.
        container: String,
    },
    /// Pull the image of this container.
    PullImage {
        /// Name of the container.
        container: String,
    },
    /// Create and start a run of a container.
    StartContainer {
        /// Name of the container.
        container: String,
        /// Number of the run.
        attempt: u32,
    },
    /// Run preStop, then send SIGTERM, and SIGKILL after the grace period.
    StopContainer {
        /// Name of the container.
        container: String,
        /// Seconds from preStop to SIGKILL.
        grace_seconds: i64,
        /// Why.
        why: StopReason,
    },
    /// Release the resources that the terminated pod no longer needs. Keep its logs.
    ReleaseSandbox,
    /// Remove everything of the pod from this node.
    RemoveSandbox,
    /// Nothing of the pod is left: report the last status, then delete the object (grace period 0,
    /// this uid).
    DeletePod,
    /// Nothing of the pod is left, and it is not in the API: drop its state.
    Forget,
}

/// Why a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The pod is deleted, or not in the API.
    PodDeleted,
    /// The pod has reached its active deadline.
    DeadlineExceeded,
    /// The pod exceeded its limit of the node's disk.
    Evicted,
    /// Its liveness probe failed. The restart policy decides whether it starts again.
    Liveness,
    /// Its startup probe failed. The restart policy decides as well.
    Startup,
    /// The pod's containers have ended, and this is a sidecar.
    PodFinished,
    /// Its spec names another image now. It starts again, whatever the restart policy.
    Changed,
}

/// Plans the next actions for `pod`, from its state on the node.
pub fn sync(pod: &Pod, seen: &Observed, now: Timestamp) -> Plan {
    let mut steps = Steps {
        pod,
        seen,
        now,
        actions: Vec::new(),
        wake: None,
    };
    steps.plan();
    let (actions, mut wake) = (steps.actions, steps.wake);
    if let Some(at) = status::changes_at(pod, seen, now) {
        wake = Some(wake.map_or(at, |wake| wake.min(at)));
    }
    Plan {
        actions,
        status: status::status(pod, seen, now),
        wake,
    }
}

struct Steps<'a> {
    pod: &'a Pod,
    seen: &'a Observed,
    now: Timestamp,
    actions: Vec<Action>,
    wake: Option<Timestamp>,
}

impl Steps<'_> {
    fn plan(&mut self) {
        let leaving = self.seen.unwanted || self.pod.metadata.deletion_timestamp.is_some();
        if leaving {
            self.end(StopReason::PodDeleted);
        } else if self.seen.rejected.is_some() {
            // A rejected pod stays as it is until it is deleted.
        } else if self.seen.evicted.is_some() {
            self.end(StopReason::Evicted);
        } else if self.is_overdue() {
            self.end(StopReason::DeadlineExceeded);
        } else if status::is_terminal(self.pod, self.seen) {
            self.end(StopReason::PodFinished);
        } else {
            self.run();
        }
    }

    fn is_overdue(&mut self) -> bool {
        let Some(deadline) = status::deadline(self.pod, self.seen) else {
            return false;
        };
        if self.now < deadline {
            self.wake_at(deadline);
        }
        self.now >= deadline
    }

    // ---- towards running

    fn run(&mut self) {
        match &self.seen.sandbox {
            Sandbox::Absent | Sandbox::Released => self.actions.push(Action::CreateSandbox),
            Sandbox::Failed(_, retry) if self.now >= *retry => {
                self.actions.push(Action::CreateSandbox);
            }
            Sandbox::Failed(_, retry) => self.wake_at(*retry),
            Sandbox::Broken => self.actions.push(Action::RemoveSandbox),
            Sandbox::Creating | Sandbox::Removing => {}
            Sandbox::Ready => self.containers(),
        }
    }

    fn containers(&mut self) {
        let begun = status::has_begun(self.pod, self.seen);
        for container in &self.pod.spec.init_containers {
            let seen = self.container(container);
            if container.is_sidecar() {
                self.keep_running(container, &seen, true);
                if !begun && !status::is_started(container, &seen) {
                    return;
                }
            } else if !begun && !status::has_succeeded(&seen) {
                self.keep_running(container, &seen, true);
                return;
            }
        }
        for container in &self.pod.spec.containers {
            let seen = self.container(container);
            self.keep_running(container, &seen, false);
        }
    }

    fn keep_running(&mut self, container: &Container, seen: &ContainerSeen, init: bool) {
        if seen.starting {
            return;
        }
        match &seen.run {
            Run::Running { .. } if is_changed(container, seen) && (!init || container.is_sidecar()) => {
                self.stop(container, seen, self.pod.grace_seconds(), StopReason::Changed);
            }
            Run::Running { .. } => self.check_probes(container, seen),
            Run::Exited(_) if seen.renewed => self.start(container, seen, seen.attempt.saturating_add(1)),
            Run::Exited(exit) if !status::restarts(self.pod, container, init, exit) => {}
            Run::Exited(exit) => match seen.backoff.until(exit.finished_at) {
                Some(until) if self.now < until => self.wake_at(until),
                _ => self.start(container, seen, seen.attempt.saturating_add(1)),
            },
            Run::None => self.start(container, seen, seen.attempt),
        }
    }

    fn check_probes(&mut self, container: &Container, seen: &ContainerSeen) {
        let (why, probe) = if seen.probes.startup == Some(false) {
            (StopReason::Startup, &container.startup_probe)
        } else if seen.probes.liveness == Some(false) {
            (StopReason::Liveness, &container.liveness_probe)
        } else {
            return;
        };
        let grace = probe
            .as_ref()
            .and_then(|probe| probe.termination_grace_period_seconds)
            .unwrap_or_else(|| self.pod.grace_seconds());
        self.stop(container, seen, grace, why);
    }

    fn start(&mut self, container: &Container, seen: &ContainerSeen, attempt: u32) {
        if let Some((_, retry)) = &seen.failure
            && self.now < *retry
        {
            return self.wake_at(*retry);
        }
        let name = || container.name.clone();
        match &seen.image {
            ImageSeen::Unknown => self.actions.push(Action::LookUpImage { container: name() }),
            ImageSeen::Ready => self.actions.push(Action::StartContainer {
                container: name(),
                attempt,
            }),
            ImageSeen::Present if container.image_pull_policy != PullPolicy::Always => {
                self.actions.push(Action::StartContainer {
                    container: name(),
                    attempt,
                });
            }
            ImageSeen::Missing { looked_at } if container.image_pull_policy == PullPolicy::Never => {
                self.look_again(container, *looked_at);
            }
            ImageSeen::Missing { .. } | ImageSeen::Present => {
                self.actions.push(Action::PullImage { container: name() });
            }
            ImageSeen::Pulling | ImageSeen::Invalid(_) => {}
            ImageSeen::Failed {
                at,
                looked_at,
                backoff,
                ..
            } => match backoff.until(*at) {
                Some(until) if self.now < until => {
                    self.wake_at(until);
                    if container.image_pull_policy != PullPolicy::Always {
                        self.look_again(container, *looked_at);
                    }
                }
                _ => self.actions.push(Action::PullImage { container: name() }),
            },
        }
    }

    /// Looks for an image that a user may have imported since `last`.
    fn look_again(&mut self, container: &Container, last: Timestamp) {
        let due = later(last, LOOK_FOR_IMPORT);
        if self.now >= due {
            self.actions.push(Action::LookUpImage {
                container: container.name.clone(),
            });
        }
        self.wake_at(due.max(later(self.now, SignedDuration::from_secs(1))));
    }

    // ---- towards the end

    fn end(&mut self, why: StopReason) {
        let mut waiting = self.stop_containers(why);
        if !waiting {
            waiting = self.stop_sidecars(why);
        }
        if !waiting {
            self.tear_down(why);
        }
    }

    /// Stops the containers that are not sidecars. Returns whether any of them is still alive.
    fn stop_containers(&mut self, why: StopReason) -> bool {
        let spec = &self.pod.spec;
        let mut alive = false;
        let grace = match why {
            StopReason::Evicted => EVICTION_GRACE_SECONDS,
            _ => self.pod.grace_seconds(),
        };
        let ordinary = spec.init_containers.iter().filter(|init| !init.is_sidecar());
        for container in ordinary.chain(&spec.containers) {
            let seen = self.container(container);
            alive |= is_alive(&seen);
            if matches!(seen.run, Run::Running { .. }) {
                self.stop(container, &seen, grace, why);
            }
        }
        alive
    }

    /// Stops the last sidecar that is alive. Returns whether there was one.
    fn stop_sidecars(&mut self, why: StopReason) -> bool {
        let sidecars = self.pod.spec.init_containers.iter().rev();
        for container in sidecars.filter(|init| init.is_sidecar()) {
            let seen = self.container(container);
            if !is_alive(&seen) {
                continue;
            }
            if matches!(seen.run, Run::Running { .. }) {
                let grace = self.grace_left().max(SIDECAR_GRACE_SECONDS);
                self.stop(container, &seen, grace, why);
            }
            return true;
        }
        false
    }

    /// Seconds until the deadline of the deletion, or the pod's whole grace period if it was not
    /// deleted.
    fn grace_left(&self) -> i64 {
        let whole = self.pod.grace_seconds();
        match self.pod.metadata.deletion_timestamp {
            Some(deadline) => deadline.duration_since(self.now).as_secs().clamp(0, whole),
            None => whole,
        }
    }

    fn tear_down(&mut self, why: StopReason) {
        let leaving = why == StopReason::PodDeleted;
        match &self.seen.sandbox {
            Sandbox::Creating | Sandbox::Removing => {}
            Sandbox::Released | Sandbox::Absent if !leaving => {}
            Sandbox::Ready | Sandbox::Failed(..) | Sandbox::Broken if !leaving => {
                self.actions.push(Action::ReleaseSandbox);
            }
            Sandbox::Ready | Sandbox::Failed(..) | Sandbox::Broken | Sandbox::Released => {
                self.actions.push(Action::RemoveSandbox);
            }
            Sandbox::Absent if self.seen.unwanted => self.actions.push(Action::Forget),
            Sandbox::Absent => self.actions.push(Action::DeletePod),
        }
    }

    /// Stops a container, or shortens the grace period of a stop in flight.
    fn stop(&mut self, container: &Container, seen: &ContainerSeen, grace: i64, why: StopReason) {
        if seen.stopping.is_none_or(|stopping| grace < stopping) {
            self.actions.push(Action::StopContainer {
                container: container.name.clone(),
                grace_seconds: grace,
                why,
            });
        }
    }

    fn container(&self, container: &Container) -> ContainerSeen {
        let seen = self.seen.containers.get(&container.name);
        seen.cloned().unwrap_or_default()
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// Returns whether a container runs another image than its spec names.
fn is_changed(container: &Container, seen: &ContainerSeen) -> bool {
    !seen.image_name.is_empty() && seen.image_name != container.image
}

fn is_alive(seen: &ContainerSeen) -> bool {
    seen.starting || matches!(seen.run, Run::Running { .. })
}

fn later(from: Timestamp, by: SignedDuration) -> Timestamp {
    from.saturating_add(by).unwrap_or(Timestamp::MAX)
}
