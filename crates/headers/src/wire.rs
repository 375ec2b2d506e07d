//! The map as field lines: reading entries as bytes, and writing them in the layout of HTTP/1.
//!
//! Owns: the fast paths that need to know where names and values lie. Does not own: which lines a message has.

use crate::map::{Entry, OTHER};
use crate::{HeaderMap, HeadersTooLarge, Known, KnownSet};
use std::ops::Range;

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

    /// Adds an entry as a decoder of HTTP/2 gives it: the name is in lower case, `known` its id if it has one, and neither
    /// text holds CR, LF or NUL.
    #[inline]
    pub fn append_received(&mut self, known: Option<Known>, name: &[u8], value: &[u8]) -> Result<(), HeadersTooLarge> {
        let at = self.arena.len();
        if at + name.len() + value.len() > u32::MAX as usize {
            return Err(HeadersTooLarge);
        }
        if let Some(known) = known {
            self.arena.extend_from_slice(value);
            self.push_known(known, at);
            return Ok(());
        }
        let Ok(name_len) = u16::try_from(name.len()) else { return Err(HeadersTooLarge) };
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(value);
        self.entries.push(Entry {
            name: at as u32,
            value: (at + name.len()) as u32,
            value_len: value.len() as u32,
            name_len,
            id: OTHER,
        });
        Ok(())
    }

    /// Adds to the value of the last entry, if that is of this name and nothing was written behind it.
    pub fn extend_last(&mut self, name: Known, separator: &[u8], value: &[u8]) -> bool {
        let end = self.arena.len();
        match self.entries.last_mut() {
            Some(last) if last.id == name.id() && (last.value + last.value_len) as usize == end => {
                let Ok(more) = u32::try_from(separator.len() + value.len()) else { return false };
                let Some(length) = last.value_len.checked_add(more) else { return false };
                last.value_len = length;
                self.arena.extend_from_slice(separator);
                self.arena.extend_from_slice(value);
                true
            }
            _ => false,
        }
    }

    /// Appends `name: value CRLF` for every entry that is not in `skip`, in order.
    #[inline]
    pub fn write_lines(&self, out: &mut Vec<u8>, skip: KnownSet) {
        LineWriter::new(self, out).write(skip);
    }

    /// Where the entry's whole line lies in the arena, if it lies there just as it would be written.
    #[inline]
    fn received_line(&self, entry: &Entry) -> Option<Range<usize>> {
        let name = entry.name as usize;
        let value = entry.value as usize;
        let authority = entry.id == Known::AUTHORITY.id();
        let colon = name + if authority { HOST.len() } else { entry.name_len as usize };
        if colon + 2 != value {
            return None;
        }
        let end = value + entry.value_len as usize;
        let whole = self.arena.get(colon..end + 2)?;
        if !whole.starts_with(b": ") || !whole.ends_with(b"\r\n") {
            return None;
        }
        (!authority || self.arena.get(name..colon) == Some(HOST)).then_some(name..end + 2)
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

const HOST: &[u8] = b"host";

/// Writes a map's entries as lines. Those that came from a received head as exactly such lines, one behind the other, are
/// copied as one piece, together with the line before them.
pub struct LineWriter<'m, 'o> {
    map: &'m HeaderMap,
    out: &'o mut Vec<u8>,
    /// A piece of the arena that is to be copied next.
    run: Range<usize>,
}

impl<'m, 'o> LineWriter<'m, 'o> {
    /// A writer that appends to `out`.
    #[inline]
    pub fn new(map: &'m HeaderMap, out: &'o mut Vec<u8>) -> Self {
        LineWriter { map, out, run: 0..0 }
    }

    /// Writes the first line, given whole.
    #[inline]
    pub fn first_line(&mut self, line: &[u8]) {
        if self.map.arena.starts_with(line) {
            self.run = 0..line.len();
        } else {
            self.out.extend_from_slice(line);
        }
    }

    /// Writes `method SP path version`, if it is the line that was received; otherwise nothing, and says so. `version`
    /// begins with a space and ends the line.
    #[inline]
    pub fn received_request_line(&mut self, version: &[u8]) -> bool {
        let [method, path, ..] = &self.map.entries[..] else { return false };
        if (method.id, path.id) != (Known::METHOD.id(), Known::PATH.id())
            || (method.value, path.value) != (0, method.value_len + 1)
        {
            return false;
        }
        let end = (path.value + path.value_len) as usize;
        let rest = self.map.arena.get(end..).unwrap_or_default();
        if !rest.starts_with(version) || self.map.arena.get(method.value_len as usize) != Some(&b' ') {
            return false;
        }
        self.run = 0..end + version.len();
        true
    }

    /// Writes every entry that is not in `skip`, in order; `:authority` as `host`.
    pub fn write(mut self, skip: KnownSet) {
        let skip = skip.bits();
        for entry in &self.map.entries {
            if entry.id != OTHER && skip >> entry.id & 1 != 0 {
                continue;
            }
            match self.map.received_line(entry) {
                Some(line) if line.start == self.run.end => self.run.end = line.end,
                Some(line) => {
                    self.flush();
                    self.run = line;
                }
                None => {
                    self.flush();
                    self.run = 0..0;
                    let Line { known, name, value } = self.map.line(entry);
                    push_line(self.out, if known == Some(Known::AUTHORITY) { HOST } else { name }, value);
                }
            }
        }
        self.flush();
    }

    #[inline]
    fn flush(&mut self) {
        if let Some(text) = self.map.arena.get(self.run.clone()) {
            self.out.extend_from_slice(text);
        }
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
