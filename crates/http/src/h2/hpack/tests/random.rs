//! Blocks from a fixed generator, through both sides and with changes on the way.

use super::*;

#[path = "../../../../../../fuzz/mutations.rs"]
mod mutations;

const NAMES: [&str; 16] = [
    ":method",
    ":path",
    ":status",
    ":authority",
    ":scheme",
    "content-type",
    "user-agent",
    "cookie",
    "authorization",
    "x-request-id",
    "date",
    "link",
    "x-other",
    "x-another",
    "if-range",
    "expires",
];
const VALUES: [&str; 10] = [
    "GET",
    "/",
    "200",
    "https",
    "",
    "gzip, deflate",
    "some value",
    "Mon, 21 Oct 2013 20:13:21 GMT",
    "text/html",
    "\0\n",
];

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => {
            let length = random.below(200);
            (0..length).map(|_| random.below(256) as u8).collect()
        }
        1 => vec![b'a'; random.below(4000)],
        2 => format!("{}", random.below(300)).into_bytes(),
        _ => VALUES[random.below(VALUES.len())].as_bytes().to_vec(),
    }
}

fn name(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => format!("x-custom-{}", random.below(40)).into_bytes(),
        1 => Known::all().nth(random.below(80)).unwrap().as_str().as_bytes().to_vec(),
        _ => NAMES[random.below(NAMES.len())].as_bytes().to_vec(),
    }
}

fn fields(random: &mut Random) -> Vec<Line> {
    (0..random.below(20)).map(|_| (name(random), value(random))).collect()
}

#[test]
fn both_sides_stay_in_step() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut encoder = Encoder::new();
        encoder.set_huffman(seed % 4 != 0);
        let mut decoder = Decoder::new(4096);
        for _ in 0..200 {
            for _ in 0..random.below(5) / 2 {
                encoder.set_limit([0, 31, 64, 100, 500, 2000, 4096, 70_000][random.below(8)]);
            }
            let sent = fields(&mut random);
            let block = encode(&mut encoder, sent.iter().map(|(name, value)| (&name[..], &value[..])));
            assert_eq!(decode(&mut decoder, &block).as_ref(), Ok(&sent));
            let (ours, theirs) = (encoder.table(), decoder.table());
            assert_eq!((ours.len(), ours.size(), ours.max()), (theirs.len(), theirs.size(), theirs.max()));
            assert!((0..=ours.len()).all(|age| ours.get(age) == theirs.get(age)));
            assert!(encoder.held() <= 4096 * 3 + 2048);
            assert!(decoder.held() <= 4096 * 3 + 4096);
        }
    }
}

#[test]
fn changed_blocks_end_or_pass_and_hold_little() {
    let mut corpus: Vec<Vec<u8>> = Vec::new();
    let mut random = Random::new(7);
    for _ in 0..60 {
        let sent = fields(&mut random);
        corpus.push(encode(&mut Encoder::new(), sent.iter().map(|(name, value)| (&name[..], &value[..]))));
    }
    let pieces: [&[u8]; 9] = [
        &[0x3f, 0xe1, 0x1f],
        &[0x20],
        &[0xbe],
        &[0x7e, 0],
        &[0xff; 4],
        &[0x40, 0, 0],
        &[0x80],
        &[0x7f, 0x80],
        &[0x00, 0x81],
    ];
    let mut decoder = Decoder::new(4096);
    let mut passed = 0;
    for seed in 0..20_000 {
        let block = mutations::mutate(seed, &corpus, &pieces);
        let mut total = 0;
        match decoder.decode(&block, |field| total += field.name.len() + field.value.len()) {
            Ok(()) => passed += 1,
            Err(CompressionError) => decoder = Decoder::new(4096),
        }
        // No field is greater than the table or what its bytes can say.
        assert!(total <= block.len() * 4096);
        assert!(decoder.size() <= 4096 && decoder.held() <= 4096 * 3 + 4096);
    }
    assert!(passed > 500, "{passed}");
}

#[test]
fn any_bytes_end_or_pass() {
    let mut random = Random::new(3);
    let mut decoder = Decoder::new(4096);
    for _ in 0..50_000 {
        let block: Vec<u8> = (0..random.below(40)).map(|_| random.below(256) as u8).collect();
        if decoder.decode(&block, |_| ()).is_err() {
            decoder = Decoder::new(4096);
        }
    }
}
