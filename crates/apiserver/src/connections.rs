//! Bounds on open connections, and the choice of the connection that is closed when there are too
//! many.
//!
//! A new connection is a caller. After the TLS handshake it is proven if its certificate is valid,
//! otherwise it is a guest. A guest is proven once a request on it was authenticated. Callers and
//! guests have few places, with a share for each address. When the places are full, a new
//! connection closes another one: first a caller that has sent no byte, then the oldest. So silent
//! connections cannot block new clients. Proven connections are never closed in favor of others.
//!
//! Users share a quarter of all connections, and one user may have half of that. Nodes and
//! administrators are not limited to this quarter.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::buckets::{Buckets, Rate};
use crate::limits::{
    ANSWER_CHECK_PERIOD, ANSWER_GRACE, ANSWER_RATE_MIN, ANSWER_STALL, CALLERS_MAX, CONNECTIONS_MAX,
    FILES_RESERVED_MIN, FIRST_REQUEST_TIMEOUT, GUEST_REQUESTS_MAX, GUESTS_MAX, HANDSHAKES_BURST,
    HANDSHAKES_PER_SECOND, IDLE_CHECK_PERIOD, IDLE_TIMEOUT, NODE_CONNECTIONS_MAX,
};
use crate::user::{GROUP_NODES, User};

/// Address of a client: an IPv4 address, or the /64 of an IPv6 address, because a /64 is the least
/// that a customer of a provider gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address(IpAddr);

impl Address {
    /// Converts a peer's IP address.
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

/// Limits on the number of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// All connections.
    all: usize,
    /// Proven connections of users that are neither nodes nor administrators.
    users: usize,
    /// Proven connections of one such user.
    user: usize,
    /// Connections before the end of the TLS handshake.
    callers: Room,
    /// Connections after the handshake on which no user was authenticated yet.
    guests: Room,
}

/// Limits on the number of callers or guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    all: usize,
    /// From one address.
    address: usize,
}

/// Rate of TLS handshakes of one address.
const HANDSHAKES: Rate = Rate {
    at_once: HANDSHAKES_BURST,
    per_second: HANDSHAKES_PER_SECOND,
};

impl Bounds {
    /// Returns the bounds for the current soft limit on open files (`RLIMIT_NOFILE`).
    pub(crate) fn of_this_process() -> Bounds {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Bounds::of_files(limit.current.unwrap_or(u64::MAX))
    }

    /// Returns the bounds of a process that may open `files` files. A quarter of the files, and at
    /// least [`FILES_RESERVED_MIN`], is reserved for the store, logs and other parts of the
    /// process.
    pub(crate) fn of_files(files: u64) -> Bounds {
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let reserved = (files / 4).max(FILES_RESERVED_MIN);
        let all = files.saturating_sub(reserved).clamp(16, CONNECTIONS_MAX);
        Bounds {
            all,
            users: all / 4,
            user: all / 8,
            callers: Room {
                all: (all / 8).min(CALLERS_MAX),
                address: (all / 32).clamp(2, CALLERS_MAX / 4),
            },
            guests: Room {
                all: (all / 16).clamp(4, GUESTS_MAX),
                address: (all / 64).clamp(2, GUESTS_MAX / 4),
            },
        }
    }
}

/// All connections of a server.
pub(crate) struct Connections {
    bounds: Bounds,
    table: Mutex<Table>,
}

struct Table {
    next: u64,
    open: usize,
    callers: Crowd,
    guests: Crowd,
    /// Permits for handshakes, by address.
    handshakes: Buckets,
    /// Number of proven connections of each user. `of_users` is their sum.
    users: HashMap<Arc<str>, usize>,
    of_users: usize,
    /// Number of proven connections of each node.
    nodes: HashMap<Arc<str>, usize>,
    evicted: u64,
}

/// Callers or guests: connections that may be closed in favor of new ones.
struct Crowd {
    room: Room,
    /// In the order in which they are closed.
    members: BTreeMap<Turn, Member>,
    /// The keys of `members` by address.
    addresses: HashMap<Address, BTreeSet<Turn>>,
}

/// Position in the order of closing: first the connections that have sent no byte, then the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    has_spoken: bool,
    id: u64,
}

struct Member {
    address: Address,
    close: CancellationToken,
}

impl Crowd {
    fn new(room: Room) -> Crowd {
        Crowd {
            room,
            members: BTreeMap::new(),
            addresses: HashMap::new(),
        }
    }

    /// Adds a connection, and returns how many were closed to make room for it.
    fn admit(&mut self, turn: Turn, member: Member) -> u64 {
        let of_address = self.addresses.get(&member.address);
        let next = match of_address.filter(|turns| turns.len() >= self.room.address) {
            Some(turns) => turns.first().copied(),
            None if self.members.len() >= self.room.all => self.next(),
            None => None,
        };
        let closed = next.is_some_and(|next| self.close(next));
        self.put(turn, member);
        u64::from(closed)
    }

    fn put(&mut self, turn: Turn, member: Member) {
        self.addresses.entry(member.address).or_default().insert(turn);
        self.members.insert(turn, member);
    }

    /// Returns the connection that is closed next.
    fn next(&self) -> Option<Turn> {
        self.members.keys().next().copied()
    }

    fn close(&mut self, turn: Turn) -> bool {
        let member = self.take(turn);
        if let Some(member) = &member {
            member.close.cancel();
        }
        member.is_some()
    }

    fn take(&mut self, turn: Turn) -> Option<Member> {
        let member = self.members.remove(&turn)?;
        if let Some(turns) = self.addresses.get_mut(&member.address) {
            turns.remove(&turn);
            if turns.is_empty() {
                self.addresses.remove(&member.address);
            }
        }
        Some(member)
    }
}

/// Metrics of the connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) open: usize,
    pub(crate) max: usize,
    pub(crate) unproven: usize,
    pub(crate) evicted: u64,
}

impl Connections {
    /// Returns a table without connections.
    pub(crate) fn new(bounds: Bounds) -> Arc<Connections> {
        Arc::new(Connections {
            bounds,
            table: Mutex::new(Table {
                next: 0,
                open: 0,
                callers: Crowd::new(bounds.callers),
                guests: Crowd::new(bounds.guests),
                handshakes: Buckets::new(HANDSHAKES),
                users: HashMap::new(),
                of_users: 0,
                nodes: HashMap::new(),
                evicted: 0,
            }),
        })
    }

    /// Adds a new connection. Returns `None` when the table is full of proven connections.
    pub(crate) fn open(self: &Arc<Self>, address: Address) -> Option<Arc<Connection>> {
        let mut table = self.lock();
        if table.open >= self.bounds.all {
            let (caller, guest) = (table.callers.next(), table.guests.next());
            let closed = match (caller, guest) {
                (Some(turn), _) => table.callers.close(turn),
                (None, Some(turn)) => table.guests.close(turn),
                (None, None) => return None,
            };
            table.evicted += u64::from(closed);
        }
        let turn = Turn {
            has_spoken: false,
            id: table.next,
        };
        table.next += 1;
        table.open += 1;
        let close = CancellationToken::new();
        let member = Member {
            address,
            close: close.clone(),
        };
        table.evicted += table.callers.admit(turn, member);
        Some(Arc::new(Connection {
            all: self.clone(),
            address,
            close,
            dismissed: CancellationToken::new(),
            is_proven: AtomicBool::new(false),
            standing: Mutex::new(Standing::Caller(turn)),
            activity: Activity::new(),
        }))
    }

    pub(crate) fn counts(&self) -> Counts {
        let table = self.lock();
        Counts {
            open: table.open,
            max: self.bounds.all,
            unproven: table.callers.members.len() + table.guests.members.len(),
            evicted: table.evicted,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Removes a connection from the callers or guests. Returns `None` when it was closed
    /// meanwhile, or is proven.
    fn take(&mut self, standing: &Standing) -> Option<Member> {
        match standing {
            Standing::Caller(turn) => self.callers.take(*turn),
            Standing::Guest(turn) => self.guests.take(*turn),
            Standing::Administrator | Standing::Node(_) | Standing::User(_) => None,
        }
    }
}

/// Class of a connection.
enum Standing {
    Caller(Turn),
    Guest(Turn),
    Administrator,
    Node(Arc<str>),
    User(Arc<str>),
}

/// A connection. It is counted until it is dropped together with its socket.
pub(crate) struct Connection {
    all: Arc<Connections>,
    address: Address,
    close: CancellationToken,
    /// Cancelled when the client must be disconnected after its responses are sent.
    dismissed: CancellationToken,
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

    /// Records that the client sent its first byte. Returns false when its address has begun too
    /// many handshakes.
    pub(crate) fn speaks(&self) -> bool {
        let mut standing = self.standing();
        let mut table = self.all.lock();
        if !table.handshakes.take(self.address, Instant::now()) {
            return false;
        }
        if let Standing::Caller(turn) = &mut *standing
            && let Some(member) = table.callers.take(*turn)
        {
            turn.has_spoken = true;
            table.callers.put(*turn, member);
        }
        true
    }

    /// Records that the handshake is complete: an unproven caller becomes a guest.
    pub(crate) fn shook_hands(&self) {
        let mut standing = self.standing();
        let mut table = self.all.lock();
        if let Standing::Caller(turn) = *standing
            && let Some(member) = table.callers.take(turn)
        {
            table.evicted += table.guests.admit(turn, member);
            *standing = Standing::Guest(turn);
        }
    }

    /// Returns whether a user was authenticated on the connection.
    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
    }

    /// Returns whether a guest has more than [`GUEST_REQUESTS_MAX`] active requests.
    pub(crate) fn is_flooded(&self) -> bool {
        !self.is_proven() && self.activity.active.load(Ordering::Relaxed) > GUEST_REQUESTS_MAX
    }

    /// Closes the connection once its responses are sent.
    pub(crate) fn dismiss(&self) {
        self.dismissed.cancel();
    }

    pub(crate) fn is_dismissed(&self) -> bool {
        self.dismissed.is_cancelled()
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that `user` was authenticated on the connection. Returns false when the user has too
    /// many connections.
    pub(crate) fn prove(&self, user: &User) -> bool {
        if self.is_proven() || user.is_anonymous() {
            return true;
        }
        let bounds = &self.all.bounds;
        let mut standing = self.standing();
        if !matches!(*standing, Standing::Caller(_) | Standing::Guest(_)) {
            return true;
        }
        let mut table = self.all.lock();
        let name: Arc<str> = user.name.as_str().into();
        let is_node = user.groups.iter().any(|group| group == GROUP_NODES);
        let proven = if user.is_master() {
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
        table.take(&standing);
        *standing = proven;
        self.is_proven.store(true, Ordering::Relaxed);
        true
    }

    /// Records that a request began.
    pub(crate) fn begin(self: &Arc<Self>) -> Active {
        self.activity.active.fetch_add(1, Ordering::Relaxed);
        self.activity.requests.fetch_add(1, Ordering::Relaxed);
        self.activity.touch();
        Active(self.clone())
    }

    /// Starts to measure how fast the client reads a response.
    pub(crate) fn watch_over(&self) -> Arc<Progress> {
        let progress = Arc::new(Progress::new(self.activity.now()));
        self.activity.answers().push(progress.clone());
        progress
    }

    /// Records that the client read a frame of a response.
    pub(crate) fn took(&self, progress: &Progress, bytes: usize) {
        progress.took(bytes, self.activity.now());
    }

    /// Waits until the connection is idle for too long, is dismissed, or its client stops reading a
    /// response. Returns the reason.
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
            // Responses that begin meanwhile are checked after the sleep. A wakeup for each would
            // cost more than it saves.
            tokio::select! {
                () = self.dismissed.cancelled() => return "its client shows wrong credentials or has too many requests",
                () = tokio::time::sleep(next.min(IDLE_CHECK_PERIOD)) => {}
            }
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
        table.take(standing);
        match standing {
            Standing::Caller(_) | Standing::Guest(_) | Standing::Administrator => {}
            Standing::Node(name) => one_less(&mut table.nodes, name),
            Standing::User(name) => {
                one_less(&mut table.users, name);
                table.of_users -= 1;
            }
        }
    }
}

/// Activity of a connection. Times are milliseconds since the connection was opened.
struct Activity {
    began: Instant,
    /// When a request last began or was completely answered.
    last: AtomicU64,
    /// Number of requests whose responses were not sent completely.
    active: AtomicUsize,
    requests: AtomicU64,
    answers: Mutex<Answers>,
}

/// Responses that are being sent. At most as many as a connection has streams.
#[derive(Default)]
struct Answers {
    under_way: Vec<Arc<Progress>>,
    /// Length of `under_way` at which the completed responses are removed.
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
        /// Smallest `forget_at`, for connections with few responses at a time.
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

/// A request whose response was not sent completely.
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

/// Progress of a response.
#[derive(Debug)]
pub(crate) struct Progress {
    began: Duration,
    /// When the client read the last frame, in milliseconds since the connection was opened.
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

    /// Returns whether the client read nothing for [`ANSWER_STALL`], or is slower than
    /// [`ANSWER_RATE_MIN`] overall.
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
        let share = all.bounds.callers.address;
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
        assert_eq!(all.counts().unproven, all.bounds.callers.all);
    }

    #[test]
    fn no_number_of_silent_connections_ends_a_handshake() {
        let all = Connections::new(Bounds::of_files(1_024));
        let speaking = all.open(address(1)).unwrap();
        assert!(speaking.speaks());
        let mut silent = Vec::new();
        for number in 0..20_000 {
            silent.push(all.open(address(1)).unwrap());
            silent.push(all.open(address(u8::try_from(number % 200).unwrap())).unwrap());
            silent.retain(|connection| !is_closed(connection));
        }
        assert!(!is_closed(&speaking));
        assert!(silent.len() <= all.bounds.callers.all);
    }

    #[tokio::test(start_paused = true)]
    async fn address_begins_no_more_handshakes_than_it_may() {
        let all = Connections::new(Bounds::of_files(1_024));
        let begins = |last: u8| all.open(address(last)).unwrap().speaks();
        let begun = (0..10_000).filter(|_| begins(1)).count();
        assert_eq!(begun, HANDSHAKES_BURST as usize);
        assert!(begins(2), "another address has its own");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(begins(1));
    }

    #[test]
    fn guests_are_few_and_give_way_to_new_ones() {
        let all = Connections::new(Bounds::of_files(u64::MAX));
        let guest = |number: usize| {
            let connection = all.open(address(u8::try_from(number % 256).unwrap())).unwrap();
            assert!(connection.speaks());
            connection.shook_hands();
            connection
        };
        let guests: Vec<_> = (0..3 * GUESTS_MAX).map(guest).collect();
        let open = guests.iter().filter(|guest| !is_closed(guest)).count();
        assert_eq!(open, GUESTS_MAX);
        assert!(!is_closed(guests.last().unwrap()));
        let of_one: Vec<_> = (0..GUESTS_MAX).map(|_| guest(1)).collect();
        let open = of_one.iter().filter(|guest| !is_closed(guest)).count();
        assert_eq!(open, all.bounds.guests.address);
        let jane = guest(1);
        assert!(jane.prove(&User::new("jane", &[])));
        let _more: Vec<_> = (0..GUESTS_MAX).map(guest).collect();
        assert!(!is_closed(&jane), "an authenticated client is no guest");
    }

    #[test]
    fn guest_with_many_requests_floods() {
        let all = Connections::new(Bounds::of_files(1_024));
        let connection = all.open(address(1)).unwrap();
        let mut active: Vec<_> = (0..GUEST_REQUESTS_MAX).map(|_| connection.begin()).collect();
        assert!(!connection.is_flooded());
        active.push(connection.begin());
        assert!(connection.is_flooded());
        assert!(connection.prove(&User::new("jane", &[])));
        assert!(!connection.is_flooded());
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
        // A client that always reads a little is too slow overall.
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
