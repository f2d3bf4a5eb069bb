//! This crate only has tests of the simulated cluster; see `tests/whole/main.rs`.
