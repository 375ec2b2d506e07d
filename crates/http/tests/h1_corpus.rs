//! Replays the corpora of the fuzz targets: what a fuzzer once found stays found.

// Helpers of tests, which the lint does not see as tests.
#![allow(clippy::panic, clippy::unwrap_used)]

#[path = "../../../fuzz/mutations.rs"]
mod mutations;
#[path = "h1_corpus/properties.rs"]
mod properties;

use std::path::Path;

/// A target's corpus.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let files: Vec<_> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(files.len() > 10, "{} files in {}", files.len(), directory.display());
    files
}

/// Runs `check` over every file of a target's corpus, and over every beginning of it.
fn replay(target: &str, check: fn(&[u8]) -> bool) {
    for input in corpus(target) {
        for end in (0..=input.len()).rev().take(512) {
            check(&input[..end]);
        }
    }
}

#[test]
fn mutations_keep_the_properties() {
    const PIECES: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"\0",
        b"\xff",
        b"\xc3\xa9",
        b"0",
        b"ffffffffffffffff",
        b";",
        b",",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: h\r\n",
        b"0\r\n\r\n",
        b"\r\n\r\n",
    ];
    for (target, check) in [
        ("h1_request", properties::request as fn(&[u8]) -> bool),
        ("h1_response", properties::response),
        ("h1_body", properties::body),
    ] {
        let corpus = corpus(target);
        for seed in 0..30_000 {
            check(&mutations::mutate(seed, &corpus, PIECES));
        }
    }
}

#[test]
fn h1_request() {
    replay("h1_request", properties::request);
}

#[test]
fn h1_response() {
    replay("h1_response", properties::response);
}

#[test]
fn h1_body() {
    replay("h1_body", properties::body);
}

/// Bytes that look like HTTP/1 more often than chance would have it, from a fixed generator.
fn noise(seed: u64) -> Vec<u8> {
    const PIECES: &[&str] = &[
        "GET ",
        "POST ",
        "CONNECT ",
        "/",
        "*",
        "http://",
        "h",
        "h:80",
        " HTTP/1.1",
        " HTTP/1.0",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        ": ",
        "Host: h\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close, x\r\n",
        "Connection: upgrade\r\nUpgrade: w\r\n",
        "a: b\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 101 \r\n",
        "3\r\nabc\r\n",
        "0\r\n",
        "0\r\n\r\n",
        "1;a=b\r\nx\r\n",
        "abc",
        "ffffffffffffffff",
        "\0",
        "\u{7f}",
        "_",
        "é",
        "Expect: 100-continue\r\n",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let mut bytes = Vec::new();
    for _ in 0..next() % 24 {
        bytes.extend_from_slice(PIECES[next() % PIECES.len()].as_bytes());
    }
    if !bytes.is_empty() && next() % 4 == 0 {
        let at = next() % bytes.len();
        bytes[at] = next() as u8;
    }
    bytes
}

#[test]
fn noise_keeps_the_properties() {
    let mut accepted = [0; 5];
    for seed in 1..20_000 {
        let input = noise(seed);
        let outcomes = [
            properties::request(&input),
            properties::response(&input),
            properties::body(&input),
            properties::request(&[b"GET / HTTP/1.1\r\nHost: h\r\n", &input[..], b"\r\n"].concat()),
            properties::response(&[b"\0HTTP/1.1 200 OK\r\n", &input[..], b"\r\n"].concat()),
        ];
        for (count, outcome) in accepted.iter_mut().zip(outcomes) {
            *count += usize::from(outcome);
        }
    }
    println!("accepted: {accepted:?}");
    assert!(accepted[2..].iter().all(|count| *count > 100), "{accepted:?}");
}
