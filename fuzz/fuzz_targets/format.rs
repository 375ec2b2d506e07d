//! Fuzzes formats of access logs and headers: see `fuzz_format` for what must hold.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    nuncio_stream_info::fuzz::fuzz_format(input);
});
