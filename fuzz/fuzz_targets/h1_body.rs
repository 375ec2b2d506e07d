//! Fuzzes the HTTP/1 codec: see `properties::body` for what must hold.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/http/tests/h1_corpus/properties.rs"]
#[allow(dead_code)]
mod properties;

fuzz_target!(|input: &[u8]| {
    properties::body(input);
});
