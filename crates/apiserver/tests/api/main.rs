//! The API as clients use it, one topic for each file. All are one binary, because each binary is
//! linked statically.

mod common;

mod access;
mod answers;
mod authorization;
mod bad_input;
mod create;
mod daemon_set;
mod delete;
mod discovery;
mod dry_run;
mod eviction;
mod field_validation;
mod fuzz_seeds;
mod list_paging;
mod load;
mod node_credential;
mod patch;
mod pod_security;
mod proxy;
mod rights;
mod services;
mod subresources;
mod table;
mod tunnel;
mod update_conflict;
mod watch;
