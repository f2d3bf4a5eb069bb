//! Runs all tasks of a process's controllers.
//!
//! A task is a name and a function that creates its future. A task that fails or panics is
//! restarted with exponential backoff. All tasks end together at shutdown. Their status can be read
//! at any time.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clock::Clock;
use jiff::Timestamp;
use plan::fleet::Work;
use reflector::backoff::Backoff;
use reflector::chain;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Why a task ended.
pub(crate) type TaskError = Box<dyn std::error::Error + Send + Sync>;

type Task = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send>> + Send>;

/// The first backoff of a failed task, and the longest.
const RESTART: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// After this time without a failure, the backoff of a task starts again.
const SOUND_AFTER: Duration = Duration::from_secs(60);

/// Status of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskStatus {
    /// When it was last started.
    pub started: Timestamp,
    /// Number of restarts after an error or a panic.
    pub restarts: u64,
    /// The last error.
    pub last_error: Option<String>,
}

/// The status of every task, by name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    tasks: BTreeMap<&'static str, TaskStatus>,
    fleet: Work,
}

impl Status {
    /// The status of all tasks.
    pub fn all(&self) -> BTreeMap<&'static str, TaskStatus> {
        self.known().tasks.clone()
    }

    /// Work of the DaemonSet controller since its last start.
    pub fn fleet_work(&self) -> Work {
        self.known().fleet
    }

    pub(crate) fn fleet_worked(&self, work: Work) {
        self.known().fleet = work;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn started(&self, name: &'static str, now: Timestamp) {
        self.known()
            .tasks
            .entry(name)
            .and_modify(|t| (t.started, t.restarts) = (now, t.restarts + 1))
            .or_insert(TaskStatus {
                started: now,
                restarts: 0,
                last_error: None,
            });
    }

    fn failed(&self, name: &'static str, error: &str) {
        if let Some(task) = self.known().tasks.get_mut(name) {
            task.last_error = Some(error.to_owned());
        }
    }
}

/// Tasks to run together.
#[derive(Default)]
pub(crate) struct Driver {
    tasks: Vec<(&'static str, Task)>,
    status: Status,
    clock: Clock,
}

impl Driver {
    pub(crate) fn new(status: Status, clock: Clock) -> Self {
        Self {
            tasks: Vec::new(),
            status,
            clock,
        }
    }

    /// Adds a task. `make` is called for each start.
    pub(crate) fn add<F>(&mut self, name: &'static str, make: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        self.tasks.push((name, Box::new(move || Box::pin(make()))));
    }

    /// Runs all tasks until `shutdown`, then ends them in any order. Each write has its own
    /// preconditions, so none is harmful as the last one.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut keepers = JoinSet::new();
        for (name, task) in self.tasks {
            keepers.spawn(keep(
                name,
                task,
                self.status.clone(),
                self.clock.clone(),
                shutdown.clone(),
            ));
        }
        while keepers.join_next().await.is_some() {}
    }
}

/// Runs a task, and restarts it, until `shutdown`.
async fn keep(name: &'static str, task: Task, status: Status, clock: Clock, shutdown: CancellationToken) {
    let mut backoff = Backoff::new(RESTART.0, RESTART.1);
    loop {
        status.started(name, clock.now());
        let begun = tokio::time::Instant::now();
        let mut run = JoinSet::new();
        run.spawn(task());
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => {
                run.shutdown().await;
                return;
            }
            ended = run.join_next() => ended,
        };
        let error = match ended {
            Some(Ok(Ok(()))) | None => "it ended unexpectedly".to_owned(),
            Some(Ok(Err(error))) => chain(&*error),
            Some(Err(panic)) => panic.to_string(),
        };
        if begun.elapsed() > SOUND_AFTER {
            backoff.reset();
        }
        let wait = backoff.next_wait();
        tracing::warn!(task = name, error, ?wait, "the task failed, it will be restarted");
        status.failed(name, &error);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn failed_or_panicked_task_is_restarted_with_its_error() {
        let status = Status::default();
        let mut driver = Driver::new(status.clone(), Clock::system());
        let runs = Arc::new(AtomicU32::new(0));
        let (counted, third) = (runs.clone(), CancellationToken::new());
        let reached = third.clone();
        driver.add("fragile", move || {
            let (run, reached) = (counted.fetch_add(1, Ordering::SeqCst), reached.clone());
            async move {
                match run {
                    0 => Err("refused".into()),
                    1 => panic!("lost its head"),
                    _ => {
                        reached.cancel();
                        std::future::pending().await
                    }
                }
            }
        });
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(driver.run(shutdown.clone()));
        third.cancelled().await;
        let task = status.all()["fragile"].clone();
        assert_eq!(task.restarts, 2);
        assert!(task.last_error.is_some_and(|e| e.contains("panic")));
        shutdown.cancel();
        running.await.expect("the driver ends at shutdown");
    }
}
