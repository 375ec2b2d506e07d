//! The protection of records: one key, one direction (RFC 8446 §5.2, RFC 5246 §6.2.3).
//!
//! Owns: headers, nonces, additional data, limits of a key. Does not own: where records come from, and what they hold.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

/// Bytes of a record header.
pub(super) const HEADER: usize = 5;
/// Most plaintext bytes of a record (RFC 8446 §5.1).
pub(super) const MAX_PLAINTEXT: usize = 1 << 14;
const TAG: usize = 16;
const EXPLICIT_NONCE: usize = 8;
/// Bytes that a record adds to its plaintext, at most.
pub(super) const OVERHEAD: usize = HEADER + EXPLICIT_NONCE + TAG;
/// RFC 8446 §5.2; TLS 1.2 would allow 2,048, but no suite that is offered adds more than 24.
const MAX_EXPANSION: usize = 256;
/// Largest record, header included.
pub(super) const MAX_RECORD: usize = HEADER + MAX_PLAINTEXT + MAX_EXPANSION;
/// Records that an AES-GCM key may protect (RFC 8446 §5.5): after as many, the key is changed.
const MOST_RECORDS: u64 = 1 << 24;

/// Record types (RFC 8446 §5.1).
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// How nonces and headers are formed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    /// TLS 1.3: the type is hidden in the plaintext.
    V1_3,
    /// TLS 1.2 with AES-GCM: the nonce's last eight bytes are sent (RFC 5288).
    V1_2Explicit,
    /// TLS 1.2 with ChaCha20-Poly1305: no nonce is sent (RFC 7905).
    V1_2Implicit,
}

/// What is wrong with a received record; the peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadRecord {
    /// Not a TLS record, or of a type that has no place here.
    Unexpected,
    /// Larger than allowed.
    TooLarge,
    /// Not what the peer's key protects.
    Corrupt,
}

/// The header of a record that is wholly in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    kind: u8,
    /// Bytes of the payload, protection included.
    pub(super) length: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` while it is incomplete.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, BadRecord> {
        let [kind, major, _, high, low, ..] = *bytes else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !(20..=23).contains(&kind) || major != 3 {
            return Err(BadRecord::Unexpected);
        }
        if length > MAX_PLAINTEXT + MAX_EXPANSION {
            return Err(BadRecord::TooLarge);
        }
        Ok(Some(Header { kind, length }))
    }
}

/// One direction's key.
pub(super) struct RecordKey {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
    style: Style,
}

impl RecordKey {
    /// `None` only for a suite that no session negotiates.
    pub(super) fn new(sequence: u64, secrets: &ConnectionTrafficSecrets, is_v1_3: bool) -> Option<RecordKey> {
        use ConnectionTrafficSecrets as Secrets;
        let (algorithm, key, iv): (&'static Algorithm, &[u8], &[u8]) = match secrets {
            Secrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key.as_ref(), iv.as_ref()),
            Secrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key.as_ref(), iv.as_ref()),
            Secrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key.as_ref(), iv.as_ref()),
            _ => return None,
        };
        let style = match secrets {
            _ if is_v1_3 => Style::V1_3,
            Secrets::Chacha20Poly1305 { .. } => Style::V1_2Implicit,
            _ => Style::V1_2Explicit,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        Some(RecordKey { key, iv: iv.try_into().ok()?, sequence, style })
    }

    /// Whether the key has protected so many records that another must follow.
    pub(super) fn is_worn(&self) -> bool {
        self.sequence >= MOST_RECORDS
    }

    pub(super) fn is_v1_3(&self) -> bool {
        self.style == Style::V1_3
    }

    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, part) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= part;
        }
        nonce
    }

    /// RFC 5246 §6.2.3.3.
    fn additional_data(&self, kind: u8, length: usize) -> [u8; 13] {
        let mut data = [0; 13];
        data[..8].copy_from_slice(&self.sequence.to_be_bytes());
        data[8..11].copy_from_slice(&[kind, 3, 3]);
        data[11..].copy_from_slice(&(length as u16).to_be_bytes());
        data
    }

    /// Makes a record of `from`, at most [`MAX_PLAINTEXT`] bytes in all, at the start of `out`, which has room for it and
    /// [`OVERHEAD`] more. Returns the record's length.
    pub(super) fn seal(&mut self, kind: u8, from: &mut Gather<'_, '_>, length: usize, out: &mut [u8]) -> Option<usize> {
        let nonce = self.nonce();
        let (outer, explicit, inner): (u8, usize, &[u8]) = match self.style {
            Style::V1_3 => (APPLICATION_DATA, 0, std::slice::from_ref(&kind)),
            Style::V1_2Explicit => (kind, EXPLICIT_NONCE, &[]),
            Style::V1_2Implicit => (kind, 0, &[]),
        };
        let payload = explicit + length + inner.len() + TAG;
        let record = out.get_mut(..HEADER + payload)?;
        let (header, rest) = record.split_at_mut(HEADER);
        let size = (payload as u16).to_be_bytes();
        header.copy_from_slice(&[outer, 3, 3, size[0], size[1]]);
        let (nonce_place, rest) = rest.split_at_mut(explicit);
        nonce_place.copy_from_slice(nonce.get(NONCE_LEN - explicit..)?);
        let (body, tail) = rest.split_at_mut(length);
        let data = self.additional_data(kind, length);
        let data: &[u8] = if self.style == Style::V1_3 { header } else { &data };
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = match from.contiguous(length) {
            Some(plain) => self.key.seal_out_of_place_scatter(nonce, Aad::from(data), plain, body, inner, tail),
            None => {
                from.copy_to(body);
                self.key.seal_in_place_scatter(nonce, Aad::from(data), body, inner, tail)
            }
        };
        sealed.ok()?;
        self.sequence = self.sequence.checked_add(1)?;
        Some(HEADER + payload)
    }

    /// Opens the record `header | payload` in place. Returns its type and where in `record` its plaintext stands.
    pub(super) fn open(
        &mut self,
        header: Header,
        record: &mut [u8],
    ) -> Result<(u8, std::ops::Range<usize>), BadRecord> {
        let explicit = if self.style == Style::V1_2Explicit { EXPLICIT_NONCE } else { 0 };
        let length = header.length.checked_sub(explicit + TAG).ok_or(BadRecord::Corrupt)?;
        if self.style == Style::V1_3 && header.kind != APPLICATION_DATA {
            return Err(BadRecord::Unexpected);
        }
        let start = HEADER + explicit;
        let (front, sealed) = record.split_at_mut_checked(start).ok_or(BadRecord::Corrupt)?;
        let mut nonce = self.nonce();
        if explicit > 0 {
            nonce[..4].copy_from_slice(&self.iv[..4]);
            nonce[4..].copy_from_slice(front.get(HEADER..).ok_or(BadRecord::Corrupt)?);
        }
        let data = self.additional_data(header.kind, length);
        let data: &[u8] = if self.style == Style::V1_3 { &front[..HEADER] } else { &data };
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = self.key.open_in_place(nonce, Aad::from(data), sealed).map_err(|_| BadRecord::Corrupt)?;
        self.sequence = self.sequence.checked_add(1).ok_or(BadRecord::Corrupt)?;
        let (kind, length) = if self.style == Style::V1_3 {
            // The type is the last byte that is not padding.
            let last = plain.iter().rposition(|&byte| byte != 0).ok_or(BadRecord::Unexpected)?;
            (plain[last], last)
        } else {
            (header.kind, plain.len())
        };
        if length > MAX_PLAINTEXT {
            return Err(BadRecord::TooLarge);
        }
        Ok((kind, start..start + length))
    }
}

/// Bytes to send that stand in several slices, taken from the front.
pub(super) struct Gather<'s, 'b> {
    slices: &'s [std::io::IoSlice<'b>],
    /// Bytes of the first slice that were taken.
    taken: usize,
    pub(super) left: usize,
}

impl<'s, 'b> Gather<'s, 'b> {
    pub(super) fn new(slices: &'s [std::io::IoSlice<'b>]) -> Self {
        Gather { slices, taken: 0, left: slices.iter().map(|slice| slice.len()).sum() }
    }

    /// The next `length` bytes, if they stand in one piece.
    fn contiguous(&mut self, length: usize) -> Option<&'s [u8]> {
        while let [first, rest @ ..] = self.slices
            && first.len() == self.taken
        {
            (self.slices, self.taken) = (rest, 0);
        }
        let piece = self.slices.first()?.get(self.taken..self.taken + length)?;
        self.taken += length;
        self.left -= length;
        Some(piece)
    }

    fn copy_to(&mut self, mut into: &mut [u8]) {
        while !into.is_empty()
            && let [first, rest @ ..] = self.slices
        {
            let piece = &first[self.taken..];
            let count = piece.len().min(into.len());
            into[..count].copy_from_slice(&piece[..count]);
            into = &mut into[count..];
            self.left -= count;
            self.taken += count;
            if self.taken == first.len() {
                (self.slices, self.taken) = (rest, 0);
            }
        }
    }
}
