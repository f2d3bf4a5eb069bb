//! What a node does next for one pod, and what it says about it.
//!
//! [`sync`] compares the pod that the API asks for with what the node sees of it, and answers the actions that bring the
//! two closer, the status to report, and when to look again. It is total and has no memory: the same inputs give the
//! same plan, and a plan whose actions are under way (they show in [`Observed`]) is not repeated.
//!
//! The order is Kubernetes' own: sandbox, then init containers one after the other, then all containers. A pod that is
//! deleted has its containers stopped (sidecars last), its sandbox removed, its last status reported, and then its
//! object deleted. A pod that reached Succeeded or Failed never starts anything again.

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

/// An image that could not be pulled may be imported by hand: look for it this often.
const LOOK_FOR_IMPORT: SignedDuration = SignedDuration::from_secs(3);
/// How long the error of a pull itself is shown before "back-off" takes its place.
const PULL_ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(3);
/// Grace of a pod that is evicted for what it took of the disk, as the kubelet gives it.
const EVICTION_GRACE_SECONDS: i64 = 1;
/// Sidecars have at least this much of the pod's grace left after its containers ended, in seconds.
const SIDECAR_GRACE_SECONDS: i64 = 2;

/// What to do for a pod, what to report of it, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In the order in which they should begin.
    pub actions: Vec<Action>,
    /// The pod's status, as far as its node sets it.
    pub status: Value,
    /// When time alone changes the plan.
    pub wake: Option<Timestamp>,
}

/// One step. All are idempotent, and are not planned again while they are under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the pod's directory, volumes, cgroup, namespaces and network.
    CreateSandbox,
    /// See whether the image of this container is on the node.
    LookUpImage {
        /// Name of the container.
        container: String,
    },
    /// Pull the image of this container.
    PullImage {
        /// Name of the container.
        container: String,
    },
    /// Make and start a run of a container.
    StartContainer {
        /// Name of the container.
        container: String,
        /// Number of the run.
        attempt: u32,
    },
    /// preStop, SIGTERM, and SIGKILL after the grace.
    StopContainer {
        /// Name of the container.
        container: String,
        /// Seconds from preStop to SIGKILL.
        grace_seconds: i64,
        /// Why.
        why: StopReason,
    },
    /// Take down what the finished pod no longer needs; keep its logs.
    ReleaseSandbox,
    /// Remove all that the pod has on this node.
    RemoveSandbox,
    /// Nothing of the pod is left: report the last status, then delete the object (grace 0, this uid).
    DeletePod,
    /// Nothing of the pod is left and the API does not know it: forget it.
    Forget,
}

/// Why a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The pod is deleted, or unknown to the API.
    PodDeleted,
    /// The pod has reached its active deadline.
    DeadlineExceeded,
    /// The pod took more of the node's disk than it may.
    Evicted,
    /// Its liveness probe failed; it starts again as the restart policy says.
    Liveness,
    /// Its startup probe failed; likewise.
    Startup,
    /// The pod's containers have ended, and this is a sidecar.
    PodFinished,
    /// Its image in the spec is not the one that it runs; it starts again, whatever the restart policy says.
    Changed,
}

/// The next steps for `pod`, given what the node sees of it.
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
            // A refused pod stays as it is until someone deletes it.
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

    /// Looks for an image that someone may have imported since `last`.
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

    /// Stops the containers that are no sidecars; answers whether any of them still lives.
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

    /// Stops the last sidecar that lives; answers whether there was one.
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

    /// Seconds until the deletion's own deadline, or the pod's whole grace when nobody deleted it.
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

    /// Stops a container, or shortens the grace with which it is already being stopped.
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

/// Whether a container runs another image than its spec names.
fn is_changed(container: &Container, seen: &ContainerSeen) -> bool {
    !seen.image_name.is_empty() && seen.image_name != container.image
}

fn is_alive(seen: &ContainerSeen) -> bool {
    seen.starting || matches!(seen.run, Run::Running { .. })
}

fn later(from: Timestamp, by: SignedDuration) -> Timestamp {
    from.saturating_add(by).unwrap_or(Timestamp::MAX)
}
