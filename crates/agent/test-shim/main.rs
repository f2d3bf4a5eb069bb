//! The executable that becomes a pod's shim in the tests of this crate.

fn main() -> std::process::ExitCode {
    runtime::shim::main(std::env::args_os().skip(1).collect())
}
