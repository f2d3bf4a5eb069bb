//! Delays the SIGTERM of a deleted pod until Services no longer forward new clients to it.
//!
//! The server removes a deleted pod from its Services at once, but the other nodes learn of it when the
//! pod's own node does. Without a delay, they could forward a client to a port that was just closed.
//! The task that writes the rules of Services reports here which pods of this node they forward to
//! ([`Teller`]), and the tasks that stop pods wait for it ([`Listener`]). Pods of no Service are not
//! delayed, and no pod is before the rules exist.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Longest delay. A Service of ten thousand endpoints is written once a second; a node that still
/// forwards to the pod after three seconds does not receive the change.
const LONGEST: Duration = Duration::from_secs(3);
/// Delay after this node's rules no longer forward to the pod. The other nodes receive the change at the
/// same moment, but over slower links, and they gather changes of rules ([`crate::services`]). The pod
/// also has to accept connections that were just forwarded.
const SETTLE: Duration = Duration::from_millis(200);

/// The node's pods by uid that receive new clients, or received them until that moment.
type Led = HashMap<Arc<str>, Option<Instant>>;

/// The side of the task that writes the rules.
pub(crate) struct Teller(watch::Sender<Led>);

/// The side of the tasks that stop pods. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Listener(watch::Receiver<Led>);

/// Creates the two sides.
pub(crate) fn channel() -> (Teller, Listener) {
    let (sender, receiver) = watch::channel(Led::new());
    (Teller(sender), Listener(receiver))
}

impl Teller {
    /// New clients may be led to these pods, too: rules that do so are about to be made.
    pub(crate) fn announce<'a>(&self, pods: impl Iterator<Item = &'a Arc<str>>) {
        self.0.send_if_modified(|led| {
            let mut changed = false;
            for pod in pods {
                changed |= led.insert(pod.clone(), None) != Some(None);
            }
            changed
        });
    }

    /// From now on new clients are led to these pods of the node and no others.
    pub(crate) fn tell<'a>(&self, pods: impl Iterator<Item = &'a Arc<str>>) {
        let now = Instant::now();
        let mut pods: HashSet<&Arc<str>> = pods.collect();
        self.0.send_if_modified(|led| {
            let mut changed = false;
            led.retain(|pod, until| {
                let (before, still) = (*until, pods.remove(pod));
                *until = if still { None } else { before.or(Some(now)) };
                changed |= *until != before;
                until.is_none_or(|until| until + SETTLE > now)
            });
            changed |= !pods.is_empty();
            led.extend(pods.into_iter().map(|pod| (pod.clone(), None)));
            changed
        });
    }
}

impl Listener {
    /// Waits until new clients have not been led to the pod for [`SETTLE`], for at most [`LONGEST`] and half of its `grace`: what is left is the
    /// pod's own. At once for a pod to which none are led.
    pub(crate) async fn released(self, pod: &str, grace: Duration) {
        let longest = LONGEST.min(grace / 2);
        if tokio::time::timeout(longest, self.left(pod)).await.is_err() {
            tracing::debug!(pod, "stop a pod to which clients may still be led");
        }
    }

    async fn left(mut self, pod: &str) {
        loop {
            let led = self.0.borrow_and_update().get(pod).copied();
            match led {
                None => return,
                Some(Some(until)) => return tokio::time::sleep_until(until + SETTLE).await,
                Some(None) => {}
            }
            if self.0.changed().await.is_err() {
                // Nobody makes rules any more.
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn pods(uids: &[&str]) -> Vec<Arc<str>> {
        uids.iter().map(|&uid| uid.into()).collect()
    }

    /// Returns the delay of a pod when no more reports come.
    async fn held(listener: &Listener, pod: &str, grace: Duration) -> Duration {
        let began = Instant::now();
        listener.clone().released(pod, grace).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_in_no_service_is_not_held_back_for_a_moment() {
        let (teller, listener) = channel();
        let at_once = |pod| listener.clone().released(pod, GRACE).now_or_never();
        assert!(at_once("a").is_some(), "nothing is known yet");
        teller.tell(pods(&["b"]).iter());
        assert!(at_once("a").is_some());
        assert!(at_once("b").is_none());
        teller.tell(pods(&[]).iter());
        assert!(at_once("b").is_none(), "others have yet to hear of it");
        tokio::time::advance(SETTLE).await;
        assert!(at_once("b").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_is_held_back_until_the_rules_lead_elsewhere_and_a_moment_longer() {
        let (teller, listener) = channel();
        teller.tell(pods(&["a", "b"]).iter());
        let mut released = std::pin::pin!(listener.clone().released("a", GRACE));
        assert!((&mut released).now_or_never().is_none());
        // What happens to others changes nothing.
        teller.tell(pods(&["a"]).iter());
        tokio::time::advance(SETTLE).await;
        assert!((&mut released).now_or_never().is_none());
        teller.tell(pods(&[]).iter());
        let told = Instant::now();
        released.await;
        assert_eq!(told.elapsed().as_millis(), SETTLE.as_millis());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_to_which_rules_are_about_to_lead_is_held_back() {
        let (teller, listener) = channel();
        let at_once = || listener.clone().released("a", GRACE).now_or_never();
        teller.announce(pods(&["a"]).iter());
        assert!(at_once().is_none());
        teller.tell(pods(&["a"]).iter());
        assert!(at_once().is_none());
        teller.tell(pods(&[]).iter());
        teller.announce(pods(&["a"]).iter());
        tokio::time::advance(SETTLE).await;
        assert!(at_once().is_none(), "led to again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_was_led_to_a_moment_ago_waits_for_the_rest_of_that_moment() {
        let (teller, listener) = channel();
        teller.tell(pods(&["a"]).iter());
        teller.tell(pods(&[]).iter());
        tokio::time::advance(SETTLE / 2).await;
        let held = held(&listener, "a", GRACE).await;
        assert_eq!(held.as_millis(), (SETTLE / 2).as_millis());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_is_led_to_again_is_held_back_again() {
        let (teller, listener) = channel();
        teller.tell(pods(&["a"]).iter());
        teller.tell(pods(&[]).iter());
        teller.tell(pods(&["a"]).iter());
        tokio::time::advance(SETTLE * 2).await;
        assert!(listener.released("a", GRACE).now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_held_back_for_ever_nor_beyond_half_the_grace() {
        let (teller, listener) = channel();
        teller.tell(pods(&["a"]).iter());
        for (grace, longest) in [(30_000, 3_000), (1_000, 500), (0, 0)] {
            let held = held(&listener, "a", Duration::from_millis(grace)).await;
            assert_eq!(held.as_millis(), longest, "of {grace} ms");
        }
        drop(teller);
        assert!(listener.released("a", GRACE).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_forgotten() {
        let (teller, listener) = channel();
        teller.tell(pods(&["a"]).iter());
        teller.tell(pods(&[]).iter());
        tokio::time::advance(SETTLE * 2).await;
        teller.tell(pods(&[]).iter());
        assert!(listener.0.borrow().is_empty());
    }
}
