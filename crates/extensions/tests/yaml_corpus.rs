//! Replays the corpus of the fuzz target that compiles configurations, and changes of it.

// Helpers of tests, which the lint does not see as tests.
#![allow(clippy::panic, clippy::unwrap_used)]

#[path = "../../../fuzz/mutations.rs"]
mod mutations;
#[path = "yaml_corpus/properties.rs"]
mod properties;

use std::path::Path;

/// What configurations are made of, and what breaks them.
const PIECES: &[&[u8]] = &[
    b"\n",
    b" ",
    b"  ",
    b": ",
    b"- ",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\"",
    b"'",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!str ",
    b"!ignore ",
    b"# ",
    b"|\n",
    b">-\n",
    b"---\n",
    b"...\n",
    b"%YAML 1.2\n",
    b"? ",
    b"\t",
    b"null",
    b"~",
    b"true",
    b"-1",
    b"1e400",
    b".nan",
    b"18446744073709551616",
    b"0x10",
    b"1s",
    b"-0.000000001s",
    b"999999999999s",
    b"\"@type\": ",
    b"name: ",
    b"prefix: ",
    b"regex: \"(\"",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    "é".as_bytes(),
    "\u{2028}".as_bytes(),
    "\u{10ffff}".as_bytes(),
    b"address: 1.2.3.4",
    b"port_value: 70000",
    b"%REQ(",
    b"%",
    b"type.googleapis.com/google.protobuf.Any",
];

fn corpus() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/yaml");
    let files = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let files: Vec<_> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(files.len() > 10, "{} files in {}", files.len(), directory.display());
    files
}

#[test]
fn the_corpus_compiles_or_is_refused() {
    let registry = nuncio_extensions::registry();
    let usable = corpus().iter().filter(|input| properties::compile(&registry, input)).count();
    assert!(usable >= 4, "{usable} are usable");
}

#[test]
fn mutations_of_the_corpus_keep_the_properties() {
    let registry = nuncio_extensions::registry();
    // Short ones, so that there can be many.
    let corpus: Vec<_> = corpus().into_iter().filter(|input| input.len() < 4_000).collect();
    for seed in 0..2_500 {
        properties::compile(&registry, &mutations::mutate(seed, &corpus, PIECES));
    }
}

#[test]
fn every_beginning_of_a_configuration_is_handled() {
    let registry = nuncio_extensions::registry();
    let whole = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/yaml/gateway")).unwrap();
    for end in (0..whole.len()).step_by(7) {
        properties::compile(&registry, &whole[..end]);
    }
}
