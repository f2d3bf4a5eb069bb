//! Simulation of a whole cluster: API server, controllers, scheduler and nodes in one thread, with
//! simulated time and a faulty network.
//!
//! A seed determines everything. `EVERYNODE_SEED=7` runs one seed and prints its history.
//! `EVERYNODE_SEEDS=10000` runs that many seeds, and `EVERYNODE_SEEDS=500..900` a range. The report
//! of a failure has its seed, the kinds of faults that it needs, and the end of the history.

mod end;
mod history;
mod network;
mod picture;
mod placement;
mod rng;
mod seeds;
mod workload;
mod world;
