//! What the tests of the whole share: the built binary as a process, the clients that drive it, waiting on state.
//!
//! Nothing here knows how Everynode is made; it sees the command line and the API, as a user does.

mod api;
mod client;
mod debian;
mod fleet;
mod images;
mod mounts;
mod observer;
mod port;
mod process;
pub mod topology;
mod wait;

pub use api::{Answer, Api, JSON, MERGE, PROTOBUF, STRATEGIC, Watch};
pub use client::{Client, Output, kubectls};
pub use debian::{Package, programs};
pub use fleet::{Fleet, Node, Pod};
pub use images::{busybox, scratch};
pub use mounts::assert_no_mounts;
pub use observer::{Observer, Seen, ask, get};
pub use port::free_port;
pub use process::{Nodes, Process, node_folders};
pub use wait::{eventually, wait_for, wait_for_async};

/// The first manifest that the project was made from, verbatim.
pub const FLUENTD: &str = include_str!("fluentd.yaml");

/// Says that a test has nothing to run on. The closing count of `cargo xtask ci` adds such lines up.
pub fn skip(why: &str) {
    // The line begins the output: cargo's own harness writes "test name ... " before it otherwise.
    #[allow(clippy::print_stdout, reason = "the count is made from what is printed")]
    {
        println!("\nskipped: {why}");
    }
}

/// Tells a figure that a test has measured; `cargo xtask ci` shows it, and `cargo test -- --nocapture`.
pub fn report(figure: &str) {
    #[allow(clippy::print_stdout, reason = "who runs the test reads it")]
    {
        println!("\nmeasured: {figure}");
    }
}

/// Whether the tests run as root, which containers need.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
