//! Shared code of the end-to-end tests: the built binary as a process, its clients, and waits on
//! state.
//!
//! Nothing here uses Everynode's internals. Like a user, it only uses the command line and the API.

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

/// The first manifest that the project was made for, unchanged.
pub const FLUENTD: &str = include_str!("fluentd.yaml");

/// Reports that a test cannot run here. The summary of `cargo xtask ci` counts these lines.
pub fn skip(why: &str) {
    // The output begins with a line break, because cargo's harness has printed "test name ... "
    // before it.
    #[allow(clippy::print_stdout, reason = "the count is made from what is printed")]
    {
        println!("\nskipped: {why}");
    }
}

/// Reports a measured number. `cargo xtask ci` and `cargo test -- --nocapture` show it.
pub fn report(figure: &str) {
    #[allow(clippy::print_stdout, reason = "who runs the test reads it")]
    {
        println!("\nmeasured: {figure}");
    }
}

/// Returns whether the tests run as root, which containers need.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
