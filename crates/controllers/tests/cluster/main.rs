//! The controllers with a real API server in this process and simulated nodes.

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
