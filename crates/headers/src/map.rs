//! The map itself.

use crate::{HeaderName, Known, KnownSet};
use std::borrow::Cow;

pub(crate) const OTHER: u8 = u8::MAX;

#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name: u32,
    pub(crate) value: u32,
    pub(crate) value_len: u32,
    pub(crate) name_len: u16,
    pub(crate) id: u8,
}

/// An ordered multi-map of header names and values, pseudo-headers included.
///
/// Names compare in lower case. Order of insertion is kept. Lookups of a well-known name that is absent cost one bit
/// test; others scan the entries, which is faster than hashing for the few dozen that a message has.
#[derive(Clone, Default)]
pub struct HeaderMap {
    pub(crate) arena: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
    present: u128,
    /// Well-known names that were added while they were present.
    repeated: u128,
    /// Bytes of the head as received, kept only when the spelling of names must be reproduced.
    original: Vec<u8>,
}

/// A name, value or whole head is too long for the map's offsets (names 64 KiB, all together 4 GiB).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadersTooLarge;

impl HeaderMap {
    /// An empty map that owns no memory.
    pub const fn new() -> Self {
        HeaderMap { arena: Vec::new(), entries: Vec::new(), present: 0, repeated: 0, original: Vec::new() }
    }

    /// Number of entries; a name that occurs twice counts twice.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the map has no entry.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes all entries, keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
        self.original.clear();
        self.present = 0;
        self.repeated = 0;
    }

    /// Gives memory back beyond `bytes` of text, so that one large message does not stay paid for.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.arena.shrink_to(bytes);
        self.entries.shrink_to(bytes / 32);
        self.original.shrink_to(0);
    }

    /// Sum of the lengths of all names and values: what Envoy calls the header map's byte size.
    pub fn byte_size(&self) -> usize {
        self.entries.iter().map(|e| e.name_len as usize + e.value_len as usize).sum()
    }

    /// Starts a map from a received head: copies `head` once. Entries are then named by offsets into it with
    /// [`HeaderMap::push_parsed`]. With `keep_spelling` the names' original case stays readable.
    pub fn start(&mut self, head: &[u8], keep_spelling: bool) {
        self.clear();
        self.arena.extend_from_slice(head);
        if keep_spelling {
            self.original.extend_from_slice(head);
        }
    }

    /// Adds an entry by its place in the head given to [`HeaderMap::start`]; lowers the name in place. The parser
    /// guarantees that the value holds no CR, LF or NUL. Offsets outside the head are refused.
    #[inline]
    pub fn push_parsed(&mut self, name: (usize, usize), value: (usize, usize)) -> Result<(), HeadersTooLarge> {
        let end = name.0.saturating_add(name.1);
        let text = self.arena.get(name.0..end).ok_or(HeadersTooLarge)?.to_owned();
        self.push_received(&text, name.0, value).map(|_| ())
    }

    /// [`HeaderMap::push_parsed`] for a parser that still has the head: `name` is the name where it was received,
    /// `name_at` its place. Tells which well-known name it is.
    #[inline]
    pub fn push_received(
        &mut self,
        name: &[u8],
        name_at: usize,
        value: (usize, usize),
    ) -> Result<Option<Known>, HeadersTooLarge> {
        let Ok(name_len) = u16::try_from(name.len()) else { return Err(HeadersTooLarge) };
        self.check_value(value)?;
        let text = self.arena.get_mut(name_at..name_at.saturating_add(name.len())).ok_or(HeadersTooLarge)?;
        let known = crate::lookup::lower_and_find(name, text);
        let id = match known {
            Some(known) => {
                self.mark(known);
                known.id()
            }
            None => OTHER,
        };
        self.entries.push(Entry {
            name: name_at as u32,
            value: value.0 as u32,
            value_len: value.1 as u32,
            name_len,
            id,
        });
        Ok(known)
    }

    /// Adds an entry whose name is given and whose value is a part of the head given to [`HeaderMap::start`].
    #[inline]
    pub fn push_parsed_known(&mut self, name: Known, value: (usize, usize)) -> Result<(), HeadersTooLarge> {
        self.check_value(value)?;
        self.push_marked(name, u32::MAX, value);
        Ok(())
    }

    /// Adds `:authority` from a received `Host`, whose name stands at `name_at` in the head; lowers that name in place.
    #[inline]
    pub fn push_parsed_host(&mut self, name_at: usize, value: (usize, usize)) -> Result<(), HeadersTooLarge> {
        self.check_value(value)?;
        let end = name_at.saturating_add(Known::HOST.as_str().len());
        self.arena.get_mut(name_at..end).ok_or(HeadersTooLarge)?.make_ascii_lowercase();
        self.push_marked(Known::AUTHORITY, name_at as u32, value);
        Ok(())
    }

    #[inline]
    fn check_value(&self, value: (usize, usize)) -> Result<(), HeadersTooLarge> {
        let inside = value.0.checked_add(value.1).is_some_and(|end| end <= self.arena.len().min(u32::MAX as usize));
        if inside { Ok(()) } else { Err(HeadersTooLarge) }
    }

    #[inline]
    fn push_marked(&mut self, name: Known, name_at: u32, value: (usize, usize)) {
        self.mark(name);
        self.entries.push(Entry {
            name: name_at,
            value: value.0 as u32,
            value_len: value.1 as u32,
            name_len: name.as_str().len() as u16,
            id: name.id(),
        });
    }

    #[inline]
    fn mark(&mut self, name: Known) {
        let bit = name.bit();
        self.repeated |= self.present & bit;
        self.present |= bit;
    }

    /// Whether a well-known name was added more than once, and so may have several values.
    #[inline]
    pub fn is_repeated(&self, name: Known) -> bool {
        self.repeated & name.bit() != 0
    }

    /// Joins the values of each of these names that was received more than once into one, with `,` (RFC 9110 §5.3:
    /// "a recipient MAY combine multiple field lines within a field section that have the same field name").
    #[inline]
    pub fn join_repeated(&mut self, names: KnownSet) {
        if self.repeated & names.bits() != 0 {
            self.join_each(self.repeated & names.bits());
        }
    }

    #[cold]
    fn join_each(&mut self, mut bits: u128) {
        self.repeated &= !bits;
        while bits != 0 {
            let name = HeaderName::from(Known::from_id(bits.trailing_zeros() as u8));
            bits &= bits - 1;
            if let Some(Cow::Owned(value)) = self.joined(&name) {
                self.set(&name, &value);
            }
        }
    }

    /// The first value of a well-known name.
    #[inline]
    pub fn get(&self, name: Known) -> Option<&[u8]> {
        if self.present & name.bit() == 0 {
            return None;
        }
        let id = name.id();
        self.entries.iter().find(|e| e.id == id).map(|e| self.value(e))
    }

    /// Whether a well-known name is present: one bit test.
    #[inline]
    pub fn has(&self, name: Known) -> bool {
        self.present & name.bit() != 0
    }

    /// The first value of a name.
    #[inline]
    pub fn get_name(&self, name: &HeaderName) -> Option<&[u8]> {
        if name.known().is_some_and(|known| !self.has(known)) {
            return None;
        }
        self.entries.iter().find(|e| self.is_named(e, name)).map(|e| self.value(e))
    }

    /// All values of a name, in order.
    #[inline]
    pub fn all<'a, 'n>(&'a self, name: &'n HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let absent = name.known().is_some_and(|known| !self.has(known));
        let entries = if absent { &[][..] } else { &self.entries[..] };
        entries.iter().filter(move |e| self.is_named(e, name)).map(move |e| self.value(e))
    }

    /// All values of a name joined with `,` (RFC 9110 §5.3); borrowed when there is one.
    pub fn joined<'a>(&'a self, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
        let mut values = self.all(name);
        let first = values.next()?;
        let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
        let mut joined = first.to_vec();
        for value in std::iter::once(second).chain(values) {
            joined.push(b',');
            joined.extend_from_slice(value);
        }
        Some(Cow::Owned(joined))
    }

    /// All entries in order, as (lower-case name, value).
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        Iter { map: self, at: 0 }
    }

    /// Adds a value after those that the name already has. CR, LF and NUL in the value become spaces.
    #[inline]
    pub fn append(&mut self, name: &HeaderName, value: &[u8]) {
        self.append_with(name, |out| out.extend_from_slice(value));
    }

    /// [`HeaderMap::append`] for a well-known name.
    #[inline]
    pub fn append_known(&mut self, name: Known, value: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(value);
        self.sanitise(start);
        self.push_known(name, start);
    }

    /// Adds a value that `write` appends to the given buffer: formatters write straight into the map.
    pub fn append_with(&mut self, name: &HeaderName, write: impl FnOnce(&mut Vec<u8>)) {
        match name.known() {
            Some(known) => {
                let start = self.arena.len();
                write(&mut self.arena);
                self.sanitise(start);
                self.push_known(known, start);
            }
            None => {
                let name_at = self.arena.len();
                let text = name.as_str().as_bytes();
                let name_len = text.len().min(u16::MAX as usize);
                self.arena.extend_from_slice(&text[..name_len]);
                let start = self.arena.len();
                write(&mut self.arena);
                self.sanitise(start);
                let value_len = self.arena.len() - start;
                self.entries.push(Entry {
                    name: name_at as u32,
                    value: start as u32,
                    value_len: value_len as u32,
                    name_len: name_len as u16,
                    id: OTHER,
                });
            }
        }
    }

    /// Gives a name exactly one value: at the place of its first entry, or at the end.
    pub fn set(&mut self, name: &HeaderName, value: &[u8]) {
        self.set_with(name, |out| out.extend_from_slice(value));
    }

    /// [`HeaderMap::set`] for a well-known name.
    #[inline]
    pub fn set_known(&mut self, name: Known, value: &[u8]) {
        if self.has(name) {
            self.set(&HeaderName::from(name), value);
        } else {
            self.append_known(name, value);
        }
    }

    /// [`HeaderMap::set`] with a value that `write` appends to the given buffer.
    pub fn set_with(&mut self, name: &HeaderName, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(first) = self.entries.iter().position(|e| self.is_named(e, name)) else {
            return self.append_with(name, write);
        };
        let start = self.arena.len();
        write(&mut self.arena);
        self.sanitise(start);
        let entry = &mut self.entries[first];
        entry.value = start as u32;
        entry.value_len = (self.arena.len() - start) as u32;
        self.drop_entries(name, first + 1);
    }

    /// Adds an element, which `write` appends to the given buffer, to a name whose value is a list: all of its values become one
    /// (RFC 9110 §5.3), then the separator, then the element.
    pub fn append_to_list(&mut self, name: &HeaderName, separator: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(first) = self.entries.iter().position(|entry| self.is_named(entry, name)) else {
            return self.append_with(name, write);
        };
        let start = self.arena.len();
        for at in first..self.entries.len() {
            let entry = &self.entries[at];
            if !self.is_named(entry, name) {
                continue;
            }
            let value = entry.value as usize..(entry.value + entry.value_len) as usize;
            if at > first {
                self.arena.push(b',');
            }
            self.arena.extend_from_within(value);
        }
        if self.arena.len() > start {
            self.arena.extend_from_slice(separator.as_bytes());
        }
        write(&mut self.arena);
        self.sanitise(start);
        let entry = &mut self.entries[first];
        entry.value = start as u32;
        entry.value_len = (self.arena.len() - start) as u32;
        self.drop_entries(name, first + 1);
    }

    /// Removes all entries of a name; tells how many there were.
    pub fn remove(&mut self, name: &HeaderName) -> usize {
        match name.known() {
            Some(known) => self.remove_known(known),
            None => self.drop_entries(name, 0),
        }
    }

    /// [`HeaderMap::remove`] for a well-known name.
    #[inline]
    pub fn remove_known(&mut self, name: Known) -> usize {
        if !self.has(name) {
            return 0;
        }
        self.present &= !name.bit();
        let before = self.entries.len();
        let id = name.id();
        self.entries.retain(|e| e.id != id);
        before - self.entries.len()
    }

    /// Removes all entries of each of these names.
    #[inline]
    pub fn remove_all(&mut self, names: KnownSet) {
        if self.present & names.bits() != 0 {
            self.present &= !names.bits();
            self.entries.retain(|e| e.id == OTHER || names.bits() >> e.id & 1 == 0);
        }
    }

    /// Removes every entry that the predicate, given name and value, does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &[u8]) -> bool) {
        let mut entries = std::mem::take(&mut self.entries);
        let mut present = 0;
        entries.retain(|e| {
            let kept = keep(self.name(e), self.value(e));
            if kept && e.id != OTHER {
                present |= 1u128 << e.id;
            }
            kept
        });
        self.entries = entries;
        self.present = present;
    }

    /// The spelling in which the entry's name was received, if the map was started with `keep_spelling` and the entry
    /// came from the head. `index` counts as in [`HeaderMap::iter`]. For `:authority` it is the spelling of `host`.
    pub fn original_name(&self, index: usize) -> Option<&[u8]> {
        let entry = self.entries.get(index)?;
        let name = if entry.id == Known::AUTHORITY.id() { Known::HOST.as_str() } else { self.name(entry) };
        let start = entry.name as usize;
        let text = self.original.get(start..start + name.len())?;
        text.eq_ignore_ascii_case(name.as_bytes()).then_some(text)
    }

    pub(crate) fn push_known(&mut self, name: Known, start: usize) {
        self.push_marked(name, u32::MAX, (start, self.arena.len() - start));
    }

    fn drop_entries(&mut self, name: &HeaderName, from: usize) -> usize {
        let before = self.entries.len();
        let mut entries = std::mem::take(&mut self.entries);
        let mut at = 0;
        entries.retain(|e| {
            at += 1;
            at <= from || !self.is_named(e, name)
        });
        self.entries = entries;
        before - self.entries.len()
    }

    fn sanitise(&mut self, from: usize) {
        for byte in &mut self.arena[from..] {
            if matches!(*byte, b'\r' | b'\n' | 0) {
                *byte = b' ';
            }
        }
    }

    #[inline]
    fn is_named(&self, entry: &Entry, name: &HeaderName) -> bool {
        match name.known() {
            Some(known) => entry.id == known.id(),
            None => entry.id == OTHER && self.name(entry) == name.as_str(),
        }
    }

    #[inline]
    fn value(&self, entry: &Entry) -> &[u8] {
        &self.arena[entry.value as usize..entry.value as usize + entry.value_len as usize]
    }

    #[inline]
    fn name(&self, entry: &Entry) -> &str {
        if entry.id != OTHER {
            return crate::known::name_of(entry.id);
        }
        let bytes = &self.arena[entry.name as usize..entry.name as usize + entry.name_len as usize];
        std::str::from_utf8(bytes).unwrap_or("")
    }
}

/// Iterator over the entries of a map.
pub struct Iter<'a> {
    map: &'a HeaderMap,
    at: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.map.entries.get(self.at)?;
        self.at += 1;
        Some((self.map.name(entry), self.map.value(entry)))
    }
}

impl<'a> IntoIterator for &'a HeaderMap {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl std::fmt::Debug for HeaderMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, value)| (name, String::from_utf8_lossy(value)))).finish()
    }
}
