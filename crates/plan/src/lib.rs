//! Decisions: synchronous functions from what is known and the time to what is to be done.

pub mod pod_sync;
