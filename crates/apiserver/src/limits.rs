//! Every bound of the API server, named and explained in one place.

use std::time::Duration;

/// Largest request body, in bytes. Kubernetes' own limit; it is above what etcd takes for one object.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// How much of a body that nobody wants is read so that its sender sees the answer: an oversized manifest as a rule.
pub(crate) const DISCARD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long that may take.
pub(crate) const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest HTTP/2 header list, in bytes, as much as an HTTP/1 request head may have. Tokens and long selectors fit; a flood
/// of headers does not.
pub(crate) const HEADER_LIST_BYTES_MAX: u32 = 256 * 1024;

/// Buffer of an HTTP/1 connection, in bytes, which also bounds its request head.
pub(crate) const HTTP1_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// How long a client may take to send an HTTP/1 request head or to finish the TLS handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Open connections. Each node agent holds two or three, so this is room for 20,000 nodes on one server, and
/// stays under what a process may open once the file limit is raised.
pub(crate) const CONNECTIONS_MAX: usize = 65_536;

/// Concurrent streams of one HTTP/2 connection: the default of Go's server, which Go's clients expect.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 250;

/// Requests other than watches and streams that are worked on at one moment. The work itself is measured in
/// microseconds, so this bounds memory (bodies in hand), not throughput.
pub(crate) const REQUESTS_IN_FLIGHT_MAX: usize = 2_048;

/// How many pods of a namespace are held against a Pod Security level that its labels newly ask for: as many as Kubernetes looks at. A pod
/// takes some tens of microseconds.
pub(crate) const POD_SECURITY_PODS_MAX: usize = 3_000;

/// How long a request may wait for its turn before it is told to come back (429).
pub(crate) const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request that is no watch or stream may take in all, reading its body included.
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

/// How long a read at a future resource version waits before it answers 504.
pub(crate) const FUTURE_REVISION_WAIT: Duration = Duration::from_secs(3);

/// Tries of a write that gave no resource version and met a concurrent one. Each lost try is a write that another
/// request won, and all requests in flight may be writing the same object; the request's own timeout comes first.
pub(crate) const CONFLICT_RETRIES_MAX: usize = REQUESTS_IN_FLIGHT_MAX;

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
