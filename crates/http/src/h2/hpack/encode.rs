//! Field lines to field blocks (RFC 7541 §6).

use super::table::{Table, weight};
use super::{DEFAULT_TABLE, huffman, predefined};
use nuncio_headers::{Known, KnownSet};
use std::collections::VecDeque;

/// The greatest table in bytes, whatever the peer allows: entries are searched one after the other.
const GREATEST_TABLE: u32 = DEFAULT_TABLE;

/// The longest value in bytes that enters the table under a name without an id.
const LONGEST_OTHER: usize = 128;

/// Shorter cookies could be guessed byte by byte if they were in the table.
const SHORT_COOKIE: usize = 20;

/// Names of secrets: no table on the way may hold them (RFC 7541 §7.1.3).
const SECRET: KnownSet = KnownSet::of(&[Known::AUTHORIZATION, Known::SET_COOKIE]);

/// Names whose value is another in most messages: in the table they would only evict what is of use.
const CHANGING: KnownSet = KnownSet::of(&[
    Known::PATH,
    Known::AGE,
    Known::CONTENT_LENGTH,
    Known::DATE,
    Known::ETAG,
    Known::GRPC_MESSAGE,
    Known::GRPC_TIMEOUT,
    Known::IF_MODIFIED_SINCE,
    Known::IF_NONE_MATCH,
    Known::LAST_MODIFIED,
    Known::LOCATION,
    Known::RANGE,
    Known::TRACEPARENT,
    Known::X_CLIENT_TRACE_ID,
    Known::X_ENVOY_ORIGINAL_PATH,
    Known::X_ENVOY_ORIGINAL_URL,
    Known::X_ENVOY_UPSTREAM_SERVICE_TIME,
    Known::X_REQUEST_ID,
]);

/// What the tables do with a literal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Indexing {
    /// It becomes an entry (§6.2.1).
    Add,
    /// It does not (§6.2.2).
    Without,
    /// It does not, here and wherever it is sent on (§6.2.3).
    Never,
}

/// What an entry of the table is found by.
#[derive(Clone, Copy)]
struct Mark {
    name: u32,
    line: u32,
}

/// The encoder of what one peer receives. Its table stays in step with the one of the peer's decoder.
pub(in crate::h2) struct Encoder {
    table: Table,
    /// Of the entries of the table, in the same order.
    marks: VecDeque<Mark>,
    /// The size that the table takes with the next block.
    limit: u32,
    /// The smallest that the peer asked for since the last block.
    smallest: u32,
    huffman: bool,
}

impl Encoder {
    /// With a table of 4096 bytes until the peer says otherwise.
    pub fn new() -> Encoder {
        Encoder {
            table: Table::new(DEFAULT_TABLE),
            marks: VecDeque::new(),
            limit: DEFAULT_TABLE,
            smallest: DEFAULT_TABLE,
            huffman: true,
        }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE, in bytes. More than 4096 are not used.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit.min(GREATEST_TABLE);
        self.smallest = self.smallest.min(self.limit);
    }

    /// Whether strings are in Huffman code where that is shorter. Default: they are.
    pub fn set_huffman(&mut self, on: bool) {
        self.huffman = on;
    }

    /// Starts a block: says how the size of the table changed (RFC 7541 §4.2), if it did.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if self.smallest < self.table.max() {
            self.resize(self.smallest, out);
        }
        if self.limit != self.table.max() {
            self.resize(self.limit, out);
        }
        self.smallest = self.limit;
    }

    fn resize(&mut self, max: u32, out: &mut Vec<u8>) {
        integer(out, 5, 0x20, max as usize);
        self.table.set_max(max);
        self.marks.truncate(self.table.len());
        self.marks.shrink_to(self.table.len());
    }

    /// Appends a field line. `known` is the id of the name if it has one; the name is in lower case.
    pub fn field(&mut self, known: Option<Known>, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let index = predefined::index_of_name(known, name);
        if let Some(index) = index.and_then(|first| predefined::index_of_field(first, known, value)) {
            return integer(out, 7, 0x80, index);
        }
        match self.indexing(known, name, value) {
            Indexing::Add => {
                let name_hash = hash_of_name(known, name);
                let mark = Mark { name: name_hash, line: hash(name_hash, value) };
                if let Some(age) = self.find(mark, known, name, value) {
                    return integer(out, 7, 0x80, predefined::COUNT + 1 + age);
                }
                let index = index.or_else(|| Some(predefined::COUNT + 1 + self.find_name(name_hash, known, name)?));
                self.literal(Indexing::Add, index, (name, value), out);
                self.table.insert(known, name, value);
                self.marks.push_front(mark);
                self.marks.truncate(self.table.len());
            }
            indexing => self.literal(indexing, index, (name, value), out),
        }
    }

    fn indexing(&self, known: Option<Known>, name: &[u8], value: &[u8]) -> Indexing {
        let indexing = match known {
            Some(Known::COOKIE) if value.len() < SHORT_COOKIE => Indexing::Never,
            Some(known) if SECRET.contains(known) => Indexing::Never,
            Some(known) if CHANGING.contains(known) => Indexing::Without,
            Some(_) => Indexing::Add,
            None => indexing_of_other(name, value),
        };
        // A few such entries would evict all others.
        match indexing {
            Indexing::Add if weight(name, value) > self.table.max() as usize / 4 * 3 => Indexing::Without,
            indexing => indexing,
        }
    }

    /// The age of the entry of this line.
    #[inline]
    fn find(&self, mark: Mark, known: Option<Known>, name: &[u8], value: &[u8]) -> Option<usize> {
        let same = |age: usize| {
            let entry = self.table.get(age);
            entry.is_some_and(|entry| {
                entry.known == known && entry.value == value && (known.is_some() || entry.name == name)
            })
        };
        let mut ages = self.marks.iter().enumerate();
        ages.find_map(|(age, other)| (other.line == mark.line && same(age)).then_some(age))
    }

    /// The age of the newest entry of this name.
    fn find_name(&self, hash: u32, known: Option<Known>, name: &[u8]) -> Option<usize> {
        let same = |age: usize| self.table.get(age).is_some_and(|entry| entry.known == known && entry.name == name);
        let mut ages = self.marks.iter().enumerate();
        ages.find_map(|(age, other)| (other.name == hash && same(age)).then_some(age))
    }

    /// A literal, with the index of its name if a table has that.
    fn literal(&self, indexing: Indexing, index: Option<usize>, (name, value): (&[u8], &[u8]), out: &mut Vec<u8>) {
        let (prefix, pattern) = match indexing {
            Indexing::Add => (6, 0x40),
            Indexing::Without => (4, 0x00),
            Indexing::Never => (4, 0x10),
        };
        integer(out, prefix, pattern, index.unwrap_or(0));
        if index.is_none() {
            self.string(name, out);
        }
        self.string(value, out);
    }

    /// A string (§5.2), in Huffman code if that is shorter.
    fn string(&self, text: &[u8], out: &mut Vec<u8>) {
        let encoded = if self.huffman { huffman::encoded_len(text) } else { text.len() };
        if encoded < text.len() {
            integer(out, 7, 0x80, encoded);
            huffman::encode(text, out);
        } else {
            integer(out, 7, 0, text.len());
            out.extend_from_slice(text);
        }
    }

    /// The bytes of memory that are held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.table.held() + self.marks.capacity() * size_of::<Mark>()
    }

    /// The entries, the newest first.
    #[cfg(test)]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }
}

fn indexing_of_other(name: &[u8], value: &[u8]) -> Indexing {
    match name {
        b"proxy-authorization" => Indexing::Never,
        b"content-range" | b"expires" | b"if-match" | b"if-range" | b"if-unmodified-since" => Indexing::Without,
        b"b3" | b"x-b3-traceid" | b"x-b3-spanid" | b"x-b3-parentspanid" => Indexing::Without,
        b"sw8" | b"x-amzn-trace-id" | b"x-correlation-id" | b"x-datadog-trace-id" => Indexing::Without,
        _ if value.len() > LONGEST_OTHER => Indexing::Without,
        _ => Indexing::Add,
    }
}

/// An integer that begins in the last `prefix` bits of a byte whose others are those of `pattern` (§5.1).
#[inline]
fn integer(out: &mut Vec<u8>, prefix: u32, pattern: u8, value: usize) {
    let most = (1 << prefix) - 1;
    if value < most {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[inline]
fn hash_of_name(known: Option<Known>, name: &[u8]) -> u32 {
    match known {
        Some(known) => (known.index() as u32 + 1).wrapping_mul(0x9e37_79b9),
        None => hash(0, name),
    }
}

/// A quick hash. Different texts of one hash cost a comparison, nothing more.
#[inline]
fn hash(seed: u32, text: &[u8]) -> u32 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let mix = |state: u64, word: u64| (state.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let (words, rest) = text.as_chunks::<8>();
    let state = words.iter().fold(u64::from(seed), |state, word| mix(state, u64::from_le_bytes(*word)));
    // The last bytes, some of them for the second time if that is quicker.
    let last = match text.last_chunk::<8>() {
        Some(last) => u64::from_le_bytes(*last),
        None => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    (mix(state, last ^ (text.len() as u64) << 56) >> 32) as u32
}
