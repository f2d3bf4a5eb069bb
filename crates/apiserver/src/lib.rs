//! The API server: the Kubernetes API over HTTP and TLS, on one store.
//!
//! A request passes through [`service`](crate): path, user, queue, body, seat, verb. `verbs` has
//! one file for each operation on objects, `subresource` one for each subresource. The crate `api`
//! defines the kinds and the crate `schema` the encodings; this crate adds the clock, the store and
//! the network. An object is encoded once, when it is written: lists and watches return the stored
//! bytes.
//!
//! Components of the same process are clients too ([`Server::client`]). Their requests take the
//! same path without a socket. They carry their user as a value that no listener can create.

mod admission;
mod attempts;
mod authenticate;
mod authorization;
pub mod backup;
mod body;
mod bootstrap;
mod bootstrap_token;
mod buckets;
mod client;
mod compress;
mod connection;
mod connections;
mod decoding;
mod discovery;
mod flow;
mod health;
mod in_memory;
mod limits;
mod metrics;
mod names;
mod negotiate;
mod node_credential;
mod objects;
mod openapi;
mod parsed;
mod pki;
mod query;
mod random;
mod relay;
mod request;
mod respond;
mod review;
mod rights;
mod routes;
mod server;
mod service;
mod service_ranges;
mod shared;
mod stray_services;
mod subresource;
mod tls;
mod token;
mod tunnel;
mod tunnels;
mod user;
mod verbs;
mod write;

pub use bootstrap::BootstrapError;
pub use in_memory::{AnswerBody, Change, Changes, InMemory, Line};
pub use pki::{Credential, Pki, PkiError, kubeconfig, subject};
pub use server::{Config, CredentialError, Server, Signer, StartError, StopError};
pub use service_ranges::{ServiceRanges, ServiceRangesError};
pub use tls::TlsError;
pub use token::SigningKeyError;
pub use user::{GROUP_AUTHENTICATED, GROUP_MASTERS, GROUP_NODES, GROUP_SERVICE_ACCOUNTS, User};
