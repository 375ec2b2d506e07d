//! Fuzzes what TLS reads of peers and files: see `fuzz_parsers` for what must hold.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    nuncio_tls::fuzz::fuzz_parsers(input);
});
