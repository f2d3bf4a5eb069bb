//! A queue that shares its seats fairly among flows. Each flow has a limited number of seats and of
//! waiting requests. Free seats go to the waiting flows in round-robin order.

use std::collections::{HashMap, VecDeque};
use std::ops::{Index, IndexMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Bounds of one queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Requests that are processed, or whose response is being sent, at one moment.
    pub(crate) seats: usize,
    /// How many of them may belong to one flow.
    pub(crate) flow_seats: usize,
    /// All requests in the queue: their body is being read, they wait, or they have a seat.
    pub(crate) present: usize,
    /// How many of them may belong to one flow.
    pub(crate) flow_present: usize,
    /// Limits on streams and on memory.
    pub(crate) held: Held<Share>,
}

/// Limits on one resource at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    /// Of all flows together.
    pub(crate) all: usize,
    /// Of one flow.
    pub(crate) flow: usize,
}

/// One value for each resource that requests hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held<T> {
    /// Endless responses, such as watches and followed logs.
    pub(crate) streams: T,
    /// Bytes of request bodies in memory.
    pub(crate) body_bytes: T,
    /// Bytes of heads and selectors in memory.
    pub(crate) head_bytes: T,
}

/// A resource that requests hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thing {
    Stream,
    BodyBytes,
    HeadBytes,
}

impl Thing {
    const ALL: [Thing; 3] = [Thing::Stream, Thing::BodyBytes, Thing::HeadBytes];
}

impl<T> Index<Thing> for Held<T> {
    type Output = T;

    fn index(&self, thing: Thing) -> &T {
        match thing {
            Thing::Stream => &self.streams,
            Thing::BodyBytes => &self.body_bytes,
            Thing::HeadBytes => &self.head_bytes,
        }
    }
}

impl<T> IndexMut<Thing> for Held<T> {
    fn index_mut(&mut self, thing: Thing) -> &mut T {
        match thing {
            Thing::Stream => &mut self.streams,
            Thing::BodyBytes => &mut self.body_bytes,
            Thing::HeadBytes => &mut self.head_bytes,
        }
    }
}

impl Held<usize> {
    fn subtract(&mut self, other: &Held<usize>) {
        for thing in Thing::ALL {
            self[thing] -= other[thing];
        }
    }
}

/// A flow with fewer requests than this is admitted to a full queue, until the queue holds twice
/// its limit. So flows with many requests cannot lock out flows with few.
const LET_IN_BELOW: usize = 8;

/// A flow with fewer seats than this gets a seat when all are taken, until twice the limit is
/// taken. So a few flows that hold their seats for long cannot lock out the others.
const SEATED_BELOW: usize = 1;

/// Divisor of a flow's limit on a resource. A flow that stays within this part of its limit is
/// admitted when the queue's limit is reached, until the queue holds twice its limit. So slow
/// bodies and endless watches do not lock out other flows. In a level of users, this part is one
/// body of the largest size.
const LITTLE: usize = 4;

/// Gauges and counters of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests with a seat.
    pub(crate) seated: usize,
    /// Requests that wait for a seat.
    pub(crate) waiting: usize,
    /// Requests in the queue, with or without a seat.
    pub(crate) present: usize,
    /// Resources that the requests hold.
    pub(crate) held: Held<usize>,
    /// Requests that have received a seat.
    pub(crate) dispatched: u64,
    /// Requests that were refused because of a limit.
    pub(crate) refused_full: u64,
    /// Requests that waited for a seat until the timeout.
    pub(crate) refused_late: u64,
}

/// Error of a request that the queue refuses. The client should retry later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// A queue of requests.
pub(crate) struct FairQueue {
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counts: Counts,
    flows: HashMap<Arc<str>, Flow>,
    /// The flows with a waiting request and fewer seats than their limit, in round-robin order.
    turns: VecDeque<Arc<str>>,
}

struct Flow {
    name: Arc<str>,
    present: usize,
    seated: usize,
    held: Held<usize>,
    waiting: VecDeque<oneshot::Sender<()>>,
    has_turn: bool,
}

impl FairQueue {
    /// An empty queue.
    pub(crate) fn new(bounds: Bounds) -> Arc<FairQueue> {
        Arc::new(FairQueue {
            bounds,
            state: Mutex::default(),
        })
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Admits a request of `flow`. Fails when the flow or the queue has too many requests.
    pub(crate) fn enter(self: &Arc<Self>, flow: &str) -> Result<Ticket, Busy> {
        let bounds = &self.bounds;
        let mut state = self.lock();
        let State { counts, flows, .. } = &mut *state;
        let present = flows.get(flow).map_or(0, |flow| flow.present);
        let is_full = counts.present >= bounds.present
            && (present >= LET_IN_BELOW || counts.present >= 2 * bounds.present);
        if is_full || present >= bounds.flow_present {
            counts.refused_full += 1;
            return Err(Busy);
        }
        counts.present += 1;
        let flow = match flows.get_mut(flow) {
            Some(flow) => {
                flow.present += 1;
                flow.name.clone()
            }
            None => {
                let name: Arc<str> = flow.into();
                flows.insert(name.clone(), Flow::new(name.clone()));
                name
            }
        };
        Ok(Ticket {
            queue: self.clone(),
            flow,
            seated: false,
            waiting: None,
            held: Held::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    fn new(name: Arc<str>) -> Flow {
        Flow {
            name,
            present: 1,
            seated: 0,
            held: Held::default(),
            waiting: VecDeque::new(),
            has_turn: false,
        }
    }
}

impl State {
    /// Appends a flow to the round-robin order if it has a waiting request and may have another
    /// seat.
    fn queue_up(&mut self, flow: &str, bounds: &Bounds) {
        if let Some(flow) = self.flows.get_mut(flow)
            && !flow.has_turn
            && !flow.waiting.is_empty()
            && flow.seated < bounds.flow_seats
        {
            flow.has_turn = true;
            self.turns.push_back(flow.name.clone());
        }
    }

    /// Removes and returns the flow that gets the next seat. While all seats are taken, this is the
    /// first flow with fewer than [`SEATED_BELOW`] seats.
    fn next_turn(&mut self, bounds: &Bounds) -> Option<Arc<str>> {
        let State { counts, flows, turns } = self;
        if counts.seated < bounds.seats {
            return turns.pop_front();
        }
        let has_few = |name: &Arc<str>| {
            flows
                .get(name)
                .is_some_and(|flow| may_sit(counts, flow.seated, bounds))
        };
        let next = turns.iter().position(has_few)?;
        turns.remove(next)
    }

    /// Gives free seats to the waiting flows in round-robin order.
    fn dispatch(&mut self, bounds: &Bounds) {
        while let Some(name) = self.next_turn(bounds) {
            let Some(flow) = self.flows.get_mut(&name) else {
                continue;
            };
            flow.has_turn = false;
            // A request that was dropped meanwhile does not take the seat.
            while let Some(next) = flow.waiting.pop_front() {
                if next.send(()).is_ok() {
                    flow.seated += 1;
                    self.counts.seated += 1;
                    self.counts.dispatched += 1;
                    break;
                }
            }
            self.queue_up(&name, bounds);
        }
    }
}

/// Returns whether a flow with `seated` seats may have another one now.
fn may_sit(counts: &Counts, seated: usize, bounds: &Bounds) -> bool {
    let is_free = counts.seated < bounds.seats || (seated < SEATED_BELOW && counts.seated < 2 * bounds.seats);
    is_free && seated < bounds.flow_seats
}

/// A request in a queue, from its head to the end of its response. Leaves the queue when it is
/// dropped.
pub(crate) struct Ticket {
    queue: Arc<FairQueue>,
    flow: Arc<str>,
    seated: bool,
    waiting: Option<oneshot::Receiver<()>>,
    held: Held<usize>,
}

impl Ticket {
    /// Waits for a seat. Fails after `wait`.
    pub(crate) async fn seat(&mut self, wait: Duration) -> Result<(), Busy> {
        if self.seated {
            return Ok(());
        }
        self.sit_or_queue();
        // The receiver stays in the ticket, so that a request that is dropped here returns a seat
        // that it was just given.
        if let Some(granted) = self.waiting.as_mut()
            && let Ok(Ok(())) = tokio::time::timeout(wait, granted).await
        {
            self.seated = true;
        }
        self.stop_waiting();
        match self.seated {
            true => Ok(()),
            false => {
                self.queue.lock().counts.refused_late += 1;
                Err(Busy)
            }
        }
    }

    /// Takes a free seat, or joins the waiting requests.
    fn sit_or_queue(&mut self) {
        let bounds = &self.queue.bounds;
        let mut state = self.queue.lock();
        let State { counts, flows, .. } = &mut *state;
        let Some(flow) = flows.get_mut(&self.flow) else {
            return;
        };
        if may_sit(counts, flow.seated, bounds) && flow.waiting.is_empty() {
            flow.seated += 1;
            counts.seated += 1;
            counts.dispatched += 1;
            self.seated = true;
            return;
        }
        let (grant, granted) = oneshot::channel();
        flow.waiting.push_back(grant);
        counts.waiting += 1;
        self.waiting = Some(granted);
        state.queue_up(&self.flow, bounds);
    }

    /// Leaves the waiting requests if it is one of them. Keeps a seat that was given meanwhile.
    fn stop_waiting(&mut self) {
        let Some(mut granted) = self.waiting.take() else {
            return;
        };
        let mut state = self.queue.lock();
        // Seats are given under the lock, so none is given after this.
        granted.close();
        self.seated |= granted.try_recv().is_ok();
        state.counts.waiting -= 1;
        if let Some(flow) = state.flows.get_mut(&self.flow) {
            flow.waiting.retain(|other| !other.is_closed());
        }
    }

    /// Counts the request as a stream, and no longer as a request. It keeps its seat.
    pub(crate) fn become_stream(&mut self) -> Result<(), Busy> {
        self.hold(Thing::Stream, 1)?;
        let mut state = self.queue.lock();
        state.counts.present -= 1;
        if let Some(flow) = state.flows.get_mut(&self.flow) {
            flow.present -= 1;
        }
        Ok(())
    }

    /// Adds `amount` to a resource that the request holds until it leaves the queue. Fails when a
    /// limit is reached.
    pub(crate) fn hold(&mut self, thing: Thing, amount: usize) -> Result<(), Busy> {
        let share = self.queue.bounds.held[thing];
        let mut state = self.queue.lock();
        let State { counts, flows, .. } = &mut *state;
        let Some(flow) = flows.get_mut(&self.flow) else {
            return Ok(());
        };
        let (of_all, of_flow) = (counts.held[thing] + amount, flow.held[thing] + amount);
        let has_little = of_flow <= share.flow / LITTLE;
        let is_full = of_all > share.all && (!has_little || of_all > 2 * share.all);
        if is_full || of_flow > share.flow {
            counts.refused_full += 1;
            return Err(Busy);
        }
        for held in [&mut counts.held, &mut flow.held, &mut self.held] {
            held[thing] += amount;
        }
        Ok(())
    }

    /// Returns the seat. The request stays in the queue.
    pub(crate) fn leave_seat(&mut self) {
        if self.seated {
            let queue = self.queue.clone();
            self.free_seat(&mut queue.lock());
        }
    }

    fn free_seat(&mut self, state: &mut State) {
        if std::mem::take(&mut self.seated) {
            state.counts.seated -= 1;
            if let Some(flow) = state.flows.get_mut(&self.flow) {
                flow.seated -= 1;
            }
            state.queue_up(&self.flow, &self.queue.bounds);
            state.dispatch(&self.queue.bounds);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.stop_waiting();
        let queue = self.queue.clone();
        let mut state = queue.lock();
        self.free_seat(&mut state);
        let State { counts, flows, .. } = &mut *state;
        let present = usize::from(self.held.streams == 0);
        counts.present -= present;
        counts.held.subtract(&self.held);
        if let Some(flow) = flows.get_mut(&self.flow) {
            flow.present -= present;
            flow.held.subtract(&self.held);
            if flow.present == 0 && flow.held.streams == 0 {
                flows.remove(&self.flow);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        seats: 4,
        flow_seats: 2,
        present: 16,
        flow_present: 12,
        held: Held {
            streams: Share { all: 3, flow: 2 },
            body_bytes: BYTES,
            head_bytes: BYTES,
        },
    };
    const BYTES: Share = Share { all: 100, flow: 60 };
    const LONG: Duration = Duration::from_secs(3600);

    /// Lets a request of `flow` ask for a seat, and returns whether it got one.
    fn ask(queue: &Arc<FairQueue>, flow: &str) -> (Ticket, bool) {
        let mut ticket = queue.enter(flow).unwrap();
        let has_seat = {
            ticket.sit_or_queue();
            ticket.seated
        };
        (ticket, has_seat)
    }

    /// Returns whether a request that waited has a seat.
    fn is_seated(ticket: &mut Ticket) -> bool {
        ticket.seated |= ticket
            .waiting
            .as_mut()
            .is_some_and(|granted| granted.try_recv().is_ok());
        ticket.seated
    }

    #[test]
    fn flow_gets_no_more_than_its_share_of_seats() {
        let queue = FairQueue::new(BOUNDS);
        let seats: Vec<_> = (0..4).map(|_| ask(&queue, "flood")).collect();
        assert_eq!(seats.iter().filter(|(_, has_seat)| *has_seat).count(), 2);
        assert!(ask(&queue, "other").1);
    }

    #[test]
    fn free_seats_go_round_the_flows_that_wait() {
        let queue = FairQueue::new(BOUNDS);
        let mut held: Vec<_> = ["a", "a", "b", "b"].map(|flow| ask(&queue, flow).0).into();
        let mut flood: Vec<_> = (0..8).map(|_| ask(&queue, "flood").0).collect();
        let mut late: Vec<_> = (0..2).map(|_| ask(&queue, "late").0).collect();
        // Each of the two flows has its first seat beyond the limit.
        held.truncate(2);
        assert!(!is_seated(&mut flood[1]));
        held.pop();
        assert!(is_seated(&mut flood[1]));
        assert!(!is_seated(&mut late[1]));
        held.pop();
        assert!(is_seated(&mut late[1]), "the flood waits for its next turn");
        assert!(!is_seated(&mut flood[2]));
    }

    #[test]
    fn request_that_leaves_takes_no_seat_with_it() {
        let queue = FairQueue::new(BOUNDS);
        let held: Vec<_> = ["a", "a", "b", "b"].map(|flow| ask(&queue, flow).0).into();
        let (first, _) = ask(&queue, "c");
        let gone = ask(&queue, "c").0;
        let (mut next, _) = ask(&queue, "c");
        // Below, one request leaves before it gets a seat, another with a seat that it has not seen
        // yet.
        drop(gone);
        drop(held);
        assert!(is_seated(&mut next));
        let held: Vec<_> = ["a", "a", "b", "b"].map(|flow| ask(&queue, flow)).into();
        let [other, granted] = ["d", "d"].map(|flow| ask(&queue, flow).0);
        drop(held);
        drop((granted, other, next, first));
        assert_eq!(
            queue.counts(),
            Counts {
                dispatched: queue.counts().dispatched,
                ..Counts::default()
            }
        );
        assert!(queue.lock().flows.is_empty());
    }

    #[test]
    fn full_queue_lets_in_flows_that_have_little() {
        let queue = FairQueue::new(BOUNDS);
        let enter = |flow: &str, count: usize| -> Vec<Ticket> {
            (0..count).filter_map(|_| queue.enter(flow).ok()).collect()
        };
        let flood = enter("flood", 20);
        assert_eq!(flood.len(), BOUNDS.flow_present);
        let second = enter("second", 20);
        assert_eq!(second.len(), LET_IN_BELOW);
        assert_eq!(enter("third", 1).len(), 1);
        assert_eq!(queue.counts().refused_full, 8 + 12);
    }

    #[test]
    fn flow_without_a_seat_gets_one_when_others_keep_all() {
        let queue = FairQueue::new(BOUNDS);
        let _kept: Vec<_> = ["a", "a", "b", "b"].map(|flow| ask(&queue, flow)).into();
        let mut seated: Vec<_> = ["c", "d", "e", "f"].map(|flow| ask(&queue, flow)).into();
        assert!(seated.iter().all(|(_, has_seat)| *has_seat));
        assert!(!ask(&queue, "c").1, "one, not more");
        let (mut late, has_seat) = ask(&queue, "late");
        assert!(!has_seat, "twice as many are taken as there are");
        seated.pop();
        assert!(is_seated(&mut late));
    }

    #[tokio::test(start_paused = true)]
    async fn request_without_a_seat_is_refused_after_its_wait() {
        let queue = FairQueue::new(BOUNDS);
        let held: Vec<_> = ["a", "a"].map(|flow| ask(&queue, flow).0).into();
        let mut ticket = queue.enter("a").unwrap();
        assert_eq!(ticket.seat(Duration::from_secs(1)).await, Err(Busy));
        assert_eq!((queue.counts().refused_late, queue.counts().waiting), (1, 0));
        drop(held);
        assert_eq!(ticket.seat(LONG).now_or_never(), Some(Ok(())));
    }

    #[test]
    fn streams_and_bytes_have_shares_of_their_own() {
        for thing in [Thing::BodyBytes, Thing::HeadBytes] {
            let queue = FairQueue::new(BOUNDS);
            let mut tickets: Vec<_> = (0..3).map(|_| queue.enter("a").unwrap()).collect();
            let streams: Vec<_> = tickets.iter_mut().map(Ticket::become_stream).collect();
            assert_eq!(streams, [Ok(()), Ok(()), Err(Busy)]);
            assert_eq!(tickets[0].hold(thing, 60), Ok(()));
            assert_eq!(tickets[1].hold(thing, 1), Err(Busy));
            let mut other = queue.enter("b").unwrap();
            assert_eq!(
                (other.hold(thing, 41), other.hold(thing, 40)),
                (Err(Busy), Ok(()))
            );
            let mut late = queue.enter("c").unwrap();
            assert_eq!(
                (late.hold(thing, 16), late.hold(thing, 15)),
                (Err(Busy), Ok(())),
                "the queue is full, and the flow has little"
            );
            assert_eq!(late.hold(thing, 1), Err(Busy));
            drop((tickets, late));
            assert_eq!((queue.counts().held.streams, queue.counts().held[thing]), (0, 40));
        }
    }

    #[test]
    fn streams_of_many_flows_lock_out_none_that_has_few() {
        let queue = FairQueue::new(Bounds {
            held: Held {
                streams: Share { all: 8, flow: 4 },
                ..BOUNDS.held
            },
            ..BOUNDS
        });
        let stream = |flow: &str| {
            let mut ticket = queue.enter(flow).unwrap();
            ticket.become_stream().is_ok().then_some(ticket)
        };
        let kept: Vec<_> = ["a", "b"]
            .iter()
            .flat_map(|flow| [*flow; 4])
            .map(stream)
            .collect();
        assert!(kept.iter().all(Option::is_some));
        let first = stream("c");
        assert!(first.is_some(), "all streams are taken, and it has none");
        assert!(stream("c").is_none());
    }
}
