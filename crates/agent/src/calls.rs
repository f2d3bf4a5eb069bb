//! Pools of bounded size for blocking calls and other long work.
//!
//! tokio has one pool of blocking threads for the whole process, so calls that hang could occupy all of
//! them. Here each kind of work has its own number of threads, and each pod a share of it: what hangs in
//! a pod delays only that pod. Together the pools stay below the 512 threads of tokio's pool.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use runtime::ErrorKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Creation, stop and removal of pods, containers and volumes. Two threads for each of the 110 pods of a
/// node, and some for pods that are ending.
pub(crate) static PODS: Pool = Pool::new(240, 2);
/// Start of the commands of probes and hooks. The commands then need no thread.
pub(crate) static PROBES: Pool = Pool::new(112, 1);
/// Requests of API clients: start of commands, states, statistics.
pub(crate) static STREAMS: Pool = Pool::new(64, 2);
/// Lookup of images.
pub(crate) static IMAGES: Pool = Pool::new(16, 2);
/// Measurement of the disk usage of pods.
pub(crate) static WALKS: Pool = Pool::new(4, 1);
/// Network and rules of the node.
pub(crate) static NODE: Pool = Pool::new(16, 16);

/// Pulls by pod, which need no thread. All of the 110 pods of a node may pull at the same time, so a slow
/// registry of one pod delays no other pod.
pub(crate) static PULLS: Pool = Pool::new(128, 1);
/// The same pulls by registry, so that many pods do not overload one registry.
pub(crate) static REGISTRIES: Pool = Pool::new(128, 3);

/// Permits for one kind of work. [`Pool::run`] also uses a thread for each.
pub(crate) struct Pool {
    all: Semaphore,
    each: usize,
    /// Permits of each owner, as long as it runs or waits for a call.
    shares: Mutex<BTreeMap<String, Weak<Semaphore>>>,
}

impl Pool {
    const fn new(all: usize, each: usize) -> Self {
        Self {
            all: Semaphore::const_new(all),
            each,
            shares: Mutex::new(BTreeMap::new()),
        }
    }

    fn share(&self, owner: &str) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(owner).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.each));
        shares.insert(owner.to_owned(), Arc::downgrade(&share));
        share
    }

    /// Waits for a permit of `owner`'s share and of the pool. The owner is a pod's uid or another name of
    /// calls that hang together.
    pub(crate) async fn enter(&'static self, owner: &str) -> runtime::Result<Place> {
        let share = self.share(owner).acquire_owned().await;
        let share = share.map_err(|error| broke_off(&error))?;
        let permit = self.all.acquire().await.map_err(|error| broke_off(&error))?;
        Ok(Place {
            _share: share,
            _permit: permit,
        })
    }

    /// Runs blocking work on a thread of its own, as soon as `owner` and the pool have a permit. The work
    /// keeps its permit until it returns, even if the caller is dropped. A panic becomes an error.
    pub(crate) async fn run<T: Send + 'static>(
        &'static self,
        owner: &str,
        work: impl FnOnce() -> runtime::Result<T> + Send + 'static,
    ) -> runtime::Result<T> {
        let place = self.enter(owner).await?;
        let joined = tokio::task::spawn_blocking(move || {
            let _held = place;
            work()
        });
        joined.await.unwrap_or_else(|error| Err(broke_off(&error)))
    }
}

/// A permit of a pool, until it is dropped.
pub(crate) struct Place {
    _share: OwnedSemaphorePermit,
    _permit: SemaphorePermit<'static>,
}

fn broke_off(why: &dyn std::fmt::Display) -> runtime::Error {
    runtime::Error {
        kind: ErrorKind::Machine,
        message: format!("a call of the runtime broke off: {why}"),
    }
}

/// Runs blocking work for the node itself.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> runtime::Result<T> + Send + 'static,
) -> runtime::Result<T> {
    NODE.run("", work).await
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_hangs_in_a_pod_holds_up_that_pod_alone() {
        static POOL: Pool = Pool::new(3, 2);
        let (end, hangs) = mpsc::sync_channel::<()>(0);
        let hangs = Arc::new(Mutex::new(hangs));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let hangs = Arc::clone(&hangs);
            calls.spawn(POOL.run("hanging", move || {
                let hangs = hangs.lock().unwrap_or_else(PoisonError::into_inner);
                hangs.recv().ok();
                Ok(())
            }));
        }
        while POOL.share("hanging").available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            assert_eq!(POOL.run("other", || Ok(7)).await.ok(), Some(7));
        }
        drop(end);
        while let Some(ended) = calls.join_next().await {
            assert!(ended.expect("no panic").is_ok());
        }
        assert_eq!(POOL.all.available_permits(), 3);
    }

    #[tokio::test]
    async fn registries_that_drip_delay_no_pull_of_another() {
        static PODS: Pool = Pool::new(8, 1);
        static HOSTS: Pool = Pool::new(8, 3);
        async fn pull(pod: &str, host: &str) -> (Place, Place) {
            let of_pod = PODS.enter(pod).await.expect("open");
            (of_pod, HOSTS.enter(host).await.expect("open"))
        }
        let mut dripping = Vec::new();
        for number in 0..3 {
            dripping.push(pull(&format!("own{number}"), &format!("dripping{number}")).await);
        }
        for number in 0..3 {
            dripping.push(pull(&format!("shared{number}"), "dripping").await);
        }
        let mut fourth = std::pin::pin!(pull("fourth", "dripping"));
        assert!(
            futures::poll!(&mut fourth).is_pending(),
            "a registry has its share"
        );
        let mut again = std::pin::pin!(pull("own0", "fast"));
        assert!(futures::poll!(&mut again).is_pending(), "a pod has its share");
        pull("bystander", "fast").await;
        drop(dripping);
        fourth.await;
    }
}
