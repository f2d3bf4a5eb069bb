//! Random bodies and patches against a real API server: whatever is sent, it neither panics nor answers with a 5xx.
#![no_main]

mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::send(data));
