//! Names: a DNS server of the cluster's own names and, for all others, of the machine's resolvers.
//!
//! [`plan::dns_records`] decides what a name means; whoever watches the cluster keeps the [`Zone`] up to date; a [`Server`]
//! answers from it, by UDP and TCP, without asking any other machine. Other names go to the [`Upstreams`], through a cache.
//!
//! Invariants:
//! - No packet makes the server panic, and none makes it do more than one question's work.
//! - What is not known yet is not denied: a zone that is not [whole](Zone::whole) fails instead.
//! - Tasks, connections, waiting questions and kept answers are bounded.

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
