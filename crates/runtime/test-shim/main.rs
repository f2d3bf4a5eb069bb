//! The executable that the tests name as shim: it does what the hidden verb of the real binary does.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::shim::main(std::env::args_os().skip(1).collect())
}
