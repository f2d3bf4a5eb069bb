//! Whether the agent gets on, as the kubelet's check of its PLEG says: a node whose runtime does not answer runs nothing new, so it must not say
//! that it is ready.
//!
//! The loop that feeds the pods' workers asks the runtime again and again. It has got on when one pod's shim has answered, or when there is none to
//! ask; a single pod that hangs says nothing about the node. The keeper of the Node object looks when that was last.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::calls::PODS;

/// After how long without an answer a node is not ready: the kubelet's threshold.
pub const STALLED_AFTER: Duration = Duration::from_secs(180);
/// How often the runtime is asked, at most: it costs a connection to one shim.
const ASK: Duration = Duration::from_secs(10);
/// How long a shim may take until another is asked, too.
const NEXT: Duration = Duration::from_secs(1);

/// The agent's side that gets on.
pub(crate) struct Beat {
    last: watch::Sender<Instant>,
    stalled_after: Duration,
}

/// The side that looks whether it does.
#[derive(Clone)]
pub(crate) struct Progress {
    last: watch::Receiver<Instant>,
    stalled_after: Duration,
}

/// The two sides.
pub(crate) fn channel(stalled_after: Duration) -> (Beat, Progress) {
    let (last, seen) = watch::channel(Instant::now());
    let progress = Progress {
        last: seen,
        stalled_after,
    };
    (Beat { last, stalled_after }, progress)
}

impl Beat {
    /// The agent has got on.
    pub(crate) fn beat(&self) {
        self.last.send_replace(Instant::now());
    }

    /// How often it asks.
    pub(crate) fn interval(&self) -> Duration {
        ASK.min(self.stalled_after / 4)
    }
}

impl Progress {
    /// Why the node is not ready; `None` while the agent gets on.
    pub(crate) fn stalled(&self) -> Option<String> {
        let stalled = self.last.borrow().elapsed() > self.stalled_after;
        stalled.then(|| {
            format!(
                "PLEG is not healthy: no shim of a pod has answered the agent for more than {} s",
                self.stalled_after.as_secs()
            )
        })
    }
}

/// Asks the shims of the pods until one answers; whether one did, or there is none.
pub(crate) async fn ask(runtime: Runtime) -> bool {
    let pods = runtime.pods();
    if pods.is_empty() {
        return PODS.run("", move || Ok(runtime.pods())).await.is_ok();
    }
    let mut asked = FuturesUnordered::new();
    for pod in pods {
        let id = pod.id().to_owned();
        asked.push(async move { PODS.run(&id, move || pod.containers()).await.is_ok() });
        if tokio::time::timeout(NEXT, any(&mut asked)).await == Ok(true) {
            return true;
        }
    }
    any(&mut asked).await
}

/// Whether one of those that were asked answers.
async fn any(asked: &mut FuturesUnordered<impl Future<Output = bool>>) -> bool {
    while let Some(answered) = asked.next().await {
        if answered {
            return true;
        }
    }
    false
}
