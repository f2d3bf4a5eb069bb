//! Every bound of the API server, named and explained in one place.

use std::time::Duration;

/// Largest request body, in bytes. Kubernetes' own limit; it is above what etcd takes for one object.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// How much of a body that nobody wants is read so that its sender sees the answer: an oversized manifest as a rule.
pub(crate) const DISCARD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long that may take.
pub(crate) const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest head of a request, in bytes, where the client has shown a certificate: long commands and selectors fit; a flood of headers does
/// not. It bounds an HTTP/2 header list and the buffer of an HTTP/1 connection.
pub(crate) const HEAD_BYTES_MAX: usize = 256 * 1024;

/// The same where it has shown none. Anybody may send heads there, and in memory an HTTP/2 header list takes some three times its length. A token and
/// the longest selector fit.
pub(crate) const HEAD_BYTES_MAX_WITHOUT_CERTIFICATE: usize = 48 * 1024;

/// Bytes of bodies that a client without a certificate may send ahead on one HTTP/2 stream, and on all streams of a connection.
pub(crate) const STREAM_WINDOW_WITHOUT_CERTIFICATE: u32 = 64 * 1024;
pub(crate) const CONNECTION_WINDOW_WITHOUT_CERTIFICATE: u32 = 128 * 1024;

/// Bytes of a TLS handshake that are read before it is complete. Certificates of the authority have less than 1 KiB.
pub(crate) const HANDSHAKE_BYTES_MAX: usize = 16 * 1024;

/// Handshakes that one address may begin at once: the nodes behind one address may all come back at the same time.
pub(crate) const HANDSHAKES_BURST: f64 = 1_000.0;

/// Handshakes a second of one address after that. At some 200 µs each they take a fifth of a processor.
pub(crate) const HANDSHAKES_PER_SECOND: f64 = 1_000.0;

/// Bytes that are read at a time of a connection on which nothing was authenticated. Headers of few bytes may stand for many in HTTP/2, and the
/// requests that have come begin before more are read.
pub(crate) const GUEST_READ_BYTES: usize = 512;

/// Requests under way on such a connection. One more ends it.
pub(crate) const GUEST_REQUESTS_MAX: usize = 8;

/// How long the TLS handshake may take: the value of Go's HTTP client.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long after the handshake the first request may take to come: kube-apiserver's `ReadHeaderTimeout`.
pub(crate) const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(32);

/// How long a connection may stay without a request, the head of the next one included: kube-apiserver's `IdleTimeout`.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// How often a busy connection is checked for having become idle. It may stay this much longer than [`IDLE_TIMEOUT`].
pub(crate) const IDLE_CHECK_PERIOD: Duration = Duration::from_secs(30);

/// A peer of an HTTP/2 connection that sends nothing for this long gets a ping (Go's `ReadIdleTimeout` in Kubernetes).
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long the answer to that may take (Go's `PingTimeout` in Kubernetes).
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Open connections. Each node agent holds two or three, so this is room for 20,000 nodes on one server. A process that may open fewer files
/// takes fewer (`connections::Bounds`).
pub(crate) const CONNECTIONS_MAX: usize = 65_536;

/// Connections that have not completed their TLS handshake. One takes up to some 50 KiB.
pub(crate) const CALLERS_MAX: usize = 2_048;

/// Connections on which nothing was authenticated after the handshake. One takes up to some 600 KiB (see docs/security.md).
pub(crate) const GUESTS_MAX: usize = 256;

/// Files that connections leave for the store, logs and what else runs in the process, at least.
pub(crate) const FILES_RESERVED_MIN: usize = 256;

/// Connections of one node. An agent holds three, and for some seconds as many again when it is restarted.
pub(crate) const NODE_CONNECTIONS_MAX: usize = 64;

/// Concurrent streams of one HTTP/2 connection: the default of Go's server, which Go's clients expect.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 250;

/// Streams that a client resets before the server has looked at them, per connection, before the connection is closed: HTTP/2's "rapid reset".
pub(crate) const PENDING_RESETS_MAX: usize = 20;

/// How many pods of a namespace are held against a Pod Security level that its labels newly ask for: as many as Kubernetes looks at. A pod
/// takes some tens of microseconds.
pub(crate) const POD_SECURITY_PODS_MAX: usize = 3_000;

/// Streams that the server resets for a client's errors, per connection, before the connection is closed.
pub(crate) const LOCAL_RESETS_MAX: usize = 1_024;

/// A request's body has this long, and a second more for each [`BODY_RATE_MIN`] bytes that have come: 58 s for the largest.
pub(crate) const BODY_GRACE: Duration = Duration::from_secs(10);

/// Bytes a second at which a body must come in, at least: the slowest mobile networks have that.
pub(crate) const BODY_RATE_MIN: u64 = 64 * 1024;

/// Bodies up to this many bytes are not counted: the number of requests bounds them.
pub(crate) const BODY_UNCOUNTED_BYTES: usize = 8 * 1024;

/// Longest label or field selector, in bytes. As a watch keeps it, that is up to 1.2 MiB.
pub(crate) const SELECTOR_BYTES_MAX: usize = 32 * 1024;

/// Heads of requests up to this many bytes in memory are not counted: the number of requests bounds them.
pub(crate) const HEAD_UNCOUNTED_BYTES: usize = 4 * 1024;

/// How long a client may go without taking a frame of a plain answer. A seat is held as long.
pub(crate) const ANSWER_STALL: Duration = Duration::from_secs(30);

/// A plain answer has this long, and a second more for each [`ANSWER_RATE_MIN`] bytes that were taken: Kubernetes' request timeout.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_secs(60);

/// Bytes a second at which an answer must be taken, at least.
pub(crate) const ANSWER_RATE_MIN: u64 = 64 * 1024;

/// How often the answers of a connection are checked for that.
pub(crate) const ANSWER_CHECK_PERIOD: Duration = Duration::from_secs(5);

/// Wrong credentials that an address may show at once before they close connections. Many pods may share the address of their node.
pub(crate) const ATTEMPTS_BURST: f64 = 50.0;

/// Wrong credentials a second of one address after that.
pub(crate) const ATTEMPTS_PER_SECOND: f64 = 5.0;

/// Wrong credentials a second of all addresses.
pub(crate) const ATTEMPTS_PER_SECOND_ALL: f64 = 200.0;

/// Addresses whose failures, or handshakes, are remembered, at some 80 bytes each.
pub(crate) const ADDRESSES_MAX: usize = 4_096;

/// `Retry-After` for a client that showed too many wrong credentials, in seconds.
pub(crate) const ATTEMPT_RETRY_AFTER_SECONDS: u32 = 5;

/// How long a request may wait for a seat before it is refused (429).
pub(crate) const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request that is no watch or stream may take from its seat to the head of its answer. `?timeout=` makes it shorter.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What a refused request is told to wait, in seconds.
pub(crate) const RETRY_AFTER_SECONDS: u32 = 1;

/// How long connections may drain at shutdown before they are cut.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A response body is handed to HTTP in frames of about this many bytes: large enough that a list of 100,000
/// objects costs few writes, small enough that a slow reader holds little.
pub(crate) const FRAME_BYTES: usize = 64 * 1024;

/// Answers longer than this many bytes are compressed for clients that take it: Kubernetes' own threshold. Below it the
/// network costs less than the work.
pub(crate) const COMPRESSED_FROM_BYTES: u64 = 128 * 1024;

/// How often a watch that asked for bookmarks gets one.
pub(crate) const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);

/// A last bookmark is sent this long before a watch runs out.
pub(crate) const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// A watch without `timeoutSeconds` lives between this and twice this long, drawn at random so that watches
/// that began together do not end together.
pub(crate) const WATCH_LIFE_MIN: Duration = Duration::from_secs(30 * 60);

/// How often the credential of an answer without an end is looked at again. It ends with the credential within this time, at the latest.
pub(crate) const RIGHTS_CHECK_PERIOD: Duration = Duration::from_secs(15);

/// How long a read at a future resource version waits before it answers 504.
pub(crate) const FUTURE_REVISION_WAIT: Duration = Duration::from_secs(3);

/// Tries of a write that gave no resource version and met a concurrent one. Each lost try is a write that another
/// request won, and all requests in flight may be writing the same object; the request's own timeout comes first.
pub(crate) const CONFLICT_RETRIES_MAX: usize = 2_048;

/// ServiceAccounts and PriorityClasses that are kept parsed, at some 2 KiB each. When full they are forgotten: those
/// in use come back at once.
pub(crate) const PARSED_MAX: usize = 1_024;

/// Tries to find a free name for `generateName`.
pub(crate) const GENERATE_NAME_TRIES_MAX: usize = 8;

/// Verified service account tokens that are remembered. A signature check costs some 100 µs; a token costs
/// some 1 KiB here. When full it is emptied: the tokens in use come back at once.
pub(crate) const TOKEN_CACHE_MAX: usize = 4_096;

/// Deepest path, in segments, that the router looks at.
pub(crate) const PATH_SEGMENTS_MAX: usize = 16;

/// Buffer between the two directions of an upgraded connection, in bytes.
pub(crate) const UPGRADE_BUFFER_BYTES: usize = 16 * 1024;

/// Events that a watch takes from the store at a time; they leave in one frame.
pub(crate) const WATCH_BATCH_MAX: usize = 512;

/// Objects of one deletecollection that are deleted at a time, so that their commits share a flush to the disk.
pub(crate) const DELETE_COLLECTION_CONCURRENCY: usize = 64;
