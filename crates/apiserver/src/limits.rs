//! The bounds of the API server, with their reasons.

use std::time::Duration;

/// Largest request body, in bytes: the limit of Kubernetes. It is above etcd's limit for one
/// object.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Bytes of an unused body that are read and discarded, so that the client receives the response.
/// Usually the body is an oversized manifest.
pub(crate) const DISCARD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Timeout of discarding a body.
pub(crate) const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest head of a request, in bytes, from a client with a certificate. Long commands and
/// selectors fit, and floods of headers do not. It bounds an HTTP/2 header list and the buffer of
/// an HTTP/1 connection.
pub(crate) const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Largest head of a request, in bytes, from a client without a certificate. Any client can send
/// such heads, and an HTTP/2 header list takes about three times its length in memory. A token and
/// the longest selector fit.
pub(crate) const HEAD_BYTES_MAX_WITHOUT_CERTIFICATE: usize = 48 * 1024;

/// HTTP/2 flow-control windows in bytes for a client without a certificate: of one stream, and of a
/// connection.
pub(crate) const STREAM_WINDOW_WITHOUT_CERTIFICATE: u32 = 64 * 1024;
pub(crate) const CONNECTION_WINDOW_WITHOUT_CERTIFICATE: u32 = 128 * 1024;

/// Limit on the bytes of a TLS handshake. Certificates of the cluster's authority have less than 1
/// KiB.
pub(crate) const HANDSHAKE_BYTES_MAX: usize = 16 * 1024;

/// Handshakes that one address may begin in a burst. All nodes behind one address may reconnect at
/// the same time.
pub(crate) const HANDSHAKES_BURST: f64 = 1_000.0;

/// Handshakes per second of one address after the burst. At about 200 µs each, they take a fifth of
/// a processor.
pub(crate) const HANDSHAKES_PER_SECOND: f64 = 1_000.0;

/// Bytes of one read from a connection on which no user was authenticated. A few bytes of
/// compressed HTTP/2 headers can expand to many, and the requests in these bytes begin before the
/// next read.
pub(crate) const GUEST_READ_BYTES: usize = 512;

/// Concurrent requests on a connection on which no user was authenticated. One more closes it.
pub(crate) const GUEST_REQUESTS_MAX: usize = 8;

/// Timeout of the TLS handshake: the value of Go's HTTP client.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout of the first request after the handshake: kube-apiserver's `ReadHeaderTimeout`.
pub(crate) const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(32);

/// Longest time that a connection may be idle, including the head of the next request:
/// kube-apiserver's `IdleTimeout`.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Interval at which a busy connection is checked for idleness. A connection may be idle this much
/// longer than [`IDLE_TIMEOUT`].
pub(crate) const IDLE_CHECK_PERIOD: Duration = Duration::from_secs(30);

/// An HTTP/2 peer that sends nothing for this time gets a ping (Go's `ReadIdleTimeout` in
/// Kubernetes).
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Timeout of the response to a ping (Go's `PingTimeout` in Kubernetes).
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Open connections. Each agent holds two or three, so this is enough for 20,000 nodes on one
/// server. A lower limit on open files reduces it (`connections::Bounds`).
pub(crate) const CONNECTIONS_MAX: usize = 65_536;

/// Connections that have not completed their TLS handshake. Each takes up to about 50 KiB.
pub(crate) const CALLERS_MAX: usize = 2_048;

/// Connections after the handshake on which no user was authenticated. Each takes up to about 600
/// KiB (see docs/security.md).
pub(crate) const GUESTS_MAX: usize = 256;

/// Smallest number of open files that is reserved for the store, logs and other parts of the
/// process.
pub(crate) const FILES_RESERVED_MIN: usize = 256;

/// Connections of one node. An agent holds three, and twice as many for some seconds after a
/// restart.
pub(crate) const NODE_CONNECTIONS_MAX: usize = 64;

/// Concurrent streams of one HTTP/2 connection: the default of Go's server, which Go's clients
/// expect.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 250;

/// Streams of a connection that the client resets before the server has processed them. More close
/// the connection, as a defense against HTTP/2's "rapid reset" attack.
pub(crate) const PENDING_RESETS_MAX: usize = 20;

/// Pods of a namespace that are checked when its labels set a new Pod Security level: the number
/// that Kubernetes checks. A pod takes some tens of microseconds.
pub(crate) const POD_SECURITY_PODS_MAX: usize = 3_000;

/// Streams of a connection that the server resets for errors of the client. More close the
/// connection.
pub(crate) const LOCAL_RESETS_MAX: usize = 1_024;

/// Timeout of a request's body, plus a second for each [`BODY_RATE_MIN`] bytes that have arrived:
/// 58 s for the largest body.
pub(crate) const BODY_GRACE: Duration = Duration::from_secs(10);

/// Lowest rate of a request's body in bytes per second. The slowest mobile networks reach it.
pub(crate) const BODY_RATE_MIN: u64 = 64 * 1024;

/// Bodies up to this size in bytes are not counted, because the number of requests bounds them.
pub(crate) const BODY_UNCOUNTED_BYTES: usize = 8 * 1024;

/// Longest label or field selector, in bytes. A watch stores it in up to 1.2 MiB.
pub(crate) const SELECTOR_BYTES_MAX: usize = 32 * 1024;

/// Heads of requests up to this size in bytes are not counted, because the number of requests
/// bounds them.
pub(crate) const HEAD_UNCOUNTED_BYTES: usize = 4 * 1024;

/// Longest time in which a client may read no frame of a plain response. The request holds its seat
/// meanwhile.
pub(crate) const ANSWER_STALL: Duration = Duration::from_secs(30);

/// Timeout of a plain response, plus a second for each [`ANSWER_RATE_MIN`] bytes that were read:
/// Kubernetes' request timeout.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_secs(60);

/// Lowest rate at which a client must read a response, in bytes per second.
pub(crate) const ANSWER_RATE_MIN: u64 = 64 * 1024;

/// Interval at which the responses of a connection are checked for their rate.
pub(crate) const ANSWER_CHECK_PERIOD: Duration = Duration::from_secs(5);

/// Invalid credentials that one address may send in a burst before they close connections. Many
/// pods may share the address of their node.
pub(crate) const ATTEMPTS_BURST: f64 = 50.0;

/// Invalid credentials per second of one address after the burst.
pub(crate) const ATTEMPTS_PER_SECOND: f64 = 5.0;

/// Invalid credentials per second of all addresses.
pub(crate) const ATTEMPTS_PER_SECOND_ALL: f64 = 200.0;

/// Addresses whose failures or handshakes are counted, at about 150 bytes each.
pub(crate) const ADDRESSES_MAX: usize = 4_096;

/// `Retry-After` for a client that sent too many invalid credentials, in seconds.
pub(crate) const ATTEMPT_RETRY_AFTER_SECONDS: u32 = 5;

/// Longest wait of a request for a seat before it is refused with status 429.
pub(crate) const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout of a request that is not a watch or stream, from its seat to the head of its response.
/// `?timeout=` shortens it.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// `Retry-After` of a refused request, in seconds.
pub(crate) const RETRY_AFTER_SECONDS: u32 = 1;

/// Timeout of draining connections at shutdown. The rest is closed.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Size in bytes of the frames of a response body. A list of 100,000 objects takes few writes, and
/// a slow reader holds little memory.
pub(crate) const FRAME_BYTES: usize = 64 * 1024;

/// Responses longer than this many bytes are compressed for clients that accept it: the threshold
/// of Kubernetes. Compression of a smaller response costs more than the network.
pub(crate) const COMPRESSED_FROM_BYTES: u64 = 128 * 1024;

/// Interval of the bookmarks of a watch that requested them.
pub(crate) const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);

/// Time between the last bookmark of a watch and its timeout.
pub(crate) const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// Shortest timeout of a watch without `timeoutSeconds`. The timeout is random, up to twice this
/// time, so that watches that began together do not end together.
pub(crate) const WATCH_LIFE_MIN: Duration = Duration::from_secs(30 * 60);

/// Interval at which the credential of a stream is checked. A stream ends at most this long after
/// its credential.
pub(crate) const RIGHTS_CHECK_PERIOD: Duration = Duration::from_secs(15);

/// Longest wait of a read at a future resource version. Afterwards it fails with status 504.
pub(crate) const FUTURE_REVISION_WAIT: Duration = Duration::from_secs(3);

/// Attempts of a write without a resource version that conflicts with concurrent writes. Each
/// conflict is caused by another request that succeeded, and all active requests may write the same
/// object. The request's timeout usually ends it first.
pub(crate) const CONFLICT_RETRIES_MAX: usize = 2_048;

/// Parsed ServiceAccounts and PriorityClasses in the cache, at about 2 KiB each. A full cache is
/// cleared, and the objects in use are parsed again.
pub(crate) const PARSED_MAX: usize = 1_024;

/// Attempts to find a free name for `generateName`.
pub(crate) const GENERATE_NAME_TRIES_MAX: usize = 8;

/// Verified service account tokens in the cache. A signature check costs about 100 µs, and a cached
/// token about 1 KiB. A full cache is cleared, and the tokens in use are verified again.
pub(crate) const TOKEN_CACHE_MAX: usize = 4_096;

/// Largest number of segments of a path.
pub(crate) const PATH_SEGMENTS_MAX: usize = 16;

/// Buffer of an upgraded connection, in bytes.
pub(crate) const UPGRADE_BUFFER_BYTES: usize = 16 * 1024;

/// Events that a watch reads from the store at a time. They are sent in one frame.
pub(crate) const WATCH_BATCH_MAX: usize = 512;

/// Objects of one deletecollection that are deleted concurrently, so that their commits share a
/// flush to the disk.
pub(crate) const DELETE_COLLECTION_CONCURRENCY: usize = 64;
