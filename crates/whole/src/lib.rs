//! The simulated whole lives in this crate's tests; see `tests/whole/main.rs`.
