//! The whole, as its users meet it: the built binary, real kubectl, real containers.

mod access;
mod bad_input;
mod conformance;
mod containers;
mod daemonsets;
mod durability;
mod fleet;
mod joining;
mod kill;
mod kubectl;
mod large;
mod libraries;
mod logs;
mod network;
mod pages;
mod scenarios;
mod scheduler;
mod silence;
mod verbs;
mod why;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The binary under test.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_everynode"))
}

/// Tests that look at the whole machine (mounts, cgroups, links) take turns.
fn machine() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
