//! DNS server for the names of the cluster. It forwards all other names to the machine's resolvers.
//!
//! [`plan::dns_records`] decides the records of a name. The watcher of the cluster updates the
//! [`Zone`]. A [`Server`] responds from it by UDP and TCP, without contacting another machine.
//! Other names go to the [`Upstreams`], through a cache.
//!
//! Invariants:
//! - No packet makes the server panic, or causes more work than one query.
//! - The server does not deny a name before all records are loaded: a zone that is not
//!   [complete](Zone::whole) responds with a failure.
//! - Tasks, connections, waiting queries and cached responses are bounded.

mod cache;
mod forward;
mod question;
mod reply;
mod resolv_conf;
mod server;
mod zone;

pub use forward::Upstreams;
pub use resolv_conf::{NAME_SERVERS, ResolvConf};
pub use server::{Server, Sockets};
pub use zone::Zone;
