//! The simulated whole: API server, controllers, scheduler and nodes in one thread, in a time of their own, on a network that fails.
//!
//! A seed decides everything. `EVERYNODE_SEED=7` runs one seed and tells what happened, `EVERYNODE_SEEDS=10000` runs so many (and
//! `EVERYNODE_SEEDS=500..900` those). A failure names its seed, the kinds of faults without which it does not happen, and the last
//! of what happened.

mod end;
mod history;
mod network;
mod picture;
mod placement;
mod rng;
mod seeds;
mod workload;
mod world;
