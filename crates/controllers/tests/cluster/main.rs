//! The controllers against a real API server in this process, with simulated nodes: what a user sees, as sentences.

mod disruption;
mod endpoints;
mod garbage;
mod node_ipam;
mod nodes;
mod roles;
mod rollout;
mod run;
mod scheduling;
mod support;
mod tokens;
