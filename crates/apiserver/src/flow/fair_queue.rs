//! Seats that flows share fairly: each flow has a bounded share of them and a bounded number of requests that wait, and flows that wait get
//! free seats in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// The bounds of one queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Requests that are worked on, or whose answer is being sent, at one moment.
    pub(crate) seats: usize,
    /// How many of them may belong to one flow.
    pub(crate) flow_seats: usize,
    /// Requests that are here at all: their body is being read, they wait, or they have a seat.
    pub(crate) present: usize,
    /// How many of them may belong to one flow.
    pub(crate) flow_present: usize,
    /// Answers without an end (watches, logs that are followed) at one moment.
    pub(crate) streams: usize,
    /// How many of them may belong to one flow.
    pub(crate) flow_streams: usize,
    /// Bytes of request bodies in memory.
    pub(crate) body_bytes: usize,
    /// How many of them may belong to one flow.
    pub(crate) flow_body_bytes: usize,
}

/// A flow with fewer requests than this is let in although the queue is full, until it holds twice as many as it should: those who flood
/// it do not lock out those who do not.
const LET_IN_BELOW: usize = 8;

/// A flow with fewer seats than this gets one although all are taken, until twice as many are taken as there should be: a few flows that
/// keep their seats for long do not lock out the others.
const SEATED_BELOW: usize = 1;

/// A flow that holds up to this part of the bytes that it may hold gets them although the queue holds all that it should, until it holds twice
/// as many: bodies that come slowly do not lock out those of others. For users that is one body of the largest size.
const LITTLE_OF_BODIES: usize = 4;

/// What a queue holds at one moment, and what it has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests with a seat.
    pub(crate) seated: usize,
    /// Requests that wait for one.
    pub(crate) waiting: usize,
    /// Requests that are here, with a seat or without one.
    pub(crate) present: usize,
    /// Answers without an end.
    pub(crate) streams: usize,
    /// Bytes of request bodies.
    pub(crate) body_bytes: usize,
    /// Requests that have got a seat.
    pub(crate) dispatched: u64,
    /// Requests that were refused because too many were here.
    pub(crate) refused_full: u64,
    /// Requests that waited too long.
    pub(crate) refused_late: u64,
}

/// Why a request gets no further. Its sender should come back later.
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
    /// The flows that have a request waiting and may have another seat, in the order in which they get one.
    turns: VecDeque<Arc<str>>,
}

struct Flow {
    name: Arc<str>,
    present: usize,
    seated: usize,
    streams: usize,
    body_bytes: usize,
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

    /// Takes a request of `flow` in.
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
            is_stream: false,
            seated: false,
            waiting: None,
            body_bytes: 0,
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
            streams: 0,
            body_bytes: 0,
            waiting: VecDeque::new(),
            has_turn: false,
        }
    }
}

impl State {
    /// Lets a flow have a turn if it has something to do with it.
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

    /// The flow that gets the next seat. While all seats are taken, that is the first with few of them.
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

    /// Gives free seats to those whose turn it is.
    fn dispatch(&mut self, bounds: &Bounds) {
        while let Some(name) = self.next_turn(bounds) {
            let Some(flow) = self.flows.get_mut(&name) else {
                continue;
            };
            flow.has_turn = false;
            // One whose request has gone meanwhile does not take the seat.
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

/// Whether a flow with `seated` seats may have another at this moment.
fn may_sit(counts: &Counts, seated: usize, bounds: &Bounds) -> bool {
    let is_free = counts.seated < bounds.seats || (seated < SEATED_BELOW && counts.seated < 2 * bounds.seats);
    is_free && seated < bounds.flow_seats
}

/// One request in a queue, from its head to the end of its answer. Dropped, it leaves.
pub(crate) struct Ticket {
    queue: Arc<FairQueue>,
    flow: Arc<str>,
    is_stream: bool,
    seated: bool,
    waiting: Option<oneshot::Receiver<()>>,
    body_bytes: usize,
}

impl Ticket {
    /// Waits for a seat, for `wait` at most.
    pub(crate) async fn seat(&mut self, wait: Duration) -> Result<(), Busy> {
        if self.seated {
            return Ok(());
        }
        self.sit_or_queue();
        // The receiver stays in the ticket: a request that is dropped here must give back a seat that it was just given.
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

    /// Takes a free seat, or a place among the requests that wait.
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

    /// Leaves the requests that wait, if it is among them. A seat that was given at the same moment is kept.
    fn stop_waiting(&mut self) {
        let Some(mut granted) = self.waiting.take() else {
            return;
        };
        let mut state = self.queue.lock();
        // Seats are given under the lock, so that none comes after this.
        granted.close();
        self.seated |= granted.try_recv().is_ok();
        state.counts.waiting -= 1;
        if let Some(flow) = state.flows.get_mut(&self.flow) {
            flow.waiting.retain(|other| !other.is_closed());
        }
    }

    /// Goes on as an answer without an end, which is no longer counted among the requests. It keeps its seat.
    pub(crate) fn become_stream(&mut self) -> Result<(), Busy> {
        let bounds = &self.queue.bounds;
        let mut state = self.queue.lock();
        let State { counts, flows, .. } = &mut *state;
        let Some(flow) = flows.get_mut(&self.flow) else {
            return Ok(());
        };
        if counts.streams >= bounds.streams || flow.streams >= bounds.flow_streams {
            counts.refused_full += 1;
            return Err(Busy);
        }
        counts.streams += 1;
        flow.streams += 1;
        counts.present -= 1;
        flow.present -= 1;
        self.is_stream = true;
        Ok(())
    }

    /// Gives the seat back before the request leaves.
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

    /// Takes up memory for more of the request's body, until the request leaves.
    pub(crate) fn hold_bytes(&mut self, bytes: usize) -> Result<(), Busy> {
        let bounds = &self.queue.bounds;
        let mut state = self.queue.lock();
        let State { counts, flows, .. } = &mut *state;
        let Some(flow) = flows.get_mut(&self.flow) else {
            return Ok(());
        };
        let (of_all, of_flow) = (counts.body_bytes + bytes, flow.body_bytes + bytes);
        let has_little = of_flow <= bounds.flow_body_bytes / LITTLE_OF_BODIES;
        let is_full = of_all > bounds.body_bytes && (!has_little || of_all > 2 * bounds.body_bytes);
        if is_full || of_flow > bounds.flow_body_bytes {
            counts.refused_full += 1;
            return Err(Busy);
        }
        counts.body_bytes += bytes;
        flow.body_bytes += bytes;
        self.body_bytes += bytes;
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.stop_waiting();
        let queue = self.queue.clone();
        let mut state = queue.lock();
        self.free_seat(&mut state);
        let State { counts, flows, .. } = &mut *state;
        let (present, streams) = (usize::from(!self.is_stream), usize::from(self.is_stream));
        counts.present -= present;
        counts.streams -= streams;
        counts.body_bytes -= self.body_bytes;
        if let Some(flow) = flows.get_mut(&self.flow) {
            flow.present -= present;
            flow.streams -= streams;
            flow.body_bytes -= self.body_bytes;
            if flow.present == 0 && flow.streams == 0 {
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
        streams: 3,
        flow_streams: 2,
        body_bytes: 100,
        flow_body_bytes: 60,
    };
    const LONG: Duration = Duration::from_secs(3600);

    /// A request of `flow` that asks for a seat; whether it has one.
    fn ask(queue: &Arc<FairQueue>, flow: &str) -> (Ticket, bool) {
        let mut ticket = queue.enter(flow).unwrap();
        let has_seat = {
            ticket.sit_or_queue();
            ticket.seated
        };
        (ticket, has_seat)
    }

    /// Whether a request that waited has a seat by now.
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
        // Each has its first seat beyond those that there are.
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
        // One goes before it gets a seat, one with a seat that it never saw.
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
        let queue = FairQueue::new(BOUNDS);
        let mut tickets: Vec<_> = (0..3).map(|_| queue.enter("a").unwrap()).collect();
        let streams: Vec<_> = tickets.iter_mut().map(Ticket::become_stream).collect();
        assert_eq!(streams, [Ok(()), Ok(()), Err(Busy)]);
        assert_eq!(tickets[0].hold_bytes(60), Ok(()));
        assert_eq!(tickets[1].hold_bytes(1), Err(Busy));
        let mut other = queue.enter("b").unwrap();
        assert_eq!((other.hold_bytes(41), other.hold_bytes(40)), (Err(Busy), Ok(())));
        let mut late = queue.enter("c").unwrap();
        assert_eq!(
            (late.hold_bytes(16), late.hold_bytes(15)),
            (Err(Busy), Ok(())),
            "the queue is full, and the flow has little"
        );
        assert_eq!(late.hold_bytes(1), Err(Busy));
        drop((tickets, late));
        assert_eq!((queue.counts().streams, queue.counts().body_bytes), (0, 40));
    }
}
