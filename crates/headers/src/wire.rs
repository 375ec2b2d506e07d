//! The map as field lines: reading entries as bytes, and writing them in the layout of HTTP/1.
//!
//! Owns: the fast paths that need to know where names and values lie. Does not own: which lines a message has.

use crate::map::{Entry, OTHER};
use crate::{HeaderMap, Known, KnownSet};

/// One entry of a map, as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The id, if the name is well known.
    pub known: Option<Known>,
    /// The name in lower case.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

impl HeaderMap {
    /// All entries in order, as bytes and ids: [`HeaderMap::iter`] without making text of the names.
    #[inline]
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.entries.iter().map(|entry| self.line(entry))
    }

    /// Appends `name: value CRLF` for every entry that is not in `skip`, in order.
    ///
    /// Entries that came from a received head as exactly such lines, one behind the other, are copied as one piece.
    pub fn write_lines(&self, out: &mut Vec<u8>, skip: KnownSet) {
        let skip = skip.bits();
        let mut run = 0..0;
        for entry in &self.entries {
            if entry.id != OTHER && skip >> entry.id & 1 != 0 {
                continue;
            }
            match self.received_line(entry) {
                Some(line) if line.0 == run.end => run.end = line.1,
                Some(line) => {
                    self.flush(out, &run);
                    run = line.0..line.1;
                }
                None => {
                    self.flush(out, &run);
                    run = 0..0;
                    let Line { name, value, .. } = self.line(entry);
                    push_line(out, name, value);
                }
            }
        }
        self.flush(out, &run);
    }

    #[inline]
    fn flush(&self, out: &mut Vec<u8>, run: &std::ops::Range<usize>) {
        if let Some(text) = self.arena.get(run.clone()) {
            out.extend_from_slice(text);
        }
    }

    /// Where the entry's whole line lies in the arena, if it lies there just as it would be written.
    #[inline]
    fn received_line(&self, entry: &Entry) -> Option<(usize, usize)> {
        let name = entry.name as usize;
        let value = entry.value as usize;
        let colon = name + entry.name_len as usize;
        if colon + 2 != value {
            return None;
        }
        let end = value + entry.value_len as usize;
        let whole = self.arena.get(colon..end + 2)?;
        (whole.starts_with(b": ") && whole.ends_with(b"\r\n")).then_some((name, end + 2))
    }

    #[inline]
    fn line(&self, entry: &Entry) -> Line<'_> {
        let known = (entry.id != OTHER).then(|| Known::from_id(entry.id));
        let name = match known {
            Some(known) => known.as_str().as_bytes(),
            None => self.slice(entry.name, u32::from(entry.name_len)),
        };
        Line { known, name, value: self.slice(entry.value, entry.value_len) }
    }

    #[inline]
    fn slice(&self, start: u32, len: u32) -> &[u8] {
        self.arena.get(start as usize..start as usize + len as usize).unwrap_or_default()
    }
}

#[inline]
fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
