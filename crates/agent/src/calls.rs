//! Calls that block a thread, and others that take long, in pools of bounded size.
//!
//! tokio has one pool of blocking threads for all that a process does, so work that hangs would take every thread of it. Here each kind of work has
//! its own number of threads, and each pod a share of it: what hangs in a pod holds up that pod alone. Together they stay below the 512 threads
//! of tokio's pool.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use runtime::ErrorKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Making, stopping and removing pods, containers and volumes. Two for each of the 110 pods of a node, and some for those that end.
pub(crate) static PODS: Pool = Pool::new(240, 2);
/// Starting the commands of probes and hooks. They run without a thread.
pub(crate) static PROBES: Pool = Pool::new(112, 1);
/// What clients ask of pods over the API: starts of commands, states, statistics.
pub(crate) static STREAMS: Pool = Pool::new(64, 2);
/// Looking for images.
pub(crate) static IMAGES: Pool = Pool::new(16, 2);
/// Measuring what pods take of the disk.
pub(crate) static WALKS: Pool = Pool::new(4, 1);
/// The node's own network and rules.
pub(crate) static NODE: Pool = Pool::new(16, 16);

/// Pulls by pod. They run without a thread. All of the 110 pods of a node may pull at one time: a registry of one pod that drips delays no other.
pub(crate) static PULLS: Pool = Pool::new(128, 1);
/// The same pulls by registry: what many pods want of one is fetched in turn.
pub(crate) static REGISTRIES: Pool = Pool::new(128, 3);

/// Places for one kind of work; with [`Pool::run`], threads.
pub(crate) struct Pool {
    all: Semaphore,
    each: usize,
    /// By the pod, as long as a call of it runs or waits.
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

    /// Waits for a place that `owner` (a pod's uid, or whatever else shares a fate) and the pool have for it.
    pub(crate) async fn enter(&'static self, owner: &str) -> runtime::Result<Place> {
        let share = self.share(owner).acquire_owned().await;
        let share = share.map_err(|error| broke_off(&error))?;
        let permit = self.all.acquire().await.map_err(|error| broke_off(&error))?;
        Ok(Place {
            _share: share,
            _permit: permit,
        })
    }

    /// Runs what blocks beside the async threads, as soon as `owner` and the pool have a thread for it. A caller that leaves does not end the work: it keeps its thread until it returns. A panic in it is an error like another.
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

/// A place in a pool, until it is dropped.
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

/// Runs what blocks and concerns the node as a whole.
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
