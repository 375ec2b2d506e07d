//! The corpus of the fuzz target, as it is and with small changes.

#[path = "../../../../fuzz/mutations.rs"]
mod mutations;

fn corpus() -> Vec<Vec<u8>> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/tls");
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn corpus_replays() {
    let corpus = corpus();
    assert!(corpus.len() >= 5);
    corpus.iter().for_each(|input| super::fuzz_parsers(input));
    let pieces: [&[u8]; 6] = [&[0x30, 0x80], &[0x30, 0x84, 0xff], &[0], &[0xff], b"*.", b"-----BEGIN X-----\n"];
    for seed in 0..20_000 {
        super::fuzz_parsers(&mutations::mutate(seed, &corpus, &pieces));
    }
}
