//! The dynamic table of an encoder or a decoder (RFC 7541 §2.3.2, §4).
//!
//! The text of all entries lies in one allocation in the order of their arrival, so that every entry is one slice of it.
//! What evicted entries leave at its beginning goes when there is no more room at its end.

use super::Field;
use nuncio_headers::Known;
use std::collections::VecDeque;

/// What an entry weighs besides its text (RFC 7541 §4.1).
const OVERHEAD: usize = 32;

/// Room for text is not made smaller than this, nor given back below four times this. In bytes.
const LEAST_ROOM: usize = 64;

/// Room for entries is not given back below this number.
const LEAST_ENTRIES: usize = 16;

/// Where an entry is. It ends where the next begins.
struct Entry {
    /// The place of its name, counted from the first byte that ever entered the table. The value follows.
    at: u64,
    name_len: u32,
    known: Option<Known>,
}

pub(super) struct Table {
    text: Vec<u8>,
    /// The place of the first byte of `text`.
    base: u64,
    /// The newest first.
    entries: VecDeque<Entry>,
    /// What the entries weigh. At most `max`.
    size: usize,
    max: u32,
}

/// What an entry of this text weighs.
pub(super) fn weight(name: &[u8], value: &[u8]) -> usize {
    name.len().saturating_add(value.len()).saturating_add(OVERHEAD)
}

impl Table {
    pub(super) fn new(max: u32) -> Table {
        Table { text: Vec::new(), base: 0, entries: VecDeque::new(), size: 0, max }
    }

    pub(super) fn max(&self) -> u32 {
        self.max
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What the entries weigh.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The bytes of memory that are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.text.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// An entry by its age: 0 is the newest.
    #[inline]
    pub(super) fn get(&self, age: usize) -> Option<Field<'_>> {
        let entry = self.entries.get(age)?;
        let end = match age {
            0 => self.text.len(),
            _ => self.offset(self.entries.get(age - 1)?.at),
        };
        let text = self.text.get(self.offset(entry.at)..end)?;
        let (name, value) = text.split_at_checked(entry.name_len as usize)?;
        Some(Field { known: entry.known, name, value })
    }

    /// Adds an entry, and evicts what it leaves no room for: all, if there is none for itself (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, known: Option<Known>, name: &[u8], value: &[u8]) {
        let weight = weight(name, value);
        let Some(rest) = (self.max as usize).checked_sub(weight) else {
            self.evict(0);
            return self.give_back();
        };
        self.evict(rest);
        self.make_room(name.len() + value.len());
        let at = self.base + self.text.len() as u64;
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.entries.push_front(Entry { at, name_len: name.len() as u32, known });
        self.size += weight;
        self.give_back();
    }

    /// Changes the limit of what the entries weigh (RFC 7541 §4.3).
    pub(super) fn set_max(&mut self, max: u32) {
        self.max = max;
        self.evict(max as usize);
        self.give_back();
    }

    /// Where a place is in `text`.
    #[inline]
    fn offset(&self, at: u64) -> usize {
        (at - self.base) as usize
    }

    /// Where the text of the oldest entry begins.
    fn oldest(&self) -> usize {
        self.entries.back().map_or(self.text.len(), |entry| self.offset(entry.at))
    }

    /// Evicts the oldest entries until the others weigh at most so much.
    fn evict(&mut self, most: usize) {
        while self.size > most {
            let begin = self.oldest();
            self.entries.pop_back();
            self.size = self.size.saturating_sub(self.oldest() - begin + OVERHEAD);
        }
        if self.entries.is_empty() {
            self.base += self.text.len() as u64;
            self.text.clear();
        }
    }

    /// Makes room for so many bytes of text.
    fn make_room(&mut self, more: usize) {
        if self.text.capacity() - self.text.len() >= more {
            return;
        }
        let dead = self.oldest();
        let live = self.text.len() - dead;
        // Moving the others must be worth it, or a full table moves with each entry.
        if live + more <= self.text.capacity() && dead >= live / 2 {
            self.text.drain(..dead);
            self.base += dead as u64;
        } else {
            self.move_to((live + more) / 2 * 3);
        }
    }

    /// Gives back memory that entries needed which are gone.
    fn give_back(&mut self) {
        let live = self.text.len() - self.oldest();
        if self.text.capacity() > 4 * live.max(LEAST_ROOM) {
            self.move_to(live / 2 * 3);
        }
        if self.entries.capacity() > 4 * self.entries.len().max(LEAST_ENTRIES) {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// Moves the text to an allocation of this size.
    fn move_to(&mut self, room: usize) {
        let dead = self.oldest();
        let live = self.text.get(dead..).unwrap_or_default();
        let mut text = Vec::with_capacity(room.max(live.len()).max(LEAST_ROOM));
        text.extend_from_slice(live);
        self.text = text;
        self.base += dead as u64;
    }
}
