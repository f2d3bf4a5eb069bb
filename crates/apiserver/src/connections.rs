//! Which connections are open, and which one is closed when there are too many.
//!
//! A connection is unproven until a request on it was authenticated. Unproven connections have a small part of all, and a share of that for each
//! address; a new one closes the oldest unproven one that is in excess. So connections that say nothing never keep others out. Proven connections
//! are never closed for others. Users share a part of all, and one user may have half of it; nodes and administrators may have everything.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limits::{
    ANSWER_CHECK_PERIOD, ANSWER_GRACE, ANSWER_RATE_MIN, ANSWER_STALL, CONNECTIONS_MAX, FILES_RESERVED_MIN,
    FIRST_REQUEST_TIMEOUT, IDLE_CHECK_PERIOD, IDLE_TIMEOUT, NODE_CONNECTIONS_MAX,
};
use crate::user::{GROUP_NODES, User};

/// Where a client is: an IPv4 address, or the /64 of an IPv6 address, which is the least that one customer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address(IpAddr);

impl Address {
    /// From a peer's address.
    pub(crate) fn of(ip: IpAddr) -> Address {
        const SUBNET_BITS: u32 = 64;
        Address(match ip.to_canonical() {
            IpAddr::V6(ip) => {
                let bits = u128::from(ip) >> SUBNET_BITS << SUBNET_BITS;
                IpAddr::V6(Ipv6Addr::from(bits))
            }
            ip => ip,
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Of all sorts.
    all: usize,
    /// Of users that are no nodes and no administrators.
    users: usize,
    /// Of one such user.
    user: usize,
    /// On which nothing was authenticated yet.
    unproven: usize,
    /// Of these, from one address.
    address: usize,
}

impl Bounds {
    /// The bounds of this process, by its limit on open files (`RLIMIT_NOFILE`) as it is now.
    pub(crate) fn of_this_process() -> Bounds {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Bounds::of_files(limit.current.unwrap_or(u64::MAX))
    }

    /// The bounds of a process that may open `files` files. The store, logs, and what else runs in the process keep a quarter of them,
    /// and [`FILES_RESERVED_MIN`] at least.
    pub(crate) fn of_files(files: u64) -> Bounds {
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let reserved = (files / 4).max(FILES_RESERVED_MIN);
        let all = files.saturating_sub(reserved).clamp(16, CONNECTIONS_MAX);
        Bounds {
            all,
            users: all / 4,
            user: all / 8,
            unproven: all / 8,
            address: (all / 32).max(2),
        }
    }
}

/// All connections of a server.
pub(crate) struct Connections {
    bounds: Bounds,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    open: usize,
    /// Unproven connections by age.
    unproven: BTreeMap<u64, Unproven>,
    /// The same by address.
    addresses: HashMap<Address, BTreeSet<u64>>,
    /// Proven connections of users, and how many there are in all.
    users: HashMap<Arc<str>, usize>,
    of_users: usize,
    /// Proven connections of nodes.
    nodes: HashMap<Arc<str>, usize>,
    evicted: u64,
}

struct Unproven {
    address: Address,
    close: CancellationToken,
}

/// What Prometheus reads of the connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) open: usize,
    pub(crate) max: usize,
    pub(crate) unproven: usize,
    pub(crate) evicted: u64,
}

impl Connections {
    /// None are open.
    pub(crate) fn new(bounds: Bounds) -> Arc<Connections> {
        Arc::new(Connections {
            bounds,
            table: Mutex::default(),
        })
    }

    /// Takes a new connection in; none when all there may be are proven.
    pub(crate) fn open(self: &Arc<Self>, address: Address) -> Option<Arc<Connection>> {
        let mut table = self.lock();
        while table
            .addresses
            .get(&address)
            .is_some_and(|ids| ids.len() >= self.bounds.address)
        {
            let oldest = table.addresses[&address].first().copied();
            table.evict(oldest);
        }
        if table.unproven.len() >= self.bounds.unproven || table.open >= self.bounds.all {
            let oldest = table.unproven.keys().next().copied();
            if oldest.is_none() && table.open >= self.bounds.all {
                return None;
            }
            table.evict(oldest);
        }
        let id = table.next;
        table.next += 1;
        table.open += 1;
        let close = CancellationToken::new();
        let unproven = Unproven {
            address,
            close: close.clone(),
        };
        table.unproven.insert(id, unproven);
        table.addresses.entry(address).or_default().insert(id);
        Some(Arc::new(Connection {
            all: self.clone(),
            id,
            address,
            close,
            is_proven: AtomicBool::new(false),
            standing: Mutex::new(Standing::Unproven),
            activity: Activity::new(),
        }))
    }

    pub(crate) fn counts(&self) -> Counts {
        let table = self.lock();
        Counts {
            open: table.open,
            max: self.bounds.all,
            unproven: table.unproven.len(),
            evicted: table.evicted,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn evict(&mut self, id: Option<u64>) {
        if let Some(unproven) = id.and_then(|id| self.take_unproven(id)) {
            self.evicted += 1;
            unproven.close.cancel();
        }
    }

    fn take_unproven(&mut self, id: u64) -> Option<Unproven> {
        let unproven = self.unproven.remove(&id)?;
        if let Some(ids) = self.addresses.get_mut(&unproven.address) {
            ids.remove(&id);
            if ids.is_empty() {
                self.addresses.remove(&unproven.address);
            }
        }
        Some(unproven)
    }
}

/// The owner of a connection.
enum Standing {
    Unproven,
    Administrator,
    Node(Arc<str>),
    User(Arc<str>),
}

/// One connection, as long as its socket lives.
pub(crate) struct Connection {
    all: Arc<Connections>,
    id: u64,
    address: Address,
    close: CancellationToken,
    is_proven: AtomicBool,
    standing: Mutex<Standing>,
    activity: Activity,
}

impl Connection {
    pub(crate) fn address(&self) -> Address {
        self.address
    }

    /// Returns when the connection must be closed at once.
    pub(crate) async fn closed(&self) {
        self.close.cancelled().await;
    }

    /// Notes that `user` was authenticated on the connection. False when the user has as many as may be.
    pub(crate) fn prove(&self, user: &User) -> bool {
        if self.is_proven.load(Ordering::Relaxed) || user.is_anonymous() {
            return true;
        }
        let bounds = &self.all.bounds;
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*standing, Standing::Unproven) {
            return true;
        }
        let mut table = self.all.lock();
        let name: Arc<str> = user.name.as_str().into();
        let is_node = user.groups.iter().any(|group| group == GROUP_NODES);
        *standing = if user.is_master() {
            Standing::Administrator
        } else if is_node {
            let count = table.nodes.entry(name.clone()).or_default();
            if *count >= NODE_CONNECTIONS_MAX {
                return false;
            }
            *count += 1;
            Standing::Node(name)
        } else {
            if table.of_users >= bounds.users
                || table.users.get(&name).is_some_and(|count| *count >= bounds.user)
            {
                return false;
            }
            table.of_users += 1;
            *table.users.entry(name.clone()).or_default() += 1;
            Standing::User(name)
        };
        table.take_unproven(self.id);
        self.is_proven.store(true, Ordering::Relaxed);
        true
    }

    /// Notes that a request began.
    pub(crate) fn begin(self: &Arc<Self>) -> Active {
        self.activity.active.fetch_add(1, Ordering::Relaxed);
        self.activity.requests.fetch_add(1, Ordering::Relaxed);
        self.activity.touch();
        Active(self.clone())
    }

    /// Watches over an answer: its client must take it.
    pub(crate) fn watch_over(&self) -> Arc<Progress> {
        let progress = Arc::new(Progress::new(self.activity.now()));
        self.activity.answers().push(progress.clone());
        progress
    }

    /// Notes that the client took a frame of an answer.
    pub(crate) fn took(&self, progress: &Progress, bytes: usize) {
        progress.took(bytes, self.activity.now());
    }

    /// Returns when the client has said nothing for too long, or has stopped taking an answer; says which.
    pub(crate) async fn given_up(&self) -> &'static str {
        loop {
            let (now, activity) = (self.activity.now(), &self.activity);
            let is_answering = {
                let mut answers = activity.answers();
                answers.forget_sent();
                if answers.under_way.iter().any(|answer| answer.is_stalled(now)) {
                    return "the client does not take its answer";
                }
                !answers.under_way.is_empty()
            };
            let last = Duration::from_millis(activity.last.load(Ordering::Relaxed));
            let may_idle = match activity.requests.load(Ordering::Relaxed) {
                0 => FIRST_REQUEST_TIMEOUT,
                _ => IDLE_TIMEOUT,
            };
            let is_idle = activity.active.load(Ordering::Relaxed) == 0;
            if is_idle && now.saturating_sub(last) >= may_idle {
                return "no request came";
            }
            let next = match (is_answering, is_idle) {
                (true, _) => ANSWER_CHECK_PERIOD,
                (false, true) => (last + may_idle).saturating_sub(now),
                (false, false) => IDLE_CHECK_PERIOD,
            };
            // Answers that begin meanwhile are looked at then: to wake up for each would cost more than it saves.
            tokio::time::sleep(next.min(IDLE_CHECK_PERIOD)).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let standing = self.standing.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut table = self.all.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.open -= 1;
        let one_less = |of: &mut HashMap<Arc<str>, usize>, name: &Arc<str>| {
            if let Some(count) = of.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    of.remove(name);
                }
            }
        };
        match standing {
            Standing::Unproven => drop(table.take_unproven(self.id)),
            Standing::Administrator => {}
            Standing::Node(name) => one_less(&mut table.nodes, name),
            Standing::User(name) => {
                one_less(&mut table.users, name);
                table.of_users -= 1;
            }
        }
    }
}

/// What happens on a connection. Times are milliseconds since it began.
struct Activity {
    began: Instant,
    /// When a request last began or was answered.
    last: AtomicU64,
    /// Requests whose answers have not been sent.
    active: AtomicUsize,
    requests: AtomicU64,
    answers: Mutex<Answers>,
}

/// Answers that are being sent. Bounded by the streams of a connection.
#[derive(Default)]
struct Answers {
    under_way: Vec<Arc<Progress>>,
    /// How many there may be before those that were sent are forgotten.
    forget_at: usize,
}

impl Answers {
    fn push(&mut self, progress: Arc<Progress>) {
        if self.under_way.len() >= self.forget_at {
            self.forget_sent();
        }
        self.under_way.push(progress);
    }

    fn forget_sent(&mut self) {
        /// Of a connection with few answers at a time.
        const FORGET_AT_MIN: usize = 16;
        self.under_way.retain(|answer| Arc::strong_count(answer) > 1);
        self.forget_at = FORGET_AT_MIN.max(2 * self.under_way.len());
    }
}

impl Activity {
    fn new() -> Activity {
        Activity {
            began: Instant::now(),
            last: AtomicU64::new(0),
            active: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            answers: Mutex::default(),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        self.last.store(milliseconds(self.now()), Ordering::Relaxed);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A request that is not answered to its end.
pub(crate) struct Active(Arc<Connection>);

impl Active {
    pub(crate) fn connection(&self) -> &Connection {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let activity = &self.0.activity;
        activity.touch();
        activity.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How far an answer has got.
#[derive(Debug)]
pub(crate) struct Progress {
    began: Duration,
    /// When the last frame was taken, in milliseconds of the connection.
    last: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    fn new(now: Duration) -> Progress {
        Progress {
            began: now,
            last: AtomicU64::new(milliseconds(now)),
            bytes: AtomicU64::new(0),
        }
    }

    fn took(&self, bytes: usize, now: Duration) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last.store(milliseconds(now), Ordering::Relaxed);
    }

    /// Whether nothing was taken for too long, or too little in all.
    fn is_stalled(&self, now: Duration) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        let bytes = self.bytes.load(Ordering::Relaxed);
        let allowed = ANSWER_GRACE + Duration::from_secs(bytes / ANSWER_RATE_MIN);
        now.saturating_sub(last) > ANSWER_STALL || now.saturating_sub(self.began) > allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Address {
        Address::of(IpAddr::from([192, 0, 2, last]))
    }

    fn is_closed(connection: &Connection) -> bool {
        connection.close.is_cancelled()
    }

    #[test]
    fn bounds_leave_files_for_the_rest_of_the_process() {
        assert_eq!(Bounds::of_files(1_024).all, 768);
        assert_eq!(Bounds::of_files(u64::MAX).all, CONNECTIONS_MAX);
        assert_eq!(Bounds::of_files(100).all, 16);
    }

    #[test]
    fn silent_connections_give_way_to_new_ones() {
        let all = Connections::new(Bounds::of_files(1_024));
        let open = |last: u8| all.open(address(last)).unwrap();
        let share = all.bounds.address;
        let silent: Vec<_> = (0..share + 3).map(|_| open(1)).collect();
        assert_eq!(
            silent.iter().filter(|connection| is_closed(connection)).count(),
            3
        );
        assert!(
            silent[..3].iter().all(|connection| is_closed(connection)),
            "the oldest go"
        );
        let others: Vec<_> = (2..=200).map(open).collect();
        assert!(!is_closed(others.last().unwrap()));
        assert_eq!(all.counts().unproven, all.bounds.unproven);
    }

    #[test]
    fn proven_connection_is_never_closed_for_others() {
        let all = Connections::new(Bounds::of_files(1_024));
        let jane = all.open(address(1)).unwrap();
        assert!(jane.prove(&User::new("jane", &[])));
        let mut silent = Vec::new();
        while silent.len() < 2 * all.bounds.all {
            silent.push(all.open(address(1)).unwrap());
        }
        assert!(!is_closed(&jane));
    }

    #[test]
    fn user_has_a_share_and_nodes_have_the_rest() {
        let all = Connections::new(Bounds::of_files(1_024));
        let of = |user: &User| {
            let connection = all.open(address(1)).unwrap();
            connection.prove(user).then_some(connection)
        };
        let jane = User::new("jane", &[]);
        let janes: Vec<_> = (0..all.bounds.all).filter_map(|_| of(&jane)).collect();
        assert_eq!(janes.len(), all.bounds.user);
        assert!(of(&User::new("john", &[])).is_some());
        let node = User::node("n");
        let of_node: Vec<_> = (0..all.bounds.all).filter_map(|_| of(&node)).collect();
        assert_eq!(of_node.len(), NODE_CONNECTIONS_MAX);
        assert!(of(&User::node("other")).is_some());
        drop(janes);
        assert!(of(&jane).is_some());
    }

    #[test]
    fn full_table_takes_no_more() {
        let all = Connections::new(Bounds::of_files(1));
        let admin = User::admin();
        let mut open = Vec::new();
        while let Some(connection) = all.open(address(1)) {
            assert!(connection.prove(&admin));
            open.push(connection);
        }
        assert_eq!(open.len(), all.bounds.all);
        open.pop();
        assert!(all.open(address(2)).is_some());
    }

    #[test]
    fn neighbours_in_a_subnet_are_one_address() {
        let of = |text: &str| Address::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[tokio::test(start_paused = true)]
    async fn connection_without_a_request_is_given_up() {
        let all = Connections::new(Bounds::of_files(1_024));
        let connection = all.open(address(1)).unwrap();
        let began = Instant::now();
        assert_eq!(connection.given_up().await, "no request came");
        assert_eq!(began.elapsed(), FIRST_REQUEST_TIMEOUT);
        drop(connection.begin());
        let idle = Instant::now();
        assert_eq!(connection.given_up().await, "no request came");
        assert!(idle.elapsed() >= IDLE_TIMEOUT);
        let _active = connection.begin();
        let waits = tokio::time::timeout(10 * IDLE_TIMEOUT, connection.given_up()).await;
        assert!(waits.is_err(), "a request is being answered");
    }

    #[test]
    fn answers_that_were_sent_are_forgotten() {
        let all = Connections::new(Bounds::of_files(1_024));
        let connection = all.open(address(1)).unwrap();
        let kept = connection.watch_over();
        for _ in 0..1_000 {
            drop(connection.watch_over());
        }
        let answers = connection.activity.answers();
        assert!(answers.under_way.len() <= answers.forget_at);
        assert!(answers.forget_at < 100);
        assert!(answers.under_way.iter().any(|answer| Arc::ptr_eq(answer, &kept)));
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_takes_no_answer_is_given_up() {
        let all = Connections::new(Bounds::of_files(1_024));
        let connection = all.open(address(1)).unwrap();
        let _active = connection.begin();
        let progress = connection.watch_over();
        assert_eq!(connection.given_up().await, "the client does not take its answer");
        drop(progress);
        // One that takes a little all the time is too slow in all.
        let progress = connection.watch_over();
        let trickle = async {
            for _ in 0..1_000 {
                tokio::time::sleep(ANSWER_STALL / 2).await;
                connection.took(&progress, 1);
            }
        };
        tokio::select! {
            why = connection.given_up() => assert_eq!(why, "the client does not take its answer"),
            () = trickle => panic!("it goes on for hours"),
        }
    }
}
