//! The shim's executable for tests. It does the same as the hidden verb of the real binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::shim::main(std::env::args_os().skip(1).collect())
}
